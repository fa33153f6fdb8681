"""`cpt-ray inspect`: a page about an artifact."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("inspect")  # ends here, before the imports below, which may take seconds

from cpt_ray.artifacts.places import make_room
from cpt_ray.inspect.page import write_page

from .options.inspect import PipelineOptions
from .summary import console, shown


def run(options: PipelineOptions) -> str:
    """Write the page and say where it is."""
    to = options.output or f"{options.artifact.rstrip('/')}.html"
    make_room(to, "output")
    write_page(options.artifact, to)
    console().print(shown(to), highlight=False, soft_wrap=True)
    return to
