"""Mining repositories to pairs, killed at any moment, and with any number of workers: the same bytes."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cpt_ray.artifacts import read_manifest, run_flow
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.code.options import MineOptions
from pipelines import code_pairs
from pipelines.options.code_pairs import RepositoryOptions, Steps

KILLS = 50
REPOSITORIES = 12
NAMES = ("functions", "function_clusters", "code_pairs")


@pytest.fixture
def repositories(tmp_path: Path) -> list[RepositoryOptions]:
    """Repositories of a commit, from the standard library: some large enough that a kill falls into them."""
    sources = sorted(Path(json.__file__).parents[1].glob("*.py"))
    found = []
    for i in range(REPOSITORIES):
        folder = tmp_path / "repositories" / f"r{i}"
        folder.mkdir(parents=True)
        for source in sources[i::REPOSITORIES]:
            (folder / source.name).write_bytes(source.read_bytes())
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "one"]):
            subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True)
        found.append(RepositoryOptions(path=str(folder), licence="PSF-2.0"))
    return found


def made(out: str, repositories: list[RepositoryOptions]) -> None:
    steps = Steps(mine=MineOptions(mask=("email", "secret")))
    shards = code_pairs.repository_shards(repositories, steps.mine)
    run_flow(code_pairs.flow(out, shards, code_pairs.mine_listed_shard, steps))


def content(out: Path) -> dict[str, str]:
    return {f"{name}/{one.path}": one.digest for name in NAMES for one in read_manifest(f"{out}/{name}").files}


def started(out: Path, repositories: list[RepositoryOptions]) -> multiprocessing.process.BaseProcess:
    child = multiprocessing.get_context("fork").Process(target=made, args=(str(out), repositories))
    child.start()
    return child


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills_end_as_none(tmp_path: Path, repositories: list[RepositoryOptions]) -> None:
    begun = time.monotonic()
    whole = started(tmp_path / "whole", repositories)
    whole.join()
    seconds, expected = time.monotonic() - begun, content(tmp_path / "whole")
    assert whole.exitcode == 0
    at, kills, finished = random.Random(0), 0, 0
    while kills < KILLS:
        out = tmp_path / f"killed-{finished}"
        child = started(out, repositories)
        child.join(at.uniform(0.02, 0.6) * seconds)
        if child.exitcode is None:
            os.kill(child.pid or 0, signal.SIGKILL)
            child.join()
        kills += child.exitcode == -signal.SIGKILL
        if child.exitcode == 0:
            assert content(out) == expected
            assert not list(out.glob("*.building*"))
            finished += 1
    last = started(tmp_path / f"killed-{finished}", repositories)
    last.join()
    assert content(tmp_path / f"killed-{finished}") == expected


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, repositories: list[RepositoryOptions]) -> None:
    found = []
    for workers in (1, 2, 4):
        with connect(ClusterOptions(cpus=workers)):
            made(str(tmp_path / str(workers)), repositories)
        found.append(content(tmp_path / str(workers)))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) > REPOSITORIES
