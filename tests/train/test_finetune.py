"""Labelled pairs and mined hard negatives, from file to a step of training."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.pairs.batches import build_batches
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.tokens import listed
from cpt_ray.train.finetune import LABELLED, read_nli, read_triplets
from cpt_ray.train.hard_negatives import mine
from cpt_ray.train.loop import train_model
from cpt_ray.train.options import MineOptions, TrainOptions

SNLI = Path(__file__).parents[3] / "shared" / "data" / "eval" / "nli" / "SNLI-dev.tsv.gz"
NLI = """label\tpremise\thypothesis
entailment\tA man sleeps.\tA person rests.
contradiction\tA man sleeps.\tA man runs.
neutral\tA man sleeps.\tA man dreams.
0\tA dog barks.\tAn animal is loud.
-\tA dog barks.\tIt is a poodle.
entailment\tA man sleeps.\tA person rests.
entailment\t\tEmpty.
"""


def test_nli_pairs_have_the_contradiction_as_hard_negative(tmp_path: Path) -> None:
    """Entailed hypothesis as y, contradiction as hard; the ledger names neutral, unlabelled, repeated and empty rows."""
    path = tmp_path / "nli.tsv"
    path.write_text(NLI)
    table, ledger = read_nli(str(path))
    assert table.schema == LABELLED
    row = table.to_pylist()
    assert [(r["x"], r["y"], r["hard"]) for r in row] == [("A man sleeps.", "A person rests.", ["A man runs."])]
    counts = ledger.check("test").units
    assert counts["rows"].dropped == {"neutral": 1, "no_label": 1, "repeated": 1, "empty_side": 1}
    assert counts["pairs"].dropped == {"no_contradiction": 1}


@pytest.mark.parametrize("first", ["x" * 200_000, "label\tpremise\rhypothesis"])
def test_a_first_line_that_cannot_be_read_is_a_user_error(tmp_path: Path, first: str) -> None:
    (tmp_path / "pairs.tsv").write_bytes(f"{first}\nentailment\tone\ttwo\n".encode())
    with pytest.raises(UserError) as caught:
        read_nli(str(tmp_path / "pairs.tsv"))
    assert caught.value.where.startswith(str(tmp_path / "pairs.tsv"))


@pytest.mark.parametrize("read", [read_nli, read_triplets])
@pytest.mark.parametrize("damage", ["latin-1", "no gzip", "cut short", "altered", "field"])
def test_a_damaged_file_is_a_user_error_that_names_the_line(tmp_path: Path, read: Any, damage: str) -> None:
    """Not gzip at all, cut short, altered inside, in another encoding, or with an endless field."""
    header = "label\tpremise\thypothesis\n" if read is read_nli else "a\tb\tc\n"
    text = header + "entailment\tone caf\u00e9\ttwo\n" * 300
    path = tmp_path / ("pairs.tsv" if damage in ("latin-1", "field") else "pairs.tsv.gz")
    whole = bytearray(gzip.compress(np.random.default_rng(0).bytes(1 << 16).hex().encode()))
    if damage == "altered":
        whole[len(whole) // 2] ^= 255
    content = {
        "latin-1": text.encode("latin-1"),
        "field": (header + "x" * 200_000 + ("" if read is read_nli else "\tb") + "\n").encode(),
        "no gzip": text.encode(),
        "cut short": gzip.compress(text.encode())[:-20],
        "altered": bytes(whole),
    }
    path.write_bytes(content[damage])
    with pytest.raises(UserError) as caught:
        read(str(path))
    line = 1 if damage in ("no gzip", "altered") else 2
    if damage != "cut short":
        assert caught.value.where == f"{path}, line {line}"


def test_triplets_are_read_in_ms_marcos_layout(tmp_path: Path) -> None:
    """Three columns without a header, compressed or not; a wrong line is named."""
    path = tmp_path / "triples.tsv.gz"
    lines = ["q one\tgood\tbad", "q one\tgood\tbad", "q two\tsame\tsame", "q three\tfine\tworse"]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    table, ledger = read_triplets(str(path))
    assert sorted(zip(table["x"].to_pylist(), table["hard"].to_pylist(), strict=True)) == [
        ("q one", ["bad"]),
        ("q three", ["worse"]),
    ]
    assert ledger.check("test").units["rows"].dropped == {"repeated": 1, "same_passage": 1}
    wrong = tmp_path / "wrong.tsv"
    wrong.write_text("a\tb\tc\nonly one\n")
    with pytest.raises(UserError, match="line 2"):
        read_triplets(str(wrong))
    with pytest.raises(UserError, match="no column"):
        read_nli(str(wrong))
    with pytest.raises(UserError, match="no such file"):
        read_nli(str(tmp_path / "nothing.tsv"))


@pytest.mark.skipif(not SNLI.exists(), reason="../shared/data/eval/nli is absent")
def test_snli_gives_pairs(tmp_path: Path) -> None:
    """The real file: the ledger balances and thousands of pairs come out, each with another hypothesis as negative."""
    table, ledger = read_nli(str(SNLI))
    ledger.check("snli")
    assert table.num_rows > 2000
    assert all(row["hard"][0] != row["y"] for row in table.to_pylist())


def documents(count: int, width: int = 16) -> tuple[pa.Table, np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    y = random.normal(size=(count, width)).astype(np.float32)
    y /= np.linalg.norm(y, axis=1, keepdims=True)
    x = y + 0.05 * random.normal(size=y.shape).astype(np.float32)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    number = pa.array(range(count), pa.uint64())
    texts = [f"document {i}" for i in range(count)]
    pairs = pa.table({"pair_id": texts, "x": texts, "y": texts, "x_hash": number, "y_hash": number, "cluster": number})
    return pairs, x, y


def test_mined_negatives_come_from_the_window_and_are_no_false_negatives() -> None:
    """Oracle: ranks computed one query at a time. Near duplicates of the answer, above the margin, are never taken."""
    pairs, x, y = documents(60)
    y[5] = y[0] * 0.999  # another copy of the answer to query 0
    options = MineOptions(count=3, first=2, last=20, margin=0.9)
    mined, ledger = mine(pairs, x, y, options)
    ledger.check("test")
    assert mined.num_rows > 50
    for row in mined.to_pylist():
        query = int(row["pair_id"].split()[1])
        ranks = np.argsort(-(x[query] @ y.T), kind="stable")
        for content in row["hard_hash"]:
            assert 2 <= int(np.flatnonzero(ranks == content)[0]) < 20
            assert x[query] @ y[content] <= 0.9 * (x[query] @ y[query])
            assert content != query
        assert row["hard"] == [f"document {content}" for content in row["hard_hash"]]
        assert len(set(row["hard_hash"])) == 3


@pytest.mark.parametrize("nearest", [1, 3, 59])
def test_pairs_whose_answer_the_model_does_not_find_are_dropped_by_name(nearest: int) -> None:
    """Oracle: the rank of each answer, one query at a time; without the option nothing changes."""
    pairs, x, y = documents(60)
    x[7], x[8] = (0.7 * y[own] + y[other] + y[another] for own, other, another in ((7, 30, 31), (8, 40, 41)))
    scores = x @ y.T
    ranks = [int((scores[query] > scores[query, query]).sum()) for query in range(60)]
    assert min(ranks[7], ranks[8]) > 0
    options = MineOptions(count=1, first=0, last=20, margin=100)
    kept, ledger = mine(pairs, x, y, options.model_copy(update={"consistent": nearest}))
    assert kept["pair_id"].to_pylist() == [f"document {query}" for query in range(60) if ranks[query] < nearest]
    assert ledger.check("test").units["pairs"].dropped.get("inconsistent", 0) == 60 - kept.num_rows
    assert mine(pairs, x, y, options)[0].num_rows == 60


def test_another_right_answer_that_is_nearer_drops_no_pair() -> None:
    """Pairs 0 to 3 ask the same, pair 5 is a duplicate of 4: each finds one of its right answers first. Of pair 6, which
    asks something else, the wrong one before its answer counts."""
    pairs, *_ = documents(60)
    y = np.eye(60, dtype=np.float32)
    x = y.copy()
    x[:4] = y[0] + 0.2 * y[1] + 0.1 * y[2] + 0.05 * y[3]
    x[4] = x[5] = y[5] + 0.5 * y[4]
    x[6] = y[7] + 0.5 * y[6]
    keys = {"x_hash": pairs["x_hash"].to_pylist(), "cluster": pairs["cluster"].to_pylist()}
    keys["x_hash"][:4], keys["cluster"][4:6] = [1000] * 4, [2000] * 2
    for name, values in keys.items():
        pairs = pairs.set_column(pairs.column_names.index(name), name, pa.array(values, pa.uint64()))
    kept, ledger = mine(pairs, x, y, MineOptions(count=1, first=0, last=59, margin=100, consistent=1))
    assert set(pairs["pair_id"].to_pylist()) - set(kept["pair_id"].to_pylist()) == {"document 6"}
    assert ledger.check("test").units["pairs"].dropped["inconsistent"] == 1
    hard = {row["pair_id"]: row["hard_hash"][0] for row in kept.to_pylist()}
    assert not {hard[f"document {number}"] for number in range(4)} & {0, 1, 2, 3}
    assert not {hard["document 4"], hard["document 5"]} & {4, 5}


def test_mining_does_not_depend_on_the_order_of_the_rows() -> None:
    pairs, x, y = documents(60)
    order = np.random.default_rng(1).permutation(60)
    options = MineOptions(count=2, first=1, last=10)
    one, _ = mine(pairs, x, y, options)
    other, _ = mine(pairs.take(order), x[order], y[order], options)
    assert sorted(map(str, one.to_pylist())) == sorted(map(str, other.to_pylist()))
    with pytest.raises(ValueError, match="narrower"):
        MineOptions(count=9, first=1, last=5)


def test_fine_tuning_goes_through_the_same_loop(tokenizer: str, places: Any, tmp_path: Path) -> None:
    """Labelled pairs with hard negatives are ordered and trained on; the loss falls."""
    path = tmp_path / "nli.tsv"
    words = ["".join(chr(97 + (i * k) % 26) for k in (1, 3, 7, 11)) for i in range(200)]
    rows = [f"0\t{w}\t{w} yes\n2\t{w}\t{w} {words[i - 1]}\n" for i, w in enumerate(dict.fromkeys(words))]
    path.write_text("label\tpremise\thypothesis\n" + "".join(rows))
    pairs, _ = read_nli(str(path))
    options = BatchOptions(batch_size=8, steps=12, hard_negatives=1, max_x_tokens=12, max_y_tokens=12)
    batches = str(tmp_path / "batches")
    build_batches(batches, pairs, listed(lambda texts: [list(text.encode()) for text in texts]), options, {})
    train = TrainOptions(workers=0, engine="reference", precision="fp32", learning_rate=5e-3)
    model = ModelOptions(hidden_size=32, layers=2, heads=2, feedforward=64, context=64)
    result = train_model(train, model, batches=batches, tokenizer=tokenizer, **places)
    assert result.metrics[-1]["loss"] < result.metrics[0]["loss"] - 0.3
