"""Progress of long work: a bar with rate and remaining time on a terminal, a log line now and then without one."""

from __future__ import annotations

import collections
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
)

log = logging.getLogger("cpt_ray")

SECONDS_BETWEEN_LINES = 5.0
"""Without a terminal: slow enough to read, quick enough to see that it is alive."""


RECENT = 60.0
"""Seconds by whose pace the remaining time goes."""
TOGETHER = 1.0
"""Seconds within which what is done counts as done at once."""


class Pace:
    """Units per second over the last minute, told of all that is done so far.

    The first units count for nothing: they took compilation and start-up along, or are what an earlier run had done.
    """

    def __init__(self) -> None:
        self._seen: collections.deque[tuple[float, int]] = collections.deque()

    def tell(self, now: float, done: int) -> None:
        if self._seen and now - self._seen[-1][0] < TOGETHER:
            self._seen[-1] = (self._seen[-1][0], done)
        else:
            self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] > RECENT:
            self._seen.popleft()

    def rate(self, now: float) -> float | None:
        """None until it can be told."""
        if len(self._seen) < 2:
            return None
        (since, before), (_, done) = self._seen[0], self._seen[-1]
        return (done - before) / (now - since) if done > before else None


class Bar:
    """Counts what is done; `advance(10, dropped=2)` adds ten units and two to the count called `dropped`."""

    def __init__(self, name: str, total: int | None, unit: str, shown: Progress | None, task: TaskID | None) -> None:
        self._name, self._total, self._unit = name, total, unit
        self._shown, self._task = shown, task
        self._done = 0
        self._pace = Pace()
        self._counts: dict[str, int] = {}
        self._started = self._last_line = time.monotonic()

    def advance(self, n: int = 1, **counts: int) -> None:
        self._done += n
        self._pace.tell(time.monotonic(), self._done)
        for key, value in counts.items():
            self._counts[key] = self._counts.get(key, 0) + value
        if self._shown is not None and self._task is not None:
            self._shown.update(self._task, advance=n, detail=self._detail())
        elif time.monotonic() - self._last_line >= SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            log.info("%s", self.line())

    def line(self) -> str:
        """One line of state: `crawl: 1,200/6,000 pages, 310/s, 15 s left, dropped 3`."""
        of_total = f"/{self._total:,}" if self._total is not None else ""
        return f"{self._name}: {self._done:,}{of_total} {self._unit}, {self._detail()}"

    def _detail(self) -> str:
        """The pace of the last minute with what it leaves to do, or on average where that cannot be told or all is done."""
        now = time.monotonic()
        left = (self._total or self._done) - self._done
        recent = self._pace.rate(now) if left > 0 else None
        rate = recent or self._done / max(now - self._started, 1e-9)
        words = [f"{rate:,.0f}/s" if rate >= 10 else f"{rate:,.2f}/s"]
        if recent:
            words.append(f"{spoken(left / recent)} left")
        words += [f"{key} {value:,}" for key, value in self._counts.items() if value]
        return ", ".join(words)


def spoken(seconds: float) -> str:
    """`95 s`, `3 min`."""
    return f"{seconds:,.0f} s" if seconds < 120 else f"{seconds / 60:,.0f} min"


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
        TextColumn("{task.fields[detail]}"),
    )
    with Progress(*columns, console=console, refresh_per_second=4) as shown:
        yield Bar(name, total, unit, shown, shown.add_task(name, total=total, detail=""))
