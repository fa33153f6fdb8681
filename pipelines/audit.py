"""`cpt-ray audit`: removals nearest the threshold, to be judged."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("audit")  # ends here, before the imports below, which may take seconds

from cpt_ray.artifacts.places import make_room
from cpt_ray.inspect.audit import write_audit

from .options.audit import PipelineOptions
from .summary import console, shown


def run(options: PipelineOptions) -> None:
    """Write the page and say where it is."""
    to = options.output or f"{options.clusters.rstrip('/')}.audit.html"
    make_room(to, "output")
    count = write_audit(options.clusters, to, options.count)
    console().print(f"{shown(to)}: {count:,} removals to judge", highlight=False, soft_wrap=True)
