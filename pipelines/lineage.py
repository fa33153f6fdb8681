"""`cpt-ray lineage`: OpenLineage events about an artifact and what it was made of."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("lineage")  # ends here, before the imports below, which may take seconds

import json
import os

from cpt_ray.artifacts.places import locate, make_room, write
from cpt_ray.inspect.lineage import lineage
from cpt_ray.inspect.openlineage import events

from .options.lineage import PipelineOptions
from .summary import console, shown


def run(options: PipelineOptions) -> str:
    """Write the events, a line each, and say where they are."""
    artifact = options.artifact if "://" in options.artifact else os.path.abspath(options.artifact)
    to = options.output or f"{options.artifact.rstrip('/')}.openlineage.ndjson"
    make_room(to, "output")
    write(*locate(to), "".join(json.dumps(event) + "\n" for event in events(lineage(artifact))).encode())
    console().print(shown(to), highlight=False, soft_wrap=True)
    return to
