"""A flow: artifacts that are to be made, in order, all of them known before the first is begun.

Writing one down runs nothing. `check` holds what each task reads against what stands or those before it give, and what
its stage needs against what there is; `run` then makes them one after the other, and finds what is made already.
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
class Task:
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


def check(tasks: Sequence[Task], resources: Mapping[str, float] | None = None) -> None:
    """UserError for the first task that could not run: an artifact or a column that nothing gives, too few resources.

    `resources` are what all nodes have together, by the names of Ray's arguments (num_cpus, num_gpus, memory in bytes).
    """
    given: dict[str, Sequence[str] | None] = {}
    for task in tasks:
        for number, path in enumerate(task.reads):
            columns = given[path] if path in given else [*read_manifest(path).columns]
            wanted = task.stage.reads if task.columns is None else task.columns
            missing = [name for name in wanted if name not in columns] if columns and number == 0 else []
            if missing:
                raise UserError(
                    f"{task.stage.name} reads the column {missing[0]!r}, which is not there",
                    where=path,
                    fix=f"it has {', '.join(columns or ())}",
                )
        for name, wanted_amount in task.stage.needs.of_ray().items():
            if resources is not None and wanted_amount > resources.get(name, 0.0):
                raise UserError(
                    f"{task.stage.name} asks for {name}={wanted_amount:g} a shard, and Ray has {resources.get(name, 0):g}",
                    where=task.path,
                    fix="join a larger cluster (cluster.address), or ask for less",
                )
        schema = task.stage.gives if task.gives is None else task.gives
        given[task.path] = None if schema is None else schema.names


def run(
    tasks: Sequence[Task],
    *,
    began: Callable[[Task], None] = lambda task: None,
    ended: Callable[[Task, Manifest], None] = lambda task, manifest: None,
) -> dict[str, Manifest]:
    """Make what is not made yet, in order; returns the manifests by path. `began` and `ended` are told of each task."""
    made = {}
    for task in tasks:
        began(task)
        made[task.path] = task.make()
        ended(task, made[task.path])
    return made
