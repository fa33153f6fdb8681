"""What is wrong with a machine is named with its fix; what only slows it down, or is needed by few, fails nothing."""

from __future__ import annotations

import os
from collections import namedtuple
from importlib import metadata
from pathlib import Path

import pytest

from cpt_ray import machine
from cpt_ray.installed.distributions import distributions
from cpt_ray.machine import GIB

Usage = namedtuple("Usage", "total used free")


def test_another_python_fails() -> None:
    assert machine.python((3, 11, 9)).state == "good"
    found = machine.python((3, 12, 0))
    assert (found.state, "3.12.0" in found.says, "python3.11" in found.fix) == ("fails", True, True)


def test_no_compiler_on_the_path_is_named(tmp_path: Path) -> None:
    """Nothing but torch.compile needs one."""
    found = machine.compiler({"PATH": str(tmp_path)})
    assert (found.state, "PATH" in found.says, "g++" in found.fix) == ("limited", True, True)
    there = tmp_path / "c++"
    there.write_text("#!/bin/sh\n")
    there.chmod(0o755)
    assert machine.compiler({"PATH": str(tmp_path)}).says == str(there)
    assert machine.compiler({"PATH": "/nowhere", "CXX": str(there)}).says == str(there)


def test_small_shared_memory_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: Usage(64 << 20, 0, 64 << 20))
    found = machine.shared_memory(512 << 20, "/")
    assert found.state == "limited"
    assert "0.06 GiB" in found.says
    assert "--shm-size=1g" in found.fix
    assert "object_store_mb" in found.fix
    assert machine.shared_memory(64 << 20, "/").state == "good"


def test_little_room_fails_and_a_full_disk_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder that is not there yet is looked for where it will be."""
    for free, state in ((1, "fails"), (30, "limited"), (600, "good")):
        monkeypatch.setattr(machine.shutil, "disk_usage", lambda _, free=free: Usage(1000 * GIB, 0, free * GIB))
        found = machine.disk("outputs", "cluster.outputs=", str(tmp_path / "not" / "yet"), 4 * GIB)
        assert (found.state, "cluster.outputs=" in found.fix) == (state, state != "good")
        assert found.says.endswith(f"at {tmp_path}")


def test_little_memory_fails() -> None:
    assert machine.memory(6 * GIB, 7 * GIB).state == "good"
    assert machine.memory(6 * GIB, 5 * GIB).state == "fails"


def test_another_version_of_a_package_is_named(tmp_path: Path) -> None:
    """Also of one that nothing of ours asks for by its version; a build such as +cpu is the same version."""
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("Some.Thing==1.2\ntorch==2.13.0\nabsent==3\n")
    have = {"some-thing": "1.2", "torch": "2.13.0+cpu"}
    assert machine.packages(constraints, "no-such-distribution", have).state == "good"
    found = machine.packages(constraints, "no-such-distribution", have | {"some-thing": "1.3"})
    assert found.state == "fails"
    assert found.says == "Some.Thing 1.3, wanted 1.2"
    assert "pip install -c constraints.txt" in found.fix
    assert "is missing" in machine.packages(tmp_path / "none", "cpt-ray", {}).says


def test_features_are_those_of_the_kernel(tmp_path: Path) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text("processor\t: 0\nmodel name\t: Some CPU\nflags\t\t: fpu avx2 amx_bf16\n")
    assert machine.processor(info).says == f"{len(os.sched_getaffinity(0))} CPUs of Some CPU: avx2 amx_bf16"
    assert machine.processor(tmp_path / "none").state == "good"


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a file where a folder should be; what is not there yet is made in the nearest that is."""
    (tmp_path / "file").touch()
    assert machine.disk("outputs", "key=", str(tmp_path / "a" / "b"), 1).state != "fails"
    named = machine.disk("outputs", "key=", str(tmp_path / "file"), 1)
    assert (named.state, "is no folder" in named.says, "key=" in named.fix) == ("fails", True, True)
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere but on what is read-only
    named = machine.disk("outputs", "key=", str(tmp_path), 1)
    assert (named.state, "cannot be written to" in named.says) == ("fails", True)


def test_of_two_versions_the_one_that_is_imported_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where PYTHONPATH has another one than the environment."""
    about = tmp_path / "numpy-0.1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 0.1\n")
    pins = tmp_path / "constraints.txt"
    pins.write_text("numpy==2.4.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = machine.packages(pins, name="no-such-distribution")
    assert (found.state, "numpy 0.1, wanted 2.4.0" in found.says) == ("fails", True)


@pytest.mark.parametrize("backport", [False, True])
def test_what_is_left_of_a_removed_package_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backport: bool
) -> None:
    """Also where importlib_metadata finds what is installed, which MLflow brings along."""
    there = pytest.importorskip("importlib_metadata") if backport else metadata
    (tmp_path / "gone-1.0.dist-info").mkdir()
    monkeypatch.syspath_prepend(str(tmp_path))
    find = there.MetadataPathFinder.find_distributions
    monkeypatch.setattr(metadata, "distributions", lambda **about: find(there.DistributionFinder.Context(**about)))
    assert machine.packages(tmp_path / "constraints.txt", name="no-such-distribution").state == "good"
    assert distributions([str(tmp_path)], standard_library=False) == []
