"""Mine hard negatives with a model: texts that it puts near a query, but that are no answer to it.

A pairs artifact and a trained model in; the vectors of both sides and the same pairs with hard negatives out, which
`cpt-ray train pairs=... batches.hard_negatives=1` takes.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.cluster import ClusterOptions
from cpt_ray.model.options import Device, Inference
from cpt_ray.options import Options
from cpt_ray.train.options import MineOptions

READS = {"pairs": "pairs", "trained": "trained"}


class PipelineOptions(Options):
    """Options of `cpt-ray hard-negatives`."""

    cluster: ClusterOptions = ClusterOptions()
    pairs: str = Field(description="a pairs artifact, such as outputs/code/code_pairs")
    trained: str = Field(description="the trained model's folder, such as outputs/train/model")
    mine: MineOptions = MineOptions()
    precision: Inference = Field(
        "auto", description="of the model's products; auto: the faster here, measured and kept"
    )
    device: Device = Field("auto", description="where the model runs; auto: on a GPU where there is one")
    output: str = Field("hard_negatives", description="folder under cluster.outputs")
