"""Killed anywhere, run again: the published bytes are those of an undisturbed run."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dedup_corpus import corpus

from cpt_ray.artifacts import parquet, parts, shards
from cpt_ray.dedup import deduplicate, near, verify

SCRIPT = """
import sys
from cpt_ray.dedup import deduplicate, near, verify
near.INLINE_PAIRS, verify.PAIRS_PER_SHARD = 50, 60
deduplicate(sys.argv[1], sys.argv[2:])
"""


class Killed(BaseException):
    """Not an Exception: nothing on the way up may catch it."""


def write(folder: Path, docs: dict[str, str], files: int) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    table = pa.table({"doc_id": list(docs), "text": list(docs.values())})
    size, names = -(-table.num_rows // files), []
    for n in range(files):
        names.append(str(folder / f"{n}.parquet"))
        parquet.write_table(names[-1], table.slice(n * size, size), row_group_size=40)
    return names


def published(out: Path) -> list[bytes]:
    return [Path(name).read_bytes() for name in parts(str(out))]


def test_every_write_may_be_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For every n: die at the n-th write of a file, half of it written; the next run ends with the same bytes."""
    monkeypatch.setattr(near, "INLINE_PAIRS", 10)
    monkeypatch.setattr(verify, "PAIRS_PER_SHARD", 15)
    names = write(tmp_path / "docs", corpus(originals=20), 2)
    real = parquet.write_table
    written = 0

    def bomb(at: int) -> Callable[..., None]:
        def write_table(path: str, table: pa.Table, **options: Any) -> None:
            nonlocal written
            written += 1
            if written == at:
                Path(path).write_bytes(b"PAR1 half a file")
                raise Killed
            real(path, table, **options)

        return write_table

    monkeypatch.setattr(parquet, "write_table", bomb(0))
    deduplicate(str(tmp_path / "calm"), names)
    total, expected = written, published(tmp_path / "calm")
    assert total > 12
    assert shards.parquet is parquet
    for at in range(1, total + 1, 2):
        out, written = tmp_path / f"killed-{at}", 0
        monkeypatch.setattr(parquet, "write_table", bomb(at))
        with pytest.raises(Killed):
            deduplicate(str(out), names)
        monkeypatch.setattr(parquet, "write_table", real)
        deduplicate(str(out), names)
        assert published(out) == expected


def kill_and_finish(tmp_path: Path, names: list[str], out: Path, delay: float) -> bool:
    """Start a run of its own process group, SIGKILL it after `delay`, run again; True if the kill came in time."""
    command = [sys.executable, "-c", SCRIPT, str(out), *names]
    started = subprocess.Popen(command, start_new_session=True)
    time.sleep(delay)
    in_time = started.poll() is None
    if in_time:
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    subprocess.run(command, check=True)
    return in_time


def big_corpus(tmp_path: Path) -> tuple[list[str], list[bytes], float]:
    names = write(tmp_path / "docs", corpus(originals=400), 3)
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / "calm"), *names], check=True)
    return names, published(tmp_path / "calm"), time.monotonic() - started


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    """20 SIGKILLs at random moments of the whole run: always byte-equal, and most kills hit a run under way."""
    names, expected, whole = big_corpus(tmp_path)
    rng, hits = random.Random(1), 0
    for n in range(20):
        out = tmp_path / f"out-{n}"
        hits += kill_and_finish(tmp_path, names, out, rng.uniform(0.4, 0.98) * whole)
        assert published(out) == expected
    assert hits >= 15
