"""SIGKILL at random steps: the loss sequence of the run that goes on equals an undisturbed one's exactly.

Twice: in full, with Ray, which replaces workers and whose driver is killed with all that it started; and with the ranks
alone, forked from a process that has everything imported, where a restart takes a second.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pytest

from cpt_ray.model.options import ModelOptions
from cpt_ray.pairs.batches import build_batches
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.tokens import listed
from cpt_ray.train.loop import ContrastiveJob, contrastive
from cpt_ray.train.metrics import METRICS, read_metrics
from cpt_ray.train.options import TrainOptions
from tests.train.conftest import encode
from tests.train.ranks import join_group

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]
DRIVER = Path(__file__).with_name("train_driver.py")
TIMES = ("pairs_per_second", "tokens_per_second")
SEEDS = 10
SPAN = 12
"""Steps in which one seed's two kills fall."""
MODEL: dict[str, Any] = {"hidden_size": 32, "layers": 2, "heads": 2, "feedforward": 64, "context": 64}


def options(stage: int) -> dict[str, Any]:
    rhythm = {"checkpoint_every": 3, "evaluate_every": 7, "precision": "fp32"}  # runs are compared to the bit
    return rhythm | {
        "workers": 2,
        "zero_stage": stage,
        "learning_rate": 5e-3,
        "chunk_tokens": 256,
        "keep_graphs_mb": 1,
    }


class Watch:
    """The metrics of a run, seen from outside."""

    def __init__(self, out: str) -> None:
        self.path = Path(out, METRICS)
        self.seen = self._file()

    def wait_for_step(self, step: int, alive: Callable[[], bool]) -> None:
        """Until the workers started last, and not those of a run that was killed, have written `step`."""
        while self._file() == self.seen or not any(row["step"] >= step for row in read_metrics(str(self.path))):
            assert alive(), "the run has died by itself"
            time.sleep(0.01)

    def forget(self) -> None:
        """From now on, what is written now does not count."""
        self.seen = self._file()

    def rows(self) -> list[dict[str, float]]:
        """All metrics but those that measure time."""
        return [{k: v for k, v in row.items() if k not in TIMES} for row in read_metrics(str(self.path))]

    def _file(self) -> int:
        """The file's identity: workers that go on put a new one in its place."""
        return self.path.stat().st_ino if self.path.exists() else 0


@pytest.fixture(scope="module")
def order(tmp_path_factory: pytest.TempPathFactory) -> str:
    """SEEDS * SPAN batches of 16 pairs."""
    words = [f"{chr(97 + i % 8)}{chr(97 + i // 8 % 8)}{chr(97 + i // 64)}" for i in range(400)]
    rows = {"pair_id": words, "source": ["toy"] * 400, "x": words, "y": [f"{w} is {w[::-1]}" for w in words]}
    keys = {name: pa.array(range(400), pa.uint64()) for name in ("x_hash", "y_hash", "cluster")}
    path = str(tmp_path_factory.mktemp("order") / "batches")
    size = BatchOptions(batch_size=16, steps=SEEDS * SPAN, max_x_tokens=16, max_y_tokens=24)
    build_batches(path, pa.table(rows | keys), listed(encode), size, {})
    return path


def draws() -> Iterator[tuple[int, int, int, random.Random]]:
    """(step of a worker's death, which worker, step of the death of all, the seed's numbers), seed after seed."""
    for seed in range(SEEDS):
        numbers = random.Random(seed)
        first, second = (seed * SPAN + step for step in sorted(numbers.sample(range(1, SPAN - 2), 2)))
        yield first, numbers.randrange(2), second, numbers


class Driver:
    """A driver of Ray in a session of its own, from which everything that it started can be found."""

    def __init__(self, arguments: dict[str, Any], said: Path) -> None:
        self.watch, self.said = Watch(arguments["places"]["out"]), said
        root = str(Path(__file__).parents[2])
        with said.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, str(DRIVER), json.dumps(arguments)],
                # Ray's workers would step back behind all else, and starve on a machine that is in use.
                env=os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1", "RAY_worker_niceness": "0"},
                start_new_session=True,
                stdout=subprocess.DEVNULL,
                stderr=out,
            )

    def alive(self) -> bool:
        return self.process.poll() is None

    def wait_for_step(self, step: int) -> None:
        try:
            self.watch.wait_for_step(step, self.alive)
        except AssertionError:
            print(self.last_words())
            raise

    def last_words(self) -> str:
        return self.said.read_text(errors="replace")[-3000:]

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
        workers = [p for p in self.everything() if "RayTrainWorker" in " ".join(p.cmdline())]
        assert len(workers) == 2
        self.watch.forget()
        workers[which].kill()

    def finish(self) -> list[dict[str, float]]:
        assert self.process.wait(timeout=900) == 0, self.last_words()
        return self.watch.rows()


