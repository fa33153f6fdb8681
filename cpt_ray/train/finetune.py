"""Labelled pairs for fine-tuning through the same loop, in the layouts in which they are published.

NLI (SNLI, MultiNLI): premise and entailed hypothesis are a pair, a contradicting hypothesis of the same premise is its hard
negative (arXiv 2201.10005, section 3.1). Search (MS MARCO): lines of query, relevant passage, other passage.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import itertools
import posixpath
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.places import locate
from cpt_ray.artifacts.stage import Stage
from cpt_ray.errors import UserError
from cpt_ray.pairs.make import publish_pairs
from cpt_ray.pairs.options import SplitOptions
from cpt_ray.pairs.schema import PAIRS
from cpt_ray.pairs.splits import HELDOUT, split_pairs
from cpt_ray.train.options import LabelledOptions
from cpt_ray.words import text_hash

HARD = (pa.field("hard", pa.list_(pa.string())), pa.field("hard_hash", pa.list_(pa.uint64())))
"""What pairs with hard negatives have beyond PAIRS: texts of side y that are no answer to x, and their hashes."""
LABELLED = pa.schema([*PAIRS, *HARD])
"""Here `group`, `cluster` and `x_doc` are the content of x: a premise is on one side, and in a batch once."""
LABEL = Stage("labelled_pairs", version=2, gives=LABELLED, unit="lines")


class Labelled(NamedTuple):
    """What a reader gives of a pair: its texts, and the line that it stands in (1-based)."""

    x: str
    y: str
    hard: str
    line: int


def make_labelled_pairs(path: str, *, source: str, options: LabelledOptions, split: SplitOptions) -> Manifest:
    """Publish the labelled pairs of the file `source` (any fsspec URI) at `path`, split by x, as LABELLED.

    Nothing held out is in the training part, as a hard negative neither (`negative_held_out`).
    """
    check_source(source)
    params = {"labelled": options.result(), "split": split.result()}
    with LABEL.build(path, params=params, inputs={"source": _digest(source)}) as work:
        if work.manifest is not None:
            return work.manifest
        read = read_nli if options.format == "nli" else read_triplets
        pairs, ledger = read(source, options.lines)
        pairs, leaks = split_pairs(pairs, split)
        negative = _negative_held_out(pairs)
        kept = pairs.filter(pa.array(~negative))
        dropped = {**leaks.dropped, "negative_held_out": int(negative.sum())}
        ledger += Ledger.of("split", read=leaks.rows_in, kept=kept.num_rows, dropped=dropped)
        return publish_pairs(work, kept, ledger)


def check_source(source: str) -> None:
    """UserError when there is no such file."""
    fs, target = locate(source)
    if not fs.isfile(target):
        raise UserError("there is no such file", where=source, fix="give the path of the labelled pairs")


def read_nli(path: str, lines: int | None = None) -> tuple[pa.Table, Ledger]:
    """LABELLED from tab-separated label, premise, hypothesis with a header (labels by name, or 0, 1, 2 as in SNLI's lists).

    One pair for each entailed hypothesis whose premise has a contradiction too; the others are dropped by name.
    """
    names = {"0": "entailment", "1": "neutral", "2": "contradiction"}
    entailed: dict[str, dict[str, int]] = {}
    against: dict[str, list[str]] = {}
    reasons: list[str | None] = []
    seen: set[tuple[str, str, str]] = set()
    for number, row in itertools.islice(_rows(path, ("label", "premise", "hypothesis")), lines):
        label = names.get(row["label"], row["label"])
        if label not in names.values() and label not in ("-", "-1", ""):
            raise UserError(
                f"unknown label {label!r}", where=f"{path}, line {number}", fix="entailment, neutral or contradiction"
            )
        premise, hypothesis = row["premise"].strip(), row["hypothesis"].strip()
        if not premise or not hypothesis:
            reasons.append("empty_side")
        elif (label, premise, hypothesis) in seen:
            reasons.append("repeated")
        elif label == "entailment":
            entailed.setdefault(premise, {})[hypothesis] = number
            reasons.append(None)
        elif label == "contradiction":
            against.setdefault(premise, []).append(hypothesis)
            reasons.append(None)
        else:
            reasons.append("neutral" if label == "neutral" else "no_label")
        seen.add((label, premise, hypothesis))
    ledger = Ledger.count("rows", reasons)
    pairs, dropped = [], 0
    for premise, hypotheses in entailed.items():
        others = sorted(against.get(premise, []))
        for at, hypothesis in enumerate(sorted(hypotheses)):
            if others:
                pairs.append(Labelled(premise, hypothesis, others[at % len(others)], hypotheses[hypothesis]))
            else:
                dropped += 1
    read = len(pairs) + dropped
    ledger += Ledger.of("pairs", read=read, kept=len(pairs), dropped={"no_contradiction": dropped})
    return _table(pairs, "nli", path), ledger


def read_triplets(path: str, lines: int | None = None) -> tuple[pa.Table, Ledger]:
    """LABELLED from tab-separated query, relevant passage, other passage, without a header (MS MARCO's triples)."""
    pairs: dict[tuple[str, str, str], int] = {}
    reasons: list[str | None] = []
    for number, fields in enumerate(itertools.islice(_triplets(path), lines), 1):
        query, relevant, other = (text.strip() for text in fields)
        if not (query and relevant and other):
            reasons.append("empty_side")
        elif relevant == other:
            reasons.append("same_passage")
        elif (query, relevant, other) in pairs:
            reasons.append("repeated")
        else:
            pairs[query, relevant, other] = number
            reasons.append(None)
    ledger = Ledger.count("rows", reasons)
    return _table((Labelled(*texts, number) for texts, number in pairs.items()), "search", path), ledger


def _table(pairs: Iterable[Labelled], source: str, path: str) -> pa.Table:
    """LABELLED without a split yet, sorted by pair_id."""
    name = posixpath.basename(path)
    rows = sorted((_row(pair, source, name) for pair in pairs), key=lambda row: row["pair_id"])
    return pa.Table.from_pylist(rows, LABELLED)


def _row(pair: Labelled, source: str, path: str) -> dict[str, Any]:
    x_hash, y_hash = text_hash(pair.x), text_hash(pair.y)
    return {
        "pair_id": xxhash.xxh3_128_hexdigest("\n".join((source, pair.x, pair.y, pair.hard)).encode()),
        "kind": "text",
        "source": source,
        "group": f"{x_hash:016x}",
        "split": "",
        "x": pair.x,
        "y": pair.y,
        "x_hash": x_hash,
        "y_hash": y_hash,
        "cluster": x_hash,
        "x_doc": f"{x_hash:016x}",
        "y_doc": f"{y_hash:016x}",
        "x_start": 0,
        "x_end": len(pair.x),
        "y_start": 0,
        "y_end": len(pair.y),
        "path": path,
        "line": pair.line,
        "licence": None,
        "hard": [pair.hard],
        "hard_hash": [text_hash(pair.hard)],
    }


def _negative_held_out(pairs: pa.Table) -> np.ndarray:
    """(n,) bool: a training row one of whose hard negatives is a text of the held-out side."""
    heldout = pc.equal(pairs["split"], HELDOUT).to_numpy(zero_copy_only=False)
    texts = np.concatenate([pairs[name].to_numpy()[heldout] for name in ("x_hash", "y_hash")])
    negatives = pairs["hard_hash"].combine_chunks()
    found = np.isin(negatives.flatten().to_numpy(), texts)
    rows = pc.list_parent_indices(negatives).to_numpy()
    return ~heldout & (np.bincount(rows[found], minlength=len(heldout)) > 0)


def _rows(path: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.DictReader(_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or [])]
        if missing:
            raise UserError(
                f"the first line names no column {missing[0]!r}", where=path, fix=f"it must name {', '.join(columns)}"
            )
        for number, row in enumerate(reader, 2):
            yield number, {name: row[name] or "" for name in columns}
    except csv.Error as error:  # a field of 131,072 characters or more, for one
        raise UserError(str(error), where=f"{path}, line {reader.reader.line_num}", fix="correct the line") from error


def _triplets(path: str) -> Iterator[list[str]]:
    for number, line in enumerate(_lines(path), 1):
        fields = line.rstrip("\r\n").split("\t")
        if len(fields) != 3:
            raise UserError(
                f"{len(fields)} columns instead of 3", where=f"{path}, line {number}", fix="query, relevant, other"
            )
        yield fields


def _lines(path: str) -> Iterator[str]:
    """UserError with the line where the file is damaged, or is no UTF-8."""
    number = 0
    try:
        with _open(path) as source:
            for line in source:
                number += 1
                line.encode()  # a byte that is no UTF-8 was read as a surrogate, which cannot be written
                yield line
    except UnicodeEncodeError as error:
        byte = ord(error.object[error.start]) & 0xFF
        raise UserError(
            f"byte {byte:#04x} is no UTF-8", where=f"{path}, line {number}", fix="write the file as UTF-8"
        ) from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(
            f"the compressed file is damaged: {error}", where=f"{path}, line {number + 1}", fix="fetch it again"
        ) from error


def _open(path: str) -> io.TextIOBase:
    check_source(path)
    fs, target = locate(path)
    raw = fs.open(target, "rb")
    plain = gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw
    return io.TextIOWrapper(plain, encoding="utf-8", errors="surrogateescape", newline="")


def _digest(path: str) -> str:
    """xxh3_128 of the file's bytes."""
    fs, target = locate(path)
    with fs.open(target, "rb") as source:
        return hashlib.file_digest(source, xxhash.xxh3_128).hexdigest()
