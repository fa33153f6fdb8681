"""Errors of workers arrive at the user, whichever worker met them, and say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.errors import UserError
from cpt_ray.train.collectives import Workers
from cpt_ray.train.launch import check_room, launch
from cpt_ray.train.options import EngineOptions


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_worker_niceness", "0")  # or its workers would step back behind all else on this machine
        with connect(ClusterOptions(cpus=2)):
            yield


def stumbling(job: str, workers: Workers) -> Any:
    """Rank 1 fails as `job` says, while rank 0 waits for it in a collective."""
    if workers.rank == 1:
        if job == "mistake":
            raise UserError("this text is empty", where="row 7", fix="remove it")
        raise RuntimeError("a cable was pulled")
    workers.barrier()
    return None


@pytest.mark.path
@pytest.mark.parametrize(
    ("job", "retries", "what"),
    [("mistake", 3, "row 7: this text is empty"), ("defect", 0, "worker 1.*a cable was pulled")],
)
def test_one_worker_s_error_ends_the_run(cluster: None, tmp_path: Path, job: str, retries: int, what: str) -> None:
    """A user's mistake is not tried again, a defect only `max_failures` times; nobody waits for the collective's half hour
    (this test's own limit is five minutes)."""
    with pytest.raises(UserError, match=what) as caught:
        launch(stumbling, job, EngineOptions(workers=2, max_failures=retries), str(tmp_path))
    assert caught.value.fix
    assert not (tmp_path / "ray").exists()


def test_out_of_memory_says_which_options_to_lower(tmp_path: Path) -> None:
    def greedy(job: str, workers: Workers) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with pytest.raises(UserError, match="Tried to allocate") as caught:
        launch(greedy, "job", EngineOptions(workers=0, engine="reference"), str(tmp_path))
    assert "chunk_tokens" in caught.value.fix


@pytest.mark.parametrize(
    ("options", "room"),
    [
        ({"workers": 2, "threads": 2}, True),
        ({"workers": 5}, False),
        ({"workers": 1, "threads": 5}, False),
        ({"workers": 1, "gpu": True}, True),
        ({"workers": 2, "gpu": True}, False),
        ({"workers": 0, "threads": 9, "gpu": True}, True),
    ],
)
def test_no_room_for_the_workers_is_said_before_anything_waits_for_it(
    caplog: pytest.LogCaptureFixture, options: dict[str, Any], room: bool
) -> None:
    """Of a Ray that was started here: it gets no larger. A cluster that was joined may, and is waited for, with a word."""
    caplog.set_level("WARNING", "cpt_ray")
    has, asked = {"num_cpus": 4.0, "num_gpus": 1.0}, EngineOptions(**options)
    check_room(asked, has, here=False)
    assert bool(caplog.records) == (not room)
    if room:
        check_room(asked, has, here=True)
    else:
        with pytest.raises(UserError, match="Ray has 4 CPUs and 1 GPUs") as caught:
            check_room(asked, has, here=True)
        assert caught.value.where == "cluster.workers"
