"""A step over many shards: Ray Data runs it, one Parquet part per shard, going on where a kill stopped it."""

from __future__ import annotations

import json
import logging
import posixpath
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from cpt_ray import telemetry
from cpt_ray.artifacts import parquet
from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import File, Manifest
from cpt_ray.artifacts.places import locate, read, write
from cpt_ray.artifacts.store import SCRATCH, Place, build, part_name
from cpt_ray.errors import UserError, refused
from cpt_ray.progress import progress

Shard = Mapping[str, Any]
ShardWork = Callable[[Any], tuple[pa.Table, Ledger]]


def run_shards(
    path: str,
    *,
    step: str,
    version: int,
    params: object,
    inputs: Mapping[str, str | Manifest],
    shards: Sequence[Shard],
    work: ShardWork,
    schema: pa.Schema,
    unit: str = "rows",
    asks: Mapping[str, Any] | None = None,
    actors: bool = False,
    extra: Mapping[str, Any] | None = None,
    row_group: int = parquet.ROW_GROUP,
) -> Manifest:
    """Apply `work` to every shard (a JSON-able mapping) and publish the parts as one artifact.

    `work(shard)` must be picklable and pure: it returns the shard's rows in `schema` and its ledger, which is checked
    before the part is written. The bytes of part i depend on shard i alone, so neither the number of workers nor a kill
    shows in the result. `asks` is what one task asks of Ray (num_cpus, num_gpus, memory), or with `actors` one of as many
    as there is room for;
    without a session the shards run here, one by one. `row_group`: rows of a row group of the parts.
    """
    with build(path, step=step, version=version, params=params, inputs=inputs) as out:
        if out.manifest is not None:
            return out.manifest
        scratch, place, done = out.scratch, out.place, _Done()
        for i in range(len(shards)) if out.resumed else ():
            if (found := _finished(scratch, i)) is not None:
                done.take(i, found)
        todo = [i for i in range(len(shards)) if i not in done]

        def run(row: dict[str, Any]) -> dict[str, Any]:
            return _run_shard(row, work=work, schema=schema, out=place, step=step, row_group=row_group)

        rows = [{"index": i, "shard": json.dumps(shards[i])} for i in todo]
        with progress(step, total=len(shards), unit="shards") as bar:
            bar.advance(len(shards) - len(todo))
            for result in _execute(rows, run, asks or {"num_cpus": 1.0}, actors):
                counts = done.take(result["index"], json.loads(result["done"]))
                telemetry.rows(step, counts.units)
                bar.advance(1, **{unit: counts.rows_in, "kept": counts.kept, "dropped": sum(counts.dropped.values())})
        if (first := len(done.files)) < len(shards):
            raise RuntimeError(f"{step}: shard {first} of {path} reported nothing; its rows would be lost")
        return out.publish(done.ledger, rows=done.rows, schema=schema, extra=extra, files=done.files)


class _Done:
    """What shards have told, added up in their order, in which a ledger's units stand: of a shard nothing is held but its
    file once those before it are there. Its examples alone may be a megabyte."""

    def __init__(self) -> None:
        self.ledger, self.rows = Ledger.empty(), 0
        self.files: list[File] = []
        self._early: dict[int, tuple[Ledger, int, File]] = {}

    def __contains__(self, index: int) -> bool:
        return index < len(self.files) or index in self._early

    def take(self, index: int, told: Mapping[str, Any]) -> Ledger:
        """Its ledger."""
        own = Ledger.of_whole(told["ledger"])
        self._early[index] = own, told["rows"], File.model_validate(told["file"])
        while (following := self._early.pop(len(self.files), None)) is not None:
            ledger, rows, file = following
            self.ledger, self.rows = self.ledger + ledger, self.rows + rows
            self.files.append(file)
        return own


def _run_shard(
    row: Mapping[str, Any], *, work: ShardWork, schema: pa.Schema, out: Place, step: str, row_group: int
) -> dict[str, Any]:
    started, index = time.monotonic(), int(row["index"])
    table, ledger = work(json.loads(row["shard"]))
    ledger.check(f"{step}, shard {index}")
    if table.schema.remove_metadata() != schema.remove_metadata():
        raise TypeError(f"{step}, shard {index}: not the declared schema:\n{table.schema}\n-- declared:\n{schema}")
    file = out.write(f"{part_name(index)}.parquet", table, row_group_size=row_group)
    # The part is complete before its ledger appears: a kill in between only repeats this shard.
    seconds = time.monotonic() - started
    done = json.dumps({"ledger": ledger.whole(), "rows": table.num_rows, "file": file.model_dump(), "seconds": seconds})
    fs, scratch = locate(posixpath.join(out.path, SCRATCH))
    write(fs, posixpath.join(scratch, f"{part_name(index)}.json"), done.encode())
    return {"index": index, "done": done}


def _finished(scratch: str, index: int) -> dict[str, Any] | None:
    fs, root = locate(scratch)
    there = read(fs, posixpath.join(root, f"{part_name(index)}.json"))
    found: dict[str, Any] | None = json.loads(there[0]) if there else None
    # A build that was begun before files were told of is made again.
    return found if found and "file" in found else None


class _Kept:
    """An actor that runs shards."""

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run

    def __call__(self, row: dict[str, Any]) -> Any:
        return self._run(row)


def _execute(
    rows: list[dict[str, Any]], run: Callable[..., Any], asks: Mapping[str, Any], actors: bool
) -> Iterator[dict[str, Any]]:
    if not rows:
        return
    if not _ray_is_up():
        yield from map(run, rows)
        return
    import ray.data

    def told(row: dict[str, Any]) -> dict[str, Any]:
        return _told(run, row)

    # Its own progress would fight with ours, and each execution announces itself in three lines.
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    # A block per shard: Ray would otherwise pack many into one task, and a kill would lose them together.
    blocks = ray.data.from_items(rows, override_num_blocks=len(rows))
    if actors:
        kept: Any = _Kept
        dataset = blocks.map(kept, fn_constructor_args=(told,), compute=actor_pool(len(rows)), **asks)
    else:
        dataset = blocks.map(told, **asks)
    for row in dataset.iter_rows():
        if mistake := row.get("mistake"):
            what, where, fix = json.loads(mistake)
            raise UserError(what, where=where, fix=fix)
        yield row


def _told(run: Callable[..., Any], row: Mapping[str, Any]) -> dict[str, Any]:
    """What `run` gives; the user's mistake, and what the system refuses, as a row: Ray Data puts an error of its own around
    what a task raises, and what that was raised from does not survive the way to the driver (Ray 2.60)."""
    try:
        done: dict[str, Any] = run(row)
        return done
    except (UserError, OSError) as error:
        if (mistake := error if isinstance(error, UserError) else refused(error)) is None:
            raise
        return {"mistake": json.dumps([mistake.what, mistake.where, mistake.fix])}


def actor_pool(most: int | None = None) -> Any:
    """Actors of Ray Data: one as soon as there is room, more while there is room and work, at most so many. Each has one
    shard more than it works on."""
    import ray.data

    return ray.data.ActorPoolStrategy(min_size=1, max_size=most, max_tasks_in_flight_per_actor=2)


def _ray_is_up() -> bool:
    """Importing ray takes seconds; a process that never imported it has no session."""
    import sys

    ray = sys.modules.get("ray")
    return bool(ray is not None and ray.is_initialized())
