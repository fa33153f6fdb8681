"""Mining repositories to pairs, killed at any moment, and with any number of workers: the same bytes."""

from __future__ import annotations

import json
import subprocess
from functools import partial
from pathlib import Path

import pytest

from cpt_ray.artifacts import run_flow
from cpt_ray.code.options import MineOptions
from pipelines import code_pairs
from pipelines.options.code_pairs import RepositoryOptions, Steps
from tests.pipelines.kills import ends_as_none_was_killed, with_any_number_of_workers

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


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_fifty_kills_end_as_none(tmp_path: Path, repositories: list[RepositoryOptions]) -> None:
    ends_as_none_was_killed(tmp_path, partial(made, repositories=repositories), NAMES, KILLS)


@pytest.mark.slow
def test_any_number_of_workers_gives_the_same_bytes(tmp_path: Path, repositories: list[RepositoryOptions]) -> None:
    found = with_any_number_of_workers(tmp_path, partial(made, repositories=repositories), NAMES)
    assert len(found) > REPOSITORIES
