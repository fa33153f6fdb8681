"""Pipelines that are killed at any moment and begun again, or have any number of workers: what both have to give."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from cpt_ray.artifacts import read_manifest
from cpt_ray.cluster import ClusterOptions, connect

Make = Callable[[str], None]
"""Makes all artifacts below a folder."""


def content(out: Path, names: Sequence[str]) -> dict[str, str]:
    """The digest of every file of these artifacts."""
    return {f"{name}/{one.path}": one.digest for name in names for one in read_manifest(f"{out}/{name}").files}


def ends_as_none_was_killed(folder: Path, make: Make, names: Sequence[str], kills: int) -> None:
    """So many SIGKILLs, each at a random moment: the same call goes on, ends with the bytes of a run without one in
    `<folder>/whole`, and leaves nothing unfinished."""
    begun = time.monotonic()
    whole = _started(make, folder / "whole")
    whole.join()
    seconds, expected = time.monotonic() - begun, content(folder / "whole", names)
    assert whole.exitcode == 0
    at, killed, finished = random.Random(0), 0, 0
    while killed < kills:
        out = folder / f"killed-{finished}"
        child = _started(make, out)
        child.join(at.uniform(0.02, 0.6) * seconds)
        if child.exitcode is None:
            os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
        killed += child.exitcode == -signal.SIGKILL
        if child.exitcode == 0:
            assert content(out, names) == expected
            assert not list(out.glob("*.building*"))
            finished += 1
    last = _started(make, folder / f"killed-{finished}")
    last.join()
    assert content(folder / f"killed-{finished}", names) == expected


def kill_with_all(process: subprocess.Popen) -> None:
    """SIGKILL a process in a session of its own with all that it has started, as when a machine goes down: Ray's processes
    have sessions of theirs."""
    started = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for one in started:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    process.communicate()


def with_any_number_of_workers(folder: Path, make: Make, names: Sequence[str]) -> dict[str, str]:
    """The content, which is the same with one, two and four."""
    found = []
    for workers in (1, 2, 4):
        with connect(ClusterOptions(cpus=workers)):
            make(str(folder / str(workers)))
        found.append(content(folder / str(workers), names))
    assert found[0] == found[1] == found[2]
    return found[0]


def _started(make: Make, out: Path) -> multiprocessing.process.BaseProcess:
    """Forked, so that what is imported and compiled already is no child's work."""
    child = multiprocessing.get_context("fork").Process(target=make, args=(str(out),))
    child.start()
    return child
