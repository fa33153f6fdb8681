"""`cpt-ray plan`: what a training needs, as a table."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("plan")  # ends here, before the imports below, which may take seconds

from rich.table import Table

from cpt_ray.train.plan import Plan, make_plan

from .options.plan import PipelineOptions
from .summary import console


def run(options: PipelineOptions) -> Plan:
    """Print the plan."""
    plan = make_plan(options.plan, options.model, options.train)
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("ZeRO stage")
    for name in ("weights", "gradients", "optimiser", "embeddings", "GB per device", "tokens per chunk"):
        table.add_column(name, justify="right")
    for memory in plan.stages:
        parts = (memory.weights, memory.gradients, memory.optimiser, memory.embeddings, memory.static)
        chunk = f"{memory.chunk_tokens:,}" if memory.chunk_tokens else "does not fit"
        table.add_row(str(memory.zero_stage), *(f"{part / 1e9:,.1f}" for part in parts), chunk)
    console().print(table, highlight=False)
    console().print(
        f"\n{plan.parameters / 1e6:,.0f}M parameters, {plan.steps:,} steps of {options.plan.batch_size:,} pairs,"
        f" {plan.hours:,.1f} hours on {options.plan.cluster.devices} devices",
        highlight=False,
    )
    kept = options.train.keep_graphs_mb
    if plan.keep_graphs_mb > kept:
        note = f"{plan.hours_kept:,.1f} hours with train.keep_graphs_mb={plan.keep_graphs_mb} instead of {kept}, which fits"
    else:
        note = f"train.keep_graphs_mb={plan.keep_graphs_mb} is all that fits or is of use"
    console().print(note, highlight=False)
    console().print(
        f"each worker starts with the whole model in host memory: {plan.host_bytes / 1e9:,.1f} GB, times the workers of a"
        " node",
        highlight=False,
    )
    return plan
