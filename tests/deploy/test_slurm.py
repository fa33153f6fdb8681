"""The Slurm script on three nodes of this machine: each has a network, processes and a /tmp/ray of its own, as `unshare` and
`ip netns` give them, and `srun` starts the command on all of them at once. Ray is started by `ray symmetric-run` as it is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.artifacts import read_manifest, read_table
from tests.serve.conftest import model_folder

__all__ = ["model_folder"]

ROOT = Path(__file__).parents[2]
NAME = f"cpt{os.getpid() % 100_000}"
NODES = [f"{NAME}n{number}" for number in range(3)]
NETWORK = f"10.{os.getpid() % 200 + 20}.77"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


@pytest.fixture(scope="module")
def nodes() -> Iterator[list[str]]:
    """Three networks behind a bridge; their addresses."""
    if os.geteuid() != 0 or not (shutil.which("ip") and shutil.which("unshare")):
        pytest.skip("needs root, ip and unshare: networks of its own for each node")
    try:
        _ip("link", "add", f"{NAME}b", "type", "bridge")
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no networks here: {error.stderr.decode().strip()}")
    addresses = []
    try:
        _ip("address", "add", f"{NETWORK}.254/24", "dev", f"{NAME}b")
        _ip("link", "set", f"{NAME}b", "up")
        for number, node in enumerate(NODES):
            addresses.append(f"{NETWORK}.{number + 1}")
            inside = ("netns", "exec", node, "ip")
            _ip("netns", "add", node)
            _ip("link", "add", f"{node}o", "type", "veth", "peer", "name", f"{node}i", "netns", node)
            _ip("link", "set", f"{node}o", "master", f"{NAME}b", "up")
            _ip(*inside, "link", "set", "lo", "up")
            _ip(*inside, "address", "add", f"{addresses[-1]}/24", "dev", f"{node}i")
            _ip(*inside, "link", "set", f"{node}i", "up")
            _ip(*inside, "route", "add", "default", "via", f"{NETWORK}.254")
        yield addresses
    finally:
        for node in NODES:
            subprocess.run(["ip", "netns", "delete", node], capture_output=True, check=False)
        subprocess.run(["ip", "link", "delete", f"{NAME}b"], capture_output=True, check=False)


SRUN = """#!/usr/bin/env bash
# srun OPTION... COMMAND: on every node at once; the first that fails ends all, as --kill-on-bad-exit has it
while [[ "$1" == --* ]]; do shift; done
trap 'kill 0' TERM
for node in {nodes}; do
  ip netns exec $node unshare --mount --pid --fork --kill-child --mount-proc bash -c \
    'mount -t tmpfs tmpfs /tmp/ray && exec "$@"' - "$@" > {logs}/$node.log 2>&1 &
done
code=0
for _ in {nodes}; do wait -n || {{ code=$?; break; }}; done
exit $code
"""


def _run(tmp_path: Path, nodes: list[str], *words: str) -> tuple[int, str]:
    """The script's exit code, and what the head's node has said."""
    bin_, logs = tmp_path / "bin", tmp_path / "logs"
    for folder in (bin_, logs, Path("/tmp/ray")):
        folder.mkdir(exist_ok=True)
    (bin_ / "scontrol").write_text(f"#!/bin/sh\nprintf '%s\\n' {' '.join(nodes)}\n")
    (bin_ / "srun").write_text(SRUN.format(nodes=" ".join(NODES), logs=logs))
    for name in ("scontrol", "srun"):
        (bin_ / name).chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "VIRTUAL_ENV"))}
    path = ":".join(part for part in os.environ["PATH"].split(":") if Path(part) != Path(sys.executable).parent)
    environment |= {"PATH": f"{bin_}:{path}", "CPT_RAY_OUTPUTS": str(tmp_path / "out"), "PYTHONPATH": str(ROOT)}
    environment |= {"SLURM_JOB_NODELIST": "node-[0-2]", "SLURM_NNODES": "3", "RAY_USAGE_STATS_ENABLED": "0"}
    job = subprocess.Popen(
        ["bash", str(ROOT / "deploy/slurm.sh"), *words],
        env=environment,
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        said, _ = job.communicate(timeout=500)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(job.pid, signal.SIGKILL)
    return job.returncode, said + "".join(f"\n-- {log.name}\n{log.read_text()}" for log in sorted(logs.iterdir()))


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_job_on_three_nodes(nodes: list[str], model_folder: str, tmp_path: Path) -> None:
    """The command runs once, with the three nodes as its cluster; its exit code is the job's; what it makes is there."""
    texts = [f"text {number}" for number in range(60)]
    pq.write_table(pa.table({"id": range(60), "text": texts}), tmp_path / "rows.parquet")
    words = ["embed", "cluster=job", f"source={tmp_path}/rows.parquet", f"trained={model_folder}", "index=null"]
    words += ["embed.text=text", "embed.key=id", "embed.rows_per_shard=5", "embed.precision=fp32"]
    code, said = _run(tmp_path, nodes, *words)
    assert code == 0, said
    assert said.count("Starting Ray cluster head") == 1, said
    assert said.count("On worker node") == 2, said
    assert read_manifest(str(tmp_path / "out/embed/embeddings")).rows == 60
    assert read_table(str(tmp_path / "out/embed/embeddings"))["key"].to_pylist() == [str(i) for i in range(60)]
    code, said = _run(tmp_path, nodes, *words, "embed.text=nowhere")
    assert code == 2, said
    assert "embeddings reads the column 'nowhere'" in said, said
