"""Read labelled pairs for fine-tuning: NLI, or search triplets in MS MARCO's layout.

A tab-separated file in; pairs with a hard negative each out, split into train and heldout by premise or query, which
`cpt-ray train pairs=... batches.hard_negatives=1` takes.
"""

from __future__ import annotations

import posixpath

from pydantic import Field

from cpt_ray.artifacts import Manifest
from cpt_ray.cluster import ClusterOptions
from cpt_ray.pairs.options import SplitOptions
from cpt_ray.train.finetune import make_labelled_pairs
from cpt_ray.train.options import LabelledOptions
from pipelines import reads
from pipelines.cli import script
from pipelines.summary import print_artifacts

READS = {"source": "file"}


class PipelineOptions(LabelledOptions):
    """Options of `cpt-ray labelled-pairs`."""

    cluster: ClusterOptions = ClusterOptions()
    source: str = Field(description="the file (any fsspec URI)")
    split: SplitOptions = SplitOptions()
    output: str = Field("labelled", description="folder under cluster.outputs")


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Make the pairs, in this process; returns the manifest by path."""
    reads.check_options(READS, options)
    path = posixpath.join(options.cluster.folder(options.output), "labelled_pairs")
    labelled = LabelledOptions(format=options.format, lines=options.lines)
    made = {path: make_labelled_pairs(path, source=options.source, options=labelled, split=options.split)}
    print_artifacts(made)
    return made


if __name__ == "__main__":
    script("labelled_pairs")
