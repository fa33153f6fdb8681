"""The ground floor: errors that survive a process boundary, progress that is quiet without a terminal, memory."""

from __future__ import annotations

import errno
import gc
import os
import pickle
import subprocess
import sys

import pytest

from cpt_ray import memory, progress
from cpt_ray.errors import UserError, refused


def test_a_user_error_survives_pickling():
    """Ray carries errors between processes; what, where and fix must arrive."""
    error = pickle.loads(pickle.dumps(UserError("it is bad", where="conf/x.yaml", fix="mend it")))
    assert str(error) == "conf/x.yaml: it is bad\n  fix: mend it"


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("http://me:se:cr@t@host/a@b", "http://***@host/a@b"),
        ("cannot reach postgresql://me:secret@host:5432/db", "cannot reach postgresql://***@host:5432/db"),
        ("https://secret@host/a.git", "https://***@host/a.git"),
        ("https://host:80/a@b:c@d", "https://host:80/a@b:c@d"),
        ("git@host:a/b.git and me@host", "git@host:a/b.git and me@host"),
    ],
)
def test_a_password_in_a_url_is_not_said(said: str, shown: str) -> None:
    error = UserError(said, where=said, fix=said)
    assert (error.what, error.where, error.fix) == (shown, shown, shown)
    assert "secret" not in repr(error) + str(pickle.loads(pickle.dumps(error)))


def test_progress_without_a_terminal_ends_with_one_line(monkeypatch):
    """A short step logs its totals once, not a line per unit."""
    lines: list[str] = []
    monkeypatch.setattr(progress.log, "info", lambda pattern, *values: lines.append(pattern % values))
    with progress.progress("mine", total=1000, unit="files") as bar:
        for _ in range(1000):
            bar.advance(1, dropped=1)
    assert len(lines) == 1
    assert "1,000/1,000 files" in lines[0]
    assert "dropped 1,000" in lines[0]


class Clock:
    """Stands for time.monotonic."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)

    def steps(self, bar: progress.Bar, count: int, seconds: float) -> None:
        for _ in range(count):
            self.now += seconds
            bar.advance()


def test_remaining_time_goes_by_the_last_minute(monkeypatch):
    """The first step took its compilation along, and a machine that others leave is quicker from then on."""
    clock = Clock(monkeypatch)
    bar = progress.Bar("train", 1000, "steps", None, None)
    clock.steps(bar, 1, 57.0)
    assert "left" not in bar.line()
    clock.steps(bar, 100, 2.0)
    assert bar.line() == "train: 101/1,000 steps, 0.50/s, 30 min left"
    clock.steps(bar, 700, 0.125)
    assert bar.line().startswith("train: 801/1,000 steps, ")
    assert bar.line().endswith(("24 s left", "25 s left"))
    clock.now += 60  # a pause is no pace
    assert bar.line().endswith(("49 s left", "50 s left"))
    clock.steps(bar, 199, 0.125)
    assert "left" not in bar.line()


def test_what_an_earlier_run_did_is_no_pace(monkeypatch):
    """A training that goes on reads its old steps at once; the remaining time is that of new ones."""
    clock = Clock(monkeypatch)
    bar = progress.Bar("train", 400, "steps", None, None)
    clock.steps(bar, 300, 0.001)
    clock.steps(bar, 10, 10.0)
    assert bar.line() == "train: 310/400 steps, 0.10/s, 15 min left"


def test_peak_is_of_this_process_alone():
    """A large process starts a small one, whose peak is its own."""
    ballast = bytearray(300 << 20)
    ballast[:: 1 << 12] = b"x" * len(ballast[:: 1 << 12])
    code = "from cpt_ray import memory; print(memory.peak_rss())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(done.stdout) < len(ballast) < memory.peak_rss()


def test_memory_counts_children():
    """A child holding 200 MB shows in the peak of the tree: of a process that is small itself, whatever this one did."""
    hold = "x = bytearray(200 << 20); x[::4096] = b'1' * len(x[::4096]); print('held', flush=True); input()"
    watch = f"""
import subprocess, sys
from cpt_ray import memory
with memory.watch(3600) as peak:
    child = subprocess.Popen([sys.executable, "-c", {hold!r}], stdin=-1, stdout=-1)
    child.stdout.readline()
    alone, _ = peak.bytes, peak.sample()
    child.communicate(b"")
print(alone, peak.bytes)
"""
    done = subprocess.run([sys.executable, "-c", watch], capture_output=True, text=True, check=True)
    alone, together = map(int, done.stdout.split())
    assert alone < 100 << 20
    assert 180 << 20 < together < 400 << 20


@pytest.mark.parametrize("collecting", [True, False])
def test_an_import_is_not_looked_over_for_garbage(collecting: bool) -> None:
    """Not once while the block makes objects that stay; afterwards Python collects as it did, also where the block raises."""
    looked: list[str] = []

    def look(phase: str, _: dict[str, int]) -> None:
        looked.append(phase)

    def fails() -> None:
        with memory.uncollected():
            looked.clear()
            stay = [[] for _ in range(100_000)]
            assert (looked, len(stay)) == ([], 100_000)
            raise ZeroDivisionError

    before = gc.isenabled()
    gc.callbacks.append(look)
    try:
        (gc.enable if collecting else gc.disable)()
        with pytest.raises(ZeroDivisionError):
            fails()
        assert gc.isenabled() == collecting
    finally:
        gc.callbacks.remove(look)
        (gc.enable if before else gc.disable)()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.ENOTDIR, errno.EISDIR])
def test_what_the_system_refuses_of_a_file_is_an_error_with_its_place(number: int) -> None:
    """Whatever it is wrapped in; that a file is not there may be a defect of ours, and keeps its traceback."""
    told = refused(OSError(number, os.strerror(number), "/outputs/a"))
    assert told is not None
    assert (told.where, told.what) == ("/outputs/a", os.strerror(number).lower())
    assert told.fix
    for other in (FileNotFoundError(errno.ENOENT, "none", "/a"), ValueError("a"), OSError("a")):
        assert refused(other) is None
