"""Pairs of a corpus of any size: what a row must know of all others, it asks by exchanges; text stays in its shard.

1. *clusters*: a shard asks for its documents' ids, and is told the cluster of each that is kept.
2. *lines* (text): a shard says in how many of its documents of a group a line stands, and is told which of its lines are
   repeated over all shards.
3. *candidates*: documents are cut, functions paired: a map, which knows 1 and 2.
4. *claims*: shards say which texts their candidates hold; the first by id has them, the others are told.
5. *leaks*: shards say which clusters and texts stand on which side of the split; training sides are told what is held out.
6. Candidates without those go to their range of pair_id, and each range is sorted and is a part.

A shard says a thing once, however many of its rows say it, so a key that everybody has costs a row a shard. The rows, and
the ledger, are those of one table with everything in it (`text_pairs`, `code_pairs`, `split_pairs`: the oracle in tests).
"""

from __future__ import annotations

import itertools
import posixpath
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Count, Ledger, LedgerError, Manifest, Stage, parquet, parts, read_manifest
from cpt_ray.artifacts.exchange import Route, Sent, buckets_for, by_hash, by_number, by_range, receive, send
from cpt_ray.dedup.signatures import read_batches, shards_of
from cpt_ray.pairs.decontaminate import Evaluation, decontaminate
from cpt_ray.pairs.docstrings import candidates as code_candidates
from cpt_ray.pairs.docstrings import needed
from cpt_ray.pairs.neighbours import cut_documents, line_counts
from cpt_ray.pairs.options import DocstringOptions, NeighbourOptions, SplitOptions
from cpt_ray.pairs.schema import CANDIDATES, PAIRS, survivors
from cpt_ray.pairs.splits import HELDOUT, TRAIN, side

PART_ROWS = 50_000
"""Pairs of a part, about; a pair of the demo is 1 kB."""
LINES_OF_A_DOCUMENT = 16
"""About how many lines of a document are long enough to be counted; only how full a bucket gets depends on it."""

ASKED = pa.schema([("doc_id", pa.string()), ("shard", pa.int32()), ("cluster_id", pa.string()), ("kept", pa.bool_())])
LINES = pa.schema([("group", pa.string()), ("line", pa.uint64()), ("shard", pa.int32()), ("documents", pa.int64())])
CLAIMS = pa.schema(
    [("x", pa.uint64()), ("y", pa.uint64()), ("doc", pa.string()), ("start", pa.int32()), ("shard", pa.int32())]
)
LOST = pa.schema([("x", pa.uint64()), ("y", pa.uint64()), ("reason", pa.string()), ("shard", pa.int32())])
SIDES = pa.schema([("kind", pa.string()), ("key", pa.uint64()), ("heldout", pa.bool_()), ("shard", pa.int32())])
CLUSTERS = -1
"""The number of a shard that asks for nothing and knows the clusters."""
Shard = Mapping[str, Any]
Work = Callable[..., tuple[pa.Table, Ledger]]
Chosen = Callable[[Shard, Sequence[str]], tuple[pa.Table, Ledger]]


def text_pairs_across(
    path: str, stage: Stage, documents: str, clusters: str, neighbours: NeighbourOptions, **last: Any
) -> Manifest:
    """Publish the text pairs of `documents` at `path`; what is under way stays in `<path>.phases` until then."""
    flow = _Flow(path, stage, documents, clusters, "doc_id", {"neighbours": neighbours.result()})
    return flow.run("pairs", partial(_cut, options=neighbours), neighbours, None, **last)


def code_pairs_across(
    path: str, stage: Stage, functions: str, clusters: str, docstrings: DocstringOptions, **last: Any
) -> Manifest:
    """Publish the code pairs of `functions` at `path`, likewise."""
    flow = _Flow(path, stage, functions, clusters, "function_id", {"docstrings": docstrings.result()})
    return flow.run("functions", partial(_pair_up, options=docstrings), None, docstrings.max_per_x, **last)


