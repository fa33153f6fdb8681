"""The same gradients however a step is cut and sharded: a quick part of `make gradient-matrix`, on real gloo groups."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.gradient_matrix import BOUND, Cell, compare, distributed, oracle, run
from cpt_ray.train.collectives import Workers
from cpt_ray.train.losses.one_way import OneWay

HARDEST = Cell(ranks=2, stage=2, chunks="odd", mask=True, hard=True, unequal=True)


@pytest.mark.parametrize("chunks", ["one", "odd", "all", "kept"])
def test_the_reference_engine_equals_the_oracle(chunks: str) -> None:
    """One process, every way of cutting: within 1e-6 of float64 autograd, after three optimiser steps too."""
    cell = replace(HARDEST, ranks=1, chunks=chunks)
    assert compare(oracle(cell), distributed(cell, Workers.alone())).largest <= BOUND


@pytest.mark.timeout(1500)  # two processes that wait for each other at every step
def test_two_ranks_under_zero_equal_the_oracle() -> None:
    """DeepSpeed ZeRO 0, 2 and 3 on two gloo ranks, with masks, hard negatives and unequal lengths."""
    cells = [
        HARDEST,
        replace(HARDEST, chunks="kept"),
        replace(HARDEST, chunks="all", mask=False, hard=False, unequal=False),
        replace(HARDEST, loss=OneWay()),
        replace(HARDEST, stage=0),
        replace(HARDEST, stage=3, chunks="kept"),
        replace(HARDEST, stage=3, chunks="kept", reduce="chunk"),
    ]
    for cell, difference in run(cells):
        assert difference.largest <= BOUND, f"{cell}: {difference}"
