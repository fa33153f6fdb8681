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

from cpt_ray.artifacts import parquet, parts, shards
from cpt_ray.dedup import deduplicate, near, verify
from tests.dedup.dedup_corpus import corpus

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


def files_of(out: Path) -> int:
    """Files written so far by the run that publishes at `out`."""
    return sum(1 for path in out.parent.rglob("*") if path.is_file())


def kill_and_finish(names: list[str], out: Path, at: int, pause: float) -> bool:
    """Start a run of its own process group, SIGKILL it a moment after its `at`-th file, run again; True if it hit."""
    out.parent.mkdir()
    command = [sys.executable, "-c", SCRIPT, str(out), *names]
    started = subprocess.Popen(command, start_new_session=True)
    while started.poll() is None and files_of(out) < at:
        time.sleep(0.001)
    time.sleep(pause)
    hit = started.poll() is None
    if hit:
        os.killpg(started.pid, signal.SIGKILL)
    started.wait()
    subprocess.run(command, check=True)
    return hit


@pytest.mark.slow
def test_twenty_kills(tmp_path: Path) -> None:
    """20 SIGKILLs at random moments, from the first file to the last: always byte-equal, and most hit a run."""
    names = write(tmp_path / "docs", corpus(originals=400), 3)
    calm = tmp_path / "calm" / "clusters"
    calm.parent.mkdir()
    subprocess.run([sys.executable, "-c", SCRIPT, str(calm), *names], check=True)
    expected, files = published(calm), files_of(calm)
    rng, hits = random.Random(1), 0
    for n in range(20):
        out = tmp_path / f"out-{n}" / "clusters"
        hits += kill_and_finish(names, out, rng.randrange(1, files), rng.uniform(0, 0.01))
        assert published(out) == expected
    assert hits >= 15