class _Flow:
    """The places and identities that the exchanges of one artifact share."""

    def __init__(
        self, path: str, stage: Stage, rows: str, clusters: str, id_column: str, options: Mapping[str, Any]
    ) -> None:
        self.path, self.stage, self.id_column, self.options = path, stage, id_column, dict(options)
        self.phases = path.rstrip("/") + ".phases"
        self.rows, self.clusters = read_manifest(rows), read_manifest(clusters)
        self.inputs: dict[str, str | Manifest] = {"rows": self.rows, "clusters": self.clusters}
        self.shards = [{**shard, "number": number} for number, shard in enumerate(shards_of(parts(rows)))]
        self.cluster_shards = [{**shard, "number": CLUSTERS} for shard in shards_of(parts(clusters))]

    def run(
        self,
        unit: str,
        make: Work,
        neighbours: NeighbourOptions | None,
        most: int | None,
        *,
        params: Mapping[str, Any],
        inputs: Mapping[str, str | Manifest],
        split: SplitOptions,
        evaluation: Evaluation | None,
    ) -> Manifest:
        """All steps; `unit` is what claims are counted in, `make` the map of step 3, `most` rows may share one x."""
        ids = partial(_ids, id_column=self.id_column)
        shards: Sequence[Shard] = [*self.shards, *self.cluster_shards]
        asked = self._ask("ids", ids, ASKED, shards, ("doc_id",), self.rows.rows + self.clusters.rows)
        known = self._answer("known", _join, ASKED, asked)
        told = None
        if neighbours is not None:
            lines = partial(_lines, known=known, options=neighbours)
            rows = self.rows.rows * LINES_OF_A_DOCUMENT
            counted = self._ask("lines", lines, LINES, self.shards, ("group", "line"), rows)
            told = self._answer("repeated", partial(_repeated, options=neighbours), LINES, counted)
        path = posixpath.join(self.phases, "candidates")
        cut = Stage(f"{self.stage.name}-candidates", self.stage.version, CANDIDATES, unit=self.stage.unit, run=make)
        made = cut.map(path, shards=self.shards, params=self.options, inputs=self.inputs, known=known, told=told)
        shards = [{"path": name, "number": number} for number, name in enumerate(parts(path))]
        self.options, self.inputs = {**params}, {**inputs, "candidates": made}
        claims = self._ask("claims", _claims, CLAIMS, shards, ("x",) if most else ("x", "y"), made.rows)
        lost = self._answer("lost", partial(_lost, most=most), LOST, claims)
        of_shard = partial(_chosen, lost=lost, evaluation=evaluation, unit=unit)
        told_sides = partial(_sides, chosen=of_shard, split=split)
        sides = self._ask("sides", told_sides, SIDES, shards, ("kind", "key"), 3 * made.rows)
        leaks = self._answer("leaks", _leaks, SIDES, sides)
        count = buckets_for(made.rows, PART_ROWS)
        last = partial(_last, chosen=of_shard, leaks=leaks, split=split)
        to = partial(by_range, column="pair_id", buckets=count)
        sent, manifest = self._send("pairs", last, PAIRS, shards, to, count)
        ledger, sides_of = _balance(made.balance, manifest.balance, unit)
        published = replace(self.stage, run=partial(_part, sent=sent)).map(
            self.path,
            # What the steps before counted is counted once, with the first part.
            shards=[{"bucket": bucket, "ledger": {} if bucket else ledger.to_dict()} for bucket in range(count)],
            params=params,
            inputs=inputs,
            extra={"splits": sides_of},
        )
        clear_phases(self.path)
        return published

    def _send(
        self, name: str, run: Work, gives: pa.Schema, shards: Sequence[Shard], to: Route, buckets: int
    ) -> tuple[Sent, Manifest]:
        stage = Stage(f"{self.stage.name}-{name}", self.stage.version, gives, run=run)
        at = posixpath.join(self.phases, name)
        sent, made = send(at, stage, shards=shards, buckets=buckets, to=to, params=self.options, inputs=self.inputs)
        self.inputs = {**self.inputs, name: made}
        return sent, made

    def _ask(
        self, name: str, run: Work, gives: pa.Schema, shards: Sequence[Shard], key: Sequence[str], rows: int
    ) -> Sent:
        """To buckets by the hash of `key`; `rows` is about how many there are."""
        buckets = buckets_for(rows)
        return self._send(name, run, gives, shards, partial(by_hash, columns=key, buckets=buckets), buckets)[0]

    def _answer(self, name: str, run: Work, gives: pa.Schema, asked: Sent) -> Sent:
        """From each bucket back to the shards that asked."""
        shards = [{"bucket": bucket} for bucket in range(asked.buckets)]
        to = partial(by_number, column="shard")
        return self._send(name, partial(run, sent=asked), gives, shards, to, max(len(self.shards), 1))[0]


