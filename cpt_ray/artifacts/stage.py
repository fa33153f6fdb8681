"""A stage as a value: its name and version, what it reads and gives, what it needs, and the function that does it.

It stands beside its code, and declaring it runs nothing. Who changes what a stage gives raises the version in the same
file. A *map* stage runs its function over shards (`map`); any other opens a build of its own (`build`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal

import pyarrow as pa

from cpt_ray.artifacts import parquet
from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.shards import Shard, run_shards
from cpt_ray.artifacts.store import Work, begun, build


@dataclass(frozen=True)
class Needs:
    """What one shard asks of Ray while it runs; without a Ray session it runs here and nothing is asked.

    `actors`: processes that stay from shard to shard, with what they have loaded; a task on a GPU is a process of its own.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory_mb: int = 0
    actors: bool = False

    def of_ray(self) -> dict[str, float]:
        """The same as arguments of a Ray Data transform; memory is in bytes there."""
        asked = {"num_cpus": self.cpus, "num_gpus": self.gpus, "memory": float(self.memory_mb << 20)}
        return {name: amount for name, amount in asked.items() if amount or name == "num_cpus"}


@dataclass(frozen=True)
class Stage:
    """What a stage is.

    `gives` are the columns of what it publishes, None where they depend on its options; `reads` are those columns of its
    source that it cannot do without. `unit` is what its ledger counts first. `run(shard, **arguments)` is the work of a
    map stage: picklable, pure, from a JSON-able shard to the rows of `gives` and a ledger.
    """

    name: str
    version: int
    gives: pa.Schema | None = None
    reads: tuple[str, ...] = ()
    unit: str = "rows"
    needs: Needs = Needs()
    run: Callable[..., tuple[pa.Table, Ledger]] | None = None

    def build(
        self, path: str, *, params: object, inputs: Mapping[str, str | Manifest] | None = None
    ) -> AbstractContextManager[Work]:
        """Open the build of this stage's artifact at `path`; see `store.build`."""
        return build(path, step=self.name, version=self.version, params=params, inputs=inputs)

    def begun(
        self, path: str, *, params: object, inputs: Mapping[str, str | Manifest]
    ) -> Literal["done", "unfinished"] | None:
        """Whether this very artifact stands at `path`, or was begun; see `store.begun`."""
        return begun(path, step=self.name, version=self.version, params=params, inputs=inputs)

    def map(
        self,
        path: str,
        *,
        shards: Sequence[Shard],
        params: object,
        inputs: Mapping[str, str | Manifest],
        gives: pa.Schema | None = None,
        extra: Mapping[str, Any] | None = None,
        row_group: int = parquet.ROW_GROUP,
        **arguments: Any,
    ) -> Manifest:
        """Publish at `path` what `run(shard, **arguments)` gives for every shard; see `shards.run_shards`."""
        schema = gives if gives is not None else self.gives
        if self.run is None or schema is None:
            raise TypeError(f"{self.name} is no map stage of declared columns")
        return run_shards(
            path,
            step=self.name,
            version=self.version,
            params=params,
            inputs=inputs,
            shards=shards,
            work=functools.partial(self.run, **arguments),
            schema=schema,
            unit=self.unit,
            asks=self.needs.of_ray(),
            actors=self.needs.actors,
            extra=extra,
            row_group=row_group,
        )
