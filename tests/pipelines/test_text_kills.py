"""Archives to text pairs, killed at any moment, and with any number of workers: the same bytes."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from cpt_ray.artifacts import read_manifest, run_flow
from cpt_ray.web.warc import Exchange, SegmentWriter
from pipelines import text_pairs
from pipelines.options.text_pairs import Steps
from tests.pipelines.kills import ends_as_none_was_killed, with_any_number_of_workers

KILLS = 100
ARCHIVES, PAGES = 6, 20
NAMES = ("documents", "clean_documents", "document_clusters", "text_pairs")
STEPS = Steps.model_validate(
    {
        "extract": {"languages": [], "min_language_score": 0, "quality": {"min_words": 5}},
        "dedup": {"measure": "containment"},
        "neighbours": {"max_similarity": 1},
    }
)


@pytest.fixture
def archives(tmp_path: Path) -> str:
    """Pages of several hosts, of which every fifth is on another host too, and every seventh was fetched twice."""
    folder = tmp_path / "archives"
    folder.mkdir()
    writer = SegmentWriter(str(folder), software="test/1", max_records=PAGES, max_bytes=10**9)
    for n in range(ARCHIVES * PAGES):
        words = random.Random(n % (ARCHIVES * PAGES - 24))
        paragraphs = (
            " ".join(words.choice(["river", "stone", "garden", "letter", "window", "paper"]) for _ in range(60))
            for _ in range(8)
        )
        body = "".join(f"<p>This is what number {n % 96} says: {text}.</p>" for text in paragraphs)
        started = datetime(2026, 1, 2, tzinfo=UTC)
        url = f"http://h{n % 7}.example/{n - n % 7 if n > 100 else n}"
        about = (url, "fetched", started, 200, "OK", (("Content-Type", "text/html"),))
        writer.write(
            Exchange(*about, f"<html><body><main>{body}</main></body></html>".encode(), b"GET / HTTP/1.1\r\n\r\n")
        )
    writer.close()
    return str(folder)


def made(out: str, archives: str) -> None:
    run_flow(text_pairs.flow(out, archives, STEPS))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_end_as_none(tmp_path: Path, archives: str) -> None:
    made(str(tmp_path / "warm"), archives)  # what is compiled and loaded once is no child's work
    ends_as_none_was_killed(tmp_path, partial(made, archives=archives), NAMES, KILLS)
    assert read_manifest(f"{tmp_path}/whole/text_pairs").rows > 100


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, archives: str) -> None:
    found = with_any_number_of_workers(tmp_path, partial(made, archives=archives), NAMES)
    assert len(found) >= ARCHIVES
