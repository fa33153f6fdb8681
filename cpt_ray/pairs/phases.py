"""The exchanges on the way to one artifact: where they lie, what they depend on, and the one that all of them begin with.

What is under way stays in `<path>.phases`, where a killed run finds it again, until the artifact stands.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Ledger, Manifest, Stage, parquet, parts, read_manifest, read_table
from cpt_ray.artifacts.exchange import Route, Sent, buckets_for, by_hash, by_number, receive, send
from cpt_ray.artifacts.parquet import read_batches, shards_of
from cpt_ray.artifacts.places import locate, remove
from cpt_ray.artifacts.store import phases_of
from cpt_ray.pairs.schema import Cluster, survivors

ASKED = pa.schema(
    [
        ("doc_id", pa.string()),
        ("shard", pa.int32()),
        ("cluster_id", pa.string()),
        ("kept", pa.bool_()),
        ("cluster_size", pa.int32()),
    ]
)
CLUSTERS = -1
"""The number of a shard that asks for nothing and knows the clusters."""
Shard = Mapping[str, Any]
Work = Callable[..., tuple[pa.Table, Ledger]]


class Phases:
    """The exchanges of the artifact of `stage` at `path`. Each depends on `params` and on `inputs`, which grow by it."""

    def __init__(
        self, path: str, stage: Stage, params: Mapping[str, Any], inputs: Mapping[str, str | Manifest]
    ) -> None:
        self.path, self.folder = path, phases_of(path)
        self.stage, self.params, self.inputs = stage, dict(params), dict(inputs)

    def map(
        self, name: str, run: Work, gives: pa.Schema, shards: Sequence[Shard], **arguments: Any
    ) -> tuple[list[str], Manifest]:
        """The parts of an artifact on the way, of the map `run` over `shards`."""
        at = posixpath.join(self.folder, name)
        stage = Stage(f"{self.stage.name}-{name}", self.stage.version, gives, unit=self.stage.unit, run=run)
        made = stage.map(at, shards=shards, params=self.params, inputs=self.inputs, **arguments)
        self.inputs[name] = made
        return parts(at), made

    def send(
        self, name: str, run: Work, gives: pa.Schema, shards: Sequence[Shard], to: Route, buckets: int
    ) -> tuple[Sent, Manifest]:
        """What `run` gives for every shard, to the buckets that `to` names."""
        stage = Stage(f"{self.stage.name}-{name}", self.stage.version, gives, run=run)
        at = posixpath.join(self.folder, name)
        sent, made = send(at, stage, shards=shards, buckets=buckets, to=to, params=self.params, inputs=self.inputs)
        self.inputs[name] = made
        return sent, made

    def ask(
        self, name: str, run: Work, gives: pa.Schema, shards: Sequence[Shard], key: Sequence[str], rows: int
    ) -> Sent:
        """To buckets by the hash of `key`; `rows` is about how many there are."""
        buckets = buckets_for(rows)
        return self.send(name, run, gives, shards, partial(by_hash, columns=key, buckets=buckets), buckets)[0]

    def answer(self, name: str, run: Work, gives: pa.Schema, asked: Sent, shards: int) -> Sent:
        """From each bucket back to the shards that asked, by the column `shard`."""
        buckets = [{"bucket": bucket} for bucket in range(asked.buckets)]
        to = partial(by_number, column="shard")
        return self.send(name, partial(run, sent=asked), gives, buckets, to, max(shards, 1))[0]

    def rows_of(self, name: str, buckets: int) -> list[int]:
        """How many rows were sent to each bucket."""
        sent = read_table(posixpath.join(self.folder, name))
        return np.bincount(sent["bucket"].to_numpy(), sent["rows"].to_numpy(), buckets).astype(np.int64).tolist()

    def clusters(self, rows: str, clusters: str, id_column: str, of: str = "") -> tuple[list[Shard], Sent]:
        """The numbered shards of `rows`, and to each of them the ids that are kept, with their clusters (see `kept`).

        `of` tells several artifacts apart. UserError for a document that is in no cluster.
        """
        shards = numbered_shards(rows)
        known: list[Shard] = [{**shard, "number": CLUSTERS} for shard in shards_of(parts(clusters))]
        ids = partial(_ids, id_column=id_column)
        count = read_manifest(rows).rows + read_manifest(clusters).rows
        asked = self.ask(f"ids{of}", ids, ASKED, [*shards, *known], ("doc_id",), count)
        return shards, self.answer(f"known{of}", _join, ASKED, asked, len(shards))

    def publish(
        self,
        sent: Sent,
        order: Sequence[str],
        ledger: Ledger,
        *,
        params: object,
        inputs: Mapping[str, str | Manifest],
        most: Sequence[int] | None = None,
        extra: Mapping[str, Any] | None = None,
        row_group: int = parquet.ROW_GROUP,
    ) -> Manifest:
        """Publish the artifact of `params` and `inputs`: a part for each bucket, sorted by `order`, of which no more than
        `most` rows each are taken; `ledger` counts all steps together. Then remove what was on its way."""
        schema = self.stage.gives or sent.schema
        run = partial(_part, sent=sent, order=order, columns=schema.names)
        # The ledger is counted once, with the first part.
        shards = [
            {
                "bucket": bucket,
                "most": None if most is None else most[bucket],
                "ledger": {} if bucket else ledger.whole(),
            }
            for bucket in range(sent.buckets)
        ]
        made = replace(self.stage, gives=schema, run=run).map(
            self.path, shards=shards, params=params, inputs=inputs, extra=extra, row_group=row_group
        )
        clear_phases(self.path)
        return made


def numbered_shards(artifact: str) -> list[Shard]:
    """The shards of an artifact, each with its number."""
    return [{**shard, "number": number} for number, shard in enumerate(shards_of(parts(artifact)))]


def clear_phases(path: str) -> None:
    """Remove what was on its way to the artifact at `path`, which stands."""
    remove(*locate(phases_of(path)))


def kept(shard: Shard, known: Sent, columns: Sequence[str]) -> tuple[pa.Table, dict[str, Cluster], pa.Table]:
    """A shard's kept rows by id (the first of `columns`), the cluster of each id, and the rows that are not kept."""
    table = _read(shard, columns)
    found = receive(known, shard["number"], ("doc_id",))
    stays = pc.is_in(table[columns[0]], found["doc_id"].combine_chunks())
    rows = table.filter(stays).sort_by(columns[0])
    ids, clusters, sizes = (found[name].to_pylist() for name in ("doc_id", "cluster_id", "cluster_size"))
    cluster_of = dict(zip(ids, zip(clusters, sizes, strict=True), strict=True))
    return rows, cluster_of, table.filter(pc.invert(stays))


