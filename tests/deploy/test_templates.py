"""The deployment templates parse, and name the versions this repository is pinned to."""

from __future__ import annotations

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from pipelines import cli

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RAY = next(re.search(r"==([\d.]+)", d).group(1) for d in PROJECT["dependencies"] if d.startswith("ray["))


def _runs(command: str) -> None:
    """`cpt-ray ...` as written in a template composes: the pipeline and every key in it exist."""
    words = command.split()
    assert words[0].endswith("cpt-ray")
    assert cli.main([*words[1:], "--print-config"]) == 0


def test_kuberay_job(monkeypatch):
    """A RayJob that cleans up after itself, is retried, ends at a deadline, and runs a command that composes."""
    monkeypatch.setenv("CPT_RAY_OUTPUTS", "/outputs")
    job = yaml.safe_load((ROOT / "deploy/kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    assert spec["shutdownAfterJobFinishes"] is True
    assert spec["backoffLimit"] > 0
    assert spec["activeDeadlineSeconds"] > 0
    assert spec["rayClusterSpec"]["rayVersion"] == RAY
    _runs(spec["entrypoint"])


def test_slurm_script(monkeypatch):
    """The script is valid shell, and its default command composes."""
    monkeypatch.setenv("CPT_RAY_OUTPUTS", "/outputs")
    subprocess.run(["bash", "-n", str(ROOT / "deploy/slurm.sh")], check=True)
    text = (ROOT / "deploy/slurm.sh").read_text()
    default = re.search(r"set -- (.*)", text).group(1)
    _runs("cpt-ray " + re.sub(r'"cluster.workers=.*"', "cluster.workers=16", default))


def test_image_has_the_pinned_ray():
    assert f"rayproject/ray:{RAY}-py311" in (ROOT / "deploy/Dockerfile").read_text()


@pytest.mark.parametrize("name", ["torch", "ray", "transformers", "deepspeed", "mlflow", "pyarrow"])
def test_constraints_agree_with_pyproject(name):
    """One version of each pinned package, in both files."""
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    declared = next(d for d in PROJECT["dependencies"] if re.match(rf"{name}(\[|==)", d))
    assert declared.split("==")[1] == pinned[name]
