"""Neighbouring pieces: spans are exact, pieces are used once, boilerplate and repetition are no positives."""

from __future__ import annotations

import gzip
import json
import random
from itertools import pairwise
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cpt_ray.errors import UserError
from cpt_ray.pairs.neighbours import Span, cut, text_pairs
from cpt_ray.pairs.options import NeighbourOptions
from cpt_ray.pairs.schema import PAIRS

SHARED = Path(__file__).parents[3] / "shared" / "data"
SMALL = NeighbourOptions(min_chars=20, max_chars=80, boilerplate_chars=20)


def documents(texts: list[str], groups: list[str] | None = None) -> pa.Table:
    ids = [f"{i:032x}" for i in range(len(texts))]
    return pa.table({"doc_id": ids, "group": groups or ["g"] * len(texts), "text": texts})


def sentence(rng: random.Random) -> str:
    return (
        " ".join("".join(rng.choices("abcdefghijklmnop", k=rng.randint(2, 9))) for _ in range(rng.randint(4, 12)))
        + ". "
    )


def prose(seed: int, paragraphs: int = 6) -> str:
    rng = random.Random(seed)
    return "\n\n".join("".join(sentence(rng) for _ in range(rng.randint(1, 5))).strip() for _ in range(paragraphs))


texts = st.lists(
    st.sampled_from(
        ["word", "Satz.", "日本語。", "🎉", " ", "\n", "\n\n", "\r\n", "\t", "x" * 50, "العربية", "\u2028", "a b c"]
    ),
    max_size=200,
).map("".join)


@settings(deadline=None, max_examples=60)
@given(st.lists(texts, max_size=4))
def test_spans_are_the_text_and_pieces_never_overlap(found: list[str]) -> None:
    """text[x_start:x_end] == x for both sides; x lies before y, in one document, with only blanks between them."""
    docs = documents(found)
    table, ledger = text_pairs(docs, None, SMALL)
    ledger.check("text_pairs")
    assert table.schema == PAIRS
    assert ledger.units["documents"].read == len(found)
    assert ledger.units["pairs"].kept == table.num_rows
    by_id = dict(zip(docs["doc_id"].to_pylist(), found, strict=True))
    used: list[tuple[str, int, int]] = []
    for row in table.to_pylist():
        text = by_id[row["x_doc"]]
        assert row["x_doc"] == row["y_doc"]
        assert text[row["x_start"] : row["x_end"]] == row["x"] == row["x"].strip()
        assert text[row["y_start"] : row["y_end"]] == row["y"] == row["y"].strip()
        assert text[row["x_end"] : row["y_start"]].strip() == ""
        assert row["x_end"] <= row["y_start"]
        used += [(row["x_doc"], row["x_start"], row["x_end"]), (row["y_doc"], row["y_start"], row["y_end"])]
    used.sort()
    for (doc, _, end), (after, start, _) in pairwise(used):
        assert doc != after or end <= start


@settings(deadline=None, max_examples=200)
@given(texts, st.integers(1, 40), st.integers(2, 5))
def test_pieces_keep_within_their_bounds(text: str, least: int, times: int) -> None:
    """Every piece has at most max_chars; together they hold every visible character; their number is even."""
    options = NeighbourOptions(min_chars=least, max_chars=least * times)
    pieces = cut(text, Span(0, len(text)), options)
    assert len(pieces) % 2 == 0
    assert all(end - start <= options.max_chars for start, end in pieces)
    if pieces:
        assert "".join("".join(text[start:end].split()) for start, end in pieces) == "".join(text.split())
    else:
        assert len(text.strip()) < 2 * options.min_chars


def test_without_blanks_pieces_have_at_least_min_chars() -> None:
    for length in range(2, 900):
        pieces = cut("x" * length, Span(0, length), NeighbourOptions(min_chars=50, max_chars=100))
        assert all(50 <= end - start <= 100 for start, end in pieces)
        assert bool(pieces) == (length >= 100)


def test_cuts_prefer_paragraphs_then_sentences() -> None:
    a, b = "First paragraph of some length here", "Second paragraph, about as long too"
    text = f"{a}.\n\n{b}."
    assert [text[s:e] for s, e in cut(text, Span(0, len(text)), SMALL)] == [f"{a}.", f"{b}."]
    text = f"{a}. {b}."
    assert [text[s:e] for s, e in cut(text, Span(0, len(text)), SMALL)] == [f"{a}.", f"{b}."]


@pytest.mark.parametrize("paragraphs", [5, 40, 200])
def test_long_texts_are_cut_where_something_ends(paragraphs: int) -> None:
    """However long a text is and however its length divides: no word is torn, and hardly a sentence."""
    torn = cuts = 0
    for seed in range(10):
        text = prose(seed, paragraphs)
        pieces = cut(text, Span(0, len(text)), NeighbourOptions())
        for (_, end), (start, _) in pairwise(pieces):
            cuts += 1
            torn += text[end - 1] != "."
            assert end < start
    assert torn <= cuts // 25


