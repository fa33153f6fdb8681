"""The flow of `cpt-ray hard-negatives`: pairs and a model become vectors and harder pairs."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("hard_negatives")  # ends here, before the imports below, which may take seconds

import posixpath

from cpt_ray.artifacts import Manifest
from cpt_ray.cluster import connect
from cpt_ray.model.options import Device, Inference
from cpt_ray.serve.embed import embed_table
from cpt_ray.serve.options import EmbedOptions
from cpt_ray.train.hard_negatives import make_hard_pairs
from cpt_ray.train.options import MineOptions

from . import reads
from .embed import say_cut
from .options.hard_negatives import READS, PipelineOptions
from .summary import print_artifacts


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Embed and mine; returns the manifests by path."""
    reads.check_options(READS, options)
    out = options.cluster.on_disk(options.output)
    with connect(options.cluster):
        made = make(
            out, options.pairs, options.trained, options.mine, precision=options.precision, device=options.device
        )
    print_artifacts(made)
    say_cut(made.values())
    return made


def make(
    out: str,
    pairs: str,
    trained: str,
    mine: MineOptions,
    *,
    precision: Inference = "auto",
    device: Device = "auto",
) -> dict[str, Manifest]:
    """`x_vectors`, `y_vectors` and `hard_pairs` under `out`."""
    x, y, mined = (posixpath.join(out, name) for name in ("x_vectors", "y_vectors", "hard_pairs"))
    options = EmbedOptions(text="x", key="pair_id", side="x", precision=precision, device=device)
    made = {x: embed_table(x, source=pairs, model=trained, options=options)}
    options = EmbedOptions(text="y", key="pair_id", side="y", precision=precision, device=device)
    made[y] = embed_table(y, source=pairs, model=trained, options=options)
    made[mined] = make_hard_pairs(mined, pairs=pairs, x=x, y=y, options=mine)
    return made
