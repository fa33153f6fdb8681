"""Pairs of a corpus of any size: what a row must know of all others, it asks by exchanges; text stays in its shard.

1. *clusters*: a shard asks for its documents' ids, and is told the cluster of each that is kept.
2. *lines* (text): a shard says in how many of its documents of a group a line stands, and is told which of its lines are
   repeated over all shards.
3. *candidates*: documents are cut, functions paired: a map, which knows 1 and 2.
4. *claims*: shards say which texts their candidates hold; the first by id has them, the others are told.
5. *leaks*: shards say which clusters and texts stand on which side of the split; training sides are told what is held out.
6. Candidates without those go to their range of pair_id, and each range is sorted and is a part.

A shard says a thing once, however many of its rows say it, so a key that everybody has costs a row a shard. The rows, and
the ledger, are those of one table with everything in it (`text_pairs`, `code_pairs`, `split_pairs`: the oracle in tests);
only what is beyond `max_per_x` of its shard is always `x_repeated`, also if an earlier shard has the same text (`same_text`).
"""

from __future__ import annotations

import itertools
import posixpath
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from operator import itemgetter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Count, Ledger, LedgerError, Manifest, Stage, examples, parquet, read_manifest
from cpt_ray.artifacts.examples import together
from cpt_ray.artifacts.exchange import Sent, buckets_for, by_range, receive
from cpt_ray.pairs.decontaminate import Evaluation, decontaminate
from cpt_ray.pairs.docstrings import candidates as code_candidates
from cpt_ray.pairs.docstrings import duplicates, needed
from cpt_ray.pairs.neighbours import cut_documents, line_counts
from cpt_ray.pairs.options import DocstringOptions, NeighbourOptions, SplitOptions
from cpt_ray.pairs.phases import Phases, Shard, Work, numbered
from cpt_ray.pairs.phases import kept as kept_rows
from cpt_ray.pairs.schema import CANDIDATES, PAIRS, ROWS_PER_PART, Claimed, examples_of
from cpt_ray.pairs.splits import HELDOUT, TRAIN, heldout

LINE_BYTES = 64
"""Of documents, for one line that is long enough to be counted, at least about; only how full a bucket gets depends on it."""

LINES = pa.schema([("group", pa.string()), ("line", pa.uint64()), ("shard", pa.int32()), ("documents", pa.int64())])
CLAIMS = pa.schema(
    [("x", pa.uint64()), ("y", pa.uint64()), ("doc", pa.string()), ("start", pa.int32()), ("shard", pa.int32())]
)
LOST = pa.schema([("x", pa.uint64()), ("y", pa.uint64()), ("reason", pa.string()), ("shard", pa.int32())])
SIDES = pa.schema([("kind", pa.string()), ("key", pa.uint64()), ("heldout", pa.bool_()), ("shard", pa.int32())])
Chosen = Callable[[Shard, Sequence[str]], tuple[pa.Table, Ledger]]


def text_pairs_across(
    path: str, stage: Stage, documents: str, clusters: str, neighbours: NeighbourOptions, **last: Any
) -> Manifest:
    """Publish the text pairs of `documents` at `path`; what is under way stays in `<path>.phases` until then."""
    options = {"neighbours": neighbours.result()}
    cut = partial(_cut, options=neighbours)
    return _across(path, stage, (documents, clusters), "doc_id", "pairs", cut, neighbours, None, options, **last)


def code_pairs_across(
    path: str,
    stage: Stage,
    functions: str,
    clusters: str,
    docstrings: DocstringOptions,
    split: SplitOptions,
    **last: Any,
) -> Manifest:
    """Publish the code pairs of `functions` at `path`, likewise."""
    options, most = {"docstrings": docstrings.result(), "split": split.result()}, docstrings.max_per_x
    up, last = partial(_pair_up, options=docstrings, split=split), {**last, "split": split}
    return _across(path, stage, (functions, clusters), "function_id", "functions", up, None, most, options, **last)


