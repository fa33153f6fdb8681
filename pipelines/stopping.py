"""A command ends within seconds when it is told to, whatever it does just then, and leaves no process behind.

The work runs in a child of the command. Handlers in the working process would not do: Ray puts its own in the place of those
of SIGINT and SIGTERM, and a long call of a library lets no handler of Python run. So the command itself only waits; told to
stop, it asks the child by a signal that nobody else uses, and takes down the whole tree if it is still there after GRACE.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

GRACE = 6.0
"""Seconds in which the work may end by itself: MLflow's runs are closed, and Ray is shut down."""
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
ASK = signal.SIGUSR1
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
GOES_ON = "stopped; the same command goes on from here"


def supervised(work: Callable[[], int]) -> int:
    """The exit code of `work`, run in a child; 128 and the signal if this process was told to stop before that ended.

    Returns in the child too, with what `work` returned. Where there is no sigtimedwait (macOS), `work` runs here.
    """
    if not hasattr(signal, "sigtimedwait"):
        return work()
    stops = {stop for stop in STOPS if stop != signal.SIGHUP or signal.getsignal(stop) != signal.SIG_IGN}  # nohup
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {*stops, signal.SIGCHLD})
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    parent, child = os.getpid(), os.fork()
    if not child:
        # A group of its own: what is sent to ours, as by a terminal, comes once, and through us.
        os.setpgid(0, 0)
        _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(ASK, _interrupt)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return _worked(work)
    stopped, status = _wait(child, stops)
    _end_tree()
    if stopped and status != 0:
        print(GOES_ON, file=sys.stderr)
        return 128 + stopped
    if status < 0:
        print(f"killed by signal {-status}, as for lack of memory; the same command goes on from here", file=sys.stderr)
        return 128 - status
    return status


def _worked(work: Callable[[], int]) -> int:
    """What `work` returned; who leaves it by the back door, as Ray does where it is interrupted, has not finished."""
    try:
        return work()
    except SystemExit:
        return 1


def _interrupt(_: int, __: FrameType | None) -> NoReturn:
    signal.signal(ASK, signal.SIG_IGN)
    raise KeyboardInterrupt


def _wait(child: int, stops: set[signal.Signals]) -> tuple[int, int]:
    """(signal that told us to stop or 0, exit code of the child or minus the signal that ended it)."""
    stopped, deadline = 0, 0.0
    while True:
        left = max(deadline - time.monotonic(), 0.0) if stopped else 3600.0
        told = signal.sigtimedwait({*stops, signal.SIGCHLD}, left)
        if told is not None and told.si_signo != signal.SIGCHLD and not stopped:
            stopped, deadline = told.si_signo, time.monotonic() + GRACE
            os.kill(child, ASK)
        elif told is None and stopped:
            os.kill(child, signal.SIGKILL)
            deadline = time.monotonic() + 1.0
        while True:  # several children may have ended on one SIGCHLD: orphans of the work are ours too
            ended, status = os.waitpid(-1, os.WNOHANG)
            if ended == child:
                return stopped, os.waitstatus_to_exitcode(status)
            if not ended:
                break


def _end_tree() -> None:
    """SIGKILL to what the work left behind, until there is nothing."""
    while True:
        try:
            ended, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if not ended:
            import psutil

            for process in psutil.Process().children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    process.kill()
            time.sleep(0.02)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
