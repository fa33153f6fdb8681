"""What a word is, in any script: for bounds in words and for comparing two texts.

Letters, their marks, digits and connectors in a row are a word (Python's `\\w` leaves marks out and so tears Indic words
at every vowel sign). Scripts written without spaces have no such rows: there each character with its marks is taken as a
unit (the default of UAX #29), of which several make a word.
"""

from __future__ import annotations

import re

import regex
import xxhash

_WITHOUT_SPACES = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Bopomofo}"
_SYLLABLES = r"\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\p{Tibetan}"
# Where the scripts above may stand at all: most texts have none of it, and need no second look.
_NEAR = re.compile(
    "[\u02ea\u02eb\u0e00-\u109f\u1780-\u17ff\u19e0-\u19ff\u2e80-\u9fff\ua9e0-\uaa7f\uf900-\ufaff\uff66-\uff9f"
    "\U000116d0-\U000116ef\U00016fe0-\U0010ffff]"
)
# Characters of which `re` and `regex` think alike, without marks, each in lower case by itself: most texts have no others.
_PLAIN = re.compile(
    "[\0-\u00b1\u00b4-\u00b8\u00ba\u00bb\u00bf-\u012f\u0131-\u02e9\u0400-\u0482\u2010-\u203e\u20a0-\u20bf\u2100-\u214f"
    "\u2190-\u245f\u2500-\u2775]*+"
)
_PLAIN_UNIT = re.compile(r"\w+")
_PLAIN_LETTERS = re.compile(r"[^\W\d_]+")
_UNIT = regex.compile(rf"[{_WITHOUT_SPACES}{_SYLLABLES}]\p{{M}}*|(?:(?![{_WITHOUT_SPACES}{_SYLLABLES}])\w)+")
_IDEOGRAPHS = regex.compile(rf"(?:(?=\w)[{_WITHOUT_SPACES}])+")
_LETTERS = regex.compile(rf"(?:(?=\w)[{_SYLLABLES}])+")
_ALPHABETIC = regex.compile(r"[\p{L}\p{M}]+")
_NO_LETTERS = bytes(byte for byte in range(128) if not chr(byte).isalpha())

UNITS_PER_WORD = 2
"""Characters of Chinese and Japanese that make a word (1.5 to 1.8 and about 2 in the usual segmented corpora)."""
LETTERS_PER_WORD = 5
"""Code points, marks included, that make a word of Thai, Lao, Khmer, Burmese or Tibetan."""

STOPS = "!.?…"
"""What ends a sentence when a space follows."""
OTHER_STOPS = "。！？｡．։؟۔܀܁܂߹।॥၊။።፧፨᙮។៕᠃᠉᥄᥅᭚᭛᭞᭟᰻᰼᱾᱿꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈꧉꩝꩞꩟꫰꫱꯫"
"""What ends a sentence of other scripts without one (Unicode's Sentence_Terminal)."""
CLOSERS = "\"')]}»›’”」』）】〉》〕〗〙｣］｝"
"""Quotes and brackets that belong to the sentence before them."""


def is_plain(text: str) -> bool:
    """Whether a text is of nothing but common Latin and Cyrillic letters, punctuation and signs, which is quickly read."""
    return text.isascii() or _PLAIN.fullmatch(text) is not None


def words(text: str) -> list[str]:
    """The words of a text, in order; a unit each where the script has no spaces."""
    return (_PLAIN_UNIT if is_plain(text) else _UNIT).findall(text)


_TERM = re.compile(r"[^\W_]+")  # letters and digits of any script; without the underscore, so snake_case is split
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # parseISODate -> parse ISO Date


def terms(text: str) -> list[str]:
    """Lower-cased terms with camelCase and snake_case split: "HTTPServer.parse_isoDate" -> http server parse iso
    date."""
    return [part.lower() for word in _TERM.findall(text) for part in _HUMP.split(word)]


def text_hash(text: str) -> int:
    """xxh3_64 of the text with every run of whitespace as one space: equal hashes, equal content."""
    return xxhash.xxh3_64_intdigest(" ".join(text.split()).encode("utf-8", "surrogatepass"))


def letters(text: str) -> int:
    """Characters that are letters or belong to one, as vowel signs do."""
    if text.isascii():
        return len(text.encode().translate(None, _NO_LETTERS))
    return sum(map(len, (_PLAIN_LETTERS if is_plain(text) else _ALPHABETIC).findall(text)))


def split_scripts(text: str) -> tuple[str, float]:
    """(`text` with a space for each run in a script without spaces, the number of words in those runs)."""
    if text.isascii() or _NEAR.search(text) is None:
        return text, 0.0
    count = 0.0
    for pattern, per_word in ((_IDEOGRAPHS, UNITS_PER_WORD), (_LETTERS, LETTERS_PER_WORD)):
        count += sum(map(len, pattern.findall(text))) / per_word
        text = pattern.sub(" ", text)
    return text, count


def count_words(text: str) -> float:
    """How many words a text has; a fraction where a script has no spaces."""
    spaced, count = split_scripts(text)
    return count + len(words(spaced))
