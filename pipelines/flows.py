"""How a data command makes what it is for: looked at, made on a cluster, shown."""

from __future__ import annotations

from collections.abc import Sequence

from cpt_ray.artifacts import Manifest, Wanted, check_flow, run_flow
from cpt_ray.cluster import ClusterOptions, connect

from .summary import check_read, print_artifacts


def make(wanted: Sequence[Wanted], cluster: ClusterOptions) -> dict[str, Manifest]:
    """Make and show all of `wanted`; returns the manifests by path. A wrong column is said before a cluster is waited for."""
    check_flow(wanted)
    with connect(cluster) as resources:
        check_flow(wanted, resources)
        made = run_flow(wanted)
    print_artifacts(made)
    check_read(made)
    return made
