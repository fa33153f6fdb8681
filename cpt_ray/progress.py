"""Progress of long work: a bar with rate and remaining time on a terminal, a log line now and then without one."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

log = logging.getLogger("cpt_ray")

SECONDS_BETWEEN_LINES = 5.0
"""Without a terminal: slow enough to read, quick enough to see that it is alive."""


class Bar:
    """Counts what is done; `advance(10, dropped=2)` adds ten units and two to the count called `dropped`."""

    def __init__(self, name: str, total: int | None, unit: str, shown: Progress | None, task: TaskID | None) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._shown, self._task = shown, task
        self._done = 0
        self._counts: dict[str, int] = {}
        self._started = self._last_line = time.monotonic()

    def advance(self, n: int = 1, **counts: int) -> None:
        self._done += n
        for key, value in counts.items():
            self._counts[key] = self._counts.get(key, 0) + value
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, advance=n, detail=self._detail())
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            log.info("%s", self.line())

    def line(self) -> str:
        """One line of state: `crawl: 1200/6000 pages, 310/s, 15 s left, dropped 3`."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        of_total = f"/{self._total:,}" if self._total is not None else ""
        left = ""
        if self._total and self._done:
            left = f", {(self._total - self._done) * elapsed / self._done:,.0f} s left"
        detail = self._detail()
        return f"{self._name}: {self._done:,}{of_total} {self._unit}{left}{', ' + detail if detail else ''}"

    def _detail(self) -> str:
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = self._done / elapsed
        words = [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:,.2f}/s"]
        words += [f"{key} {value:,}" for key, value in self._counts.items() if value]
        return ", ".join(words)


@contextmanager
def progress(name: str, *, total: int | None = None, unit: str = "rows") -> Iterator[Bar]:
    """Show the progress of one long step; nests in nothing and prints to standard error only."""
    console = Console(stderr=True)
    if not (console.is_terminal and sys.stderr.isatty()):
        bar = Bar(name, total, unit, None, None)
        yield bar
        log.info("%s", bar.line())
        return
    columns = (
        TextColumn("[bold]{task.description:<14}"),
        BarColumn(bar_width=28),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as shown:
        yield Bar(name, total, unit, shown, shown.add_task(name, total=total, detail=""))
