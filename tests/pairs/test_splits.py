"""Splits: a pure function of the group, and nothing on both sides."""

from __future__ import annotations

import random

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_ray.pairs.options import SplitOptions
from cpt_ray.pairs.schema import PAIRS, Pair, pairs_table
from cpt_ray.pairs.splits import side, split_pairs

HALF = SplitOptions(heldout_share=0.5)

rows = st.lists(
    st.tuples(st.integers(0, 7), st.integers(0, 12), st.integers(0, 12), st.integers(0, 12)), max_size=40, unique=True
)


def table_of(found: list[tuple[int, int, int, int]]) -> pa.Table:
    """Pairs from (group, x, y, cluster), with texts and clusters shared between groups."""
    return pairs_table(
        Pair("text", "s", f"g{group}", f"x {x}", f"y {y}", f"c{cluster}", f"{i}", f"{i}", (0, 3), (4, 7))
        for i, (group, x, y, cluster) in enumerate(found)
    )


@settings(deadline=None, max_examples=150)
@given(rows, st.integers(0, 5))
def test_nothing_is_on_both_sides(found: list[tuple[int, int, int, int]], seed: int) -> None:
    """No group, duplicate cluster or text of the training part is in the held-out part; the ledger balances."""
    pairs = table_of(found)
    split, ledger = split_pairs(pairs, SplitOptions(seed=seed, heldout_share=0.5))
    assert split.schema == PAIRS
    count = ledger.check("splits").units["pairs"]
    assert (count.read, count.kept) == (pairs.num_rows, split.num_rows)
    parts = {name: [row for row in split.to_pylist() if row["split"] == name] for name in ("train", "heldout")}
    assert len(parts["train"]) + len(parts["heldout"]) == split.num_rows
    train, heldout = parts["train"], parts["heldout"]
    for of in (lambda r: {r["group"]}, lambda r: {r["cluster"]}, lambda r: {r["x_hash"], r["y_hash"]}):
        assert not set().union(*map(of, train)) & set().union(*map(of, heldout))


@settings(deadline=None, max_examples=80)
@given(rows)
def test_held_out_rows_are_never_dropped_and_training_rows_only_for_a_leak(
    found: list[tuple[int, int, int, int]],
) -> None:
    pairs = table_of(found)
    split, _ = split_pairs(pairs, HALF)
    kept = set(split["pair_id"].to_pylist())
    held = [row for row in pairs.to_pylist() if side(row["group"], HALF) == "heldout"]
    assert all(row["pair_id"] in kept for row in held)
    clusters = {row["cluster"] for row in held}
    texts = {row[name] for row in held for name in ("x_hash", "y_hash")}
    for row in pairs.to_pylist():
        leaks = row["cluster"] in clusters or row["x_hash"] in texts or row["y_hash"] in texts
        if side(row["group"], HALF) == "train":
            assert (row["pair_id"] in kept) == (not leaks)


def test_the_side_of_a_group_does_not_depend_on_the_corpus() -> None:
    """More groups move none of those that were there."""
    few = {group: side(group, HALF) for group in (f"g{i}" for i in range(10))}
    many, _ = split_pairs(table_of([(i % 10, i, i, i) for i in range(100)]), HALF)
    for row in many.to_pylist():
        assert row["split"] == few[row["group"]]


def test_shares_and_seeds() -> None:
    names = [f"group-{i}" for i in range(4_000)]
    tenth = SplitOptions(heldout_share=0.1)
    held = {name for name in names if side(name, tenth) == "heldout"}
    assert 320 < len(held) < 480  # 4 standard deviations around 400
    other = {name for name in names if side(name, SplitOptions(seed=1, heldout_share=0.1)) == "heldout"}
    assert len(held & other) < 0.3 * len(held)
    # A larger share only adds groups.
    assert held <= {name for name in names if side(name, SplitOptions(heldout_share=0.3)) == "heldout"}


def test_the_standard_library_is_always_trained_on() -> None:
    assert all(side("python", SplitOptions(seed=seed, heldout_share=0.99)) == "train" for seed in range(200))


def test_the_split_does_not_depend_on_the_order_of_the_rows() -> None:
    pairs = table_of([(i % 8, i % 11, i % 13, i % 9) for i in range(60)])
    order = list(range(60))
    random.Random(0).shuffle(order)
    first, _ = split_pairs(pairs, HALF)
    second, _ = split_pairs(pairs.take(pa.array(order)), HALF)
    assert first.equals(second.sort_by("pair_id"))


def test_an_empty_table_and_an_empty_held_out_part() -> None:
    split, ledger = split_pairs(table_of([]), HALF)
    assert split.num_rows == 0
    ledger.check("empty")
    pairs = table_of([(1, 1, 1, 1), (2, 2, 2, 2)])
    split, _ = split_pairs(pairs, SplitOptions(heldout_share=0))
    assert split["split"].to_pylist() == ["train", "train"]