def numbered(shard: Shard, rows: int) -> pa.Array:
    """The shard's number, as often."""
    return pa.array(np.full(rows, shard["number"], np.int32))


def _ids(shard: Shard, *, id_column: str) -> tuple[pa.Table, Ledger]:
    if shard["number"] == CLUSTERS:
        sized = "cluster_size" in parquet.read_schema(shard["path"]).names
        table = _read(shard, ["doc_id", "cluster_id", "kept", *(["cluster_size"] if sized else [])])
        sizes = table["cluster_size"].cast(pa.int32()) if sized else pa.array(np.ones(len(table), np.int32))
        found = [table["doc_id"], numbered(shard, table.num_rows), table["cluster_id"], table["kept"], sizes]
        return pa.table(found, schema=ASKED), Ledger.of("clusters", read=table.num_rows, kept=table.num_rows)
    read = _read(shard, [id_column])[id_column]
    ids = read.unique()
    empty = [pa.nulls(len(ids), field.type) for field in list(ASKED)[2:]]
    ledger = Ledger.of("ids", read=len(read), kept=len(ids), dropped={"repeated_id": len(read) - len(ids)})
    return pa.table([ids, numbered(shard, len(ids)), *empty], schema=ASKED), ledger


def _join(shard: Shard, *, sent: Sent) -> tuple[pa.Table, Ledger]:
    """Those of the ids asked for that are kept, with their cluster."""
    table = receive(sent, shard["bucket"], ("doc_id", "shard"))
    theirs = pc.equal(table["shard"], CLUSTERS)
    clusters, ids = table.filter(theirs), table.filter(pc.invert(theirs))
    known = survivors(ids["doc_id"], clusters)
    kept = pa.array(known.kept, pa.bool_())
    found = [pa.array(known.cluster_id, pa.string()), kept, pa.array(known.cluster_size, pa.int32())]
    answer = pa.table([ids["doc_id"], ids["shard"], *found], schema=ASKED).filter(kept)
    removed = ids.num_rows - answer.num_rows
    return answer, Ledger.of("ids", read=ids.num_rows, kept=answer.num_rows, dropped={"duplicate": removed})


def _part(shard: Shard, *, sent: Sent, order: Sequence[str], columns: Sequence[str]) -> tuple[pa.Table, Ledger]:
    rows = receive(sent, shard["bucket"], order).slice(0, shard["most"]).select(columns)
    return rows, Ledger.of_whole(shard["ledger"])


def _read(shard: Shard, columns: Sequence[str]) -> pa.Table:
    return pa.concat_tables([*read_batches(shard, columns)])
