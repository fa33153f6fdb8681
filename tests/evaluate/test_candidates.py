"""The draw of candidates: content alone decides, no duplicates stand together, no group dominates."""

import itertools

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.errors import UserError
from cpt_ray.evaluate.candidates import draw
from cpt_ray.evaluate.options import CandidateOptions


def _pairs(n: int, groups: int = 40, documents: int | None = None, **columns: list) -> pa.Table:
    per_document = {i: i % (documents or n) for i in range(n)}
    at = [(i // (documents or n)) * 1000 for i in range(n)]
    table = {
        "pair_id": [f"pair{i}" for i in range(n)],
        "group": [f"group{per_document[i] % groups}" for i in range(n)],
        "x_hash": pa.array([2 * i for i in range(n)], pa.uint64()),
        "y_hash": pa.array([2 * i + 1 for i in range(n)], pa.uint64()),
        "cluster": pa.array([per_document[i] for i in range(n)], pa.uint64()),
        "x_doc": [f"doc{per_document[i]}" for i in range(n)],
        "x_start": at,
        "x_end": [a + 400 for a in at],
        "y_start": [a + 401 for a in at],
        "y_end": [a + 800 for a in at],
    }
    return pa.table(table | columns)


def _ids(table: pa.Table, options: CandidateOptions) -> list[list[str]]:
    ids = table.column("pair_id").to_pylist()
    return [[ids[row] for row in block.rows] for block in draw(table, options)]


def test_order_of_rows_does_not_matter() -> None:
    """The same pairs in another order give the same blocks, another seed gives others."""
    table = _pairs(500)
    options = CandidateOptions(candidates=100)
    shuffled = table.take(np.random.default_rng(0).permutation(500))
    assert _ids(table, options) == _ids(shuffled, options)
    assert _ids(table, options) != _ids(table, CandidateOptions(candidates=100, seed=1))


def test_blocks_are_full_and_disjoint() -> None:
    """Three blocks of the asked size, no pair in two of them; a fourth that cannot be filled is left out."""
    blocks = _ids(_pairs(350), CandidateOptions(candidates=100, blocks=4, group_share=1.0))
    assert [len(b) for b in blocks] == [100, 100, 100]
    assert len({i for b in blocks for i in b}) == 300


def test_a_group_keeps_to_its_share() -> None:
    """At most 5 of 100 pairs from one group, although one group owns most pairs."""
    groups = ["big"] * 300 + [f"small{i}" for i in range(200)]
    table = _pairs(500, group=groups)
    (block,) = draw(table, CandidateOptions(candidates=100, blocks=1))
    assert len(block.rows) == 100
    assert sum(groups[row] == "big" for row in block.rows) == 5 == block.largest_group


def test_the_share_gives_way_when_groups_are_few() -> None:
    """Two groups alone still fill the block, and the block says how large a group became."""
    (block,) = draw(_pairs(200, groups=2), CandidateOptions(candidates=100, blocks=1))
    assert len(block.rows) == 100
    assert 50 <= block.largest_group <= 80


def test_no_equal_texts_and_no_duplicates_of_documents() -> None:
    """Equal text on either side, and members of one cluster, never stand in one block."""
    x = np.arange(400) % 150 * 2  # each x occurs several times
    y = np.where(np.arange(400) % 7 == 0, x + 2, 2 * np.arange(400) + 1)  # some y are another pair's x
    cluster = np.arange(400) // 3  # three documents to a cluster
    table = _pairs(
        400, x_hash=pa.array(x, pa.uint64()), y_hash=pa.array(y, pa.uint64()), cluster=pa.array(cluster, pa.uint64())
    )
    (block,) = draw(table, CandidateOptions(candidates=100, blocks=1, group_share=1.0))
    texts = np.concatenate([x[block.rows], y[block.rows]])
    assert len(set(texts)) == len(texts) > 100
    assert len(set(cluster[block.rows])) == len(block.rows)


def test_pieces_of_one_document_only_when_needed_and_never_neighbours() -> None:
    """20 documents of 10 pairs: a block of 20 takes one of each; a block of 60 takes more, well apart, and counts
    them."""
    table = _pairs(200, groups=20, documents=20)
    (small,) = draw(table, CandidateOptions(candidates=20, blocks=1, group_share=1.0))
    assert small.repeated_documents == 0
    assert len({table.column("x_doc")[int(r)].as_py() for r in small.rows}) == 20
    (large,) = draw(table, CandidateOptions(candidates=60, blocks=1, group_share=1.0))
    assert large.repeated_documents == 40
    close = _pairs(200, groups=20, documents=20, y_end=[a + 990 for a in table.column("x_start").to_pylist()])
    (block,) = draw(close, CandidateOptions(candidates=200, blocks=1, group_share=1.0))
    at = sorted((close.column("x_doc")[int(r)].as_py(), close.column("x_start")[int(r)].as_py()) for r in block.rows)
    assert all(a[0] != b[0] or b[1] - a[1] >= 2000 for a, b in itertools.pairwise(at))


def test_too_few_pairs() -> None:
    """What can stand together is used although it is less than asked; one pair alone is an error."""
    (block,) = draw(_pairs(30), CandidateOptions())
    assert len(block.rows) == 30
    with pytest.raises(UserError, match="no two candidates"):
        draw(_pairs(1), CandidateOptions())