def clear_phases(path: str) -> None:
    """Remove what was on its way to the artifact at `path`, which stands."""
    fs, phases = fsspec.core.url_to_fs(path.rstrip("/") + ".phases")
    if fs.exists(phases):
        fs.rm(phases, recursive=True)


def _rows(shard: Shard, columns: Sequence[str] | None) -> pa.Table:
    return pa.concat_tables([*read_batches(shard, columns)])


def _ids(shard: Shard, *, id_column: str) -> tuple[pa.Table, Ledger]:
    if shard["number"] == CLUSTERS:
        table = _rows(shard, ["doc_id", "cluster_id", "kept"])
        found = [table["doc_id"], _number(shard, table.num_rows), table["cluster_id"], table["kept"]]
        return pa.table(found, schema=ASKED), Ledger.of("clusters", read=table.num_rows, kept=table.num_rows)
    read = _rows(shard, [id_column])[id_column]
    ids = read.unique()
    empty = [pa.nulls(len(ids), pa.string()), pa.nulls(len(ids), pa.bool_())]
    ledger = Ledger.of("ids", read=len(read), kept=len(ids), dropped={"repeated_id": len(read) - len(ids)})
    return pa.table([ids, _number(shard, len(ids)), *empty], schema=ASKED), ledger


def _join(shard: Shard, *, sent: Sent) -> tuple[pa.Table, Ledger]:
    """Those of the ids asked for that are kept, with their cluster."""
    table = receive(sent, shard["bucket"], ("doc_id", "shard"))
    theirs = pc.equal(table["shard"], CLUSTERS)
    clusters, ids = table.filter(theirs), table.filter(pc.invert(theirs))
    known = survivors(ids["doc_id"], clusters)
    kept = pa.array(known.kept, pa.bool_())
    answer = pa.table([ids["doc_id"], ids["shard"], pa.array(known.cluster_id, pa.string()), kept], schema=ASKED)
    answer = answer.filter(kept)
    removed = ids.num_rows - answer.num_rows
    return answer, Ledger.of("ids", read=ids.num_rows, kept=answer.num_rows, dropped={"duplicate": removed})


def _kept(shard: Shard, known: Sent, columns: Sequence[str]) -> tuple[pa.Table, dict[str, str], int]:
    """A shard's kept rows by id (the first of `columns`), the cluster of each id, and how many rows are not kept."""
    table = _rows(shard, columns)
    found = receive(known, shard["number"], ("doc_id",))
    kept = table.filter(pc.is_in(table[columns[0]], found["doc_id"].combine_chunks())).sort_by(columns[0])
    cluster_of = dict(zip(found["doc_id"].to_pylist(), found["cluster_id"].to_pylist(), strict=True))
    return kept, cluster_of, table.num_rows - kept.num_rows


def _lines(shard: Shard, *, known: Sent, options: NeighbourOptions) -> tuple[pa.Table, Ledger]:
    kept, _, duplicates = _kept(shard, known, ("doc_id", "group", "text"))
    counts = line_counts(zip(kept["group"].to_pylist(), kept["text"].to_pylist(), strict=True), options)
    columns = [
        pa.array([group for group, _ in counts], pa.string()),
        pa.array([line for _, line in counts], pa.uint64()),
        _number(shard, len(counts)),
        pa.array(counts.values(), pa.int64()),
    ]
    read = kept.num_rows + duplicates
    ledger = Ledger.of("documents", read=read, kept=kept.num_rows, dropped={"duplicate": duplicates})
    return pa.table(columns, schema=LINES), ledger


def _repeated(shard: Shard, *, sent: Sent, options: NeighbourOptions) -> tuple[pa.Table, Ledger]:
    """The lines that stand in enough documents of their group, to every shard that has them."""
    table = receive(sent, shard["bucket"], ("group", "line", "shard"))
    total = table.group_by(["group", "line"], use_threads=False).aggregate([("documents", "sum")])
    often = total.filter(pc.greater_equal(total["documents_sum"], options.boilerplate_documents))
    answer = table.join(often.select(["group", "line"]), ["group", "line"], join_type="left semi", use_threads=False)
    answer = answer.select(LINES.names)
    once = table.num_rows - answer.num_rows
    return answer, Ledger.of("lines", read=table.num_rows, kept=answer.num_rows, dropped={"too_few_documents": once})


