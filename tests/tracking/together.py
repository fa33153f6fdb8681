"""Processes that begin at one moment on a store that nobody has made yet, as a job array or the trials of a sweep do."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BEFORE = """
import pathlib, sys, time
from cpt_ray.tracking.mlflow import Player, Tracker, load
from cpt_ray.tracking.outbox import Outbox, ReportedRun
uri, folder, number, count = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
load()
(folder / f"{number}.ready").touch()
while len(list(folder.glob("*.ready"))) < count: time.sleep(0.01)
"""


def begin_together(work: str, uri: str, folder: Path, count: int) -> None:
    """`work` by so many processes, for which `uri`, `folder` and their own `number` have values; none of them fails."""
    command = [sys.executable, "-c", BEFORE + work, uri, str(folder)]
    processes = [
        subprocess.Popen([*command, str(number), str(count)], stderr=subprocess.PIPE, text=True)
        for number in range(count)
    ]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * count, said
