"""Told to stop, a command ends with 130 or 143 and one line, whatever it does, and leaves no process behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent.parent
WORK = {
    "sleeps": "time.sleep(600)",
    "is deaf": "signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals)); ready(); time.sleep(600)",
    "has handlers of its own, as Ray": "signal.signal(signal.SIGINT, print); signal.signal(signal.SIGTERM, print); ready(); time.sleep(600)",
    "leaves by the back door": "atexit.register(print); signal.signal(signal.SIGUSR1, lambda *_: sys.exit(0)); ready(); time.sleep(600)",
    "starts what starts others": "subprocess.run(['sh', '-c', 'trap : INT TERM; setsid sleep 601 & echo ready; sleep 602'])",
}
"""Python of the work; `ready()` where it is not at once."""
SCRIPT = """
import atexit, os, signal, subprocess, sys, time
from pipelines import stopping
stopping.GRACE = 1.0
def ready(): print("ready", flush=True)
def work():
    {before}
    {work}
    return 0
sys.exit(stopping.supervised(work))
"""


def start(work: str, *, ready: bool = True) -> subprocess.Popen[str]:
    code = SCRIPT.format(before="" if "ready" in work else "ready()", work=work)
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=-1, stderr=-1, text=True, start_new_session=True
    )
    assert process.stdout is not None
    if ready:
        assert process.stdout.readline() == "ready\n"
    return process


def stop(process: subprocess.Popen[str], number: int, tell: Callable[[int, int], None]) -> tuple[list[str], str]:
    """(processes left, standard error) of `process`, told by `tell(pid, number)`."""
    started = psutil.Process(process.pid).children(recursive=True)
    assert started
    tell(process.pid, number)
    _, said = process.communicate(timeout=120)
    left = [one.name() for one in started if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    return left, said


@pytest.mark.parametrize("work", WORK.values(), ids=WORK)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_ends_with_all_that_it_started(work: str, number: int) -> None:
    """Also where a signal comes to the whole group, and more than once."""
    process = start(work)

    def tell(pid: int, number: int) -> None:
        os.killpg(pid, number)
        os.kill(pid, number)

    left, said = stop(process, number, tell)
    assert left == []
    assert process.returncode == 128 + number
    assert said.endswith("stopped; the same command goes on from here\n")


@pytest.mark.parametrize(
    ("work", "code", "says"),
    [
        ("return 0", 0, ""),
        ("return 2", 2, ""),
        ("sys.exit(0)", 1, ""),
        ("os.kill(os.getpid(), signal.SIGKILL)", 137, "killed by signal 9"),
        ("subprocess.Popen(['setsid', 'sleep', '603'])", 0, ""),
    ],
)
def test_what_the_work_ends_with_is_the_commands(work: str, code: int, says: str) -> None:
    process = start(work, ready=False)
    _, said = process.communicate(timeout=120)
    assert process.returncode == code
    assert said.startswith(says)
    assert "sleep 603" not in {" ".join(p.info["cmdline"] or []) for p in psutil.process_iter(["cmdline"])}


def test_the_work_does_not_outlive_the_command() -> None:
    """SIGKILL of the command takes the work along, as if they were one process."""
    process = start("time.sleep(600)")
    (child,) = psutil.Process(process.pid).children()
    process.kill()
    process.communicate()
    child.wait(120)


STAGES = [
    *("site", "crawl", "documents", "clean_documents", "document_clusters", "text_pairs", "functions"),
    *("function_clusters", "code_pairs", "corpus", "tokenizer", "windows", "initial", "code_model", "text_model"),
    *("sweep", "code_search", "embeddings", "index"),
]


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_every_stage_of_a_demo_can_be_stopped(demo) -> None:
    """SIGINT and SIGTERM by turns, to the command and to its group: no process stays, and the next run goes on."""
    one = demo("stopped")
    for turn, stage in enumerate(STAGES):
        process = one.start()
        begun = [one.folder / f"{stage}.building", one.folder / f"{stage}.phases", one.folder / stage]
        started: list[psutil.Process] = []
        # The one before may have ended the stage before it was stopped. Then the start of the command is stopped, from when
        # on it has a child: a signal before our first line ends Python as it ends any program.
        while process.poll() is None and not (started and any(path.exists() for path in begun)):
            time.sleep(0.01)
            started = psutil.Process(process.pid).children(recursive=True)
        assert process.poll() is None, process.communicate()[0][-3000:]
        number = (signal.SIGINT, signal.SIGTERM)[turn % 2]
        (os.kill if turn % 4 < 2 else os.killpg)(process.pid, number)
        printed, _ = process.communicate(timeout=120)
        assert process.returncode == 128 + number, printed[-3000:]
        assert printed.endswith("stopped; the same command goes on from here\n")
        assert [p for p in started if p.is_running() and p.status() != psutil.STATUS_ZOMBIE] == []
    one.run()