@pytest.mark.parametrize("row", [" ", "\t", ".", "!?", "。", '."', ". ", "。」", "\n ", "\n"])
def test_a_row_of_one_sign_is_read_once(row: str) -> None:
    """So many of them that the square of their number would be minutes to hours."""
    text = "One thing is said." + row * 300_000 + "x and another."
    pieces = cut(text, Span(0, len(text)), NeighbourOptions(max_chars=300_000))
    assert pieces[0].start == 0
    assert pieces[-1].end == len(text)


def test_where_nothing_ends_words_are_not_torn() -> None:
    """The nearest blank, on whichever side of the middle it lies."""
    text = "x" * 60 + " " + "y" * 40
    assert cut(text, Span(0, 101), NeighbourOptions(min_chars=20, max_chars=80)) == [Span(0, 60), Span(61, 101)]


def test_boilerplate_of_a_group_is_in_no_pair() -> None:
    """A footer in three documents of one group goes; the same line in another group's single document stays."""
    footer = "Copyright of the example authors, all rights reserved."
    found = [f"{prose(i)}\n{footer}\n{prose(100 + i)}" for i in range(3)] + [f"{prose(9)}\n{footer}\n{prose(10)}"]
    table, _ = text_pairs(documents(found, ["a", "a", "a", "b"]), None, SMALL)
    holding = [row["group"] for row in table.to_pylist() if "Copyright" in row["x"] or "Copyright" in row["y"]]
    assert holding == ["b"]
    assert set(table["group"].to_pylist()) == {"a", "b"}


def test_a_pair_does_not_reach_over_boilerplate() -> None:
    """Pieces on both sides of a removed line are no neighbours."""
    footer = "Copyright of the example authors, all rights reserved."
    found = [f"{chr(97 + i) * 20} left side of it\n{footer}\n{chr(97 + i) * 20} right side of it" for i in range(3)]
    table, ledger = text_pairs(documents(found), None, SMALL)
    assert table.num_rows == 0
    assert ledger.units["documents"].dropped == {"too_short": 3}


def test_short_headings_may_repeat() -> None:
    found = [f"{prose(i, 1)}\n\nParameters\n\n{prose(50 + i, 1)}" for i in range(5)]
    table, _ = text_pairs(documents(found), None, SMALL)
    assert any("Parameters" in row["x"] + row["y"] for row in table.to_pylist())


def test_each_rule_drops_its_pair_by_name() -> None:
    twice = "The same eight words are said here again."
    numbers = "0123 4567 8901 2345 6789 0123 4567 8901 2345 6789"
    apart = NeighbourOptions(min_chars=20, max_chars=80, boilerplate_documents=100)
    whole = "One half of the text is here now. And quite another second part follows."
    found = [f"{twice}\n\n{twice}", numbers, whole, whole, "short"]
    table, ledger = text_pairs(documents(found), None, apart)
    assert table.num_rows == 1
    assert ledger.units["pairs"].dropped == {"near_identical": 1, "not_letters": 1, "same_text": 1}
    assert ledger.units["documents"].dropped == {"too_short": 1}


def test_duplicate_documents_are_left_out_and_clusters_travel() -> None:
    docs = documents([prose(1), prose(1) + " More.", prose(2)])
    ids = docs["doc_id"].to_pylist()
    clusters = pa.table({"doc_id": ids[::-1], "cluster_id": [ids[2], ids[0], ids[0]], "kept": [True, False, True]})
    table, ledger = text_pairs(docs, clusters, SMALL)
    assert set(table["x_doc"].to_pylist()) == {ids[0], ids[2]}
    assert ledger.units["documents"].dropped == {"duplicate": 1}
    assert len(set(table["cluster"].to_pylist())) == 2


def test_a_clusters_table_of_another_corpus_is_refused() -> None:
    clusters = pa.table({"doc_id": ["other"], "cluster_id": ["other"], "kept": [True]})
    with pytest.raises(UserError, match="in no duplicate cluster"):
        text_pairs(documents([prose(1)]), clusters, SMALL)


def test_pairs_do_not_depend_on_the_order_of_the_documents() -> None:
    docs = documents([prose(i % 7) for i in range(12)])
    table, ledger = text_pairs(docs, None, SMALL)
    again, ledger_again = text_pairs(docs.take(pa.array([5, 3, 1, 0, 2, 4, 11, 9, 7, 6, 8, 10])), None, SMALL)
    assert table.equals(again)
    assert ledger == ledger_again
    assert table["pair_id"].to_pylist() == sorted(set(table["pair_id"].to_pylist()))


def test_overlapping_pairs_use_every_neighbourhood() -> None:
    docs = documents([prose(1)])
    alone, _ = text_pairs(docs, None, SMALL)
    both, _ = text_pairs(docs, None, SMALL.model_copy(update={"overlapping": True}))
    assert both.num_rows == 2 * alone.num_rows - 1
    assert set(alone["pair_id"].to_pylist()) < set(both["pair_id"].to_pylist())


