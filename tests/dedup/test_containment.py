"""Containment: a short copy inside a longer page, against all pairs compared as Python sets."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pydantic import ValidationError

from cpt_ray.artifacts import parquet, read_table
from cpt_ray.dedup import near
from cpt_ray.dedup.cluster import deduplicate
from cpt_ray.dedup.index import write_index
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.errors import UserError
from tests.dedup.dedup_corpus import edited, shingles, text_of

THRESHOLD = 0.8
ALL = DedupOptions(measure="containment", threshold=THRESHOLD, sample=1)


def pages(seed: int = 1, count: int = 40) -> dict[str, str]:
    """Long pages, and of each a piece of a tenth of it as it is, one touched up, one rewritten, and one that fits no page."""
    rng, docs = random.Random(seed), {}
    for n in range(count):
        page = text_of(rng, 900)
        at = rng.randrange(800)
        piece = page[at : at + rng.randrange(60, 100)]
        docs[f"{n:03d}-page"] = " ".join(page)
        docs[f"{n:03d}-copy"] = " ".join(piece)
        docs[f"{n:03d}-light"] = " ".join(edited(rng, piece, 2))
        docs[f"{n:03d}-heavy"] = " ".join(edited(rng, piece, 12))
        docs[f"{n:03d}-other"] = " ".join(text_of(rng, 90))
    return docs


def contained(inner: str, outer: str) -> float:
    """The share of a text's shingles that another has."""
    return len(shingles(inner) & shingles(outer)) / len(shingles(inner))


def write(path: Path, docs: dict[str, str]) -> list[str]:
    parquet.write_table(str(path), pa.table({"doc_id": list(docs), "text": list(docs.values())}), row_group_size=40)
    return [str(path)]


def run(
    folder: Path, docs: dict[str, str], options: DedupOptions, index: str | None = None
) -> dict[str, dict[str, Any]]:
    folder.mkdir(parents=True, exist_ok=True)
    deduplicate(str(folder / "clusters"), write(folder / "docs.parquet", docs), options=options, index=index)
    return {row["doc_id"]: row for row in read_table(str(folder / "clusters")).to_pylist()}


@pytest.mark.parametrize("inline", [near.INLINE_KEYS, 2_000])
def test_exactly_what_a_kept_page_contains_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, inline: int) -> None:
    """Every removal by its exact value, and with all shingles looked up no kept text is left inside another one; also when
    the shingles are looked up a share at a time."""
    monkeypatch.setattr(near, "INLINE_KEYS", inline)
    docs = pages()
    rows = run(tmp_path, docs, ALL)
    kept = [name for name, row in rows.items() if row["kept"]]
    for name, row in rows.items():
        if not row["kept"]:
            exact = contained(docs[name], docs[row["matched_id"]])
            assert exact >= THRESHOLD
            assert row["similarity"] == pytest.approx(exact, abs=1e-6)
            assert row["matched_id"] in kept
            assert len(docs[row["matched_id"]]) >= len(docs[name])
    for one in kept:
        others = (other for other in kept if len(docs[other]) > len(docs[one]))
        assert all(contained(docs[one], docs[other]) < THRESHOLD for other in others)
    assert {"000-copy", "000-light"}.isdisjoint(kept)
    assert {"000-page", "000-other"} <= set(kept)


def test_jaccard_keeps_what_containment_removes(tmp_path: Path) -> None:
    """A tenth of a page is not like it; bands, which are for likeness, would not have brought the two together."""
    docs = {name: text for name, text in pages(2).items() if not name.endswith(("-light", "-heavy"))}
    assert all(row["kept"] for name, row in run(tmp_path / "j", docs, DedupOptions()).items() if name.endswith("-copy"))
    by_sample = run(tmp_path / "c", docs, DedupOptions(measure="containment"))
    assert not any(row["kept"] for name, row in by_sample.items() if name.endswith("-copy"))


def test_a_sample_misses_as_much_as_it_says(tmp_path: Path) -> None:
    """Of n shared shingles none is in a sample of one in s with (1 - 1/s)^n: found are at least as many as that leaves."""
    docs = pages(3, count=150)
    rows = run(tmp_path, docs, DedupOptions(measure="containment", sample=16))
    planted = [name for name in docs if name.endswith(("-copy", "-light"))]
    shared = {name: len(shingles(docs[name]) & shingles(docs[f"{name[:3]}-page"])) for name in planted}
    within = [name for name in planted if shared[name] / len(shingles(docs[name])) >= THRESHOLD]
    expected = [1 - (1 - 1 / 16) ** shared[name] for name in within]
    error = sum(chance * (1 - chance) for chance in expected) ** 0.5
    assert sum(not rows[name]["kept"] for name in within) >= sum(expected) - 4 * error
    assert len(within) > 150


def test_crawl_by_crawl_equals_one_go(tmp_path: Path) -> None:
    """Pages come before their pieces, after them, and with them."""
    docs = pages(4, count=24)
    names = list(docs)
    random.Random(4).shuffle(names)
    state: dict[str, dict[str, Any]] = {}
    everything: dict[str, str] = {}
    index: str | None = None
    for n in range(3):
        crawl = {name: docs[name] for name in names[n::3]}
        everything |= crawl
        state |= run(tmp_path / f"{n}", crawl, ALL, index)
        write_index(
            str(tmp_path / f"index-{n}"),
            str(tmp_path / f"{n}" / "clusters"),
            [str(tmp_path / f"{n}" / "docs.parquet")],
            previous=index,
        )
        index = str(tmp_path / f"index-{n}")
        assert state == run(tmp_path / f"whole-{n}", everything, ALL)
    with pytest.raises(UserError, match="sample="):
        run(tmp_path / "other", docs, DedupOptions(), index)


def test_what_was_made_before_is_still_known() -> None:
    """The option of containment is no part of a run that measures likeness."""
    assert "sample" not in DedupOptions().result()
    assert DedupOptions(sample=4).result() == DedupOptions().result()
    one, two = (DedupOptions(measure="containment", sample=sample).result() for sample in (4, 8))
    assert one != two
    with pytest.raises(ValidationError):
        DedupOptions(sample=0)
