"""Paragraphs that a host repeats."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from cpt_ray.artifacts import parquet, read_table
from cpt_ray.dedup import ParagraphOptions, repeated_paragraphs
from cpt_ray.dedup.paragraphs import count_paragraphs, drop_repeated


def pages() -> pa.Table:
    menu = "Home  Docs | About"
    rows = [("a", f"{menu}\n\nText number {n} of its own.\n(c) 2026") for n in range(6)]
    rows += [("b", "home docs about"), ("b", "Something else\n(C) 2026!"), ("a", f"{menu}\n(c) 2026"), ("a", None)]
    return pa.table({"host": [host for host, _ in rows], "text": [text for _, text in rows], "n": list(range(10))})


def test_repeated_paragraphs_go_from_their_host_only(tmp_path: Path) -> None:
    """Menu and footer leave the pages of host a, in any layout; host b keeps the same words; the ledger balances."""
    parquet.write_table(str(tmp_path / "d.parquet"), pages(), row_group_size=3)
    out = str(tmp_path / "clean")
    manifest = repeated_paragraphs(out, [str(tmp_path / "d.parquet")], options=ParagraphOptions(min_documents=3))
    rows = {row["n"]: row["text"] for row in read_table(out).to_pylist()}
    assert rows[0] == "\nText number 0 of its own."
    assert rows[6] == "home docs about"
    assert rows[7] == "Something else\n(C) 2026!"
    assert 8 not in rows
    assert rows[9] == ""
    units = manifest.balance.units
    assert units["paragraphs"].dropped == {"repeated_within_host": 14}
    assert units["documents"].dropped == {"only_repeated_paragraphs": 1}


def test_a_paragraph_counts_once_per_document() -> None:
    """A line repeated inside one document is not furniture of the host."""
    table = pa.table({"host": ["a"], "text": ["la la\nla la\nla la"]})
    assert count_paragraphs(table)["documents"].to_pylist() == [1]


def test_short_paragraphs_can_be_spared() -> None:
    table = pages()
    counts = count_paragraphs(table)
    repeated = counts.filter(pa.array([n >= 3 for n in counts["documents"].to_pylist()]))
    cleaned, _ = drop_repeated(table, repeated, ParagraphOptions(min_words=3))
    assert cleaned["text"][0].as_py() == "\nText number 0 of its own.\n(c) 2026"