def test_a_document_without_text_is_too_short() -> None:
    _, ledger = text_pairs(documents([None, "Another thing. " * 9]), None, SMALL)  # type: ignore[list-item]
    assert ledger.units["documents"].dropped == {"too_short": 1}


def test_an_empty_table_gives_an_empty_table() -> None:
    table, ledger = text_pairs(documents([]), None, SMALL)
    assert table.num_rows == 0
    assert table.schema == PAIRS
    ledger.check("empty")


def test_impossible_lengths_are_refused() -> None:
    with pytest.raises(ValidationError, match="twice min_chars"):
        NeighbourOptions(min_chars=100, max_chars=150)


@pytest.mark.skipif(not (SHARED / "text" / "peps.jsonl.gz").exists(), reason="needs ../shared/data/text/peps.jsonl.gz")
def test_real_prose_gives_pairs_of_its_whole_length() -> None:
    """PEPs: most of the text is in a pair, and few pairs are dropped."""
    with gzip.open(SHARED / "text" / "peps.jsonl.gz", "rt") as lines:
        found = [json.loads(line)["text"] for line, _ in zip(lines, range(60), strict=False)]
    table, ledger = text_pairs(documents(found), None, NeighbourOptions())
    used = sum(len(x) + len(y) for x, y in zip(table["x"].to_pylist(), table["y"].to_pylist(), strict=True))
    assert used > 0.8 * sum(map(len, found))
    assert ledger.units["pairs"].kept > 0.9 * ledger.units["pairs"].read


@pytest.mark.parametrize(
    ("piece", "begins"),
    [
        ("彼は「今日はとても良い天気ですね。」と言った。", "彼"),
        ("他说：“今天的天气非常好，我们去河边走走吧。”", "他"),
        ("यह नदी पहाड़ों से निकलकर मैदानों तक बहती है।", "यह"),
        ("هل تعرف متى يفتح باب الميناء في الصباح؟ ", "هل"),
        ("یہ دریا پہاڑوں سے نکل کر میدانوں میں بہتا ہے۔ ", "یہ"),
        ('She said: "The gate is closed at high tide." ', "She"),
        ("(It closes when the tide is at its highest.) ", "(It"),
        ("ဒီမြစ်က တောင်တွေကနေ စီးဆင်းလာပါတယ်။ ", "ဒီ"),
        ("ይህ ወንዝ ከተራራ ወደ ሜዳ ይፈስሳል። ", "ይህ"),
        ("Այս գետը հոսում է լեռներից դեպի հարթավայր։ ", "Այս"),
    ],
)
def test_pieces_end_with_sentences_in_any_script(piece: str, begins: str) -> None:
    """No quotation mark is torn from the sentence it closes, and each script's own stop ends a sentence."""
    text = piece * 24
    pieces = cut(text, Span(0, len(text)), NeighbourOptions(min_chars=40, max_chars=160))
    assert len(pieces) > 2
    assert all(text[start:end].startswith(begins) for start, end in pieces)


@pytest.mark.parametrize(
    ("a", "b", "reason"),
    [
        ("ဒီမြစ်က တောင်တွေကနေ စီးဆင်းလာပါတယ်", "လှေတွေက မနက်တိုင်း ဆိပ်ကမ်းကနေ ထွက်ခွာကြတယ်", None),
        ("यह नदी पहाड़ों से निकलकर मैदानों तक बहती है।", "हर सुबह नावें बंदरगाह से समुद्र की ओर जाती हैं।", None),
        ("春天来了，河边的柳树发了芽，孩子们在草地上放风筝。", "春天来了，河边的柳树发了芽，孩子们在草地上踢足球。", "near_identical"),
        ("春になると川辺の柳が芽を出し、子供たちは草の上で凧を揚げる。", "春になると川辺の柳が芽を出し、子供たちは草の上で球を蹴る。", "near_identical"),
        ("春天来了，河边的柳树发了芽，孩子们在草地上放风筝。", "港口的城墙是用灰色石头建成，每天早晨渔船都从这里出海。", None),
        ("ฝนตกหนักมากในวันนี้ที่ริมแม่น้ำ", "เรือออกจากท่าทุกเช้าก่อนฟ้าสาง", None),
    ],
)  # fmt: skip
def test_the_rules_hold_in_any_script(a: str, b: str, reason: str | None) -> None:
    """Vowel signs belong to letters and words; where no spaces part words, texts are compared by their characters."""
    options = NeighbourOptions(min_chars=20, max_chars=max(len(a) + len(b), 40), boilerplate_chars=200)
    _, ledger = text_pairs(documents([f"{a}\n\n{b}"]), None, options)
    assert ledger.units["pairs"].dropped == ({reason: 1} if reason else {})
    assert ledger.units["pairs"].read == 1


def test_no_piece_begins_with_a_mark() -> None:
    """Where nothing ends near, a letter keeps its vowel signs."""
    text = "กำลังน้ำที่ปู่ย่า" * 40
    for start, _ in cut(text, Span(0, len(text)), NeighbourOptions(min_chars=50, max_chars=120)):
        assert text[start] not in "ำัิีึืุู็่้๊๋์"
