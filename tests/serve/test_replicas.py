"""The application on Ray Serve: a config for `serve deploy`, and replicas that may die."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import psutil
import pytest
import yaml

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


@pytest.fixture
def two_replicas(model_folder: str) -> Iterator[tuple[str, subprocess.Popen]]:
    (port,) = free_ports(1)
    words = [f"trained={model_folder}", "index=null", "replicas=2", "name=toy", f"http.port={port}", "precision=fp32"]
    process = subprocess.Popen([sys.executable, "-m", "pipelines.serve", *words], cwd=ROOT)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 240
        while process.poll() is None and time.monotonic() < deadline:
            try:
                if httpx2.get(f"{address}/health").status_code == 200:
                    break
            except httpx2.TransportError:
                time.sleep(0.2)
        yield address, process
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
