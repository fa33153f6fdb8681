"""A flow: artifacts that are to be made, in order, all of them known before the first is begun.

Writing one down runs nothing. `check_flow` holds what each artifact reads against what stands or those before
it give, and what its stage needs against what there is; `run_flow` then makes them one after the other, and finds what
is made already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import read_manifest
from cpt_ray.errors import UserError


@dataclass(frozen=True)
class Wanted:
    """The artifact of `stage` at `path`, which `make` publishes from the artifacts `reads`.

    `columns` are those that it cannot do without in the first of `reads`, by default the stage's; `gives` those that it
    publishes, where the stage alone does not say so.
    """

    path: str
    stage: Stage
    make: Callable[[], Manifest]
    reads: tuple[str, ...] = ()
    columns: tuple[str, ...] | None = None
    gives: pa.Schema | None = None


def check_flow(flow: Sequence[Wanted], resources: Mapping[str, float] | None = None) -> None:
    """UserError for the first that could not be made: an artifact or a column that nothing gives, too few resources.

    `resources` are what all nodes have together, by the names of Ray's arguments (num_cpus, num_gpus, memory in bytes).
    """
    given: dict[str, Sequence[str] | None] = {}
    for wanted in flow:
        for number, path in enumerate(wanted.reads):
            columns = given[path] if path in given else [*read_manifest(path).columns]
            asked = wanted.stage.reads if wanted.columns is None else wanted.columns
            missing = [name for name in asked if name not in columns] if columns is not None and number == 0 else []
            if missing:
                raise UserError(
                    f"{wanted.stage.name} reads the column {missing[0]!r}, which is not there",
                    where=path,
                    fix=f"it has {', '.join(columns)}" if columns else "it has no table; give another artifact",
                )
        for name, amount in wanted.stage.needs.of_ray().items():
            if resources is not None and amount > resources.get(name, 0.0):
                raise UserError(
                    f"{wanted.stage.name} asks for {name}={amount:g} a shard, and Ray has {resources.get(name, 0):g}",
                    where=wanted.path,
                    fix="join a larger cluster (cluster.address), or ask for less",
                )
        schema = wanted.stage.gives if wanted.gives is None else wanted.gives
        given[wanted.path] = None if schema is None else schema.names


def run_flow(
    flow: Sequence[Wanted],
    *,
    began: Callable[[Wanted], None] = lambda wanted: None,
    ended: Callable[[Wanted, Manifest], None] = lambda wanted, manifest: None,
) -> dict[str, Manifest]:
    """Make what is not made yet, in order; returns the manifests by path. `began` and `ended` are told of each."""
    made = {}
    for wanted in flow:
        began(wanted)
        made[wanted.path] = wanted.make()
        ended(wanted, made[wanted.path])
    return made