def _across(
    path: str,
    stage: Stage,
    sources: tuple[str, str],
    id_column: str,
    unit: str,
    make: Work,
    neighbours: NeighbourOptions | None,
    most: int | None,
    options: Mapping[str, Any],
    *,
    params: Mapping[str, Any],
    inputs: Mapping[str, str | Manifest],
    split: SplitOptions,
    evaluation: Evaluation | None,
) -> Manifest:
    """All steps; `unit` is what claims are counted in, `make` the map of step 3, `most` rows may share one x."""
    rows, clusters = map(read_manifest, sources)
    phases = Phases(path, stage, options, {"rows": rows, "clusters": clusters})
    shards, known = phases.clusters(*sources, id_column)
    told = None
    if neighbours is not None:
        lines = partial(_lines, known=known, options=neighbours)
        about = sum(shard["bytes"] for shard in shards) // LINE_BYTES
        counted = phases.ask("lines", lines, LINES, shards, ("group", "line"), about)
        told = phases.answer("repeated", partial(_repeated, options=neighbours), LINES, counted, len(shards))
    cut, made = phases.map("candidates", make, CANDIDATES, shards, known=known, told=told)
    phases.params, phases.inputs = dict(params), {**inputs, "candidates": made}
    pieces = [{"path": name, "number": number} for number, name in enumerate(cut)]
    claims = phases.ask("claims", _claims, CLAIMS, pieces, ("x",) if most else ("x", "y"), made.rows)
    lost = phases.answer("lost", partial(_lost, most=most), LOST, claims, len(pieces))
    of_shard = partial(_chosen, lost=lost, evaluation=evaluation, unit=unit)
    sides = phases.ask(
        "sides", partial(_sides, chosen=of_shard, split=split), SIDES, pieces, ("kind", "key"), 3 * made.rows
    )
    leaks = phases.answer("leaks", _leaks, SIDES, sides, len(pieces))
    count = buckets_for(made.rows, ROWS_PER_PART)
    last = partial(_last, chosen=of_shard, leaks=leaks, split=split)
    sent, manifest = phases.send(
        "pairs", last, PAIRS, pieces, partial(by_range, column="pair_id", buckets=count), count
    )
    ledger, sides_of = _balance(made.balance, manifest.balance, unit)
    for name in ("candidates", "pairs"):
        ledger = replace(ledger, examples=together(ledger.examples, examples.read(posixpath.join(phases.folder, name))))
    extra = {"splits": sides_of}
    return phases.publish(sent, ("pair_id", "x_doc"), ledger, params=params, inputs=inputs, extra=extra)


def _lines(shard: Shard, *, known: Sent, options: NeighbourOptions) -> tuple[pa.Table, Ledger]:
    kept, _, gone = kept_rows(shard, known, ("doc_id", "group", "text"))
    counts = line_counts(zip(kept["group"].to_pylist(), kept["text"].to_pylist(), strict=True), options)
    columns = [
        pa.array([group for group, _ in counts], pa.string()),
        pa.array([line for _, line in counts], pa.uint64()),
        numbered(shard, len(counts)),
        pa.array(counts.values(), pa.int64()),
    ]
    read = kept.num_rows + gone.num_rows
    ledger = Ledger.of("documents", read=read, kept=kept.num_rows, dropped={"duplicate": gone.num_rows})
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
    kept, cluster_of, gone = kept_rows(shard, known, ("doc_id", "group", "text"))
    lines = receive(told, shard["number"], ("group", "line"))
    repeated: dict[str, set[int]] = defaultdict(set)
    for group, line in zip(lines["group"].to_pylist(), lines["line"].to_pylist(), strict=True):
        repeated[group].add(line)
    columns = (kept[name].to_pylist() for name in ("doc_id", "group", "text"))
    rows = ((doc, group, text, cluster_of[doc]) for doc, group, text in zip(*columns, strict=True))
    table, ledger = cut_documents(rows, gone.num_rows, repeated, options)
    return table.append_column(CANDIDATES.field("copies"), pa.array(np.zeros(len(table), np.int32))), ledger


