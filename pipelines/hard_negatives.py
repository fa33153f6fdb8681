"""Mine hard negatives with a model: texts that it puts near a query, but that are no answer to it.

A pairs artifact and a trained model in; the vectors of both sides and the same pairs with hard negatives out, which
`cpt-ray train pairs=... batches.hard_negatives=1` takes.
"""

from __future__ import annotations

import posixpath

from pydantic import Field

from cpt_ray.artifacts import Manifest
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.model.options import Device
from cpt_ray.options import Options
from cpt_ray.serve.embed import embed_table
from cpt_ray.serve.options import EmbedOptions
from cpt_ray.train.hard_negatives import make_hard_pairs
from cpt_ray.train.options import MineOptions
from pipelines import reads
from pipelines.cli import script
from pipelines.embed import say_cut
from pipelines.summary import print_artifacts

READS = {"pairs": "pairs", "trained": "trained"}


class PipelineOptions(Options):
    """Options of `cpt-ray hard-negatives`."""

    cluster: ClusterOptions = ClusterOptions()
    pairs: str = Field(description="a pairs artifact, such as outputs/code/code_pairs")
    trained: str = Field(description="the trained model's folder, such as outputs/train/model")
    mine: MineOptions = MineOptions()
    bf16: bool = Field(False, description="run the model in bfloat16")
    device: Device = Field("auto", description="where the model runs; auto: on a GPU where there is one")
    output: str = Field("hard_negatives", description="folder under cluster.outputs")


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Embed and mine; returns the manifests by path."""
    reads.check_options(READS, options)
    out = options.cluster.folder(options.output)
    with connect(options.cluster):
        made = make(out, options.pairs, options.trained, options.mine, bf16=options.bf16, device=options.device)
    print_artifacts(made)
    say_cut(made.values())
    return made


def make(
    out: str, pairs: str, trained: str, mine: MineOptions, *, bf16: bool = False, device: Device = "auto"
) -> dict[str, Manifest]:
    """`x_vectors`, `y_vectors` and `hard_pairs` under `out`."""
    x, y, mined = (posixpath.join(out, name) for name in ("x_vectors", "y_vectors", "hard_pairs"))
    options = EmbedOptions(text="x", key="pair_id", side="x", bf16=bf16, device=device)
    made = {x: embed_table(x, source=pairs, model=trained, options=options)}
    options = EmbedOptions(text="y", key="pair_id", side="y", bf16=bf16, device=device)
    made[y] = embed_table(y, source=pairs, model=trained, options=options)
    made[mined] = make_hard_pairs(mined, pairs=pairs, x=x, y=y, options=mine)
    return made


if __name__ == "__main__":
    script("hard_negatives")
