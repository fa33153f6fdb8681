"""A flow is known, and refused, before any of it runs; run, each task is made once and told of."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from cpt_ray.artifacts import Ledger, Manifest, Needs, Stage, Wanted, build, check_flow, read_manifest, run_flow
from cpt_ray.errors import UserError

NUMBERS = pa.schema([("n", pa.int64())])
SQUARES = pa.schema([("n", pa.int64()), ("square", pa.int64())])


def _numbers(shard: dict[str, int]) -> tuple[pa.Table, Ledger]:
    table = pa.table({"n": [shard["n"]]}, schema=NUMBERS)
    return table, Ledger.of("numbers", read=1, kept=1)


def _square(shard: dict[str, int], *, power: int) -> tuple[pa.Table, Ledger]:
    table = pa.table({"n": [shard["n"]], "square": [shard["n"] ** power]}, schema=SQUARES)
    return table, Ledger.of("numbers", read=1, kept=1)


COUNT = Stage("count", version=1, gives=NUMBERS, unit="numbers", run=_numbers)
SQUARE = Stage("square", version=3, gives=SQUARES, reads=("n",), unit="numbers", run=_square)


def _flow(out: Path, square: Stage = SQUARE, columns: tuple[str, ...] | None = None) -> list[Wanted]:
    counted, squared = str(out / "counted"), str(out / "squared")
    shards = [{"n": n} for n in range(3)]

    def make() -> Manifest:
        return square.map(
            squared, shards=shards, params={"power": 2}, inputs={"numbers": read_manifest(counted)}, power=2
        )

    return [
        Wanted(counted, COUNT, lambda: COUNT.map(counted, shards=shards, params={}, inputs={})),
        Wanted(squared, square, make, (counted,), columns=columns),
    ]


def test_writing_a_flow_down_and_checking_it_runs_nothing(tmp_path):
    check_flow(_flow(tmp_path), {"num_cpus": 1.0})
    assert not list(tmp_path.iterdir())


def test_a_run_makes_each_task_once_in_order_and_tells_of_it(tmp_path):
    told: list[str] = []
    made = run_flow(
        _flow(tmp_path),
        began=lambda wanted: told.append(f"began {wanted.stage.name}"),
        ended=lambda wanted, manifest: told.append(f"{manifest.step} {manifest.version}: {manifest.rows}"),
    )
    assert told == ["began count", "count 1: 3", "began square", "square 3: 3"]
    assert run_flow(_flow(tmp_path)) == made


def test_a_column_that_nothing_gives_is_refused_by_name(tmp_path):
    """Also of an artifact that stands already, whose manifest has its columns."""
    with pytest.raises(UserError, match="square reads the column 'm'") as caught:
        check_flow(_flow(tmp_path, columns=("n", "m")))
    assert caught.value.where == str(tmp_path / "counted")
    assert "it has n" in caught.value.fix
    first, second = _flow(tmp_path, columns=("m",))
    run_flow([first])
    with pytest.raises(UserError, match="the column 'm'"):
        check_flow([second])


def test_an_artifact_without_a_table_has_no_column(tmp_path):
    """As a model, which is files alone."""
    first, second = _flow(tmp_path, columns=("n",))
    with build(first.path, step="model", version=1, params={}) as work:
        work.publish(Ledger.of("steps", read=1, kept=1), rows=1)
    with pytest.raises(UserError, match=r"the column 'n'.*\n.*it has no table"):
        check_flow([second])


def test_an_artifact_that_nothing_makes_is_refused(tmp_path):
    with pytest.raises(UserError, match="no finished artifact"):
        check_flow(_flow(tmp_path)[1:])


def test_more_than_the_cluster_has_is_refused(tmp_path):
    """A GPU stage says so; where there is none it is not begun and waited for."""
    needs = Stage("square", version=3, gives=SQUARES, reads=("n",), run=_square, needs=Needs(gpus=1, memory_mb=100))
    check_flow(_flow(tmp_path, needs), {"num_cpus": 1.0, "num_gpus": 1.0, "memory": float(200 << 20)})
    with pytest.raises(UserError, match="num_gpus=1 a shard, and Ray has 0"):
        check_flow(_flow(tmp_path, needs), {"num_cpus": 8.0, "memory": float(200 << 20)})
    with pytest.raises(UserError, match="asks for memory"):
        check_flow(_flow(tmp_path, needs), {"num_cpus": 8.0, "num_gpus": 1.0, "memory": float(50 << 20)})
