"""SIGKILL of a worker, and of the driver with all of its processes: the loss sequence equals an undisturbed run's exactly."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from cpt_ray.train.metrics import METRICS, read_metrics

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
DRIVER = Path(__file__).with_name("train_driver.py")
TIMES = ("pairs_per_second", "tokens_per_second")


class Run:
    """A driver in a session of its own, from which everything that it started can be found."""

    def __init__(self, arguments: dict[str, Any]) -> None:
        self.metrics = Path(arguments["places"]["out"], METRICS)
        root = str(Path(__file__).parents[2])
        self.process = subprocess.Popen(
            [sys.executable, str(DRIVER), json.dumps(arguments)],
            env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def wait_for_step(self, step: int) -> None:
        """Until `step` is in metrics.jsonl."""
        while not any(row["step"] >= step for row in read_metrics(str(self.metrics))):
            assert self.process.poll() is None, self.process.stderr.read().decode()[-3000:]
            time.sleep(0.05)

    def everything(self) -> list[psutil.Process]:
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def kill(self) -> None:
        """SIGKILL of the driver and of all that it started: no one can clean up."""
        for process in self.everything():
            with_name = process.pid
            try:
                os.kill(with_name, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()

    def kill_a_worker(self) -> None:
        workers = [p for p in self.everything() if "RayTrainWorker" in " ".join(p.cmdline())]
        assert len(workers) == 2
        workers[random.randrange(2)].kill()

    def finish(self) -> list[dict[str, float]]:
        _, errors = self.process.communicate(timeout=600)
        assert self.process.returncode == 0, errors.decode()[-3000:]
        rows = read_metrics(str(self.metrics))
        return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_killed_runs_repeat_the_losses_of_an_undisturbed_one(
    corpus: Any, tokenizer: str, tmp_path: Path, stage: int
) -> None:
    """Two ranks, ZeRO 1, 2 and 3: a driver killed at a random step, then a worker killed at another, then the end."""

    def arguments(name: str) -> dict[str, Any]:
        train = {"workers": 2, "zero_stage": stage, "checkpoint_every": 3, "evaluate_every": 7, "learning_rate": 5e-3}
        train |= {"chunk_tokens": 256, "keep_graphs_mb": 1}
        model = {"hidden_size": 32, "layers": 2, "heads": 2, "feedforward": 64, "context": 64}
        places = {"out": str(tmp_path / name / "out"), "scratch": str(tmp_path / name / "scratch")}
        places |= {"batches": corpus["batches"], "heldout": corpus["heldout"], "tokenizer": tokenizer}
        return {"train": train, "model": model, "places": places}

    expected = Run(arguments("undisturbed")).finish()
    random.seed(stage)
    first, second = sorted(random.sample(range(2, 19), 2))
    run = Run(arguments("killed"))
    run.wait_for_step(first)
    run.kill()
    run = Run(arguments("killed"))
    run.wait_for_step(second)
    run.kill_a_worker()
    assert run.finish() == expected
    assert [row["step"] for row in expected] == list(range(21))
