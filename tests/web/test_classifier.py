"""The classifier of quality: trained by one command, the same to the bit; fastText's models give fastText's scores."""

from __future__ import annotations

import gzip
import json
import random
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.artifacts import read_manifest
from cpt_ray.errors import UserError
from cpt_ray.web.classifier import FILE, features, load, train
from cpt_ray.web.extract import extract_shard
from cpt_ray.web.filters import Document
from cpt_ray.web.filters.classifier import Classifier
from cpt_ray.web.options import ClassifierOptions, ExtractOptions
from pipelines import cli
from tests.web.test_extract import archive, page

SMALL = ClassifierOptions(buckets=1 << 12)
GOOD = [
    "the",
    "parser",
    "reads",
    "a",
    "document",
    "and",
    "returns",
    "its",
    "tree",
    "to",
    "whoever",
    "asked",
    "for",
    "it",
]
BAD = ["buy", "cheap", "watches", "now", "best", "price", "click", "here", "free", "shipping", "casino", "bonus", "win"]


def texts(words: list[str], seed: int, count: int = 200) -> list[str]:
    rng = random.Random(seed)
    return [" ".join(rng.choice(words) for _ in range(40)) for _ in range(count)]


def scored(model: str, text: str, label: str = "") -> float:
    return load(model, label, Path(model).stat().st_mtime_ns, 0).score(text)


def test_it_tells_apart_what_it_has_not_seen(tmp_path: Path) -> None:
    """By one command; whatever the form of the examples and their order, the same bytes."""
    good, bad = texts(GOOD, 1), texts(BAD, 2)
    (tmp_path / "good.txt").write_text("\n".join([*good, good[0], "", "both"]))
    with gzip.open(tmp_path / "bad.jsonl.gz", "wt") as sink:
        sink.writelines(json.dumps({"text": text, "id": 1}) + "\n" for text in [*bad, "both"])
    places = {"good": str(tmp_path / "good.txt"), "bad": str(tmp_path / "bad.jsonl.gz")}
    words = [f"{kind}={place}" for kind, place in places.items()]
    assert cli.main(["quality-model", *words, f"cluster.outputs={tmp_path}", "classifier.buckets=4096"]) == 0
    made = tmp_path / "quality" / "quality_model"
    manifest = read_manifest(str(made))
    assert manifest.rows == 400
    assert manifest.balance.check("examples").dropped == {"empty": 1, "repeated": 1, "in_both": 2}
    assert manifest.extra["heldout_auc"] == 1.0
    assert 20 < manifest.extra["heldout"] < 60
    for text in texts(GOOD, 3, 20):
        assert scored(str(made / FILE), text) > 0.8
    for text in texts(BAD, 4, 20):
        assert scored(str(made / FILE), text) < 0.2
    pq.write_table(pa.table({"text": [*good[::-1], "both"]}), tmp_path / "good.parquet")
    again = train(str(tmp_path / "again"), good=str(tmp_path / "good.parquet"), bad=places["bad"], options=SMALL)
    assert again.extra == manifest.extra
    assert (tmp_path / "again" / FILE).read_bytes() == (made / FILE).read_bytes()


def test_features_are_distinct_words_and_pairs() -> None:
    """Against a walk: hashes of words and of pairs, each once, of the text's beginning, in any case."""
    starts, buckets, values = features(["A b a b", "", "xyz"], 1 << 20, 1000)
    assert starts.tolist() == [0, 4, 4, 5]  # a, b, "a b", "b a"
    assert np.allclose(np.add.reduceat(values**2, [0, 4]), 1)
    assert features(["a B A b"], 1 << 20, 1000)[1].tolist() == buckets[:4].tolist()
    assert len(features(["a b c"], 1 << 20, 1)[1]) == 1


def test_score_is_a_column_and_a_bound(tmp_path: Path) -> None:
    """Documents below the bound are counted with examples; the column has what the model says."""
    good, bad = (tmp_path / name for name in ("good.txt", "bad.txt"))
    good.write_text("\n".join(texts(GOOD, 1)))
    bad.write_text("\n".join(texts(BAD, 2)))
    train(str(tmp_path / "model"), good=str(good), bad=str(bad), options=SMALL)
    model = str(tmp_path / "model" / FILE)
    bodies = [f"<main><p>{text}.</p></main>" for text in (*texts(GOOD, 5, 3), *texts(BAD, 6, 2))]
    warc = archive(tmp_path, *(page(str(n), body) for n, body in enumerate(bodies)))
    for bound, kept in ((0.5, 3), (0.0, 5)):
        options = ExtractOptions(
            filters=(Classifier(model=model, min_score=bound),), languages=(), min_language_score=0
        )
        table, ledger = extract_shard({"warc": warc}, options)
        assert table.num_rows == kept
        assert dict(ledger.units["documents"].dropped) == ({"classifier": 2} if bound else {})
        assert table["classifier_score"].to_pylist() == pytest.approx(
            [scored(model, t) for t in table["text"].to_pylist()]
        )
    plain, _ = extract_shard({"warc": warc}, ExtractOptions(languages=(), min_language_score=0))
    assert plain["classifier_score"].null_count == plain.num_rows


