"""A finished training that goes on with more steps.

    <model>.checkpoint/   beside the model: course.json (`Course`), metrics.jsonl, the last checkpoint (step-N) and best.pt

It is put there before the model is published, as hard links to files that training has written, and replaced when a longer
training has finished. A longer training of the same course takes it up as if it had been killed after its last step: with its
weights, moments, random state and temperature, and the metrics of its steps. The learning rate of later steps is that of
the longer schedule. Batches of pairs are the same because batch k does not depend on how many there are (pairs/batches.py);
more windows for a language model are drawn anew (packing.py), so that some may come again.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.places import link
from cpt_ray.errors import UserError
from cpt_ray.model.precision import AUTO
from cpt_ray.options import flatten
from cpt_ray.train.best import FILE as BEST
from cpt_ray.train.checkpoint import COMPLETE
from cpt_ray.train.metrics import METRICS
from cpt_ray.train.steps import CHECKPOINTS

KEPT = ".checkpoint"
"""Ending of the folder beside a model."""
COURSE = "course.json"
LENGTH = ("steps", "epochs")
"""Of batches, what says how many there are."""


@dataclass(frozen=True)
class Course:
    """What a training is, apart from its length: `asked` are the options that decide how long it is, `inputs` what it
    is made from, `options` all others."""

    steps: int
    asked: dict[str, Any]
    inputs: dict[str, Any]
    options: dict[str, Any]

    @staticmethod
    def of(
        steps: int,
        version: int,
        params: Mapping[str, Mapping[str, Any]],
        order: Manifest,
        initial: str,
        heldout: Manifest | None = None,
    ) -> Course:
        """Of a training stage's version and parameters by section (`model`, and `train` or `pretrain`), of its batches, of
        what its first weights are known by, and of what is held out."""
        asked = {name: order.params.get(name) for name in LENGTH}
        asked |= {f"{section}.steps": one["steps"] for section, one in params.items() if "steps" in one}
        options = {section: _without(one, "steps") for section, one in params.items()}
        options |= {"batches": _without(order.params, *LENGTH)}
        inputs: dict[str, Any] = {"batches": order.inputs, "initial": initial}
        inputs |= {"version": version, "batches_version": order.version}
        if heldout is not None:
            options |= {"heldout": _without(heldout.params, *LENGTH)}
            inputs |= {"heldout": heldout.inputs, "heldout_version": heldout.version}
        return Course(steps, asked, json.loads(json.dumps(inputs)), flatten(options))


def _without(values: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def keep(course: Course, kept: str, scratch: str, out: str) -> None:
    """Put the last checkpoint of a training in `scratch`, whose model is in `out`, at `kept`, in place of an older one."""
    found = _newest(Path(scratch, CHECKPOINTS))
    if found is None:
        return
    new = Path(f"{kept}.new")
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(found, new / found.name, copy_function=link)
    shutil.copy(Path(out, METRICS), new)
    if (best := Path(scratch, CHECKPOINTS, BEST)).exists():
        link(best, new / BEST)
    (new / COURSE).write_text(json.dumps(asdict(course), indent=1) + "\n")
    shutil.rmtree(kept, ignore_errors=True)
    new.rename(kept)


def settled_before(wanted: str, course: Callable[[str], Course], kept: str) -> str:
    """`wanted`, but for auto the precision of the training that is kept, where `course(precision)` goes on from it."""
    if wanted == AUTO and (before := _read(kept)) is not None:
        first = next(str(value) for name, value in before.options.items() if name.endswith(".precision"))
        return first if goes_on(course(first), kept) else wanted
    return wanted


def goes_on(course: Course, kept: str) -> bool:
    """Whether a training is what is kept, but longer.

    UserError when it was asked to be longer and other options differ too: it names them. Made from something else, or not
    asked to be longer, it is another training.
    """
    before = _read(kept)
    if before is None or course.steps <= before.steps or course.asked == before.asked or course.inputs != before.inputs:
        return False
    names = sorted({*before.options, *course.options})
    pairs = [(name, before.options.get(name), course.options.get(name)) for name in names]
    found = {name: f"{was!r} -> {now!r}" for name, was, now in pairs if was != now}
    # What is held out is put into batches by the same options: each is said once.
    changed = [
        f"{name} {how}" for name, how in found.items() if f"batches.{name.removeprefix('heldout.')}" not in found
    ]
    if changed:
        raise UserError(
            f"the training of {before.steps:,} steps that stands here cannot go on to {course.steps:,}, because other"
            f" options differ: {'; '.join(changed)}",
            where=kept,
            fix="set them back to go on, or remove this folder, or give another output, to train anew",
        )
    return True


def take_up(kept: str, scratch: str, out: str, identity: str) -> None:
    """Have the training in `scratch` and `out`, known by `identity`, begin at the end of the one that is kept, unless it
    has begun. Killed in here, it is done again."""
    target = Path(scratch, CHECKPOINTS)
    source = _newest(Path(kept))
    if source is None or _newest(target) is not None:
        return
    step = target / source.name
    shutil.rmtree(step, ignore_errors=True)
    shutil.copytree(source, step, copy_function=link, ignore=shutil.ignore_patterns(COMPLETE))
    if (best := Path(kept, BEST)).exists():
        link(best, target / BEST)
    shutil.copy(Path(kept, METRICS), Path(out, METRICS))
    content = json.loads((source / COMPLETE).read_text())
    content["kind"]["model"] = identity
    temporary = step / (COMPLETE + ".tmp")
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.rename(step / COMPLETE)


def _read(kept: str) -> Course | None:
    path = Path(kept, COURSE)
    return Course(**json.loads(path.read_text())) if path.exists() else None


def _newest(folder: Path) -> Path | None:
    return max((path.parent for path in folder.glob(f"step-*/{COMPLETE}")), default=None)
