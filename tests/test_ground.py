"""The ground floor: errors that survive a process boundary, progress that is quiet without a terminal, memory."""

from __future__ import annotations

import pickle
import subprocess
import sys

from cpt_ray import memory, progress
from cpt_ray.errors import UserError


def test_a_user_error_survives_pickling():
    """Ray carries errors between processes; what, where and fix must arrive."""
    error = pickle.loads(pickle.dumps(UserError("it is bad", where="conf/x.yaml", fix="mend it")))
    assert str(error) == "conf/x.yaml: it is bad\n  fix: mend it"


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


def test_peak_is_of_this_process_alone():
    """A large process starts a small one, whose peak is its own."""
    ballast = bytearray(300 << 20)
    ballast[:: 1 << 12] = b"x" * len(ballast[:: 1 << 12])
    code = "from cpt_ray import memory; print(memory.peak_rss())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 1 << 20 < int(done.stdout) < len(ballast) < memory.peak_rss()


def test_memory_counts_children():
    """A child holding 200 MB shows in the peak of the tree."""
    before = memory.tree_pss()
    hold = "x = bytearray(200 << 20); x[::4096] = b'1' * len(x[::4096]); print('held', flush=True); input()"
    with memory.watch(0.05) as peak:
        child = subprocess.Popen([sys.executable, "-c", hold], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        peak.sample()
        child.communicate(b"\n")
    assert peak.bytes - before > 180 << 20