def fasttext_model(path: Path, words: dict[str, list[float]], labels: dict[str, list[float]]) -> None:
    """A supervised model as fastText 0.9.2 stores it (format 12): vectors of words, softmax over labels."""
    width = len(next(iter(words.values())))
    entries = [("</s>", 0), *((word, 0) for word in words), *((label, 1) for label in labels)]
    data = struct.pack("<ii", 793712314, 12)
    data += struct.pack("<12id", width, 5, 5, 1, 5, 1, 3, 3, 0, 0, 0, 100, 1e-4)
    data += struct.pack("<iiiqq", len(entries), len(words) + 1, len(labels), 10, -1)
    for name, kind in entries:
        data += name.encode() + b"\0" + struct.pack("<qb", 1, kind)
    vectors = np.array([[0.0] * width, *words.values()], "<f4")
    for matrix in (vectors, np.array(list(labels.values()), "<f4")):
        data += b"\0" + struct.pack("<qq", *matrix.shape) + matrix.tobytes()
    path.write_bytes(data)


def test_a_model_of_fasttext_gives_its_probability(tmp_path: Path) -> None:
    """Softmax of the labels over the mean of the words' vectors, the end of the line among them, computed here anew."""
    path = tmp_path / "model.bin"
    words = {"good": [1.0, 0.5], "bad": [-2.0, 0.25]}
    labels = {"__label__hq": [1.5, -1.0], "__label__cc": [-0.5, 2.0]}
    fasttext_model(path, words, labels)
    for text in ("good good bad", "good\n\nunknown good", "bad"):
        rows = [words[word] for word in text.split() if word in words] + [[0.0, 0.0]]
        logits = np.array(list(labels.values())) @ np.mean(rows, axis=0)
        expected = np.exp(logits) / np.exp(logits).sum()
        assert scored(str(path), text, "__label__hq") == pytest.approx(expected[0], abs=2e-3)
        assert scored(str(path), text, "__label__cc") == pytest.approx(expected[1], abs=2e-3)
    with pytest.raises(UserError, match="__label__hq"):
        scored(str(path), "good", "__label__other")


TRAINED = Path(__file__).parent / "fasttext"


@pytest.mark.parametrize("name", ["grams.bin", "quantised.ftz"])
def test_models_that_fasttext_trained(name: str) -> None:
    """As fasttext-community 0.11.9 scored odd texts by models that it had trained: character and word n-grams, one label
    against all; and a quantised softmax."""
    told = json.loads((TRAINED / "scores.json").read_text())
    for text, expected in zip(told["texts"], told["scores"][name], strict=True):
        assert scored(str(TRAINED / name), text, "__label__hq") == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", ["model.bin", "model.ftz", "model.safetensors"])
def test_a_file_that_is_no_model_is_said_with_its_path(tmp_path: Path, name: str) -> None:
    chosen = Classifier(model=str(tmp_path / name))
    with pytest.raises(UserError) as caught:
        chosen.reason(Document("http://h/", "", "text", "en"))
    assert caught.value.where == str(tmp_path / name)
    (tmp_path / name).write_bytes(b"this is no model of anything, whatever it says it is" * 10)
    with pytest.raises(UserError) as caught:
        chosen.reason(Document("http://h/", "", "text", "en"))
    assert caught.value.where == str(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"text": "a"}\n{"body": "b"}\n', "line 2"),
        ("[1]\n", "line 1"),
        ('{"text": "a"}\n' * 3, "too few"),
        ('{"text": "x"}', "too few"),
    ],
)
def test_examples_that_are_none_are_said(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "good.jsonl").write_text(content)
    (tmp_path / "bad.txt").write_text("x\n")
    with pytest.raises(UserError, match=message):
        train(str(tmp_path / "m"), good=str(tmp_path / "good.jsonl"), bad=str(tmp_path / "bad.txt"), options=SMALL)
    with pytest.raises(UserError, match="no examples"):
        train(str(tmp_path / "m"), good=str(tmp_path / "none.jsonl"), bad=str(tmp_path / "bad.txt"), options=SMALL)
