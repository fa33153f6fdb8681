"""Look at this machine: what will fail or be slow here, what to do about it, and about how long `make run` takes.

Exit code 1 if something will fail.
"""

from __future__ import annotations

from cpt_ray.cluster import ClusterOptions
from cpt_ray.model.options import ModelOptions
from cpt_ray.options import Options


class PipelineOptions(Options):
    """Options of `cpt-ray doctor`."""

    cluster: ClusterOptions = ClusterOptions()
    model: ModelOptions = ModelOptions()
