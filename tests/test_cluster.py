"""A Ray cluster that does not answer is said at once."""

from __future__ import annotations

import os
import socket

import pytest

from cpt_ray import cluster
from cpt_ray.cluster import ClusterOptions, connect, remotely
from cpt_ray.errors import UserError


@pytest.mark.parametrize(
    "address", ["127.0.0.1:{port}", "ray://127.0.0.1:{port}", "nowhere.invalid:6379", "127.0.0.1:99999"]
)
def test_an_address_that_does_not_answer_is_said_at_once(address: str) -> None:
    """Nobody listens, no such name, no such port: before Ray is started, or even imported."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        wrong = address.format(port=taken.getsockname()[1])
        with pytest.raises(UserError, match="no Ray cluster answers") as caught, connect(ClusterOptions(address=wrong)):
            pass
    assert caught.value.where == f"cluster.address={wrong}"


def test_a_port_beyond_the_last_is_not_taken_for_another() -> None:
    """Where somebody listens at the same number modulo 65,536, as getaddrinfo would have it."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        wrong = f"127.0.0.1:{other.getsockname()[1] + 65_536}"
        with pytest.raises(UserError, match="the last is 65535"):
            cluster._knock(wrong)


def test_one_that_listens_is_left_to_ray() -> None:
    with socket.create_server(("127.0.0.1", 0)) as head:
        cluster._knock(f"127.0.0.1:{head.getsockname()[1]}")
    for left_to_ray in (None, "auto"):
        cluster._knock(left_to_ray)


@pytest.mark.path
def test_workers_of_a_ray_that_is_started_here_are_as_nice_as_the_command() -> None:
    """As Ray has it they are 15 nicer, and two of them share one core of two beside another's busy process."""
    with connect(ClusterOptions(cpus=1)):
        assert remotely(lambda: os.nice(0)) == os.nice(0)


def test_models_are_written_to_a_folder_and_pairs_to_a_bucket_too():
    """A bucket is a place for artifacts of parts; what other libraries write is refused before anything starts."""
    options = ClusterOptions(outputs="s3://corpus/runs")
    assert options.folder("pairs/text_pairs") == "s3://corpus/runs/pairs/text_pairs"
    with pytest.raises(UserError, match="give a folder") as error:
        options.on_disk("train")
    assert error.value.where == "cluster.outputs=s3://corpus/runs"
    assert ClusterOptions(outputs="runs").on_disk("train") == os.path.abspath("runs/train")


@pytest.mark.parametrize("outputs", ["file", "file/below", "closed", "closed/below"])
def test_outputs_that_can_be_no_folder_are_said_when_they_are_asked_for(tmp_path, monkeypatch, outputs):
    """Before Ray is started: a file has the name, or one above it, or nothing may be written there (root may)."""
    (tmp_path / "file").touch()
    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(cluster.os, "access", lambda path, mode: "closed" not in str(path))
    with pytest.raises(UserError) as caught:
        ClusterOptions(outputs=str(tmp_path / outputs)).folder("train")
    assert caught.value.where == f"cluster.outputs={tmp_path / outputs}"
    assert ClusterOptions(outputs=str(tmp_path / "new" / "er")).folder("train") == str(
        tmp_path / "new" / "er" / "train"
    )
    assert not (tmp_path / "new").exists()
