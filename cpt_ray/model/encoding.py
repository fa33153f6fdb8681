"""Token ids of many texts as one Arrow array: what a corpus repeats is encoded once.

A byte-level BPE tokenizer cuts a text into pieces and encodes each by itself, so that text cut where a piece surely ends
is encoded chunk by chunk to the same ids. Chunks repeat as words do: one encoding serves all copies of a chunk, and the
ids of the texts are gathered by numpy. Which cuts are sure is known for the tokenizers of `_cuts`; texts of any other
are encoded whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from cpt_ray.model.tokenizer import encode_plain, our_pieces, utf8, written
from cpt_ray.pairs.tokens import TOKENS, Encode, listed

BLOCK_BYTES = 8 << 20
"""Text that is cut at a time; about twenty times as much is alive for it."""
KNOWN = 1 << 18
"""Chunks whose ids a process remembers: those it meets first, among which are those that it meets most."""
REMEMBERED = 48
"""Characters of such a chunk, at most: where a script is not cut a chunk is a paragraph, which hardly comes again."""

_LETTER, _DIGIT, _OTHER = 1, 2, 3
_KINDS = np.zeros(256, np.uint8)
for _byte in range(128):
    _KINDS[_byte] = _LETTER if chr(_byte).isalpha() else _DIGIT if chr(_byte).isdigit() else _OTHER
"""What each byte is. 0: part of a character beyond ASCII, beside which nothing is cut."""


def encoder(tokenizer: Any) -> Encode:
    """`Encode` by a tokenizer of transformers; what is pickled is its description, and a process opens it once."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    return partial(_encode, backend.to_str())


@dataclass
class _Opened:
    """A tokenizer whose chunks are encoded as they stand; where to cut, by the kinds of the bytes before and after, [4, 4]
    bool, None for nowhere; whether case is written as marks before; and the ids of chunks that were met."""

    backend: Tokenizer
    cuts: np.ndarray | None
    marks: bool
    known: dict[str, np.ndarray] = field(default_factory=dict)


@lru_cache(maxsize=2)
def _open(state: str) -> _Opened:
    cuts, marks = _cuts(state)
    # A normaliser takes longer than all that follows it.
    return _Opened(
        Tokenizer.from_str(json.dumps(json.loads(state) | {"normalizer": None}) if marks else state), cuts, marks
    )


def _cuts(state: str) -> tuple[np.ndarray | None, bool]:
    """Between which kinds of bytes a piece surely ends, and whether the tokenizer is our own, which marks case.

    Our pieces are of letters, of digits, or of neither. GPT-2's never go on from a letter or a digit to another kind, but
    may begin with a space. A token added to the vocabulary is looked for before any cutting.
    """
    told = json.loads(state)
    model, pieces = told["model"], told["pre_tokenizer"] or {}
    if model["type"] != "BPE" or model.get("dropout") or not all(token["special"] for token in told["added_tokens"]):
        return None, False
    apart = ~np.eye(4, dtype=bool)
    apart[0], apart[:, 0] = False, False
    if (told["normalizer"], told["pre_tokenizer"]) == our_pieces():
        return apart, True
    if pieces.get("type") != "ByteLevel" or not pieces.get("use_regex", True) or pieces["add_prefix_space"]:
        return None, False
    apart[_OTHER] = False
    return (apart if told["normalizer"] is None else None), False


def _encode(state: str, texts: pa.Array, most: int) -> pa.LargeListArray:
    opened = _open(state)
    if opened.cuts is None:
        return listed(partial(encode_plain, opened.backend))(texts, most)
    made = [_by_chunks(opened, block, most) for block in _blocks(texts.cast(pa.large_string()))]
    return pa.concat_arrays([pa.array([], TOKENS), *made])


def _blocks(texts: pa.LargeStringArray) -> Iterator[pa.LargeStringArray]:
    """Slices of about BLOCK_BYTES of text."""
    ends, _ = utf8(texts)
    start = 0
    while start < len(texts):
        stop = max(int(np.searchsorted(ends, ends[start] + BLOCK_BYTES, "right")) - 1, start + 1)
        yield texts.slice(start, stop - start)
        start = stop


def _by_chunks(opened: _Opened, texts: pa.LargeStringArray, most: int) -> pa.LargeListArray:
    assert opened.cuts is not None
    if opened.marks:
        offsets, data, marks = written(texts)
    else:
        (offsets, data), marks = utf8(texts), np.zeros(0, np.int64)
    kinds = _KINDS[data]
    kinds[marks] = _OTHER
    begins = np.zeros(len(data) + 1, bool)
    begins[offsets] = True
    begins[1:-1] |= opened.cuts.ravel()[kinds[:-1] * 4 + kinds[1:]]
    starts = np.flatnonzero(begins)
    first = np.searchsorted(starts, offsets)
    chunks = pa.LargeStringArray.from_buffers(len(starts) - 1, pa.py_buffer(starts), pa.py_buffer(data))
    # A chunk has a token at least, so that the first `most` of a text are enough.
    counts = np.diff(first)
    of_text = np.arange(len(chunks)) - np.repeat(first[:-1], counts)
    words = chunks.filter(pa.array(of_text < most)).dictionary_encode()
    counts = np.minimum(counts, most)
    lengths, begin, ids = _of_each(opened, words.dictionary.to_pylist())
    chunk = words.indices.to_numpy()
    ends = np.concatenate([[0], np.cumsum(counts)])
    flat, edges = _gathered(begin[chunk], lengths[chunk], ids)
    return _first(flat, edges[ends], most)


def _of_each(opened: _Opened, chunks: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How many ids each chunk has, where they begin, and all ids."""
    known = opened.known
    new = [chunk for chunk in chunks if chunk not in known]
    found = dict(zip(new, (np.array(ids, np.int32) for ids in encode_plain(opened.backend, new)), strict=True))
    rows = [found[chunk] if chunk in found else known[chunk] for chunk in chunks]
    worth = (chunk for chunk in new if len(chunk) <= REMEMBERED)
    known.update({chunk: found[chunk] for chunk in islice(worth, max(KNOWN - len(known), 0))})
    lengths = np.fromiter(map(len, rows), np.int64, len(rows))
    return lengths, np.cumsum(lengths) - lengths, np.concatenate([np.empty(0, np.int32), *rows])


def _gathered(begin: np.ndarray, lengths: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """values[begin : begin + length] of each row one after the other, and where each begins among them (and the end)."""
    edges = np.concatenate([[0], np.cumsum(lengths)])
    return values[np.repeat(begin - edges[:-1], lengths) + np.arange(edges[-1])], edges


def _first(flat: np.ndarray, edges: np.ndarray, most: int) -> pa.LargeListArray:
    """The first `most` of each row."""
    lengths = np.minimum(np.diff(edges), most)
    values, ends = _gathered(edges[:-1], lengths, flat)
    return pa.LargeListArray.from_arrays(pa.array(ends, pa.int64()), pa.array(values, pa.int32()))
