"""SIGKILL of a worker, and of the driver with all of its processes: the loss sequence equals an undisturbed run's exactly."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from cpt_ray.pairs.batches import BatchOptions, build_batches
from cpt_ray.train.metrics import METRICS, read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
DRIVER = Path(__file__).with_name("train_driver.py")
TIMES = ("pairs_per_second", "tokens_per_second")
SEEDS = 10
SPAN = 12
"""Steps in which one seed's two kills fall."""


class Run:
    """A driver in a session of its own, from which everything that it started can be found."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.metrics = Path(arguments["places"]["out"], METRICS)
        self.seen = self._file()
        root = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), json.dumps(arguments)],
            env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def wait_for_step(self, step: int) -> None:
        """Until these workers, and not those of a run that was killed, have written `step` to metrics.jsonl."""
        while self._file() == self.seen or not any(row["step"] >= step for row in read_metrics(str(self.metrics))):
            assert self.process.poll() is None, self.process.stderr.read().decode()[-3000:]
            time.sleep(0.02)

    def _file(self) -> int:
        """The file's identity: workers that go on put a new one in its place."""
        return self.metrics.stat().st_ino if self.metrics.exists() else 0

    def everything(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL of the driver and of all that it started: no one can clean up."""
        for process in self.everything():
            try:
                os.kill(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def kill_a_worker(self, which: int) -> None:
        """SIGKILL of one of the two; waits until it is gone, so that the next step seen is of the run that goes on."""
        workers = [p for p in self.everything() if "RayTrainWorker" in " ".join(p.cmdline())]
        assert len(workers) == 2
        self.seen = self._file()
        workers[which].kill()
        workers[which].wait()

    def finish(self) -> list[dict[str, float]]:
        _, errors = self.process.communicate(timeout=900)
        assert self.process.returncode == 0, errors.decode()[-3000:]
        rows = read_metrics(str(self.metrics))
        return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.fixture
def started() -> Iterator[list[Run]]:
    """Runs of a test; what is left of one that failed is taken down."""
    runs: list[Run] = []
    yield runs
    for run in runs:
        if run.process.poll() is None:
            run.kill()


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> str:
    """SEEDS * SPAN batches of 16 pairs."""
    from tests.train.conftest import encode

    words = [f"{chr(97 + i % 8)}{chr(97 + i // 8 % 8)}{chr(97 + i // 64)}" for i in range(400)]
    rows = {"pair_id": words, "source": ["toy"] * 400, "x": words, "y": [f"{w} is {w[::-1]}" for w in words]}
    keys = {name: pa.array(range(400), pa.uint64()) for name in ("x_hash", "y_hash", "cluster")}
    path = str(tmp_path_factory.mktemp("order") / "batches")
    options = BatchOptions(batch_size=16, steps=SEEDS * SPAN, max_x_tokens=16, max_y_tokens=24)
    build_batches(path, pa.table(rows | keys), encode, options, {})
    return path


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_killed_runs_repeat_the_losses_of_an_undisturbed_one(
    corpus: Any, order: str, tokenizer: str, tmp_path: Path, started: list[Run], stage: int
) -> None:
    """Two ranks, ZeRO 1, 2 and 3. Ten seeds: each draws a step at which a worker is killed, which is replaced within the
    run, and a later one at which the driver is killed with everything, after which the command is given again."""

    def arguments(name: str) -> dict[str, Any]:
        train = {"workers": 2, "zero_stage": stage, "checkpoint_every": 3, "evaluate_every": 7, "learning_rate": 5e-3}
        train |= {"chunk_tokens": 256, "keep_graphs_mb": 1}
        model = {"hidden_size": 32, "layers": 2, "heads": 2, "feedforward": 64, "context": 64}
        places = {"out": str(tmp_path / name / "out"), "scratch": str(tmp_path / name / "scratch")}
        places |= {"batches": order, "heldout": corpus["heldout"], "tokenizer": tokenizer}
        return {"train": train, "model": model, "places": places}

    def start(name: str) -> Run:
        started.append(Run(arguments(name)))
        return started[-1]

    expected = start("undisturbed").finish()
    run = start("killed")
    for seed in range(SEEDS):
        draw = random.Random(seed)
        first, second = (seed * SPAN + step for step in sorted(draw.sample(range(1, SPAN - 2), 2)))
        run.wait_for_step(first)
        run.kill_a_worker(draw.randrange(2))
        run.wait_for_step(second)
        run.kill()
        run = start("killed")
    assert run.finish() == expected
    assert [row["step"] for row in expected] == list(range(SEEDS * SPAN + 1))
