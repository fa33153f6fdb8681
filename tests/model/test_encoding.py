"""Many texts at once: the ids of each are those it has by itself, for tokenizers that may be cut and for those that may not."""

from __future__ import annotations

import pickle
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from cpt_ray.model import encoding
from cpt_ray.model.encoding import _cuts, encoder
from cpt_ray.model.options import TokenizerOptions
from cpt_ray.model.tokenizer import encode, train_tokenizer

TEXTS = [
    "Parse the HTTP date and return a datetime object, isn't it?",
    "def parse_http_date(value: str) -> datetime:\n    return HTTPDateParser(value).parse()\n",
    "MAX_LENGTH = 128  # 4,096 bytes\n\n    | --- | ----- |\nnaïve café \ue000 Übergröße x",
] * 5


def ours() -> PreTrainedTokenizerFast:
    return train_tokenizer(TEXTS, TokenizerOptions(vocabulary=420))


def trained(pieces: Any, normalizer: Any = None) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pieces, decoders.ByteLevel()
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=420, initial_alphabet=sorted(alphabet), show_progress=False)
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def gpt2() -> PreTrainedTokenizerFast:
    return trained(pre_tokenizers.ByteLevel(add_prefix_space=False))


def added() -> PreTrainedTokenizerFast:
    """A token of the user's own, which is found across what would be two pieces."""
    tokenizer = gpt2()
    tokenizer.add_tokens([AddedToken("a date", normalized=True)])
    return tokenizer


MADE = {
    "ours": (ours(), True),
    "gpt2": (gpt2(), True),
    "prefix": (trained(pre_tokenizers.ByteLevel(add_prefix_space=True)), False),
    "metaspace": (trained(pre_tokenizers.Metaspace()), False),
    "normalized": (trained(pre_tokenizers.ByteLevel(add_prefix_space=False), normalizers.Strip()), False),
    "added": (added(), False),
}
SOME = st.text(st.sampled_from("abcXYZ 019_-.,'\n\t|éÜß\u0301\ue000\ue001中<>"), max_size=40)
WORDS = st.lists(st.sampled_from(["HTTP", "Server", "a", "date", "it's", " ", "  \n", "12345", "_", "((", "é"])).map(
    "".join
)


@pytest.mark.parametrize("name", MADE)
@given(texts=st.lists(st.one_of(SOME, WORDS, st.sampled_from(TEXTS)), max_size=8), most=st.integers(1, 12))
def test_ids_are_those_of_each_text_by_itself(name, texts, most):
    """Truncation takes the first ids of the whole text; empty texts, marks and characters of any alphabet included."""
    tokenizer, cuts = MADE[name]
    tell = encoder(tokenizer)
    assert (_cuts(tell.args[0])[0] is not None) == cuts
    got = pickle.loads(pickle.dumps(tell))(pa.array(texts, pa.large_string()), most)
    assert got.type == pa.large_list(pa.int32())
    assert got.to_pylist() == encode(tokenizer, texts, most)


def test_paragraphs_are_not_remembered():
    """What is not cut, as a text without spaces, hardly comes again, and would fill the memory of a process."""
    tokenizer, _ = MADE["ours"]
    tell = encoder(tokenizer)
    encoding._open.cache_clear()
    texts = ["a word", "文" * 1000, "x" * 1000]
    assert tell(pa.array(texts, pa.large_string()), 9).to_pylist() == encode(tokenizer, texts, 9)
    assert sorted(encoding._open(tell.args[0]).known) == [" ", "a", "word"]
    encoding._open.cache_clear()


def test_blocks_slices_and_a_full_memory_do_not_show(monkeypatch):
    """Many small blocks, an array that is a slice of another, and no room for what was met before."""
    monkeypatch.setattr(encoding, "BLOCK_BYTES", 64)
    monkeypatch.setattr(encoding, "KNOWN", 3)
    encoding._open.cache_clear()
    tokenizer, _ = MADE["ours"]
    texts = [*TEXTS, "", "", *reversed(TEXTS), "x" * 300, ""]
    array = pa.array(["before", *texts, "behind"], pa.large_string()).slice(1, len(texts))
    for _ in range(2):
        assert encoder(tokenizer)(array, 9).to_pylist() == encode(tokenizer, texts, 9)
    encoding._open.cache_clear()
