"""Is a text like good examples or like bad ones? Two kinds of linear models: fastText's, and one trained here.

Ours is a logistic regression over hashed words and pairs of words: no vocabulary is kept, a text costs a pass over its
beginning, and training is the same to the bit whatever the order of the examples. It is one file of safetensors.
"""

from __future__ import annotations

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import safetensors.numpy
import xxhash
from safetensors import safe_open
from scipy.sparse import csr_array

from cpt_ray.artifacts import Ledger, Manifest, Stage, fingerprint, parts, read_manifest
from cpt_ray.artifacts.parquet import must_have, opened
from cpt_ray.artifacts.places import locate, writing
from cpt_ray.artifacts.store import MANIFEST
from cpt_ray.errors import UserError
from cpt_ray.web.options import ClassifierOptions
from cpt_ray.words import words

FILE = "model.safetensors"
FASTTEXT = (".bin", ".ftz")
HELD_OUT = 10
"""One example in so many is not trained on but measures what was."""


class Model(Protocol):
    """What scores a text between 0 and 1."""

    def score(self, text: str) -> float: ...


@lru_cache(maxsize=4)
def load(path: str, label: str, changed: int, size: int) -> Model:
    """The model of a file: of fastText (`.bin`, `.ftz`), where `label` is what good texts have, or of `train`. `changed` and
    `size` tell the file's states apart. UserError for a file that is none, and for a label that it has not."""
    return _FastText(path, label) if path.endswith(FASTTEXT) else _Linear.read(path)


class _FastText:
    """A supervised model of fastText (https://fasttext.cc), plain or quantised; a text is one line to it."""

    def __init__(self, path: str, label: str) -> None:
        import fasttext

        try:
            self._model = fasttext.load_model(path)
        except (ValueError, RuntimeError) as error:
            raise UserError(
                f"this is no model of fastText: {error}", where=path, fix="give a .bin or .ftz of it"
            ) from None
        labels = [name for name, _ in self._predict("", -1)]
        if label not in labels:
            known = ", ".join(sorted(labels)[:10])
            raise UserError(f"the model has no label {label!r}", where=path, fix=f"label is one of: {known}")
        self._label, self._labels = label, len(labels)

    def _predict(self, text: str, count: int) -> list[tuple[str, float]]:
        names, chances = self._model.predict(" ".join(text.split()), k=count)
        return list(zip(names, map(float, chances), strict=True))

    def score(self, text: str) -> float:
        return min(1.0, dict(self._predict(text, self._labels)).get(self._label, 0.0))


class _Linear(NamedTuple):
    """`weight` [buckets] float32, and how texts become features."""

    weight: np.ndarray
    bias: float
    max_chars: int

    def score(self, text: str) -> float:
        _, buckets, values = features([text], len(self.weight), self.max_chars)
        return float(1 / (1 + np.exp(-(self.weight[buckets] @ values + self.bias))))

    def write(self, path: str) -> None:
        fs, target = locate(path)
        # One entry: several are written in an order that changes from run to run.
        about = {"quality": json.dumps({"bias": self.bias.hex(), "max_chars": self.max_chars})}
        with writing(fs, target) as sink:
            sink.write(safetensors.numpy.save({"weight": self.weight}, about))

    @staticmethod
    def read(path: str) -> _Linear:
        try:
            with safe_open(path, "np") as file:
                about = json.loads((file.metadata() or {})["quality"])
                return _Linear(file.get_tensor("weight"), float.fromhex(about["bias"]), about["max_chars"])
        except (OSError, safetensors.SafetensorError, KeyError, ValueError) as error:
            fix = "give model.safetensors of cpt-ray quality-model, or a .bin or .ftz of fastText"
            raise UserError(f"this is no model of quality: {error}", where=path, fix=fix) from None


