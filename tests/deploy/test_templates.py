"""The deployment templates parse, and name the versions this repository is pinned to."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml

from pipelines import cli, config, demo

ROOT = Path(__file__).parent.parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RAY = next(re.search(r"==([\d.]+)", d).group(1) for d in PROJECT["dependencies"] if d.startswith("ray["))


def _composes(words: list[str]) -> None:
    """`<pipeline> key=value ...` as written in a template passes every check that is made before anything starts."""
    assert cli.main([*words, "--print-config"]) == 0


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
    program, *words = spec["entrypoint"].split()
    assert program == "cpt-ray"
    _composes(words)


@pytest.mark.parametrize("nodes", [1, 2, 4])
def test_slurm_script(monkeypatch, tmp_path, nodes):
    """What the script runs without arguments, as its own shell says, composes."""
    for name, prints in (("scontrol", "echo node-0"), ("srun", "printf '%s\\n' \"$@\"")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{prints}\n")
        (tmp_path / name).chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CPT_RAY_OUTPUTS": "/outputs"}
    environment |= {"SLURM_JOB_NODELIST": "node-[0-3]", "SLURM_NNODES": str(nodes)}
    script = ["bash", str(ROOT / "deploy/slurm.sh")]
    words = subprocess.run(script, env=environment, check=True, capture_output=True, text=True).stdout.split("\n")
    assert words[words.index("--min-nodes") + 1] == str(nodes)
    monkeypatch.setenv("CPT_RAY_OUTPUTS", "/outputs")
    _composes([word for word in words[words.index(".venv/bin/cpt-ray") + 1 :] if word])


def test_commands_of_the_platform_page(monkeypatch):
    """The commands that docs/platform.md shows compose where the variable is not set."""
    monkeypatch.delenv("CPT_RAY_OUTPUTS", raising=False)
    text = (ROOT / "docs/platform.md").read_text()
    commands = re.findall(r"`(?:[^`]* )?(?:cpt-ray |python -m pipelines\.)([a-z_]+(?: [^` ]+)*)`", text)
    assert len(commands) > 1
    for command in commands:
        _composes(command.split())


@pytest.mark.parametrize("workers", [1, 2, 8, 16, 32])
def test_the_demo_runs_on_any_usual_number_of_gpus(workers):
    """Its first weights come from batches of four windows, which are work for four workers at most."""
    words = ["cluster=gpus", "cluster.outputs=x", f"cluster.workers={workers}"]
    options = config.load("demo", demo.PipelineOptions, words)
    assert options.code_model.train.workers == workers
    assert options.initial.dealt.workers == min(workers, options.initial.windows.batch_size)


def test_image_has_the_pinned_ray():
    assert f"rayproject/ray:{RAY}-py311" in (ROOT / "deploy/Dockerfile").read_text()


@pytest.mark.parametrize("name", ["torch", "ray", "transformers", "deepspeed", "mlflow", "pyarrow"])
def test_constraints_agree_with_pyproject(name):
    """One version of each pinned package, in both files."""
    pinned = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    declared = next(d for d in PROJECT["dependencies"] if re.match(rf"{name}(\[|==)", d))
    assert declared.split("==")[1] == pinned[name]
