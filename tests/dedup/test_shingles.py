"""The compiled shingler against its definition in plain Python."""

from __future__ import annotations

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_ray.dedup import kernels, minhash, sets, unicode_words
from cpt_ray.errors import UserError

TEXTS = [
    "The quick brown fox jumps over the lazy dog, twice!",
    "É e\u0301 ﬁne Straße naïve_x snake_case CamelCase 3.14 x\u00ady",
    "日本語のテキストと漢字、カタカナ。混ざった words も",
    "emoji 😀👍🏽 👨‍👩‍👧 and © signs",
    "שלום עולם مَرْحَبًا بالعالم हिन्दी भाषा ไทยภาษา",
    "a" * 5 + " " + "b" * 16 + " " + "c" * 17 + " " + "d" * 64 + " " + "e" * 200,
    "",
    " \n\t ",
    "one",
    "x" * 63 + " y",
    "x" * 64 + " y" + "z" * 62,
    "ends with a word of two scripts абвabc",
    "Ａ full-width Ｗord ﷺ ½ Ⅷ",
]


def unit_counts(texts: list[str] | list[bytes], mode: int = kernels.WORDS) -> list[int]:
    kind = pa.binary() if texts and isinstance(texts[0], bytes) else pa.string()
    return minhash.sign(pa.array(texts, kind), mode=mode).words.tolist()


def sets_of(texts: list[str], ngram: int, mode: int = kernels.WORDS) -> list[set[int]]:
    column = pa.array(texts, pa.string())
    counts = minhash.sign(column, ngram=ngram, mode=mode).shingles
    values, lengths = sets.shingle_sets(column, counts, ngram=ngram, mode=mode)
    return [set(part.tolist()) for part in np.split(values, np.cumsum(lengths)[:-1])]


def expected(text: str, ngram: int) -> set[tuple[str, ...]]:
    words = unicode_words.words(text)
    if not words:
        return set()
    return {tuple(words[i : i + ngram]) for i in range(max(len(words) - ngram + 1, 1))}


def check_isomorphic(texts: list[str], ngram: int) -> None:
    """Equal shingles have equal hashes and different ones different, over all texts at once."""
    ours = sets_of(texts, ngram)
    theirs = [expected(text, ngram) for text in texts]
    assert [len(s) for s in ours] == [len(s) for s in theirs]
    for i in range(len(texts)):
        for j in range(i):
            assert len(ours[i] & ours[j]) == len(theirs[i] & theirs[j]), (texts[i], texts[j])


@pytest.mark.parametrize("ngram", [1, 2, 5])
def test_shingles_are_those_of_the_definition(ngram: int) -> None:
    """The sets of hashes have the sizes and the intersections of the sets of word n-grams."""
    check_isomorphic([*TEXTS, *(t.upper() for t in TEXTS[:2]), *(t + " tail words" for t in TEXTS)], ngram)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.text(max_size=120), min_size=2, max_size=4))
def test_any_unicode_text_has_the_words_of_the_definition(texts: list[str]) -> None:
    """Whatever the text, kernel and definition agree on the words."""
    check_isomorphic(texts, 1)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.binary(max_size=100), min_size=1, max_size=4))
def test_any_bytes_are_safe(blobs: list[bytes]) -> None:
    """Bytes that are no UTF-8 separate words, as U+FFFD does, and are flagged; nothing else changes."""
    found = minhash.sign(pa.array(blobs, pa.binary()))
    decoded = [blob.decode("utf-8", "replace") for blob in blobs]
    assert found.words.tolist() == [len(unicode_words.words(text)) for text in decoded]
    valid = [blob.decode("utf-8", "ignore").encode() == blob for blob in blobs]
    assert [flag == 0 for flag in found.flags] == valid


def test_scripts_without_spaces_get_a_word_per_character() -> None:
    """A Chinese sentence of n ideographs has n - 4 five-grams, not one."""
    assert unit_counts(["我们今天去公园散步吧"]) == [10]
    assert unit_counts(["ภาษาไทย"]) == [7]


def test_a_document_shorter_than_the_ngram_has_one_shingle() -> None:
    found = minhash.sign(pa.array(["two words", "Two, words", "other", ""]))
    assert found.shingles.tolist() == [1, 1, 1, 0]
    assert (found.values[0] == found.values[1]).all()
    assert not (found.values[0] == found.values[2]).all()
    assert (found.values[3] == minhash.EMPTY).all()


@pytest.mark.parametrize("mode", [kernels.WORDS, kernels.CHARACTERS])
@pytest.mark.parametrize("filler", ["word ", "漢字と", "mixed漢 "])
def test_long_documents_are_cut_without_a_trace(mode: int, filler: str) -> None:
    """A document of several segments has the shingles of its text, wherever the cuts fall."""
    rng = random.Random(7)
    text = "".join(filler + str(rng.randrange(1000)) + " " for _ in range(60_000))
    assert len(text.encode()) > 2 * kernels.SEGMENT
    found = minhash.sign(pa.array([text]), mode=mode)
    if mode == kernels.WORDS:
        words = unicode_words.words(text)
        assert found.words[0] == len(words)
        assert len(sets_of([text], 5)[0]) == len(expected(text, 5))
    else:
        joined = " ".join(unicode_words.words(text)) if "漢" not in filler else None
        if joined is not None:
            assert found.words[0] == len(joined)
            assert len(sets_of([text], 7, mode)[0]) == len({joined[i : i + 7] for i in range(len(joined) - 6)})


def test_character_ngrams_join_words_by_one_space() -> None:
    """Punctuation and runs of spaces do not show in character n-grams; letters do."""
    a, b, c = sets_of(["  Hello,   world! ", "hello world", "hello worlt"], 4, kernels.CHARACTERS)
    assert a == b
    assert len(b) == len("hello world") - 3
    assert len(b - c) == 1


def test_the_layout_of_the_column_does_not_show() -> None:
    """Slices, chunks, nulls, large and dictionary arrays, and views give the signatures of their text."""
    plain = pa.array(TEXTS, pa.string())
    whole = minhash.sign(plain).values
    for column in (
        plain.cast(pa.large_string()),
        plain.cast(pa.binary()),
        plain.cast(pa.string_view()),
        plain.dictionary_encode(),
        pa.chunked_array([plain[:3], plain[3:]]),
    ):
        assert (minhash.sign(column).values == whole).all()
    assert (minhash.sign(plain[4:9]).values == whole[4:9]).all()
    with_null = minhash.sign(pa.array(["a b", None, "c d"]))
    assert with_null.words.tolist() == [2, 0, 2]
    assert len(minhash.sign(pa.array([], pa.string())).values) == 0
    with pytest.raises(UserError, match="holds no text"):
        minhash.sign(pa.array([1, 2]))


def test_content_hash_is_of_the_normalised_words_in_order() -> None:
    """Case and punctuation do not change it; a word, or the order of words, does."""
    found = minhash.sign(
        pa.array(["One, two three", "one TWO... three", "one three two", "one two", "one two three 4"])
    )
    keys = [tuple(row) for row in found.content.tolist()]
    assert keys[0] == keys[1]
    assert len(set(keys)) == 4
