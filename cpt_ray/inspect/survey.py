"""One pass over the rows of an artifact: how their values are spread, who they are of, and a few of them.

A batch is in memory at a time, and what is kept of it is counts, at most SAMPLE rows, and EACH of every language and licence:
those whose ids' hashes are the smallest, which are random among the rows and the same every time.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cpt_ray.artifacts import read_manifest
from cpt_ray.code.grammars import language_of
from cpt_ray.errors import UserError
from cpt_ray.inspect.rows import batches

SAMPLE = 50
EACH = 20
"""Rows shown of each language and licence."""
MOST_SHARES = 25
_UNIT = np.linspace(0, 1, 21)
_POWERS = np.r_[0.0, 2.0 ** np.arange(0, 31, 0.125)]


class Kind(NamedTuple):
    """What is looked at of rows of one kind: `texts` are shown and measured, `of` are counted by value, `values` lie
    between 0 and 1, of `each` of these every value has rows of its own shown. Columns that an artifact lacks are passed
    over, but for the id and the texts; pairs have the language of their path."""

    name: str
    id: str
    texts: tuple[str, ...]
    of: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    each: tuple[str, ...] = ()


KINDS = (
    Kind(
        "pairs",
        "pair_id",
        ("x", "y"),
        ("group", "source", "split", "language", "licence"),
        (),
        ("x_doc", "path", "line"),
        ("language", "licence"),
    ),
    Kind(
        "functions",
        "function_id",
        ("summary", "code"),
        ("group", "language", "licence"),
        ("quality",),
        ("path",),
        ("language", "licence"),
    ),
    Kind(
        "documents",
        "doc_id",
        ("text",),
        ("host", "group", "language", "content_type"),
        ("quality", "language_score"),
        ("url", "title"),
    ),
)


def kind_of(path: str) -> Kind:
    """What the rows of the artifact at `path` are; UserError where they are none of KINDS."""
    columns = read_manifest(path).columns
    for kind in KINDS:
        if kind.id in columns and all(text in columns for text in kind.texts):
            return kind
    raise UserError(
        "these are no documents, functions or pairs",
        where=path,
        fix="give such an artifact, as outputs/demo/documents, outputs/demo/functions or outputs/demo/text_pairs",
    )


@dataclass
class Histogram:
    """`counts[i]` values lie in edges[i] <= value < edges[i + 1]; `total` is their sum."""

    name: str
    edges: np.ndarray
    counts: np.ndarray
    total: float = 0.0

    @staticmethod
    def empty(name: str, edges: np.ndarray) -> Histogram:
        return Histogram(name, edges, np.zeros(len(edges) - 1, np.int64))

    def add(self, values: np.ndarray) -> None:
        values = values[np.isfinite(values)]
        inside = np.clip(values, self.edges[0], np.nextafter(self.edges[-1], -np.inf))
        self.counts += np.histogram(inside, self.edges)[0]
        self.total += float(values.sum())

    @property
    def rows(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float:
        return self.total / max(1, self.rows)

    def below(self, share: float) -> float:
        """The end of the bin up to which this share of the values lies."""
        at = int(np.searchsorted(np.cumsum(self.counts), share * self.rows))
        return float(self.edges[min(at + 1, len(self.edges) - 1)])

    def cut(self, most: int = 40) -> Histogram:
        """Without empty bins at both ends, and with neighbours put together until there are at most so many."""
        there = np.flatnonzero(self.counts)
        first, last = (there[0], there[-1] + 1) if len(there) else (0, 1)
        step = -(-(last - first) // most)
        starts = np.arange(first, last, step)
        edges = self.edges[np.minimum(np.r_[starts, starts[-1] + step], len(self.edges) - 1)]
        return Histogram(self.name, edges, np.add.reduceat(self.counts[:last], starts), self.total)


@dataclass
class Survey:
    """What one pass found. `shares` are counts by value of a column, `sample` some rows in the order of their hashes, and
    `each` some by column and value."""

    kind: Kind
    rows: int = 0
    histograms: list[Histogram] = field(default_factory=list)
    shares: dict[str, Counter[str]] = field(default_factory=dict)
    sample: list[dict[str, Any]] = field(default_factory=list)
    each: dict[str, dict[str, list[dict[str, Any]]]] = field(default_factory=dict)


def survey(path: str, kind: Kind) -> Survey:
    """Look once at every row of the artifact at `path`."""
    columns = set(read_manifest(path).columns)
    of_paths = kind.name == "pairs" and "path" in columns and "language" not in columns
    stored = [name for name in (*kind.of, *kind.values, *kind.shown) if name in columns]
    columns |= {"language"} if of_paths else set()
    of, values = ([name for name in names if name in columns] for names in (kind.of, kind.values))
    lengths = [Histogram.empty(f"{name}, characters (logarithmic)", _POWERS) for name in kind.texts]
    found = Survey(kind, 0, lengths + [Histogram.empty(name.replace("_", " "), _UNIT) for name in values])
    found.shares = {name: Counter() for name in of}
    sample: Held = []
    each: dict[tuple[str, str], Held] = {}
    for batch in batches(path, [kind.id, *kind.texts, *stored]):
        if of_paths:
            batch = batch.append_column("language", pa.array(map(_language, batch["path"].to_pylist()), pa.string()))
        found.rows += batch.num_rows
        for histogram, name in zip(found.histograms, (*kind.texts, *values), strict=True):
            column = pc.utf8_length(batch[name]) if name in kind.texts else batch[name]
            histogram.add(np.asarray(column.drop_null().cast(pa.float64())))
        for name, counts in found.shares.items():
            tally = batch[name].drop_null().value_counts()
            for row in tally.to_pylist():
                counts[row["values"]] += row["counts"]
        sample = _smallest(sample, batch, kind.id)
        for name in (one for one in kind.each if one in of):
            for value in batch[name].drop_null().unique().to_pylist():
                rows = batch.filter(pc.equal(batch[name], value))
                each[name, value] = _smallest(each.get((name, value), []), rows, kind.id, EACH)
    found.sample = [row for _, row in sample]
    for (name, value), held in each.items():
        found.each.setdefault(name, {})[value] = [row for _, row in held]
    return found


def _language(path: str | None) -> str | None:
    return language_of(path) if path else None


Held = list[tuple[int, dict[str, Any]]]
"""Rows by the hash of their id."""


def _smallest(held: Held, batch: pa.Table, id_column: str, most: int = SAMPLE) -> Held:
    hashes = np.fromiter(map(order_of, batch[id_column].to_pylist()), np.uint64, batch.num_rows)
    first = np.argsort(hashes, kind="stable")[:most]
    rows = zip(hashes[first].tolist(), batch.take(pa.array(first)).to_pylist(), strict=True)
    return sorted([*held, *rows], key=lambda one: one[0])[:most]


def order_of(identity: str | None) -> int:
    """The place of a row in the order that samples are the first of."""
    return xxhash.xxh3_64_intdigest((identity or "").encode("utf-8", "surrogatepass"))


def unit_histogram(name: str, path: str, column: str) -> Histogram:
    """How one column of values between 0 and 1 is spread."""
    found = Histogram.empty(name, _UNIT)
    for batch in batches(path, [column]):
        found.add(np.asarray(batch[column].drop_null().cast(pa.float64())))
    return found
