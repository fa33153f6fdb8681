"""A cluster of three nodes on this machine, by the commands of docs/platform.md: deployed, updated under load, watched."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest

from pipelines import cli
from tests.dashboard import asked
from tests.serve.running import free_ports, load

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BODY = {"input": ["def parse(date): return date", "one that is cut, " * 20], "model": "toy"}
KEY = {"Authorization": "Bearer secret"}


class Nodes:
    """Three nodes of one CPU each; `run` is a command of one who uses them, from elsewhere."""

    def __init__(self, folder: Path) -> None:
        self.port, self.dashboard, self.http = free_ports(3)
        self.folder, self.processes = folder, list[subprocess.Popen]()
        self.environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "HOME": str(folder),
            "CPT_RAY_API_KEY": "secret",
            "RAY_AUTH_MODE": "token",
            "RAY_ADDRESS": "",
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        }
        self.token = self.run("ray", "get-auth-token", "--generate").strip()

    def start(self, *words: str) -> None:
        """One more node, waited for. Ray gives its own processes 30 s, too little on a busy machine: then again."""
        common = ["--num-cpus=1", "--object-store-memory=100000000", "--disable-usage-stats", "--block"]
        before = self.alive()
        log = (self.folder / f"node-{before}.log").open("a")
        for _ in range(3):
            node = subprocess.Popen(
                [str(BIN / "ray"), "start", *words, *common],
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            self.processes.append(node)
            until(lambda node=node: node.poll() is not None or self.alive() > before)
            if node.poll() is None:
                return
        pytest.fail(Path(log.name).read_text()[-2000:])

    def alive(self) -> int:
        """Nodes that the head knows of; 0 without one."""
        try:
            return sum(node["raylet"]["state"] == "ALIVE" for node in self.summary())
        except (httpx2.TransportError, ValueError, KeyError):
            return 0

    def summary(self) -> list[dict]:
        return self.get("/nodes?view=summary")["data"]["summary"]

    def run(self, *words: str) -> str:
        command = [str(BIN / words[0]), *words[1:]]
        done = subprocess.run(
            command, env=self.environment, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        return done.stdout

    def get(self, path: str) -> dict:
        headers = {"Authorization": f"Bearer {self.token}"}
        return httpx2.get(f"http://127.0.0.1:{self.dashboard}{path}", headers=headers, timeout=60).json()


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    made = Nodes(tmp_path_factory.mktemp("nodes"))
    dashboard = [f"--dashboard-port={made.dashboard}", "--dashboard-host=127.0.0.1"]
    try:
        made.start("--head", f"--port={made.port}", "--node-ip-address=127.0.0.1", *dashboard)
        for _ in range(2):
            made.start(f"--address=127.0.0.1:{made.port}", "--node-ip-address=127.0.0.1")
        yield made
    finally:
        for process in reversed(made.processes):  # the head last: a node that ends tells it
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def until(true: Callable[[], bool], seconds: float = 240, what: Callable[[], object] = str) -> None:
    """Wait; `what` says what is there instead."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.3)


def answers(url: str) -> bool:
    try:
        return httpx2.get(url, timeout=20).status_code == 200
    except httpx2.TransportError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_deployed_updated_and_watched(nodes: Nodes, model_folder: str, tmp_path: Path) -> None:
    """`serve deploy` of the config that we write: replicas on all nodes, which ask for the key of their environment. A
    changed config is rolled out while clients ask, and no request fails. Ray's metrics hold whatever the dashboard asks
    for of serving."""
    address, dashboard = f"http://127.0.0.1:{nodes.http}", f"http://127.0.0.1:{nodes.dashboard}"
    config = tmp_path / "serve.yaml"

    def write(**changed: object) -> None:
        options = {"trained": model_folder, "index": "null", "name": "toy", "http.port": nodes.http, "replicas": 3}
        words = [f"{name}={value}" for name, value in {**options, "precision": "fp32", **changed}.items()]
        assert cli.main(["serve", *words, f"config={config}"]) == 0

    def application() -> dict:
        return nodes.get("/api/serve/applications/")["applications"].get("cpt-ray", {})

    def running() -> set[str]:
        deployment = application().get("deployments", {}).get("Model", {})
        alive = [replica for replica in deployment.get("replicas", []) if replica["state"] == "RUNNING"]
        return {replica["replica_id"] for replica in alive}

    write()
    nodes.run("serve", "deploy", "-a", dashboard, str(config))
    until(lambda: application().get("status") == "RUNNING" and answers(f"{address}/health"), what=application)
    assert "status: RUNNING" in nodes.run("serve", "status", "-a", dashboard)
    replicas = application()["deployments"]["Model"]["replicas"]
    assert len({replica["node_id"] for replica in replicas}) == 3
    before = running()
    assert len(before) == 3
    assert httpx2.post(f"{address}/v1/embeddings", json=BODY, timeout=60).status_code == 401
    with load(address, 8, BODY, KEY) as seen:
        until(lambda: seen[200] > 100)
        write(**{"http.max_texts": 128})
        nodes.run("serve", "deploy", "-a", dashboard, str(config))
        until(
            lambda: len(running()) == 3 and not running() & before and application()["status"] == "RUNNING",
            what=application,
        )
        count = seen[200]
        until(lambda: seen[200] > count + 100)
    print("requests during the update:", dict(seen))
    assert set(seen) == {200}, seen
    of_serving = {name for name in asked() if not name.startswith(("ray_cpt_ray_train", "ray_cpt_ray_rows"))}
    assert len(of_serving) >= 8
    until(lambda: not (of_serving - exported(nodes)), seconds=60, what=lambda: of_serving - exported(nodes))


def exported(nodes: Nodes) -> set[str]:
    """Names of the metrics that the nodes export, as Ray tells Prometheus where."""
    found: set[str] = set()
    for target in targets(nodes):
        text = httpx2.get(f"http://{target}/metrics", timeout=60).text
        found |= set(re.findall(r"^(ray_cpt_ray_\w+)", text, re.MULTILINE))
    return found


def targets(nodes: Nodes) -> list[str]:
    return [f"127.0.0.1:{node['raylet']['metricsExportPort']}" for node in nodes.summary()]
