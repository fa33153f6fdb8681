"""Labelled pairs for fine-tuning through the same loop, in the layouts in which they are published.

NLI (SNLI, MultiNLI): premise and entailed hypothesis are a pair, a contradicting hypothesis of the same premise is its hard
negative (arXiv 2201.10005, section 3.1). Search (MS MARCO): lines of query, relevant passage, other passage.
"""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Iterator

import fsspec
import pyarrow as pa
import xxhash

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.errors import UserError

LABELLED = pa.schema(
    [
        ("pair_id", pa.string()),
        ("source", pa.string()),
        ("x", pa.string()),
        ("y", pa.string()),
        ("hard", pa.list_(pa.string())),
        ("x_hash", pa.uint64()),
        ("y_hash", pa.uint64()),
        ("hard_hash", pa.list_(pa.uint64())),
        ("cluster", pa.uint64()),
    ]
)
"""What `pairs.batches` orders; `cluster` is the content of x, so that a premise is in a batch once."""


def read_nli(path: str) -> tuple[pa.Table, Ledger]:
    """LABELLED from tab-separated label, premise, hypothesis with a header (labels by name, or 0, 1, 2 as in SNLI's lists).

    One pair for each entailed hypothesis whose premise has a contradiction too; the others are dropped by name.
    """
    names = {"0": "entailment", "1": "neutral", "2": "contradiction"}
    entailed: dict[str, list[str]] = {}
    against: dict[str, list[str]] = {}
    reasons: list[str | None] = []
    seen: set[tuple[str, str, str]] = set()
    for number, row in _rows(path, ("label", "premise", "hypothesis")):
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
        elif label in ("entailment", "contradiction"):
            seen.add((label, premise, hypothesis))
            (entailed if label == "entailment" else against).setdefault(premise, []).append(hypothesis)
            reasons.append(None)
        else:
            reasons.append("neutral" if label == "neutral" else "no_label")
    ledger = Ledger.count("rows", reasons)
    pairs, dropped = [], 0
    for premise, hypotheses in entailed.items():
        others = sorted(against.get(premise, []))
        for at, hypothesis in enumerate(sorted(hypotheses)):
            if others:
                pairs.append((premise, hypothesis, others[at % len(others)]))
            else:
                dropped += 1
    read = len(pairs) + dropped
    ledger += Ledger.of("pairs", read=read, kept=len(pairs), dropped={"no_contradiction": dropped})
    return _table(pairs, "nli"), ledger


def read_triplets(path: str) -> tuple[pa.Table, Ledger]:
    """LABELLED from tab-separated query, relevant passage, other passage, without a header (MS MARCO's triples)."""
    pairs: set[tuple[str, str, str]] = set()
    reasons: list[str | None] = []
    for fields in _triplets(path):
        query, relevant, other = (text.strip() for text in fields)
        if not (query and relevant and other):
            reasons.append("empty_side")
        elif relevant == other:
            reasons.append("same_passage")
        elif (query, relevant, other) in pairs:
            reasons.append("repeated")
        else:
            pairs.add((query, relevant, other))
            reasons.append(None)
    return _table(pairs, "search"), Ledger.count("rows", reasons)


def _table(rows: Iterable[tuple[str, str, str]], source: str) -> pa.Table:
    found = [
        {
            "pair_id": xxhash.xxh3_128_hexdigest("\n".join((source, *row)).encode()),
            "source": source,
            "x": row[0],
            "y": row[1],
            "hard": [row[2]],
            "x_hash": _content(row[0]),
            "y_hash": _content(row[1]),
            "hard_hash": [_content(row[2])],
            "cluster": _content(row[0]),
        }
        for row in sorted(rows)
    ]
    return pa.Table.from_pylist(found, LABELLED)


def _content(text: str) -> int:
    return xxhash.xxh3_64_intdigest(" ".join(text.split()).encode())


def _rows(path: str, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    with _open(path) as source:
        reader = csv.DictReader(source, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = [name for name in columns if name not in (reader.fieldnames or [])]
        if missing:
            raise UserError(
                f"the first line names no column {missing[0]!r}", where=path, fix=f"it must name {', '.join(columns)}"
            )
        for number, row in enumerate(reader, 2):
            yield number, {name: row[name] or "" for name in columns}


def _triplets(path: str) -> Iterator[list[str]]:
    with _open(path) as source:
        for number, line in enumerate(source, 1):
            fields = line.rstrip("\n").split("\t")
            if len(fields) != 3:
                raise UserError(
                    f"{len(fields)} columns instead of 3", where=f"{path}, line {number}", fix="query, relevant, other"
                )
            yield fields


def _open(path: str) -> io.TextIOBase:
    fs, target = fsspec.core.url_to_fs(path)
    if not fs.exists(target):
        raise UserError("there is no such file", where=path, fix="give the path of the labelled pairs")
    raw = fs.open(target, "rb")
    return io.TextIOWrapper(gzip.GzipFile(fileobj=raw) if path.endswith(".gz") else raw, encoding="utf-8", newline="")
