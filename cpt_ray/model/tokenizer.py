"""A byte-level BPE tokenizer in which a word has the same token in prose, in snake_case and in CamelCase.

A docstring says "parse the HTTP date", the code says `parseHTTPDate` or `PARSE_HTTP_DATE`. Byte-level BPE as GPT-2 has
it gives these words different tokens, by their case and by what precedes them, so a small model must learn from few
pairs that they are one. Here they are one by construction, and decoding still gives back every character:

1. Case becomes a mark. `Date` is written as RAISE `date`, a run of capitals `HTTP` as RAISE `http` END. Characters of
   the text that happen to be a mark (they are private-use code points) are escaped first.
2. A word is a piece of its own, without the space or underscore beside it; what stands between words (spaces,
   punctuation, marks, line breaks with their indentation) is a piece too, so `):` with the next line's indentation may
   become one token; digits go by three.
3. Byte-level BPE inside the pieces.
"""

from __future__ import annotations

import json
import string
from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from cpt_ray.artifacts.stage import Stage
from cpt_ray.errors import UserError
from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.options import TokenizerOptions

END_OF_TEXT = "<|endoftext|>"
"""Separates texts in language modelling, and pads. Never read from a text: there it is plain characters."""

RAISE, END, ESCAPE = "\ue000", "\ue001", "\ue002"
_ESCAPED = ((ESCAPE, ESCAPE + "\ue003"), (RAISE, ESCAPE + "\ue004"), (END, ESCAPE + "\ue005"))
_PIECE = r"[\p{L}\p{M}]+|[0-9]{1,3}|[^\p{L}\p{M}0-9]+"


def train_tokenizer(texts: Iterable[str], options: TokenizerOptions) -> PreTrainedTokenizerFast:
    """Train on `texts`. The result is a function of the multiset of texts: neither order nor threads change it."""
    tokenizer = _untrained()
    tokenizer.decoder = _marks_to_case()
    trainer = trainers.BpeTrainer(
        vocab_size=options.vocabulary,
        min_frequency=options.min_frequency,
        max_token_length=options.max_token_characters,
        special_tokens=[END_OF_TEXT],
        # All 256 bytes are tokens, so that any text can be written; the four brackets of the delimiters are among them.
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    seen = _Counted(texts)
    tokenizer.train_from_iterator(seen, trainer)
    if not seen.characters:
        raise UserError(
            "no text to train a tokenizer on", where="tokenizer", fix="give at least one text that is not empty"
        )
    trained = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=END_OF_TEXT,
        padding_side="right",
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
    )
    Delimiters.of(trained)
    return trained


def encode(tokenizer: Any, texts: list[str], max_tokens: int) -> list[list[int]]:
    """The first `max_tokens` ids of each text, without delimiters; a special token's name in a text is plain text."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return [ids[:max_tokens] for ids in encode_plain(backend, texts)]


def encode_plain(backend: Tokenizer, texts: list[str]) -> list[list[int]]:
    """All ids of each text by a tokenizer of `tokenizers`, likewise."""
    backend.encode_special_tokens = True
    return [encoding.ids for encoding in backend.encode_batch_fast(texts, add_special_tokens=False)]


@cache
def our_pieces() -> tuple[Any, Any]:
    """Normaliser and pre-tokenizer of this module, as they stand in a tokenizer.json."""
    told = json.loads(_untrained().to_str())
    return told["normalizer"], told["pre_tokenizer"]


def _untrained() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = _case_to_marks()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


class _Counted:
    """Texts as they pass, their characters counted: an empty corpus would give a bare alphabet without an error."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.texts = texts
        self.characters = 0

    def __iter__(self) -> Iterable[str]:
        for text in self.texts:
            self.characters += len(text)
            yield text


def _case_to_marks() -> normalizers.Normalizer:
    """ASCII capitals to marks. Each capital first becomes RAISE letter END; then the marks inside a run of capitals go
    (the last capital of `HTTPServer` begins a word, so the run ends before it), and the END after a lone capital."""
    return normalizers.Sequence(
        [
            *(normalizers.Replace(old, new) for old, new in _ESCAPED),
            *(normalizers.Replace(capital, RAISE + capital.lower() + END) for capital in string.ascii_uppercase),
            normalizers.Replace(Regex(f"{END}{RAISE}(?=[a-z]{END}(?![a-z]))"), ""),
            normalizers.Replace(Regex(f"(?<={RAISE}[a-z]){END}"), ""),
        ]
    )


def utf8(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Offsets int64 [texts + 1], which begin at 0, and UTF-8 bytes uint8 of texts, which may be a slice of others."""
    offsets = np.frombuffer(texts.buffers()[1], np.int64)[texts.offset : texts.offset + len(texts) + 1]
    data = np.frombuffer(texts.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
    return offsets - offsets[0], data


def written(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the normaliser makes of many texts: offsets int64 [texts + 1], UTF-8 bytes uint8, positions of marks' bytes."""
    for old, new in _ESCAPED:
        if pc.any(pc.match_substring(texts, old)).as_py():
            texts = pc.replace_substring(texts, old, new)
    offsets, data = utf8(texts)
    # A text's neighbours in the buffer are not its own.
    last = np.zeros(len(data) + 1, bool)
    last[offsets] = True
    capital = (data >= ord("A")) & (data <= ord("Z"))
    lower = (data >= ord("a")) & (data <= ord("z"))
    before = np.append(False, capital)[:-1] & ~last[:-1]
    # The last capital of a run that goes on in lower case begins a word.
    begins = capital & (~before | (np.append(lower, False)[1:] & ~last[1:]))
    ends = capital & ~(np.append(capital & ~begins, False)[1:] & ~last[1:])
    closed = ends & ~begins
    at = np.concatenate([[0], np.cumsum(1 + 3 * (begins | closed))])
    made = np.zeros(at[-1], np.uint8)
    made[at[:-1] + 3 * begins] = data | (capital * np.uint8(0x20))
    opening = at[:-1][begins, None] + np.arange(3)
    closing = at[:-1][closed, None] + np.arange(1, 4)
    made[opening], made[closing] = np.frombuffer(RAISE.encode(), np.uint8), np.frombuffer(END.encode(), np.uint8)
    return at[offsets], made, np.concatenate([opening.ravel(), closing.ravel()])


def _marks_to_case() -> decoders.Decoder:
    """The inverse of `_case_to_marks`, on the text that ByteLevel puts together from the tokens' bytes."""
    letters = string.ascii_lowercase
    return decoders.Sequence(
        [
            decoders.ByteLevel(),
            *(decoders.Replace(Regex(f"{letter}(?=[a-zA-Z]*{END})"), letter.upper()) for letter in letters),
            *(decoders.Replace(RAISE + letter, letter.upper()) for letter in letters),
            decoders.Replace(RAISE, ""),
            decoders.Replace(END, ""),
            *(decoders.Replace(new, old) for old, new in reversed(_ESCAPED)),
        ]
    )


TOKENIZE = Stage("tokenizer", version=1, unit="texts", reads=("text",))
