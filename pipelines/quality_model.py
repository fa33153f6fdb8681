"""The flow of `cpt-ray quality-model`: good and bad examples become a classifier."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("quality_model")  # ends here, before the imports below, which may take seconds

import posixpath

from cpt_ray.artifacts import Manifest
from cpt_ray.web.classifier import train

from .options.quality_model import PipelineOptions
from .summary import print_artifacts


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Train the model, in this process; returns the manifest by path."""
    path = posixpath.join(options.cluster.on_disk(options.output), "quality_model")
    made = {path: train(path, good=options.good, bad=options.bad, options=options.classifier)}
    print_artifacts(made)
    return made
