"""Quality rules and languages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.web.language import identify
from cpt_ray.web.options import QualityOptions
from cpt_ray.web.quality import quality

PROSE = "\n".join(f"Sentence number {i} says something that no other sentence here has said before." for i in range(10))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (PROSE, None),
        ("only a few words", "too_short"),
        ("word " * 300_000, "too_long"),
        ("a b c d e " * 20, "word_length"),
        ("supercalifragilisticexpialidocious " * 40, "word_length"),
        ("# word word\n" * 5 + "## ## ## " * 10 + PROSE[:300], "symbols"),
        ("1234 5678 9012 word " * 20, "not_words"),
        ("\n".join(f"- item number {i} of the list" for i in range(20)), "bullets"),
        (
            "\n".join(f"line {i} of this text is here and ends with more words to come then..." for i in range(20)),
            "ellipses",
        ),
        (PROSE + "\n" + ("the very same line again and again\n" * 60), "repeated_lines"),
    ],
)
def test_each_rule(text: str, reason: str | None) -> None:
    """Each rule drops what it is for, by its name, and ordinary prose passes."""
    assert quality(text, QualityOptions()).reason == reason


@given(st.text(max_size=300))
def test_any_text_can_be_judged(text: str) -> None:
    """The score is a share, and the rules never fail."""
    judged = quality(text, QualityOptions(min_words=0))
    assert 0.0 <= judged.score <= 1.0


def test_prose_scores_above_a_table_of_numbers() -> None:
    """The survivor rule prefers what reads like text."""
    table = "\n".join(f"{i} {i * 7} total {i}.{i}" for i in range(60))
    options = QualityOptions(min_alphabetic=0, min_word_length=0)
    assert quality(PROSE, options).score > quality(table, options).score + 0.3


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("This is a plain English sentence about nothing in particular.", "en"),
        ("Dies ist ein ganz gewöhnlicher deutscher Satz über gar nichts.", "de"),
        ("Ceci est une phrase française tout à fait ordinaire.", "fr"),
        ("これは日本語の普通の文章です。", "ja"),
        ("12345 !!! ---", "und"),
        ("", "und"),
    ],
)
def test_languages(text: str, language: str) -> None:
    """Told apart from a sentence; nothing is made up where there are no letters."""
    found, certainty = identify(text)
    assert found == language
    assert 0.0 <= certainty <= 1.0
