"""Delimiters, pooling and padding: an embedding depends on its own text and on nothing else."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import (
    AutoModel,
    CodeGenConfig,
    GPT2Config,
    GPTNeoConfig,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedConfig,
    Qwen2Config,
)

from cpt_ray.errors import UserError
from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.encoder import CHUNK_COST, Encoder, chunks_by_tokens, collate

MARKS = Delimiters(x=(1, 2), y=(3, 4))
WIDE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
NONE = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
OFF = {"resid_pdrop": 0, "embd_pdrop": 0, "attn_pdrop": 0}
CONFIGURATIONS = {
    "gpt2": GPT2Config(vocab_size=50, n_positions=64, n_embd=32, n_layer=2, n_head=2, **OFF, **NONE),
    "gpt_neox": GPTNeoXConfig(vocab_size=50, max_position_embeddings=64, **WIDE, **NONE),
    "llama": LlamaConfig(vocab_size=50, max_position_embeddings=64, **WIDE, **NONE),
    "qwen2": Qwen2Config(vocab_size=50, max_position_embeddings=64, num_key_value_heads=1, **WIDE, **NONE),
    "codegen": CodeGenConfig(
        vocab_size=50, n_positions=64, n_embd=32, n_layer=2, n_head=4, rotary_dim=4, **OFF, **NONE
    ),
    "gpt_neo": GPTNeoConfig(
        vocab_size=50,
        max_position_embeddings=64,
        hidden_size=32,
        num_layers=2,
        attention_types=[[["global", "local"], 1]],
        num_heads=2,
        window_size=8,
        **NONE,
    ),
}


class Vocabulary:
    def __init__(self, *words: str) -> None:
        self._words = words

    def get_vocab(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self._words)}


def texts(count: int = 6) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    return [MARKS.wrap(random.integers(5, 50, random.integers(1, 30)), "xy"[i % 2]) for i in range(count)]


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_padding_does_not_change_an_embedding(name: str) -> None:
    """In a batch or alone, with whatever padding, the embedding is the last hidden state at the closing delimiter."""
    configuration: PreTrainedConfig = CONFIGURATIONS[name]
    torch.manual_seed(0)
    backbone = AutoModel.from_config(configuration).eval()
    encoder = Encoder(backbone, MARKS)
    with torch.no_grad():
        together = encoder(*collate(texts(), MARKS))
        for row, text in zip(together, texts(), strict=True):
            state = backbone(input_ids=torch.from_numpy(text)[None]).last_hidden_state[0, -1]
            assert torch.allclose(row, torch.nn.functional.normalize(state, dim=0), atol=1e-5)
    assert together.dtype == torch.float32
    assert torch.allclose(together.norm(dim=1), torch.ones(len(together)), atol=1e-6)


def test_delimiters_stand_around_ids() -> None:
    assert MARKS.wrap([7, 8], "x").tolist() == [1, 7, 8, 2]
    assert MARKS.wrap([7, 8], "y").tolist() == [3, 7, 8, 4]
    assert Delimiters.from_dict(MARKS.to_dict()) == MARKS


def test_delimiters_are_looked_up_as_whole_tokens() -> None:
    """A vocabulary without one of the brackets is a user error that names it."""
    assert Delimiters.of(Vocabulary("a", "[", "]", "{", "}")) == MARKS
    with pytest.raises(UserError, match="'}'"):
        Delimiters.of(Vocabulary("a", "[", "]", "{", "}}"))


def test_an_embedding_is_never_read_anywhere_but_at_a_closing_delimiter() -> None:
    """A text that lost its delimiter, as truncation after wrapping would do, is refused."""
    good = MARKS.wrap([7, 8, 9], "x")
    collate([good], MARKS)
    with pytest.raises(ValueError, match="closing delimiter"):
        collate([good, good[:-1]], MARKS)


def test_chunks_hold_their_budget() -> None:
    """Every text once, rows x longest within the budget, sorted so that little is padding; too long is a user error."""
    lengths = np.random.default_rng(0).integers(1, 100, 200)
    chunks = chunks_by_tokens(lengths, 400)
    assert sorted(np.concatenate(chunks)) == list(range(200))
    assert all(lengths[rows].max() * len(rows) <= 400 for rows in chunks)
    assert sum(int(lengths[rows].max()) * len(rows) for rows in chunks) < 1.15 * lengths.sum()
    with pytest.raises(UserError, match="chunk_tokens"):
        chunks_by_tokens(lengths, 50)


def test_a_chunk_ends_where_it_is_full_or_where_padding_costs_more_than_another_chunk() -> None:
    """Few long and many short texts under a generous budget: padding is bounded, and no chunk ends without a reason."""
    budget = 16_384
    lengths = np.sort(np.random.default_rng(0).integers(4, 130, 600))[::-1]
    chunks = chunks_by_tokens(lengths, budget)
    firsts = np.concatenate([rows[:1] for rows in chunks])
    for rows, following in zip(chunks, [*firsts[1:], None], strict=True):
        padding = lengths[rows].max() - lengths[rows]
        assert padding.sum() <= CHUNK_COST
        if following is not None:
            full = lengths[rows].max() * (len(rows) + 1) > budget
            assert full or padding.sum() + lengths[rows].max() - lengths[following] > CHUNK_COST
