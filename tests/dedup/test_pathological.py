"""Corpora that break deduplicators: templated pages, one document many times, huge and odd documents."""

from __future__ import annotations

import random
import resource
import time
from pathlib import Path

import pyarrow as pa
import pytest

from cpt_ray.artifacts import Manifest, parquet, read_table
from cpt_ray.dedup.cluster import deduplicate
from cpt_ray.dedup.options import DedupOptions
from tests.dedup.dedup_corpus import jaccard, text_of


def odd_documents() -> dict[str, bytes]:
    """By name: nothing, next to nothing, no text at all, and text in every kind of script."""
    binary = random.Random(1).randbytes(20_000)
    return {
        "empty": b"",
        "blank": b" \n\t\r ",
        "punctuation": b"!?... --- ***",
        "one": b"word",
        "one-again": b"Word!",
        "binary": binary,
        "latin-1": "Übung macht den Meister, größer und schöner".encode("latin-1"),
        "emoji": "😀😃😄😁😆😅🤣😂🙂🙃".encode(),
        "cjk": "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。".encode(),
        "cjk-copy": "吾輩は猫である 名前はまだ無い どこで生れたかとんと見当がつかぬ".encode(),
        "cjk-other": "国境の長いトンネルを抜けると雪国であった。夜の底が白くなった。".encode(),
        "rtl": "كل إنسان يولد حرا ومتساويا في الكرامة والحقوق".encode(),
        "truncated": "kürzer als gedacht ü".encode()[:-1],
        "nul": b"with\x00zero\x00bytes inside the text",
    }


def write(path: Path, docs: dict[str, bytes], rows: int = 10_000) -> list[str]:
    table = pa.table({"doc_id": list(docs), "text": pa.array(list(docs.values()), pa.binary())})
    parquet.write_table(str(path), table, row_group_size=rows)
    return [str(path)]


def test_odd_documents_are_each_decided_by_a_named_rule(tmp_path: Path) -> None:
    """None crashes the run; only true copies go; documents without words are kept, say so, and match nothing."""
    manifest = deduplicate(str(tmp_path / "c"), write(tmp_path / "d.parquet", odd_documents()))
    rows = {row["doc_id"]: row for row in read_table(str(tmp_path / "c")).to_pylist()}
    # Of two equal documents the longer one is kept: "Word!" and the text with its punctuation.
    assert {name for name, row in rows.items() if not row["kept"]} == {"one", "cjk-copy"}
    for name in ("empty", "blank", "punctuation"):
        assert rows[name]["rule"].startswith("no words")
        assert rows[name]["cluster_id"] == name
    assert manifest.extra["without_words"] == 3
    assert manifest.extra["with_invalid_utf8"] == 3


def templated(count: int, seed: int = 0) -> dict[str, bytes]:
    """Pages of one template: near-identical, or alike to just below the threshold."""
    rng = random.Random(seed)
    frame = text_of(rng, 120)
    docs = {}
    for n in range(count):
        hole = [f"p{n}x{i}" for i in range(1 if n % 2 else 14)]
        docs[f"t{n:07d}"] = " ".join([*frame[:60], *hole, *frame[60:]]).encode()
    return docs


def check_templated(tmp_path: Path, pages: int, copies: int, megabytes: int) -> tuple[Manifest, float]:
    rng = random.Random(9)
    docs = templated(pages)
    repeated = " ".join(text_of(rng)).encode()
    docs |= {f"r{n:07d}": repeated for n in range(copies)}
    unit = " ".join(text_of(rng, 5000)).encode() + b" "
    docs["huge"] = unit * (megabytes * 1_000_000 // len(unit))
    docs |= odd_documents()
    names = write(tmp_path / "d.parquet", docs)
    started = time.process_time()
    manifest = deduplicate(str(tmp_path / "c"), names, options=DedupOptions(threshold=0.7))
    seconds = time.process_time() - started
    kept = {row["doc_id"] for row in read_table(str(tmp_path / "c")).to_pylist() if row["kept"]}
    assert len({name for name in kept if name.startswith("r0")}) == 1
    assert "huge" in kept
    templates = sorted(name for name in kept if name.startswith("t0"))
    # Whatever is kept of the template is not alike: every removal could be explained, nothing was lost to a chain.
    for other in templates[1:6]:
        assert jaccard(docs[templates[0]].decode(), docs[other].decode()) < 0.7
    assert len(templates) < pages // 2 + 2
    return manifest, seconds


def test_templates_copies_and_a_huge_document(tmp_path: Path) -> None:
    """In miniature: the work is linear in the documents of a hot bucket, at most `stars` comparisons for each."""
    manifest, _ = check_templated(tmp_path, pages=2_000, copies=2_000, megabytes=3)
    assert manifest.extra["pairs_compared"] < 2_000 * (4 + 16)


@pytest.mark.slow
def test_the_full_pathological_corpus(tmp_path: Path) -> None:
    """300,000 templated pages, one document 200,000 times, 50 MB in one document: ends, and memory stays flat."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    _, seconds = check_templated(tmp_path, pages=300_000, copies=200_000, megabytes=50)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e6
    assert grown < 3.0, f"{grown:.1f} GB, {seconds:.0f} CPU-s"
