"""Examples of what was dropped: bounded, by the keys alone, and the same however the work was cut."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.artifacts import Ledger, Sampler, Stage, examples, read_manifest

ROWS = pa.schema([("n", pa.int64())])


def _collect(keys: list[str]) -> Sampler:
    sampler = Sampler()
    for key in keys:
        sampler.add("rows", f"reason{len(key) % 2}", key, text=key * 3)
    return sampler


@given(st.lists(st.text(max_size=6), max_size=200), st.integers(0, 200), st.randoms())
def test_how_work_is_cut_and_ordered_does_not_show(keys: list[str], cut: int, order: random.Random) -> None:
    shuffled = order.sample(keys, len(keys))
    whole = _collect(keys).examples
    parts = examples.together(_collect(shuffled[:cut]).examples, _collect(shuffled[cut:]).examples)
    assert whole == parts
    assert examples.from_rows(examples.to_rows(whole)) == whole


def test_examples_are_few_and_short() -> None:
    sampler = Sampler()
    for n in range(1000):
        sampler.add("rows", "long", str(n), text="x" * 100_000, empty="")
    (held,) = sampler.examples.values()
    assert len(held) == examples.MOST
    assert {len(text) for one in held for text in one.texts.values()} == {examples.LONGEST}
    assert sum(sampler.wants("rows", "long", str(n)) for n in range(1000)) == examples.MOST
    assert sampler.wants("rows", "another", "key")


def _run(shard: Any) -> tuple[pa.Table, Ledger]:
    dropped = Sampler()
    for n in range(shard["start"], shard["end"]):
        if n % 2:
            dropped.add("rows", "odd", str(n), text=f"number {n}")
    kept = [n for n in range(shard["start"], shard["end"]) if n % 2 == 0]
    count = shard["end"] - shard["start"]
    ledger = Ledger.of("rows", read=count, kept=len(kept), dropped={"odd": count - len(kept)})
    return pa.table([pa.array(kept, pa.int64())], schema=ROWS), ledger.showing(dropped)


def test_an_artifact_has_them_beside_its_parts(tmp_path: Path) -> None:
    """One file, hashed as the others are; equal for one shard and for many."""
    stage = Stage("even", version=1, gives=ROWS, run=_run)
    one = stage.map(str(tmp_path / "one"), shards=[{"start": 0, "end": 600}], params={}, inputs={})
    shards = [{"start": start, "end": start + 100} for start in range(0, 600, 100)]
    stage.map(str(tmp_path / "many"), shards=shards, params={}, inputs={})
    assert (tmp_path / "one" / examples.FILE).read_bytes() == (tmp_path / "many" / examples.FILE).read_bytes()
    assert [file.path for file in one.files] == [examples.FILE, "part-00000.parquet"]
    (held,) = examples.read(str(tmp_path / "many")).values()
    assert all(one.texts == {"text": f"number {one.key}"} for one in held)
    assert read_manifest(str(tmp_path / "many")).balance.units == one.balance.units


def test_a_build_begun_before_there_were_examples_goes_on() -> None:
    counts = Ledger.of("rows", read=3, kept=2, dropped={"odd": 1})
    assert Ledger.of_whole(counts.to_dict()) == counts
    assert Ledger.of_whole(counts.showing(_collect(["a"])).whole()).examples == _collect(["a"]).examples


def test_renamed_ledger_takes_its_examples_along() -> None:
    ledger = Ledger.of("rows", read=1, kept=0, dropped={"reason1": 1}).showing(_collect(["a"])).renamed("split")
    assert list(ledger.units) == ["split"]
    assert [unit for unit, _ in ledger.examples] == ["split"]
