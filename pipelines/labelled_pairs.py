"""The flow of `cpt-ray labelled-pairs`: a tab-separated file becomes pairs."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("labelled_pairs")  # ends here, before the imports below, which may take seconds

import posixpath

from cpt_ray.artifacts import Manifest
from cpt_ray.train.finetune import make_labelled_pairs
from cpt_ray.train.options import LabelledOptions

from . import reads
from .options.labelled_pairs import READS, PipelineOptions
from .summary import print_artifacts


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Make the pairs, in this process; returns the manifest by path."""
    reads.check_options(READS, options)
    path = posixpath.join(options.cluster.folder(options.output), "labelled_pairs")
    labelled = LabelledOptions(format=options.format, lines=options.lines)
    made = {path: make_labelled_pairs(path, source=options.source, options=labelled, split=options.split)}
    print_artifacts(made)
    return made
