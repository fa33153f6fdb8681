"""Options of a suite: which tasks, each of one of the kinds in evaluate/tasks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cpt_ray.kinds import one_of
from cpt_ray.options import Options


class SuiteOptions(Options):
    """What is measured; `suite=<name>` takes a list of conf/suite."""

    tasks: tuple[one_of("cpt_ray.evaluate.tasks"), ...] = Field(  # type: ignore[valid-type]
        (), description="tasks by their kind, such as {kind: beir, folder: ...}"
    )
    absent: Literal["error", "skip"] = Field(
        "error", description="what becomes of a task whose files are not there: skip says so and measures the others"
    )
