"""Read labelled pairs for fine-tuning: NLI, or search triplets in MS MARCO's layout.

A tab-separated file in; pairs with a hard negative each out, split into train and heldout by premise or query, which
`cpt-ray train pairs=... batches.hard_negatives=1` takes.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.cluster import ClusterOptions
from cpt_ray.pairs.options import SplitOptions
from cpt_ray.train.options import LabelledOptions

READS = {"source": "file"}


class PipelineOptions(LabelledOptions):
    """Options of `cpt-ray labelled-pairs`."""

    cluster: ClusterOptions = ClusterOptions()
    source: str = Field(description="the file (any fsspec URI)")
    split: SplitOptions = SplitOptions()
    output: str = Field("labelled", description="folder under cluster.outputs")