@pytest.fixture
def started() -> Iterator[list[Driver]]:
    """Runs of a test; what is left of one that failed is taken down."""
    runs: list[Driver] = []
    yield runs
    for run in runs:
        if run.alive():
            run.kill()


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_killed_runs_repeat_the_losses_of_an_undisturbed_one(
    corpus: Any, order: str, tokenizer: str, tmp_path: Path, started: list[Driver], stage: int
) -> None:
    """Two workers of Ray Train, ZeRO 1, 2 and 3. Ten seeds: each draws a step at which a worker is killed, which is replaced
    within the run, and a later one at which the driver is killed with everything, after which the command is given again."""

    def start(name: str) -> Driver:
        places = {"out": str(tmp_path / name / "out"), "scratch": str(tmp_path / name / "scratch")}
        places |= {"batches": order, "heldout": corpus["heldout"], "tokenizer": tokenizer}
        arguments = {"train": options(stage), "model": MODEL, "places": places}
        started.append(Driver(arguments, tmp_path / f"driver-{len(started)}.log"))
        return started[-1]

    expected = start("undisturbed").finish()
    run = start("killed")
    for first, which, second, _ in draws():
        run.wait_for_step(first)
        run.kill_a_worker(which)
        run.wait_for_step(second)
        run.kill()
        run = start("killed")
    assert run.finish() == expected
    assert [row["step"] for row in expected] == list(range(SEEDS * SPAN + 1))


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["cpt_ray.train.loop", "cpt_ray.train.engine.zero"])


def _rank(rank: int, job: ContrastiveJob, store: str) -> None:
    contrastive(job, join_group(rank, 2, store))


class Ranks:
    """Two ranks of one job."""

    def __init__(self, job: ContrastiveJob, store: str) -> None:
        self.watch = Watch(job.out)
        self.processes: list[BaseProcess] = [FORKS.Process(target=_rank, args=(rank, job, store)) for rank in (0, 1)]
        for process in self.processes:
            process.start()

    def alive(self) -> bool:
        return all(process.is_alive() for process in self.processes)

    def kill(self) -> None:
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_killed_ranks_repeat_the_losses_of_undisturbed_ones(
    corpus: Any, order: str, tokenizer: str, tmp_path: Path, stage: int
) -> None:
    """ZeRO 1, 2 and 3, ten seeds: one of two ranks is killed at a drawn step, and the other a moment later, as whoever watches
    them would; at a later step both are killed at once."""
    count = 0

    def start(name: str) -> Ranks:
        nonlocal count
        count += 1
        folder = str(tmp_path / name)
        Path(folder).mkdir(exist_ok=True)
        job = ContrastiveJob(
            options=TrainOptions(**options(stage)),
            batches=order,
            steps=SEEDS * SPAN,
            out=folder,
            scratch=folder,
            identity="test",
            on_metrics=None,
            model=ModelOptions(**MODEL),
            heldout=corpus["heldout"],
            tokenizer=tokenizer,
            max_x_tokens=16,
            max_y_tokens=24,
        )
        return Ranks(job, str(tmp_path / f"store-{count}"))

    def finish(ranks: Ranks) -> list[dict[str, float]]:
        for process in ranks.processes:
            process.join()
        assert [process.exitcode for process in ranks.processes] == [0, 0]
        return ranks.watch.rows()

    expected = finish(start("undisturbed"))
    ranks = start("killed")
    for first, which, second, numbers in draws():
        ranks.watch.wait_for_step(first, ranks.alive)
        ranks.processes[which].kill()
        ranks.processes[1 - which].join(numbers.random() / 2)
        ranks.kill()
        ranks = start("killed")
        ranks.watch.wait_for_step(second, ranks.alive)
        ranks.kill()
        ranks = start("killed")
    assert finish(ranks) == expected
    assert [row["step"] for row in expected] == list(range(SEEDS * SPAN + 1))
    assert count == 2 + 2 * SEEDS
