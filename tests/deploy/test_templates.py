"""The deployment templates parse, and name the versions this repository is pinned to."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
import zoneinfo
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipelines import cli, config, demo
from tests.dashboard import BOARD, asked

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


def _merged(over: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    """RFC 7386, without removals."""
    return over | {
        key: _merged(over.get(key, {}), value) if isinstance(value, dict) else value for key, value in patch.items()
    }


def test_elastic_patch_of_the_kuberay_job() -> None:
    """Kueue's annotation and Ray's autoscaler, together; the job is otherwise what it was."""
    job = yaml.safe_load((ROOT / "deploy/kuberay.yaml").read_text())
    text = (ROOT / "deploy/elastic.yaml").read_text()
    made = _merged(job, yaml.safe_load(text))
    assert made["metadata"]["annotations"] == {"kueue.x-k8s.io/elastic-job": "true"}
    assert made["metadata"]["labels"] == job["metadata"]["labels"]
    assert made["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"] is True
    assert made["spec"]["entrypoint"] == job["spec"]["entrypoint"]
    (group,) = made["spec"]["rayClusterSpec"]["workerGroupSpecs"]
    assert group["minReplicas"] < group["maxReplicas"]
    assert "--patch-file deploy/elastic.yaml" in text


def test_nightly_job() -> None:
    """Its rules are those that KubeRay takes: never beside shutdownAfterJobFinishes, a condition each, and of one status the
    workers go first and the record last."""
    job = yaml.safe_load((ROOT / "deploy/nightly.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayCronJob")
    assert len(job["spec"]["schedule"].split()) == 5
    zoneinfo.ZoneInfo(job["spec"]["timeZone"])
    spec = job["spec"]["jobTemplate"]
    assert spec["rayClusterSpec"]["rayVersion"] == RAY
    assert not {"shutdownAfterJobFinishes", "ttlSecondsAfterFinished"} & spec.keys()
    after: dict[str, dict[str, int]] = {"SUCCEEDED": {}, "FAILED": {}}
    for rule in spec["deletionStrategy"]["deletionRules"]:
        (status,) = {rule["condition"].get("jobStatus")}
        assert rule["policy"] not in after[status]
        after[status][rule["policy"]] = rule["condition"]["ttlSeconds"]
    for waits in after.values():
        ordered = [waits[policy] for policy in ("DeleteWorkers", "DeleteCluster", "DeleteSelf") if policy in waits]
        assert ordered == sorted(ordered)
        assert "DeleteSelf" in waits
    assert spec["entrypoint"].split()[:2] == ["bash", "nightly.sh"]
    assert "deploy/nightly.sh" in (ROOT / "deploy/Dockerfile").read_text()


def test_nightly_script(tmp_path, monkeypatch) -> None:
    """The first night has no index to compare with; a later one has that of the night before it, whatever came after."""
    (tmp_path / "cpt-ray").write_text('#!/bin/sh\necho "$@"\n')
    (tmp_path / "cpt-ray").chmod(0o755)
    root = tmp_path / "out put"
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "CPT_RAY_OUTPUTS": str(root)}

    def said(night: str) -> list[str]:
        command = ["bash", str(ROOT / "deploy/nightly.sh"), "/archives", night]
        done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
        return done.stdout.splitlines()

    assert not any("index=" in line for line in said("2026-11-02"))
    for night in ("2026-10-31", "2026-11-01", "2026-11-03"):
        (root / "nightly" / night / "index").mkdir(parents=True)
        (root / "nightly" / night / "index" / "manifest.json").write_text("{}")
    pairs, dedup = said("2026-11-02")
    assert f"index={root}/nightly/2026-11-01/index" in dedup
    monkeypatch.setenv("CPT_RAY_OUTPUTS", str(root))
    _composes(pairs.split())
    _composes([dedup.split()[0], "cluster=job", "source=x", "output=y", "index=z"])


def test_service() -> None:
    """What is served is what `cpt-ray serve` writes for the command above it; the key comes from a secret alone."""
    from cpt_ray.serve.options import HttpOptions
    from cpt_ray.serve.replicas import Replicas, config
    from cpt_ray.serve.served import Served

    text = (ROOT / "deploy/service.yaml").read_text()
    service = yaml.safe_load(text)
    assert (service["apiVersion"], service["kind"]) == ("ray.io/v1", "RayService")
    assert service["spec"]["rayClusterConfig"]["rayVersion"] == RAY
    command = next(line for line in text.splitlines() if "cpt-ray serve" in line)
    words = dict(word.split("=", 1) for word in command.split() if "=" in word)
    served = Served(
        trained=words["trained"], index=words["index"], name="code_model", http=HttpOptions(host=words["http.host"])
    )
    wanted = config(Replicas(served=served, replicas=int(words["replicas"]), cpus=1, gpus=1))
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == wanted
    (group,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (variable,) = group["template"]["spec"]["containers"][0]["env"]
    assert (variable["name"], set(variable)) == ("CPT_RAY_API_KEY", {"name", "valueFrom"})


def test_dashboard_asks_for_what_is_counted() -> None:
    """Every name in a query is one of ours as Ray exports it, and every one of ours is asked for."""
    from cpt_ray import telemetry
    from cpt_ray.serve import replicas

    counted = {f"{telemetry.ROWS[0]}_total", *(f"cpt_ray_train_{name}" for name in telemetry.STEP_METRICS)}
    counted |= {f"cpt_ray_{name}_total" for name in (*replicas.TOLD, "requests")}
    counted |= {"cpt_ray_request_seconds_bucket", "cpt_ray_batch_seconds_sum", "cpt_ray_batch_seconds_count"}
    assert asked() == {f"ray_{name}" for name in counted | {"cpt_ray_waiting_requests"}}
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)


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
    _composes([word for word in words[words.index("cpt-ray") + 1 :] if word])


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


CRDS = os.environ.get("KUBERAY_CRDS")


@pytest.mark.skipif(
    CRDS is None, reason="KUBERAY_CRDS is not set: KubeRay's folder ray-operator/config/crd/bases, of release 1.7.0"
)
@pytest.mark.parametrize("name", ["kuberay", "elastic", "nightly", "service"])
def test_manifests_fit_kuberays_schemas(name: str) -> None:
    """Every field is one that the release knows, and of its type; what a server would drop without a word is an error."""
    import jsonschema

    made = yaml.safe_load((ROOT / f"deploy/{name}.yaml").read_text())
    if name == "elastic":
        made = _merged(yaml.safe_load((ROOT / "deploy/kuberay.yaml").read_text()), made)
    (file,) = Path(CRDS or "").glob(f"*_{made['kind'].lower()}s.yaml")
    (version,) = [one for one in yaml.safe_load(file.read_text())["spec"]["versions"] if one["name"] == "v1"]
    jsonschema.Draft202012Validator(_strict(version["schema"]["openAPIV3Schema"])).validate(made)


def _strict(schema: Any) -> Any:
    """With no further fields where fields are listed, and numbers and words where Kubernetes takes either."""
    if isinstance(schema, list):
        return [_strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    strict = {key: _strict(value) for key, value in schema.items()}
    if isinstance(strict.get("properties"), dict) and "x-kubernetes-preserve-unknown-fields" not in strict:
        strict.setdefault("additionalProperties", False)
    if strict.get("x-kubernetes-int-or-string"):
        strict.pop("type", None)
    return strict