def features(texts: Sequence[str], buckets: int, max_chars: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(starts [texts + 1], buckets, values): of each text its distinct words and pairs of words by hash, of length 1."""
    starts, found, values = [0], [np.zeros(0, np.int64)], [np.zeros(0, np.float32)]
    for text in texts:
        said = [word.encode() for word in words(text[:max_chars].casefold())]
        pairs = (a + b" " + b for a, b in pairwise(said))
        hashes = {xxhash.xxh3_64_intdigest(one) % buckets for one in (*said, *pairs)}
        found.append(np.array(sorted(hashes), np.int64))
        values.append(np.full(len(hashes), 1 / max(len(hashes), 1) ** 0.5, np.float32))
        starts.append(starts[-1] + len(hashes))
    return np.array(starts, np.int64), np.concatenate(found), np.concatenate(values)


TRAIN = Stage("quality_model", version=1, unit="examples")


def train(path: str, *, good: str, bad: str, options: ClassifierOptions) -> Manifest:
    """Train a model on the texts of two places and publish it at `path`; the manifest says how well it tells apart one in
    HELD_OUT of them, which it was not trained on.

    A place is an artifact or a Parquet file with the column `text`, JSON lines (`.jsonl`, `.jsonl.gz`) with such a key, or
    a text file with a text a line. Dropped: `empty`, `repeated` and `in_both`, which teaches nothing.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, roc_auc_score

    inputs = {"good": _identity(good), "bad": _identity(bad)}
    with TRAIN.build(path, params=options, inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        texts, labels, ledger = _examples(good, bad)
        starts, buckets, values = features(texts, options.buckets, options.max_chars)
        matrix = csr_array((values, buckets, starts), shape=(len(texts), options.buckets))
        held = np.array([xxhash.xxh3_64_intdigest(text.encode(), 1) % HELD_OUT == 0 for text in texts], bool)
        if min(np.bincount(labels[~held], minlength=2)) == 0 or min(np.bincount(labels[held], minlength=2)) == 0:
            found = f"{np.sum(labels == 1):,} good and {np.sum(labels == 0):,} bad examples"
            what = f"{found} are too few to train on and to measure with"
            raise UserError(what, fix="give some hundreds of each kind")
        fitted = LogisticRegression(C=options.strength, class_weight="balanced", max_iter=1000)
        fitted.fit(matrix[~held], labels[~held])
        model = _Linear(fitted.coef_[0].astype(np.float32), float(fitted.intercept_[0]), options.max_chars)
        model.write(f"{work.path}/{FILE}")
        scores = np.array([model.score(texts[at]) for at in np.flatnonzero(held)])
        measured = {
            "heldout": int(held.sum()),
            "heldout_accuracy": float(accuracy_score(labels[held], scores >= 0.5)),
            "heldout_auc": float(roc_auc_score(labels[held], scores)),
        }
        return work.publish(ledger, rows=len(texts), extra=measured)


def _examples(good: str, bad: str) -> tuple[list[str], np.ndarray, Ledger]:
    """Distinct texts in the order of their hashes, 1 where a text is good, and what became of all."""
    reasons: list[str | None] = []
    kinds: dict[str, set[int]] = {}
    for kind, place in enumerate((bad, good)):
        for text in _texts(place):
            if not text.strip():
                reasons.append("empty")
                continue
            of_text = kinds.setdefault(text, set())
            reasons.append("repeated" if kind in of_text else None)
            of_text.add(kind)
    both = sum(len(of_text) == 2 for of_text in kinds.values())
    kept = sorted(
        (t for t, of_text in kinds.items() if len(of_text) == 1), key=lambda t: xxhash.xxh3_128_digest(t.encode())
    )
    ledger = Ledger.count("examples", reasons)
    if both:
        found = sum(reason is None for reason in reasons)
        ledger += Ledger.of("used", read=found, kept=found - 2 * both, dropped={"in_both": 2 * both})
    return kept, np.array([min(kinds[text]) for text in kept], np.int64), ledger


def _texts(place: str) -> Iterator[str]:
    fs, target = locate(place)
    if fs.isdir(target) or place.endswith(".parquet"):
        for name in parts(place) if fs.isdir(target) else [place]:
            with opened(name) as file:
                must_have(file, name, ["text"])
                for batch in file.iter_batches(columns=["text"]):
                    yield from (text or "" for text in batch.column(0).to_pylist())
        return
    with fs.open(target, "rb") as source:
        lines: Any = gzip.GzipFile(fileobj=source) if place.endswith(".gz") else source
        for number, line in enumerate(lines, 1):
            said = line.decode("utf-8", "replace").rstrip("\r\n")
            if ".jsonl" not in Path(place).name:
                yield said
                continue
            try:
                yield str(json.loads(said)["text"])
            except (ValueError, KeyError, TypeError):
                where = f"{place}, line {number}"
                raise UserError("this line is no JSON object with a key 'text'", where=where, fix="mend it") from None


def _identity(place: str) -> str | Manifest:
    """What the examples depend on: an artifact's manifest, a file's content. UserError where there is neither."""
    fs, target = locate(place)
    if fs.exists(f"{target}/{MANIFEST}"):
        return read_manifest(place)
    if not fs.isfile(target):
        raise UserError("no examples here", where=place, fix="give an artifact, or a .parquet, .jsonl or .txt file")
    with fs.open(target, "rb") as source:
        return fingerprint(hashlib.file_digest(source, xxhash.xxh3_128).hexdigest())
