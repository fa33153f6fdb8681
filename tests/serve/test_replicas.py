"""The application on Ray Serve: a config for `serve deploy`, and replicas that may die."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import yaml

from cpt_ray.errors import UserError
from pipelines import cli
from tests.serve.running import free_ports, load

ROOT = Path(__file__).parents[2]


def test_the_config_is_what_serve_deploy_takes(
    tmp_path: Path, model_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read by Ray Serve's own schema; it names our import path, whole paths, and no key."""
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary
    from ray.serve.schema import ServeDeploySchema

    out = tmp_path / "serve.yaml"
    monkeypatch.setenv("CPT_RAY_API_KEY", "secret")
    words = [f"trained={model_folder}", "index=null", "replicas=3", f"config={out}", "name=toy", "http.port=8123"]
    assert cli.main(["serve", *words]) == 0
    written = yaml.safe_load(out.read_text())
    assert "secret" not in out.read_text()
    read = ServeDeploySchema.model_validate(written)
    assert read.http_options.port == 8123
    (application,) = read.applications
    assert application.import_path == "cpt_ray.serve.replicas:application"
    assert application.args["served"]["trained"] == model_folder
    assert application.deployments[0].num_replicas == 3
    from cpt_ray.serve import replicas

    built = call_user_app_builder_with_args_if_necessary(replicas.application, application.args)
    assert built._bound_deployment.name == application.deployments[0].name


def state(status: str, message: str = "", **replicas: int) -> Any:
    """What Ray Serve says of our application."""
    from ray.serve import schema

    counts = {schema.ReplicaState(name): count for name, count in replicas.items()}
    trigger = schema.DeploymentStatusTrigger.UNSPECIFIED
    model = schema.DeploymentStatusOverview(
        status="UPDATING", status_trigger=trigger, replica_states=counts, message=message
    )
    found = schema.ApplicationStatusOverview(
        status=status, message="", last_deployed_time_s=0.0, deployments={"Model": model}
    )
    return schema.ServeStatus(applications={"cpt-ray": found})


def test_a_replica_that_dies_while_others_start_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ray Serve calls that a failed deployment, and makes another; where it makes none, what a replica said is told."""
    from cpt_ray.serve import replicas

    for told, want in [
        (state("DEPLOYING", STARTING=2), False),
        (state("DEPLOY_FAILED", RUNNING=1, STARTING=1), False),
        (state("DEPLOY_FAILED", STARTING=1, STOPPING=1), False),
        (state("RUNNING", RUNNING=2), True),
    ]:
        monkeypatch.setattr(replicas.serve, "status", lambda told=told: told)
        assert replicas.running() is want
    for told in (state("DEPLOY_FAILED", "no such model"), state("DEPLOY_FAILED", "no such model", STOPPING=1)):
        monkeypatch.setattr(replicas.serve, "status", lambda told=told: told)
        with pytest.raises(UserError, match="no such model"):
            replicas.running()


def test_an_index_that_is_not_there_is_refused_before_anything_starts(
    tmp_path: Path, model_folder: str, capfd: pytest.CaptureFixture[str]
) -> None:
    words = [f"trained={model_folder}", f"index={tmp_path / 'none'}", "replicas=2"]
    assert cli.main(["serve", *words]) == 2
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.parametrize("config", [[], ["config=serve.yaml"]])
def test_an_address_that_replicas_cannot_have_is_said_before_ray_is_started(
    tmp_path: Path,
    model_folder: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    config: list[str],
) -> None:
    """One that is taken, where Ray is started here, and none at all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pipelines.serve.connect", None)
    words = ["serve", f"trained={model_folder}", "index=null", "replicas=1", *config]
    assert cli.main([*words, "http.port=0"]) == 2
    assert "http.port=0: replicas answer at a port that is known" in capfd.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert cli.main([*words, f"http.port={other.getsockname()[1]}"]) == (0 if config else 2)
    assert ("cannot listen there" in capfd.readouterr().err) == (not config)


@pytest.fixture
def two_replicas(model_folder: str, tmp_path: Path) -> Iterator[tuple[str, subprocess.Popen]]:
    (port,) = free_ports(1)
    words = [f"trained={model_folder}", "index=null", "replicas=2", "name=toy", f"http.port={port}", "precision=fp32"]
    log = tmp_path / "log"
    with log.open("w") as out:
        process = subprocess.Popen([sys.executable, "-m", "pipelines.serve", *words], cwd=ROOT, stdout=out, stderr=out)
    try:
        while "2 replicas behind" not in log.read_text():  # the first answers before the second can
            assert process.poll() is None, log.read_text()
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}", process
    finally:
        process.terminate()
        process.wait(60)


def of_replicas(process: subprocess.Popen) -> list[psutil.Process]:
    """Processes that run a replica of ours."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if "ServeReplica:cpt-ray:Model" in " ".join(child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


@pytest.mark.slow
def test_a_replica_killed_under_load_loses_only_what_it_had(two_replicas: tuple[str, subprocess.Popen]) -> None:
    """Every request is answered: 200, or a 5xx of those that were in the replica; then there are two again, and SIGTERM
    ends all of it."""
    address, process = two_replicas
    body, clients = {"input": ["def parse(date): return date"], "model": "toy"}, 8

    def until(count: int) -> None:
        while seen.total() < count:
            assert process.poll() is None
            time.sleep(0.05)

    with load(address, clients, body) as seen:
        until(100)
        killed = of_replicas(process)[0]
        os.kill(killed.pid, signal.SIGKILL)
        until(seen.total() + 400)
    assert set(seen) <= {200, 500, 502, 503}, seen
    assert seen.total() - seen[200] <= clients, seen
    while len(alive := of_replicas(process)) < 2 or killed in alive:
        assert process.poll() is None
        time.sleep(0.2)
    assert httpx2.get(f"{address}/v1/models").status_code == 200
    process.terminate()
    assert process.wait(60) in (0, 143)
