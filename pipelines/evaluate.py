"""Measure a model as the paper does: search among 1,000 held-out candidates.

Beside the model stand its initial weights, BM25 and chance, all on the very same candidates.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from rich.table import Table

from cpt_ray.artifacts import Ledger, Manifest, read_manifest
from cpt_ray.cluster import ClusterOptions
from cpt_ray.evaluate.candidates import EVALUATE
from cpt_ray.evaluate.options import CandidateOptions
from cpt_ray.evaluate.search import compare
from cpt_ray.options import Options
from cpt_ray.pairs.splits import HELDOUT, read_side
from pipelines import reads
from pipelines.cli import script
from pipelines.summary import console

READS = {"pairs": "pairs", "trained": "trained", "initial": "weights"}


class PipelineOptions(Options):
    """Options of `cpt-ray evaluate`."""

    cluster: ClusterOptions = ClusterOptions()
    pairs: str = Field(description="a pairs artifact; its held-out part is searched")
    trained: str = Field(description="the trained model's folder")
    initial: str = Field(description="the weights it started from")
    candidates: CandidateOptions = CandidateOptions()
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="where models run; auto: a GPU where there is one"
    )
    output: str = Field("evaluation", description="folder under cluster.outputs")


def run(options: PipelineOptions) -> Manifest:
    """Measure and print."""
    reads.check_options(READS, options)
    path = options.cluster.folder(options.output)
    manifest = make(path, options.pairs, options.trained, options.initial, options.candidates, options.device)
    print_search({"search": manifest.extra["search"]})
    return manifest


def make(path: str, pairs: str, model: str, initial: str, options: CandidateOptions, device: str = "auto") -> Manifest:
    """The evaluation artifact; its manifest holds the metrics of model, initial weights, BM25 and chance."""
    from cpt_ray.model.embedder import Embedder
    from cpt_ray.model.weights import weights_identity

    inputs: dict[str, str | Manifest] = {
        "pairs": read_manifest(pairs),
        "model": weights_identity(model),
        "initial": weights_identity(initial),
    }
    with EVALUATE.build(path, params=options, inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        heldout = read_side(pairs, HELDOUT)
        trained = Embedder(model, device=device)
        untrained = Embedder(initial, untrained=trained.info, device=device)
        found = compare(heldout, options, {"model": trained.embed, "initial": untrained.embed})
        used = found["setting"]["queries"]
        ledger = Ledger.of("pairs", read=heldout.num_rows, kept=used, dropped={"not_drawn": heldout.num_rows - used})
        return work.publish(ledger, rows=used, extra={"search": found})


def print_search(tasks: dict[str, dict[str, Any]]) -> None:
    """One row per task and method: MRR, recall at 1 and 10."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("search among candidates")
    for name in ("MRR", "recall@1", "recall@10"):
        table.add_column(name, justify="right")
    for task, found in tasks.items():
        for method in ("model", "initial", "bm25", "chance"):
            row = found[method]
            table.add_row(f"{task}  {method}", *(f"{row[m]:.4f}" for m in ("mrr", "recall_at_1", "recall_at_10")))
    console().print(table, highlight=False)


if __name__ == "__main__":
    script("evaluate")