def _cut(shard: Shard, *, known: Sent, told: Sent, options: NeighbourOptions) -> tuple[pa.Table, Ledger]:
    kept, cluster_of, duplicates = _kept(shard, known, ("doc_id", "group", "text"))
    lines = receive(told, shard["number"], ("group", "line"))
    repeated: dict[str, set[int]] = defaultdict(set)
    for group, line in zip(lines["group"].to_pylist(), lines["line"].to_pylist(), strict=True):
        repeated[group].add(line)
    columns = (kept[name].to_pylist() for name in ("doc_id", "group", "text"))
    rows = ((doc, group, text, cluster_of[doc]) for doc, group, text in zip(*columns, strict=True))
    table, ledger = cut_documents(rows, duplicates, repeated, options)
    return table.append_column(CANDIDATES.field("copies"), pa.array(np.zeros(len(table), np.int32))), ledger


def _pair_up(shard: Shard, *, known: Sent, told: None, options: DocstringOptions) -> tuple[pa.Table, Ledger]:
    kept, cluster_of, duplicates = _kept(shard, known, needed(options))
    clusters = [cluster_of[name] for name in kept["function_id"].to_pylist()]
    table, ledger = code_candidates(kept.to_pylist(), clusters, options)
    return table, Ledger.of("functions", read=duplicates, kept=0, dropped={"duplicate": duplicates}) + ledger


def _claims(shard: Shard) -> tuple[pa.Table, Ledger]:
    table = parquet.read_table(shard["path"], ["x_hash", "y_hash", "x_doc", "x_start"])
    found = pa.table([*table.columns, _number(shard, table.num_rows)], schema=CLAIMS)
    return found, Ledger.of("claims", read=len(found), kept=len(found))


def _lost(shard: Shard, *, sent: Sent, most: int | None) -> tuple[pa.Table, Ledger]:
    """What each shard claims and does not get: another has both texts, or `most` others have the x already."""
    table = receive(sent, shard["bucket"], ("x", "doc", "start", "shard", "y"))
    lost: dict[str, list[Any]] = {name: [] for name in LOST.names}
    claims = zip(*(table[name].to_pylist() for name in ("x", "y", "shard")), strict=True)
    for x, of_x in itertools.groupby(claims, key=lambda claim: claim[0]):
        taken: set[int] = set()
        for _, y, number in of_x:
            reason = "same_text" if y in taken else "x_repeated" if most and len(taken) >= most else None
            if reason is None:
                taken.add(y)
                continue
            for name, value in zip(LOST.names, (x, y, reason, number), strict=True):
                lost[name].append(value)
    answer = pa.table(lost, schema=LOST)
    won = len(table) - len(answer)
    return answer, Ledger.of("claims", read=len(table), kept=len(answer), dropped={"got": won})


def _chosen(
    shard: Shard, columns: Sequence[str], *, lost: Sent, evaluation: Evaluation | None, unit: str
) -> tuple[pa.Table, Ledger]:
    """The candidates of a shard that got their texts, and that no evaluation asks for."""
    table = parquet.read_table(shard["path"], list(columns))
    answer = receive(lost, shard["number"], ("x", "y"))
    texts = zip(answer["x"].to_pylist(), answer["y"].to_pylist(), strict=True)
    reason_of = dict(zip(texts, answer["reason"].to_pylist(), strict=True))
    counts: Counter[str] = Counter()
    reasons = [reason_of.get(key) for key in zip(*(table[c].to_pylist() for c in ("x_hash", "y_hash")), strict=True)]
    for reason, copies in zip(reasons, table["copies"].to_pylist(), strict=True):
        counts[reason or "same_text"] += copies + (reason is not None)
    table = table.filter(pa.array([reason is None for reason in reasons], pa.bool_()))
    ledger = Ledger.of(unit, read=len(table) + counts.total(), kept=len(table), dropped=counts)
    if evaluation is not None:
        table, removed = decontaminate(table, evaluation)
        (count,) = removed.units.values()
        ledger += Ledger({"decontamination": count})
    return table, ledger


