"""Texts to token ids, as what orders pairs asks for them; the tokenizer itself is two floors above."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pyarrow as pa

TOKENS = pa.large_list(pa.int32())
Encode = Callable[[pa.Array, int], pa.LargeListArray]
"""(texts, most) to the first `most` ids of each text, of type TOKENS, without special tokens; pure and picklable."""
Listed = Callable[[list[str]], list[list[int]]]
"""Texts to all their ids, without special tokens."""
BLOCK = 4096


def listed(encode: Listed) -> Encode:
    """`Encode` by a function over lists, a block of texts at a time, so that few lists are alive at once.

    Texts are encoded whole, however few ids are wanted: where a text may be cut without another token is not known here.
    """
    return partial(_by_lists, encode)


def _by_lists(encode: Listed, texts: pa.Array, most: int) -> pa.LargeListArray:
    blocks = (encode(texts.slice(start, BLOCK).to_pylist()) for start in range(0, len(texts), BLOCK))
    return pa.concat_arrays([pa.array([], TOKENS), *(pa.array([row[:most] for row in ids], TOKENS) for ids in blocks)])
