"""A demo small enough for a test: a few distributions, a few steps, everything else as it is."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.pipelines.kills import kill_with_all

ROOT = Path(__file__).parent.parent.parent

SMALL = [
    "only=[aiohttp,click,docutils,networkx,numpy,pydantic,rich,sqlalchemy]",
    "site.max_pages=240",
    "site.shards=6",
    "text.split.heldout_share=0.4",
    "code.split.heldout_share=0.4",
    "code.split.always_train=[numpy]",
    "text.split.always_train=[numpy]",
    "initial.windows.steps=40",
    "initial.pretrain.checkpoint_every=10",
    "code_model.batches.steps=16",
    "code_model.batches.batch_size=64",
    "code_model.train.checkpoint_every=4",
    "code_model.train.evaluate_every=8",
    "code_model.heldout_pairs=64",
    "text_model.batches.steps=4",
    "text_model.batches.batch_size=64",
    "text_model.heldout_pairs=32",
    "sweep.grid.over.batches.batch_size=[32,64]",
    "sweep.grid.examples=128",
    "sweep.steps.heldout_pairs=32",
    "evaluation.candidates=50",
]
"""Overrides of `cpt-ray demo`."""


class Demo:
    """Runs `cpt-ray demo` in a process group of its own, so that it can be killed with everything it started."""

    def __init__(self, outputs: Path) -> None:
        self.outputs = outputs
        self.folder = outputs / "demo"

    def start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "pipelines.demo", f"cluster.outputs={self.outputs}", *SMALL]
        environment = {**os.environ, "PYTHONHASHSEED": "random"}
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self) -> str:
        """To the end; returns what it printed."""
        process = self.start()
        printed, _ = process.communicate()
        assert process.returncode == 0, printed[-6000:]
        return printed

    def kill_in(self, stage: str, seconds: float = 300) -> bool:
        """Start, and SIGKILL the whole group a moment after `stage` has begun; False if the stage was over before."""
        process = self.start()
        end = time.monotonic() + seconds
        begun = [self.folder / f"{stage}.building", self.folder / f"{stage}.phases"]
        while process.poll() is None and time.monotonic() < end and not any(path.exists() for path in begun):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        kill_with_all(process)
        return not (self.folder / stage).exists()

    def parquet(self) -> dict[str, bytes]:
        """Every published Parquet file of the demo, by path."""
        return {
            str(path.relative_to(self.folder)): path.read_bytes()
            for path in sorted(self.folder.rglob("*.parquet"))
            if ".building" not in str(path)
        }


@pytest.fixture
def demo(tmp_path: Path) -> Callable[[str], Demo]:
    """Makes a demo with outputs of its own."""
    return lambda name: Demo(tmp_path / name)


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """A demo that ran to its end."""
    one = Demo(tmp_path_factory.mktemp("undisturbed"))
    assert "search among candidates" in one.run()
    return one
