"""Killed anywhere, run again: the published bytes are those of an undisturbed run."""

from __future__ import annotations

import os
import random
import shutil
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
from cpt_ray.dedup import components, near, verify
from cpt_ray.dedup.clean import clean_documents
from cpt_ray.dedup.cluster import deduplicate
from cpt_ray.dedup.index import write_index
from cpt_ray.dedup.options import CleanOptions, DedupOptions
from tests.dedup.dedup_corpus import Killed, corpus, dying

SCRIPT = """
import sys
from cpt_ray.dedup import components, near, shuffle, verify
from cpt_ray.dedup.cluster import deduplicate
near.INLINE_KEYS, shuffle.KEYS_PER_TASK = 0, 4000
near.INLINE_PAIRS, verify.PAIRS_PER_SHARD = 50, 60
components.SCIPY_EDGES, components.EDGES_PER_PART = 50, 100
deduplicate(sys.argv[1], sys.argv[2:])
"""


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
    monkeypatch.setattr(near, "INLINE_KEYS", 0)
    monkeypatch.setattr(near, "INLINE_PAIRS", 10)
    monkeypatch.setattr(verify, "PAIRS_PER_SHARD", 15)
    monkeypatch.setattr(components, "SCIPY_EDGES", 10)
    monkeypatch.setattr(components, "EDGES_PER_PART", 15)
    names = write(tmp_path / "docs", corpus(originals=20), 2)
    real = parquet.write_table
    written = 0

    def bomb(at: int) -> Callable[..., Any]:
        def write_table(path: str, table: pa.Table, **options: Any) -> Any:
            nonlocal written
            written += 1
            if written == at:
                Path(path).write_bytes(b"PAR1 half a file")
                raise Killed
            return real(path, table, **options)

        return write_table

    monkeypatch.setattr(parquet, "write_table", bomb(0))
    deduplicate(str(tmp_path / "calm"), names)
    total, expected = written, published(tmp_path / "calm")
    assert total > 12
    assert shards.parquet is parquet
    for at in range(1, total + 1, 3):
        out, written = tmp_path / f"killed-{at}", 0
        monkeypatch.setattr(parquet, "write_table", bomb(at))
        with pytest.raises(Killed):
            deduplicate(str(out), names)
        monkeypatch.setattr(parquet, "write_table", real)
        deduplicate(str(out), names)
        assert published(out) == expected


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Every file of a published folder but its manifest, which says when it was made."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def visible(folder: Path) -> set[str]:
    """What lies in it, but for the locks."""
    return {path.name for path in folder.iterdir() if not path.name.startswith(".")}


def test_an_index_survives_any_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two crawls; the second index is killed before every third change of a file, and made again: the same bytes, and
    nothing staged stays behind."""
    docs = list(corpus(originals=8).items())
    old, new = (write(tmp_path / name, dict(half), 1) for name, half in (("old", docs[::2]), ("new", docs[1::2])))
    deduplicate(str(tmp_path / "one"), old)
    write_index(str(tmp_path / "index"), str(tmp_path / "one"), old)
    deduplicate(str(tmp_path / "two"), new, index=str(tmp_path / "index"))

    def second(name: str) -> None:
        write_index(str(tmp_path / name), str(tmp_path / "two"), new, previous=str(tmp_path / "index"))

    phases = tmp_path / "two.phases"
    before = visible(phases)
    with dying(monkeypatch, 0) as counted:
        second("calm")
    assert counted.calls > 20
    for at in range(1, counted.calls + 1, 3):
        with pytest.raises(Killed), dying(monkeypatch, at):
            second(f"killed-{at}")
        second(f"killed-{at}")
        assert bytes_of(tmp_path / f"killed-{at}") == bytes_of(tmp_path / "calm")
        assert visible(phases) == before


def test_cleaning_survives_any_death(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before every change of a file, while captures are compared, paragraphs counted and taken out: the same
    bytes."""
    pages = [
        {
            "doc_id": f"{n}",
            "url": f"u{n % 10}",
            "host": f"h{n % 2}",
            "text": f"the menu\n\nText {n} of its own.\n\n(c)",
            "fetched_at": n,
            "warc_file": "w",
            "warc_offset": n,
        }
        for n in range(12)
    ]
    name = str(tmp_path / "pages.parquet")
    parquet.write_table(name, pa.Table.from_pylist(pages), row_group_size=4)
    options = CleanOptions(min_documents=3, min_words=1)
    with dying(monkeypatch, 0) as counted:
        manifest = clean_documents(str(tmp_path / "calm"), [name], options=options)
    assert manifest.balance.dropped == {"older_capture": 2, "repeated_within_host": 20}
    expected = published(tmp_path / "calm")
    for at in range(1, counted.calls + 1):
        out = tmp_path / f"killed-{at}"
        with pytest.raises(Killed), dying(monkeypatch, at):
            clean_documents(str(out), [name], options=options)
        clean_documents(str(out), [name], options=options)
        assert published(out) == expected


@pytest.mark.parametrize("lost", ["folder", "file"])
def test_lost_shingle_sets_are_made_again(tmp_path: Path, lost: str) -> None:
    """Somebody cleared raw sets away, and the options now ask for another comparison: no error, the usual answer."""
    names, out = write(tmp_path / "docs", corpus(originals=10), 2), tmp_path / "c"
    deduplicate(str(out), names)
    (raw,) = (tmp_path / "c.phases").glob("shingles-*")
    if lost == "folder":
        shutil.rmtree(raw)
    else:
        sorted(raw.glob("*.u64"))[1].unlink()
    # Other options of the same signatures and buckets: the artifact of sets stands as it did.
    options = DedupOptions(threshold=0.7, bands=14, rows=9)
    deduplicate(str(out), names, options=options)
    deduplicate(str(tmp_path / "fresh"), names, options=options)
    assert published(out) == published(tmp_path / "fresh")


def files_of(out: Path) -> int:
    """Files written so far by the run that publishes at `out`; a folder that it renames meanwhile is passed over."""
    return sum(len(files) for _, _, files in os.walk(out.parent))


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
@pytest.mark.timeout(1800)
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