def _pair_up(
    shard: Shard, *, known: Sent, told: None, options: DocstringOptions, split: SplitOptions
) -> tuple[pa.Table, Ledger]:
    kept, cluster_of, gone = kept_rows(shard, known, needed(options))
    clusters = [cluster_of[name] for name in kept["function_id"].to_pylist()]
    table, ledger = code_candidates(kept.to_pylist(), clusters, options, split)
    return table, duplicates(gone.to_pylist(), options, split) + ledger


def _claims(shard: Shard) -> tuple[pa.Table, Ledger]:
    table = parquet.read_table(shard["path"], ["x_hash", "y_hash", "x_doc", "x_start"])
    found = pa.table([*table.columns, numbered(shard, table.num_rows)], schema=CLAIMS)
    return found, Ledger.of("claims", read=len(found), kept=len(found))


def _lost(shard: Shard, *, sent: Sent, most: int | None) -> tuple[pa.Table, Ledger]:
    """What each shard claims and does not get: another has both texts, or `most` others have the x already."""
    table = receive(sent, shard["bucket"], ("x", "doc", "start", "shard", "y"))
    reasons: list[str | None] = []
    for _, of_x in itertools.groupby(zip(table["x"].to_pylist(), table["y"].to_pylist(), strict=True), itemgetter(0)):
        claimed = Claimed(most)
        reasons += [claimed.refused(*texts) for texts in of_x]
    answer = pa.table([table["x"], table["y"], pa.array(reasons, pa.string()), table["shard"]], schema=LOST)
    answer = answer.filter(pc.is_valid(answer["reason"]))
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
    kept = pa.array([reason is None for reason in reasons], pa.bool_())
    gone = examples_of(table.filter(pc.invert(kept)), unit, [reason for reason in reasons if reason is not None])
    table = table.filter(kept)
    ledger = Ledger.of(unit, read=len(table) + counts.total(), kept=len(table), dropped=counts).showing(gone)
    if evaluation is not None:
        table, removed = decontaminate(table, evaluation)
        ledger += removed.renamed("decontamination")
    return table, ledger


def _sides(shard: Shard, *, chosen: Chosen, split: SplitOptions) -> tuple[pa.Table, Ledger]:
    """Which clusters and texts of a shard stand on which side."""
    table, _ = chosen(shard, ("x_hash", "y_hash", "cluster", "group", "path", "copies"))
    held = heldout(table["group"], split)
    tables = []
    for kind, column in (("cluster", "cluster"), ("text", "x_hash"), ("text", "y_hash")):
        kinds = pa.array([kind] * len(table), pa.string())
        tables.append(pa.table([kinds, table[column], held, numbered(shard, len(table))], schema=SIDES))
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
    held = heldout(table["group"], split)
    stands = pc.is_in(table["cluster"], clusters)
    for column in ("x_hash", "y_hash"):
        stands = pc.or_(stands, pc.is_in(table[column], texts))
    keep = pc.or_(held, pc.invert(stands))
    names = pc.if_else(held, HELDOUT, TRAIN)
    pairs = table.drop_columns(["copies"]).set_column(PAIRS.get_field_index("split"), PAIRS.field("split"), names)
    gone = examples_of(pairs.filter(pc.invert(keep)), "split", "leaks_heldout")
    pairs = pairs.filter(keep)
    count = Ledger.of("split", read=len(table), kept=len(pairs), dropped={"leaks_heldout": len(table) - len(pairs)})
    ledger += count.showing(gone)
    for name, rows in Counter(pairs["split"].to_pylist()).items():
        ledger += Ledger.of(name, read=rows, kept=rows)
    return pairs.cast(PAIRS), ledger


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