def _sides(shard: Shard, *, chosen: Chosen, split: SplitOptions) -> tuple[pa.Table, Ledger]:
    """Which clusters and texts of a shard stand on which side."""
    table, _ = chosen(shard, ("x_hash", "y_hash", "cluster", "group", "path", "copies"))
    heldout = _heldout(table, split)
    tables = []
    for kind, column in (("cluster", "cluster"), ("text", "x_hash"), ("text", "y_hash")):
        kinds = pa.array([kind] * len(table), pa.string())
        tables.append(pa.table([kinds, table[column], heldout, _number(shard, len(table))], schema=SIDES))
    once = pa.concat_tables(tables).group_by(SIDES.names, use_threads=False).aggregate([]).cast(SIDES)
    return once, Ledger.of("keys", read=len(once), kept=len(once))


def _leaks(shard: Shard, *, sent: Sent) -> tuple[pa.Table, Ledger]:
    """To training sides: their clusters and texts that are held out too."""
    table = receive(sent, shard["bucket"], SIDES.names)
    held = table.filter(table["heldout"]).select(["kind", "key"])
    train = table.filter(pc.invert(table["heldout"]))
    answer = train.join(held, ["kind", "key"], join_type="left semi", use_threads=False).select(SIDES.names)
    dropped = {"heldout": len(table) - len(train), "not_held_out": len(train) - len(answer)}
    return answer, Ledger.of("keys", read=len(table), kept=len(answer), dropped=dropped)


def _last(shard: Shard, *, chosen: Chosen, leaks: Sent, split: SplitOptions) -> tuple[pa.Table, Ledger]:
    """A shard's pairs as they are published; the ledger counts each side in a unit of its name too."""
    table, ledger = chosen(shard, CANDIDATES.names)
    told = receive(leaks, shard["number"], ("kind", "key"))
    clusters, texts = (told.filter(pc.equal(told["kind"], kind))["key"] for kind in ("cluster", "text"))
    heldout = _heldout(table, split)
    stands = pc.is_in(table["cluster"], clusters)
    for column in ("x_hash", "y_hash"):
        stands = pc.or_(stands, pc.is_in(table[column], texts))
    keep = pc.or_(heldout, pc.invert(stands))
    names = pc.if_else(heldout, HELDOUT, TRAIN)
    pairs = table.drop_columns(["copies"]).set_column(PAIRS.get_field_index("split"), PAIRS.field("split"), names)
    pairs = pairs.filter(keep)
    ledger += Ledger.of("split", read=len(table), kept=len(pairs), dropped={"leaks_heldout": len(table) - len(pairs)})
    for name, count in Counter(pairs["split"].to_pylist()).items():
        ledger += Ledger.of(name, read=count, kept=count)
    return pairs.cast(PAIRS), ledger


def _part(shard: Shard, *, sent: Sent) -> tuple[pa.Table, Ledger]:
    return receive(sent, shard["bucket"], ("pair_id", "x_doc")), Ledger.from_dict(shard["ledger"])


def _balance(made: Ledger, last: Ledger, unit: str) -> tuple[Ledger, dict[str, int]]:
    """The ledger of the whole, and how many pairs each side has: `last` goes on with what `made` kept of `unit`."""
    units = dict(made.units)
    before, after = units[unit], last.units.get(unit, Count(0, 0))
    if before.kept != after.read:
        raise LedgerError(f"{before.kept:,} {unit} were candidates, {after.read:,} were seen again")
    dropped = Counter(before.dropped) + Counter(after.dropped)
    units[unit] = Count(before.read, after.kept, dict(sorted(dropped.items())))
    units |= {name: count for name, count in last.units.items() if name not in (unit, TRAIN, HELDOUT)}
    sides = {name: last.units[name].kept for name in (HELDOUT, TRAIN) if name in last.units}
    return Ledger(units), sides


def _heldout(pairs: pa.Table, split: SplitOptions) -> pa.ChunkedArray:
    held = [group for group in pairs["group"].unique().to_pylist() if side(group, split) == HELDOUT]
    return pc.is_in(pairs["group"], value_set=pa.array(held, pa.string()))


def _number(shard: Shard, rows: int) -> pa.Array:
    return pa.array(np.full(rows, shard["number"], np.int32))
