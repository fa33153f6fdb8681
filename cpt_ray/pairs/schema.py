"""The pairs table, and what every maker of pairs needs: ids by content, hashes, duplicate clusters."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cpt_ray.artifacts.columns import whole
from cpt_ray.artifacts.examples import Sampler
from cpt_ray.errors import UserError
from cpt_ray.words import text_hash

PAIRS = pa.schema(
    [
        ("pair_id", pa.string()),
        ("kind", pa.string()),
        ("source", pa.string()),
        ("group", pa.string()),
        ("split", pa.string()),
        ("x", pa.string()),
        ("y", pa.string()),
        ("x_hash", pa.uint64()),
        ("y_hash", pa.uint64()),
        ("cluster", pa.uint64()),
        ("cluster_size", pa.int32()),
        ("x_doc", pa.string()),
        ("y_doc", pa.string()),
        ("x_start", pa.int32()),
        ("x_end", pa.int32()),
        ("y_start", pa.int32()),
        ("y_end", pa.int32()),
        ("path", pa.string()),
        ("line", pa.int32()),
        ("licence", pa.string()),
    ]
)
"""One positive pair, sorted by pair_id. `kind` is "text" or "code"; `split` is "train", "heldout" or "" (no split yet).

`x_hash`, `y_hash`: xxh3_64 of the text, whitespace normalised. `cluster`: xxh3_64 of the duplicate cluster's id;
`cluster_size`: the documents of it, removed ones too. Spans are characters of the document (start included, end excluded)
for text, lines of the file (both included) for code.
"""


CANDIDATES = PAIRS.append(pa.field("copies", pa.int32()))
"""Pairs of one shard, before the other shards are asked for the same texts; `copies`: rows of the shard it stands for."""


ROWS_PER_PART = 50_000
"""Pairs, or texts of the corpus, of a part; exactly, but for the last, or about, if exchanges made it. A pair of the demo
is 1 kB."""


Cluster = tuple[str, int]
"""The id of a duplicate cluster, and how many documents it has."""


class Pair(NamedTuple):
    """What a maker of pairs gives; the rest of a PAIRS row follows from it."""

    kind: str
    source: str
    group: str
    x: str
    y: str
    cluster_id: str
    x_doc: str
    y_doc: str
    x_span: tuple[int, int]
    y_span: tuple[int, int]
    path: str | None = None
    line: int | None = None
    licence: str | None = None
    cluster_size: int = 1

    @property
    def pair_id(self) -> str:
        """xxh3_128 over the texts, where they come from and the spans: never a position in a table."""
        key = f"{self.kind}\n{self.x_doc}\n{self.y_doc}\n{self.x_span[0]}\n{self.y_span[0]}\n{self.x}\n{self.y}"
        return xxhash.xxh3_128_hexdigest(key.encode())


def pairs_table(pairs: Iterable[Pair]) -> pa.Table:
    """A PAIRS table by pair_id, without a split yet."""
    rows = [
        (
            pair.pair_id,
            pair.kind,
            pair.source,
            pair.group,
            "",
            pair.x,
            pair.y,
            text_hash(pair.x),
            text_hash(pair.y),
            xxhash.xxh3_64_intdigest(pair.cluster_id.encode()),
            pair.cluster_size,
            pair.x_doc,
            pair.y_doc,
            *pair.x_span,
            *pair.y_span,
            pair.path,
            pair.line,
            pair.licence,
        )
        for pair in pairs
    ]
    rows.sort(key=lambda row: row[0])
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [[] for _ in PAIRS]
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, PAIRS, strict=True)], schema=PAIRS)


class Claimed:
    """The pairs of texts (xxh3_64 of x and of y) that are taken: first come, and of one x at most `most`."""

    def __init__(self, most: int | None = None) -> None:
        self._most = most
        self._taken: set[tuple[int, int]] = set()
        self._of_x: dict[int, int] = {}

    def refused(self, x: int, y: int) -> str | None:
        """Take both texts; or why not: another has them (`same_text`), `most` others have x (`x_repeated`)."""
        if (x, y) in self._taken:
            return "same_text"
        if self._most is not None:
            if (others := self._of_x.get(x, 0)) >= self._most:
                return "x_repeated"
            self._of_x[x] = others + 1
        self._taken.add((x, y))
        return None


def examples_of(pairs: pa.Table, unit: str, reasons: str | Sequence[str]) -> Sampler:
    """Examples of PAIRS rows that were dropped, for one reason or each for its own; none of rows without their texts."""
    dropped = Sampler()
    if "pair_id" not in pairs.column_names:
        return dropped
    each = [reasons] * len(pairs) if isinstance(reasons, str) else reasons
    columns = (pairs[name].to_pylist() for name in ("pair_id", "group", "x", "y"))
    for reason, pair_id, group, x, y in zip(each, *columns, strict=True):
        dropped.add(unit, reason, pair_id, group=group, x=x, y=y)
    return dropped


class Survivors(NamedTuple):
    """Of each document its duplicate cluster, whether it is the one that is kept of it, and the documents it has."""

    cluster_id: list[str]
    kept: list[bool]
    cluster_size: list[int]


def survivors(ids: pa.ChunkedArray, clusters: pa.Table | None) -> Survivors:
    """Look up every id in a clusters table (columns doc_id, cluster_id, kept, cluster_size), in the order of `ids`.

    Without a table each is a cluster of its own, and without sizes of size 1. UserError when an id is not in it: the table
    is of another corpus.
    """
    if clusters is None:
        return Survivors(ids.to_pylist(), [True] * len(ids), [1] * len(ids))
    at = pc.index_in(ids.cast(pa.large_string()), value_set=whole(clusters["doc_id"]))
    if at.null_count:
        missing = ids.filter(pc.is_null(at))[0].as_py()
        raise UserError(
            f"{at.null_count:,} of {len(ids):,} documents are in no duplicate cluster, {missing} for one",
            where="clusters",
            fix="deduplicate these very documents, and pass their clusters table",
        )
    # A chunked column would be joined by take, however few rows are taken.
    sized = "cluster_size" in clusters.column_names
    return Survivors(
        whole(clusters["cluster_id"]).take(at).to_pylist(),
        clusters["kept"].take(at).to_pylist(),
        clusters["cluster_size"].take(at).to_pylist() if sized else [1] * len(ids),
    )
