"""Memory: what everything that a run starts uses, its peak, imports without a look for garbage, and a bound on what PyTorch
keeps of past shapes."""

from __future__ import annotations

import gc
import os
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil


def tree_pss() -> int:
    """Bytes now in use by this process and its descendants.

    Proportional set size: shared pages (libraries, Ray's object store) are counted once, divided among their users.
    """
    own = psutil.Process()
    return sum(_pss(process.pid) for process in [own, *own.children(recursive=True)])


def peak_rss() -> int:
    """Most bytes of this process that were resident at a time. getrusage, which stands in where Linux's own count is not to
    be had, counts what its parent had when it was started, too."""
    return _read("/proc/self/status", "VmHWM:") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10


def _pss(pid: int) -> int:
    return _read(f"/proc/{pid}/smaps_rollup", "Pss:") or 0


def _read(path: str, name: str) -> int | None:
    """Bytes in the line `name` of a file of /proc; None if the process has ended, or this is no Linux."""
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith(name)), None)


class Peak:
    """The largest sample so far, in bytes."""

    def __init__(self) -> None:
        self.bytes = 0

    def sample(self) -> None:
        self.bytes = max(self.bytes, tree_pss())


@contextmanager
def watch(seconds: float = 2.0) -> Iterator[Peak]:
    """Sample the memory of the process tree in the background for the length of the block."""
    peak, over = Peak(), threading.Event()

    def loop() -> None:
        while not over.wait(seconds):
            peak.sample()

    peak.sample()
    thread = threading.Thread(target=loop, name="memory", daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        over.set()
        thread.join()
        peak.sample()


@contextmanager
def uncollected() -> Iterator[None]:
    """Inside, nothing is looked over for garbage: for imports and the loading of a model, of which nearly everything stays.

    Of the CPU time that importing transformers takes, a sixth is Python's looking over what came so far, again and again.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def bound_shape_caches() -> None:
    """Have PyTorch keep few oneDNN kernels; call it before the first matrix product.

    For bf16 products on CPUs it keeps a kernel, with its working memory, of every shape that it has met, up to 1,024. Chunks
    sorted by length have a hundred shapes, met one after the other: at 1,024 pairs a step took 1.17 GB instead of 0.86. Fewer
    than a layer's own would be made anew in every layer: 8 cost a tenth of the speed, 16 nothing.
    Both variables are read at the first product; who has set them knows better.
    """
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, "16")
