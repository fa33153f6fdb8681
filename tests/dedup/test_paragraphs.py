"""Paragraphs that a host repeats."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_ray.dedup.options import ParagraphOptions
from cpt_ray.dedup.paragraphs import count_paragraphs, drop_repeated, repeated, total

MENU = "Home  Docs | About us"


def pages() -> pa.Table:
    rows = [
        ("a", f"{MENU}\n\nText number {n} of its own.\nIts second line.\n\n(c) 2026 by the owners") for n in range(6)
    ]
    rows += [("b", "home docs about us"), ("b", "Something else\n\n(C) 2026, by the owners!")]
    rows += [("a", f"{MENU}\n\n(c) 2026 by the owners"), ("a", None)]
    return pa.table({"host": [host for host, _ in rows], "text": [text for _, text in rows], "n": list(range(10))})


def clean(table: pa.Table, **options: Any) -> tuple[dict[int, str], dict[str, Any]]:
    chosen = ParagraphOptions(**{"min_documents": 3, "min_share": 0, **options})
    furniture = repeated(count_paragraphs(table, chosen.separator), chosen)
    cleaned, ledger = drop_repeated(table, furniture, chosen)
    units = ledger.check("clean").units
    return {row["n"]: row["text"] for row in cleaned.to_pylist()}, {name: unit.dropped for name, unit in units.items()}


def test_repeated_paragraphs_go_from_their_host_only() -> None:
    """Menu and footer leave the pages of host a, in any layout; host b keeps the same words; the ledger says so."""
    rows, dropped = clean(pages())
    assert rows[0] == "Text number 0 of its own.\nIts second line."
    assert rows[6] == "home docs about us"
    assert rows[7] == "Something else\n\n(C) 2026, by the owners!"
    assert 8 not in rows
    assert rows[9] == ""
    assert dropped == {
        "paragraphs": {"repeated_within_host": 14},
        "documents": {"only_repeated_paragraphs": 1},
    }


def test_a_line_of_a_paragraph_stays_unless_lines_are_asked_for() -> None:
    """A line that many code examples share is no furniture; with a line break as separator it would be."""
    table = pa.table(
        {"host": ["a"] * 4, "text": [f"import numpy as np now\nprint({n})" for n in range(4)], "n": range(4)}
    )
    assert clean(table)[0][0] == "import numpy as np now\nprint(0)"
    assert clean(table, separator="\n")[0][0] == "print(0)"


def test_the_share_of_the_host_counts_too() -> None:
    """On 4 of 10 pages: gone where a share of 0.4 is asked for, kept at 0.5; a page without text is a page."""
    texts = ["about the whole team\n\nown"] * 4 + ["other"] * 5 + [None]
    table = pa.table({"host": ["a"] * 10, "text": texts, "n": range(10)})
    assert clean(table, min_share=0.4)[0][0] == "own"
    assert clean(table, min_share=0.5)[0][0] == texts[0]
    assert clean(table, min_documents=None)[0][0] == texts[0]


def test_a_paragraph_counts_once_per_document_and_pages_are_counted() -> None:
    """A paragraph repeated inside one document is not furniture of the host."""
    table = pa.table({"host": ["a", "a", None], "text": ["la la\n\nla la\n\nla la", "", "x"]})
    counts = count_paragraphs(table, "\n\n").to_pylist()
    assert [(row["host"], row["paragraph"] is None, row["documents"]) for row in counts] == [
        ("", False, 1), ("", True, 1), ("a", False, 1), ("a", True, 2),
    ]  # fmt: skip


def test_short_paragraphs_are_spared() -> None:
    """Headings like `Parameters` stand on every page of an API's documentation and are its structure."""
    rows, _ = clean(pages(), min_words=5)
    assert rows[0].startswith(MENU)
    assert "owners" not in rows[0]


def test_the_content_hash_follows_the_text() -> None:
    """Of changed texts it is made anew by the documents' rule, of others it stays."""
    table = pages().append_column("content_hash", pa.array(range(10), pa.uint64()))
    options = ParagraphOptions(min_documents=3, min_share=0)
    cleaned, _ = drop_repeated(table, repeated(count_paragraphs(table, "\n\n"), options), options)
    rows = {row["n"]: row for row in cleaned.to_pylist()}
    assert rows[7]["content_hash"] == 7
    assert rows[2]["content_hash"] == xxhash.xxh3_64_intdigest(" ".join(rows[2]["text"].split()).encode())


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.lists(st.sampled_from("pqrs"), max_size=5)), min_size=1, max_size=12),
    st.integers(1, 11),
)
def test_against_a_plain_count(documents: list[tuple[str, list[str]]], cut: int) -> None:
    """Oracle: a dictionary of sets; counted in two pieces or at once."""
    table = pa.table(
        {"host": [h for h, _ in documents], "text": ["\n\n".join(p) for _, p in documents], "n": range(len(documents))}
    )
    options = ParagraphOptions(min_documents=2, min_share=0.3, min_words=1)
    counts = total(pa.concat_tables([count_paragraphs(piece, "\n\n") for piece in (table[:cut], table[cut:])]))
    cleaned, _ = drop_repeated(table, repeated(counts, options), options)
    expected = []
    for n, (host, paragraphs) in enumerate(documents):
        of_host = [set(p) for h, p in documents if h == host]
        least = max(2, 0.3 * len(of_host))
        left = [p for p in paragraphs if sum(p in page for page in of_host) < least]
        if left or not paragraphs:
            expected.append((n, "\n\n".join(left)))
    assert [(row["n"], row["text"]) for row in cleaned.to_pylist()] == expected


def test_short_headings_stay_in_scripts_without_spaces() -> None:
    """min_words is in words: five characters of Chinese are two or three, a notice of one sentence is more than four."""
    notice = "版权所有，未经许可不得转载。"
    texts = [f"返回值说明\n\n第{n}个函数的说明，与其他函数不同。\n\n{notice}" for n in range(12)]
    rows, dropped = clean(pa.table({"host": ["a"] * 12, "text": texts, "n": range(12)}))
    assert rows[3] == "返回值说明\n\n第3个函数的说明，与其他函数不同。"
    assert dropped["paragraphs"] == {"repeated_within_host": 12}
