"""What a pipeline prints at its end: one table, and where everything is."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from rich.console import Console
from rich.table import Table

from cpt_ray.artifacts import Manifest
from cpt_ray.errors import UserError


def print_artifacts(artifacts: Mapping[str, Manifest]) -> None:
    """A row per artifact: rows in and kept with their units, seconds, the largest reasons of what was dropped."""
    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("artifact", no_wrap=True)
    for name in ("in", "kept", "seconds"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("dropped", overflow="fold")
    for path, manifest in artifacts.items():
        ledger = manifest.balance
        units = list(ledger.units)
        table.add_row(
            shown(path),
            f"{ledger.rows_in:,} {units[0]}",
            f"{ledger.kept:,} {units[-1]}",
            f"{manifest.seconds:,.1f}",
            reasons(ledger.dropped),
        )
    console().print(table, highlight=False)


def check_read(artifacts: Mapping[str, Manifest]) -> None:
    """UserError where the first step found nothing to read: an empty input is a mistake, and empty artifacts no result."""
    path, first = next(iter(artifacts.items()))
    if not first.balance.rows_in:
        what = f"nothing was read: 0 {next(iter(first.balance.units))}"
        raise UserError(what, where=shown(path), fix="check the path that it reads, and the options that choose in it")


def shown(path: str) -> str:
    """A path as one would type it: relative where it lies below the working directory."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)


def console() -> Console:
    """Standard output; wide where it is no terminal, so that a log's tables are not folded."""
    return Console() if sys.stdout.isatty() else Console(width=160)


def reasons(dropped: Mapping[str, int], most: int = 4) -> str:
    """`too_short 1,204, duplicate 310, 3 more`: the largest first."""
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    words = [f"{reason} {count:,}" for reason, count in ordered[:most]]
    return ", ".join(words + ([f"{len(ordered) - most} more"] if len(ordered) > most else []))
