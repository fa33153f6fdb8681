"""The flow of `cpt-ray compare`: suites become one table and one page."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("compare")  # ends here, before the imports below, which may take seconds

import os

from rich.table import Table

from cpt_ray.artifacts import read_manifest, read_table
from cpt_ray.artifacts.places import make_room
from cpt_ray.errors import UserError
from cpt_ray.evaluate.compare import SURE, Comparison, Run, compare_runs, html, names_of
from cpt_ray.evaluate.page import write
from cpt_ray.evaluate.suite import SUITE

from .evaluate import figure
from .options.compare import PipelineOptions
from .summary import console, shown


def run(options: PipelineOptions) -> Comparison:
    """Compare, print and write the page."""
    make_room(options.page, "page")
    if options.names and len(options.names) != len(options.suites):
        raise UserError(
            f"{len(options.names)} names for {len(options.suites)} folders", where="names", fix="a name for each folder"
        )
    names = options.names or names_of(options.suites)
    if len(set(names)) < len(names):
        raise UserError(
            "the same suite twice",
            where=" ".join(options.names or options.suites),
            fix="give different suites, or names=[...]",
        )
    found = compare_runs([read(*one) for one in zip(names, options.suites, strict=True)], options.examples)
    print_comparison(found)
    write(options.page, html(found))
    console().print(f"\n{shown(os.path.abspath(options.page))}", highlight=False)
    return found


def read(name: str, folder: str) -> Run:
    """A suite from its folder. UserError where there is none, or one without its queries."""
    manifest = read_manifest(folder)
    if manifest.step != SUITE.name:
        raise UserError(
            f"this is no suite but {manifest.step}",
            where=folder,
            fix="give the folder that `cpt-ray evaluate suite=...` made",
        )
    if "said" not in manifest.columns:
        raise UserError("this suite has no queries", where=folder, fix="it is of an earlier version: evaluate again")
    about = {
        "folder": folder,
        "made": manifest.created,
        "model": manifest.inputs.get("model", ""),
        "precision": str(manifest.params.get("precision", "")),
    }
    return Run(name, manifest.extra["rows"], read_table(folder), about)


def print_comparison(found: Comparison) -> None:
    """A line for each task and model against the first."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    for name in ("task", "metric"):
        table.add_column(name)
    for name in found.names:
        table.add_column(name, justify="right")
    for name in ("", "difference", "95 % interval", "p (Holm)", "won", "lost"):
        table.add_column(name, justify="right")
    for task in found.tasks:
        figures = [figure(task.rows[name]) if name in task.rows else "" for name in found.names]
        for number, one in enumerate(task.against):
            p = one.paired
            own = [task.title, task.metric.replace("_at_", "@"), *figures] if number == 0 else [""] * (2 + len(figures))
            style = "bold" if one.adjusted < SURE else ""
            table.add_row(
                *own,
                one.name if len(found.names) > 2 else "",
                f"{p.difference:+.4f}",
                f"{p.low:+.4f} to {p.high:+.4f}",
                f"{one.adjusted:.4f}",
                f"{p.won:,}",
                f"{p.lost:,}",
                style=style,
            )
    console().print(table, highlight=False)
    for title, why in found.left_out.items():
        console().print(f"not compared: {title} ({why})", highlight=False)
