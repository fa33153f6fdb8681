"""Pairs made by exchanges: the rows and the ledger of one table, for any number of shards, buckets and workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fsspec.implementations.local import LocalFileSystem

from cpt_ray.artifacts import Ledger, Manifest, build, examples, exchange, read_manifest, read_table
from cpt_ray.artifacts.store import part_name
from cpt_ray.code.functions import FUNCTIONS
from cpt_ray.errors import UserError
from cpt_ray.pairs import across, make
from cpt_ray.pairs.decontaminate import Evaluation
from cpt_ray.pairs.make import make_code_pairs, make_text_pairs
from cpt_ray.pairs.options import DocstringOptions, NeighbourOptions, SplitOptions

KILL_SEEDS = int(os.environ.get("KILL_SEEDS", "1"))
"""More of them take their time: each is up to four processes killed and one that ends."""
SPLIT = SplitOptions(heldout_share=0.4)
SMALL = NeighbourOptions(min_chars=40, max_chars=160, boilerplate_documents=3)


def publish(path: Path, table: pa.Table, files: int, seed: int = 0, row_group: int = 50) -> str:
    """The rows, shuffled, as an artifact of so many files and one without rows, as a shard leaves that kept nothing."""
    table = table.take(pa.array(np.random.default_rng(seed).permutation(len(table))))
    with build(str(path), step="toy", version=1, params={"files": files, "seed": seed}) as work:
        for number, rows in enumerate(np.array_split(np.arange(len(table)), files)):
            work.write(f"{part_name(number)}.parquet", table.take(pa.array(rows)), row_group_size=row_group)
        work.write(f"{part_name(files)}.parquet", table.slice(0, 0))
        work.publish(Ledger.of("rows", read=len(table), kept=len(table)), rows=len(table), schema=table.schema)
    return str(path)


def some_documents() -> pa.Table:
    """300 documents of 12 groups: shared lines in some groups, copies in several groups, an id that stands twice."""
    rng = np.random.default_rng(3)
    words = [f"word{i}" for i in range(400)]
    texts = [". ".join(" ".join(rng.choice(words, 9)) for _ in range(rng.integers(2, 14))) + "." for _ in range(240)]
    shared = "\nThis is the line that stands under every page of the site, as a footer does.\n"
    rows = []
    for i in range(300):
        text = texts[i] if i < 240 else texts[(i * 7) % 60]
        rows.append(
            (f"d{i * 7919 % 1000:04d}", f"g{i * 5 % 12}", text + (shared if i % 4 == 0 else "") + texts[i % 11])
        )
    rows.append(rows[17])
    ids, groups, found = zip(*rows, strict=True)
    return pa.table({"doc_id": ids, "group": groups, "text": found})


def clusters_of(ids: list[str]) -> pa.Table:
    """Every ninth is a duplicate of the one before it, every seventh shares its cluster and is kept."""
    ids = sorted(set(ids))
    of = [ids[i - 1] if i and (i % 9 == 0 or i % 7 == 0) else name for i, name in enumerate(ids)]
    kept = [not (i and i % 9 == 0) for i in range(len(ids))]
    return pa.table({"doc_id": ids, "cluster_id": of, "kept": kept, "cluster_size": [of.count(name) for name in of]})


def some_functions() -> pa.Table:
    """Functions of which many share a docstring, some the code too."""
    rows = []
    for i in range(400):
        x, y = i * 13 % 90 % 40, i * 11 % 130
        row: dict[str, Any] = dict.fromkeys(FUNCTIONS.names)
        row |= {"function_id": f"f{i * 7919 % 1000:04d}", "group": f"g{i * 5 % 12}", "path": f"pkg/m{i % 17}.py"}
        row |= {"start_line": i, "end_line": i + 3, "licence": "MIT", "code": f"def f(a):\n    return a + {y}\n"}
        row |= {"summary": f"Adds number {x} to what it is given.", "docstring": "", "language": "python"}
        row |= {"name": f"add_number{x % 3}" if x % 5 else "add", "signature": "def f(a):" if x % 4 else ""}
        rows.append(row)
    return pa.Table.from_pylist(rows, schema=FUNCTIONS)


def text(path: Path, documents: str, clusters: str) -> Manifest:
    return make_text_pairs(str(path), documents=documents, clusters=clusters, neighbours=SMALL, split=SPLIT)


def code(path: Path, functions: str, clusters: str) -> Manifest:
    asked = Evaluation(files=frozenset({("x/g3", "pkg/m1.py")}))
    return make_code_pairs(
        str(path), functions=functions, clusters=clusters, docstrings=DocstringOptions(), split=SPLIT, evaluation=asked
    )


def further(path: Path, functions: str, clusters: str) -> Manifest:
    options = DocstringOptions(further=("name", "signature"))
    return make_code_pairs(str(path), functions=functions, clusters=clusters, docstrings=options, split=SPLIT)


def counts_of(made: Manifest, of: Any) -> Any:
    """The ledger; of one x with more texts than may share it in one shard, whether another shard has a text is not known."""
    counts = {unit: {"read": c.read, "kept": c.kept, **c.dropped} for unit, c in made.balance.units.items()}
    if of is further:
        counts["functions"]["same_text"] += counts["functions"].pop("x_repeated", 0)
    return counts


def few(monkeypatch: pytest.MonkeyPatch, rows: int, part: int) -> None:
    """So small that every exchange has many buckets."""
    monkeypatch.setattr(make, "ONE_TABLE", {"text_pairs": 0, "code_pairs": 0})
    monkeypatch.setattr(across, "ROWS_PER_PART", part)
    monkeypatch.setattr(exchange, "BUCKET_ROWS", rows)


@pytest.mark.parametrize("lines", [4, 400])
def test_a_bucket_of_lines_is_no_larger_for_longer_documents(tmp_path, monkeypatch, lines):
    """It was of so many documents, and took 2.5 GB where they were specifications of 150 lines."""
    few(monkeypatch, 200, 1000)
    held: list[int] = []

    def received(sent: exchange.Sent, bucket: int, order: Any = ()) -> pa.Table:
        table = exchange.receive(sent, bucket, order)
        held.append(len(table) if sent.schema.equals(across.LINES) else 0)
        return table

    monkeypatch.setattr(across, "receive", received)
    said = [(doc, line) for doc in range(1600 // lines) for line in range(lines)]
    texts = [
        f"Line {line} of the document {doc} says what no other says, {(doc * 977 + line) * 7919}." for doc, line in said
    ]
    rows = [
        {"doc_id": f"{at:032x}", "group": "g", "text": "\n".join(texts[at * lines : (at + 1) * lines])}
        for at in range(1600 // lines)
    ]
    documents = publish(tmp_path / "rows", pa.Table.from_pylist(rows), 3)
    text(tmp_path / "pairs", documents, publish(tmp_path / "known", clusters_of([row["doc_id"] for row in rows]), 1))
    assert 0 < max(held) < 2 * 200


@pytest.mark.parametrize(("table", "of"), [(some_documents, text), (some_functions, code), (some_functions, further)])
def test_exchanges_give_the_rows_of_one_table(tmp_path, monkeypatch, table, of):
    """Whatever the files, row groups, buckets and parts: equal rows in equal order, and an equal ledger."""
    rows = table()
    known = clusters_of(rows[rows.column_names[0]].to_pylist() if of is text else rows["function_id"].to_pylist())
    clusters = publish(tmp_path / "clusters", known, 3)
    whole = of(tmp_path / "whole", publish(tmp_path / "rows", rows, 2), clusters)
    oracle = read_table(str(tmp_path / "whole"))
    assert oracle.num_rows > 50
    assert {1, 2} <= set(oracle["cluster_size"].to_pylist())
    reasons = {"duplicate", "same_text", "leaks_heldout"} | ({"x_repeated", "test_file"} if of is code else set())
    reasons |= {"name_of_one_word", "no_signature", "further_of_heldout"} if of is further else set()
    assert reasons <= set(whole.balance.dropped)
    for files, bucket, part in ((1, 1 << 20, 50_000), (7, 40, 30), (13, 11, 1000)):
        with monkeypatch.context() as patched:
            few(patched, bucket, part)
            source = publish(tmp_path / f"rows-{files}", rows, files, seed=files)
            made = of(tmp_path / f"pairs-{files}", source, clusters)
        assert read_table(str(tmp_path / f"pairs-{files}")).equals(oracle)
        assert counts_of(made, of) == counts_of(whole, of)
        assert made.extra == whole.extra
        assert made.columns == whole.columns
        assert not (tmp_path / f"pairs-{files}.phases").exists()
        if of is not text:
            shown = [examples.read(str(tmp_path / name)) for name in ("whole", f"pairs-{files}")]
            assert shown[0]["functions", "duplicate"] == shown[1]["functions", "duplicate"]


def test_clusters_of_another_corpus_are_refused(tmp_path, monkeypatch):
    """As with one table: a document in no cluster is an error that says so."""
    few(monkeypatch, 40, 100)
    rows = some_documents()
    short = clusters_of(rows["doc_id"].to_pylist()).slice(0, 250)
    with pytest.raises(UserError, match="no duplicate cluster"):
        text(tmp_path / "p", publish(tmp_path / "rows", rows, 2), publish(tmp_path / "clusters", short, 1))


@pytest.mark.parametrize("seed", range(KILL_SEEDS))
def test_a_run_killed_anywhere_goes_on_to_the_same_bytes(tmp_path, monkeypatch, seed):
    """SIGKILL after a random number of written files, again and again: in the end the digests of a run without."""
    rows = some_documents()
    source, clusters = (
        publish(tmp_path / "rows", rows, 4),
        publish(tmp_path / "c", clusters_of(rows["doc_id"].to_pylist()), 2),
    )
    with monkeypatch.context() as patched:
        few(patched, 300, 100)
        whole = text(tmp_path / "whole", source, clusters)
    target, rng, kills = tmp_path / "pairs", np.random.default_rng(seed), 0
    while True:
        arguments = json.dumps([str(target), source, clusters, int(rng.integers(5, 60)) if kills < 4 else 10**9])
        done = subprocess.run([sys.executable, "-m", "tests.pairs.test_across", arguments], capture_output=True)
        if done.returncode == 0:
            break
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        kills += 1
    assert kills
    made = read_manifest(str(target))
    assert (made.files, made.ledger) == (whole.files, whole.ledger)
    assert not (tmp_path / "pairs.phases").exists()


def _until_killed(target: str, source: str, clusters: str, moves: int) -> None:
    """Make the pairs, and die at the given rename: every file that stands was renamed into its place."""
    patched = pytest.MonkeyPatch()
    few(patched, 300, 100)
    left = [moves]

    def counted(move: Callable[..., None]) -> Callable[..., None]:
        def moved(*args: Any, **kwargs: Any) -> None:
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            move(*args, **kwargs)

        return moved

    patched.setattr(LocalFileSystem, "mv", counted(LocalFileSystem.mv))
    patched.setattr("cpt_ray.artifacts.places.os.replace", counted(os.replace))
    text(Path(target), source, clusters)


if __name__ == "__main__":
    _until_killed(*json.loads(sys.argv[1]))
