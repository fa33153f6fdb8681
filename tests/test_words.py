"""Words in any script."""

from __future__ import annotations

import pytest
import regex
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.words import count_words, is_plain, letters, split_scripts, words


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("two words, it's", ["two", "words", "it", "s"]),
        ("हमारे दोस्त", ["हमारे", "दोस्त"]),
        ("Việt Nam", ["Việt", "Nam"]),
        ("日本語 abc", ["日", "本", "語", "abc"]),
        ("กำลัง", ["ก", "ำ", "ลั", "ง"]),
        ("한국어 글", ["한국어", "글"]),
        ("", []),
    ],
)
def test_words(text: str, found: list[str]) -> None:
    """Marks belong to their word; a script without spaces gives units."""
    assert words(text) == found


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("three plain words", 3),
        ("返回值说明", 2.5),
        ("版权所有，保留。", 3),
        ("用 Python 写的", 2.5),
        ("한국어 글입니다", 2),
    ],
)
def test_count(text: str, count: float) -> None:
    """About as many words as a segmenter would find; punctuation is none."""
    assert count_words(text) == count


@given(st.text(max_size=100))
def test_any_text(text: str) -> None:
    assert 0 <= letters(text) <= len(text)
    assert count_words(text) <= len(text)
    assert count_words(text.upper() if text.isascii() else text) >= 0


def test_no_script_is_overlooked() -> None:
    """Every letter of a script without spaces counts, wherever Unicode has put it."""
    for code in range(0x80, 0x30000):
        if regex.match(
            r"(?=\w)[\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}]",
            chr(code),
        ):
            assert split_scripts(chr(code))[1] > 0, hex(code)


def test_plain_texts_are_read_as_all_others() -> None:
    """Each character that is taken for plain is to the quick patterns what it is to the full ones, alone and in a row."""
    plain = [chr(code) for code in range(0x30000) if is_plain(chr(code))]
    assert {"a", "é", "ж", "—", "…", "€", "™"} <= set(plain)
    full = regex.compile(r"\w+"), regex.compile(r"[\p{L}\p{M}]+")
    for char in plain:
        text = f"{char}a{char} {char}"
        assert words(text) == full[0].findall(text), hex(ord(char))
        assert letters(text) == sum(map(len, full[1].findall(text))), hex(ord(char))
        assert split_scripts(text)[1] == 0, hex(ord(char))
        assert words(text.lower()) == [word.lower() for word in words(text)], hex(ord(char))
