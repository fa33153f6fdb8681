"""Planning a step, and that what is kept, recomputed or replayed does not change it."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.gradient_matrix import DELIMITERS, Cell, batch, model
from cpt_ray.errors import UserError
from cpt_ray.model.encoder import chunks_by_tokens
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine.reference import ReferenceEngine
from cpt_ray.train.grad_cache import GradCache, Pairs, cut_to, deal, plan, saved_bytes
from cpt_ray.train.options import EngineOptions
from cpt_ray.train.temperature import Temperature

CELL = Cell(ranks=1, stage=0, chunks="odd", mask=True, hard=True, unequal=True)


def gradients(dropout: float = 0.0, **settings: int) -> tuple[dict[str, torch.Tensor], dict[str, int]]:
    encoder = model()
    if dropout:
        for layer in encoder.backbone.layers:
            layer.self_attn.attention_dropout = dropout
    options = EngineOptions(engine="reference", workers=0, precision="fp32")
    engine = ReferenceEngine(encoder.train(), options, Workers.alone())
    torch.manual_seed(7)
    cache = GradCache(engine, Temperature(0.25), Workers.alone(), dropout=dropout > 0, **settings)
    _, numbers = cache.gradients(batch(CELL, 0).dealt(Workers.alone()))
    return {name: p.grad.clone() for name, p in encoder.named_parameters()}, numbers


def test_pairs_are_dealt_evenly_by_length() -> None:
    """Every pair goes to one rank, all ranks get equally many, and their token counts differ by less than 3 %."""
    lengths = np.random.default_rng(0).integers(5, 200, 240)
    parts = deal(lengths, 4)
    assert sorted(np.concatenate(parts)) == list(range(240))
    totals = [int(lengths[part].sum()) for part in parts]
    assert {len(part) for part in parts} == {60}
    assert max(totals) - min(totals) < 0.03 * max(totals)


def test_plans_have_equal_counts_within_the_budget() -> None:
    """Ranks with different lengths get the same number of chunks, no chunk exceeds the budget, no text is lost."""
    random = np.random.default_rng(0)
    pools = [random.integers(2, 60, 50), random.integers(2, 20, 50), random.integers(40, 64, 50)]
    cut = [chunks_by_tokens(pool, 128) for pool in pools]
    most = max(map(len, cut))
    for pool, chunks in zip(pools, (cut_to(chunks, most) for chunks in cut), strict=True):
        assert len(chunks) == most
        assert sorted(np.concatenate(chunks)) == list(range(50))
        assert all(len(rows) and pool[rows].max() * len(rows) <= 128 for rows in chunks)


def _halved(chunks: list[np.ndarray], count: int) -> list[np.ndarray]:
    """`cut_to` as it is defined: the first of the largest is looked for anew each time."""
    while len(chunks) < count:
        at = max(range(len(chunks)), key=lambda i: (len(chunks[i]), -i))
        half = len(chunks[at]) // 2
        chunks = [*chunks[:at], chunks[at][:half], chunks[at][half:], *chunks[at + 1 :]]
    return chunks


@given(st.lists(st.integers(1, 9), min_size=1, max_size=8), st.integers(0, 60))
def test_chunks_are_halved_from_the_largest_on(sizes: list[int], more: int) -> None:
    ends = np.cumsum([0, *sizes])
    chunks = [np.arange(start, end) for start, end in pairwise(ends)]
    count = min(len(chunks) + more, sum(sizes))
    got = [rows.tolist() for rows in cut_to(chunks, count)]
    assert got == [rows.tolist() for rows in _halved(chunks, count)]


def test_very_many_chunks_are_cut_at_once() -> None:
    assert len(cut_to([np.arange(25_000)] * 4, 100_000)) == 100_000


def test_a_plan_counts_what_all_ranks_have() -> None:
    """Alone: its own chunks, their padded tokens, and the tokens of all texts."""
    lengths = np.random.default_rng(0).integers(2, 60, 50)
    found = plan(lengths, 128, Workers.alone())
    assert sorted(np.concatenate(found.chunks)) == list(range(50))
    assert found.room == [int(lengths[rows].max()) * len(rows) for rows in found.chunks]
    assert (found.tokens, found.padded_tokens) == (int(lengths.sum()), sum(found.room))


@pytest.mark.parametrize("hard", [0, 2])
def test_a_rank_reads_its_own_rows_alone(hard: int) -> None:
    """What each rank makes of a table is its part of the whole batch, text by text, and all have each pair once."""
    random = np.random.default_rng(hard)

    def texts(rows: int) -> list[list[int]]:
        return [random.integers(4, 60, random.integers(1, 20)).tolist() for _ in range(rows)]

    table = pa.table(
        {
            "pair_id": [str(i) for i in range(24)],
            "x_ids": pa.array(texts(24), pa.list_(pa.int32())),
            "y_ids": pa.array(texts(24), pa.list_(pa.int32())),
            **{
                name: pa.array(np.arange(24, dtype=np.uint64) + at)
                for at, name in enumerate(("x_hash", "y_hash", "cluster"))
            },
        }
    )
    if hard:
        table = table.append_column(
            "hard_ids", pa.array([texts(hard) for _ in range(24)], pa.list_(pa.list_(pa.int32())))
        )
        hashes = random.integers(0, 1 << 63, (24, hard), dtype=np.uint64)
        table = table.append_column("hard_hash", pa.array(hashes.tolist(), pa.list_(pa.uint64())))
    table = pa.concat_tables([table.slice(0, 7), table.slice(7)])  # in two chunks, with offsets that do not begin at 0
    whole = Pairs.of(table, DELIMITERS)
    seen = []
    for rank in range(4):
        workers = Workers(rank, 4, torch.device("cpu"))
        got, wanted = Pairs.share(table.slice(0), DELIMITERS, workers), whole.dealt(workers)
        assert [ids.tolist() for ids in got.pool()] == [ids.tolist() for ids in wanted.pool()]
        for name in ("x_hash", "y_hash", "cluster", "hard_hash"):
            assert getattr(got, name).tolist() == getattr(wanted, name).tolist()
        seen += got.x_hash.tolist()
    assert sorted(seen) == list(range(24))


def test_a_text_longer_than_a_chunk_is_a_user_error() -> None:
    with pytest.raises(UserError, match="chunk_tokens"):
        plan(np.array([10, 200]), 128, Workers.alone())


@pytest.mark.parametrize("keep_bytes", [0, 1_500_000, 1 << 40])
def test_kept_graphs_change_nothing(keep_bytes: int) -> None:
    """No graphs, some and all give the same bits: what is recomputed is what was computed."""
    expected, _ = gradients(chunk_tokens=64, keep_bytes=0)
    got, numbers = gradients(chunk_tokens=64, keep_bytes=keep_bytes)
    kept, chunks = numbers["kept_chunks"], numbers["chunks"]
    assert kept == 0 if keep_bytes == 0 else 0 < kept < chunks if keep_bytes < 1 << 40 else kept == chunks
    # A kept chunk's backward comes first, so sums are in another order.
    assert all(torch.allclose(value, got[name], atol=1e-6, rtol=0) for name, value in expected.items())


def test_dropout_is_replayed() -> None:
    """With dropout, recomputing every chunk equals keeping every graph; and dropout is really active."""
    kept, _ = gradients(dropout=0.3, chunk_tokens=64, keep_bytes=1 << 40)
    recomputed, numbers = gradients(dropout=0.3, chunk_tokens=64, keep_bytes=0)
    assert numbers["kept_chunks"] == 0
    without, _ = gradients(chunk_tokens=64, keep_bytes=0)
    name = "backbone.layers.1.mlp.up_proj.weight"
    assert all(torch.allclose(value, recomputed[key], atol=1e-6, rtol=0) for key, value in kept.items())
    assert float((kept[name] - without[name]).abs().max()) > 1e-4


def test_saved_bytes_count_activations_and_not_weights() -> None:
    """Twice the tokens save about twice the bytes; a linear layer's own weight is not counted."""
    layer = torch.nn.Linear(64, 1024)
    x = torch.randn(8, 64, requires_grad=True)
    with saved_bytes(layer) as one:
        layer(x)
    assert one[0] == x.untyped_storage().nbytes()
