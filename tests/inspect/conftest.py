"""A small corpus from archive to pairs, with something dropped for many a reason."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path

import pytest

from cpt_ray.web.warc import Exchange, SegmentWriter
from pipelines import text_pairs
from pipelines.options.text_pairs import Steps

HOSTS, PAGES = 4, 30
FOOTER = "This notice stands at the end of every page that our host has, word for word, and tells nobody anything new."
EVIL = "<script>alert(1)</script><img src='https://elsewhere.example/x.png' onerror=alert(2)>"


def prose(chance: random.Random, sentences: int) -> str:
    """English that a language model takes for it, no two alike."""
    people = ["reader", "gardener", "teacher", "captain", "neighbour", "doctor", "painter", "farmer"]
    verbs = ["finds", "keeps", "describes", "measures", "repairs", "carries", "remembers", "follows"]
    things = ["letter", "harbour", "window", "engine", "garden", "mountain", "question", "machine"]
    one = lambda: (  # noqa: E731
        f"The {chance.choice(people)} {chance.choice(verbs)} the {chance.choice(things)} number {chance.randrange(10**6)} "
        f"before the {chance.choice(people)} {chance.choice(verbs)} another {chance.choice(things)}{chance.choice(['', '', ' of x@y.example'])}."
    )
    return " ".join(one() for _ in range(sentences))


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `documents`, `clean_documents`, `document_clusters` and `text_pairs`; `crawl` is their archive."""
    out = tmp_path_factory.mktemp("corpus")
    chance = random.Random(5)
    (out / "crawl").mkdir()
    writer = SegmentWriter(str(out / "crawl"), software="test/1", max_records=40, max_bytes=10**9)
    last = ""
    for number in range(HOSTS * PAGES):
        body = "".join(f"<p>{prose(chance, chance.randrange(1, 5))}</p>" for _ in range(chance.randrange(2, 9)))
        if number % 10 == 7:
            body = "<p>Short.</p>"
        elif number % 10 == 8:
            body = last + "<p>One more.</p>"
        elif number % 10 == 9:
            body = last
        else:
            last = body
        escaped = EVIL.replace("<", "&lt;") if number % 7 == 0 else ""
        html = f"<html><head><title>Page {number} {escaped}</title></head><body><main>{body}<p>{FOOTER} {escaped}</p></main></body></html>"
        url = f"http://h{number % HOSTS}.example/{number}"
        headers = (("Content-Type", "text/html; charset=utf-8"),)
        request = b"GET / HTTP/1.1\r\n\r\n"
        started = datetime(2026, 1, 2, tzinfo=UTC)
        writer.write(Exchange(url, "fetched", started, 200, "OK", headers, html.encode(), request))
    writer.close()
    steps = Steps.model_validate({"split": {"heldout_share": 0.5}})
    for wanted in text_pairs.flow(str(out), str(out / "crawl"), steps):
        wanted.make()
    return out
