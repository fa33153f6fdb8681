"""What this machine is and has, and what of it will fail or be slow: one finding for each, with what to do about it."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

import psutil
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PYTHON = (3, 11)
FEATURES = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Instructions that decide how fast matrix products are, as Linux names them."""
GIB = 1 << 30
FULL = 0.95
"""Ray makes no objects on a file system that is fuller than this."""
NAMED = 5


@dataclass(frozen=True)
class Finding:
    """One line of `cpt-ray doctor`: `state` says whether work will fail for it, or only be slow or have to do without."""

    name: str
    says: str
    state: Literal["good", "limited", "fails"] = "good"
    fix: str = ""


def python(version: tuple[int, ...] = sys.version_info[:3]) -> Finding:
    says = f"{'.'.join(map(str, version))}, {platform.system()} {platform.machine()}"
    if version[:2] == PYTHON:
        return Finding("Python", says)
    wanted = ".".join(map(str, PYTHON))
    return Finding(
        "Python", says, "fails", f"make the environment with Python {wanted}: make setup PYTHON=python{wanted}"
    )


def compiler(environment: Mapping[str, str] = os.environ) -> Finding:
    """A C++ compiler: torch.compile needs one, nothing else does."""
    for name in (environment.get("CXX", ""), "c++", "g++", "clang++"):
        found = name and shutil.which(name, path=environment.get("PATH"))
        if found:
            return Finding("compiler", found)
    fix = "install g++ or set CXX, if you want train.compile=true; nothing else needs it"
    return Finding("compiler", "no C++ compiler on PATH", "limited", fix)


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Finding:
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    flags = set((said.get("flags") or said.get("Features") or "").split())
    name = said.get("model name") or platform.processor() or "unknown"
    known = " ".join(feature for feature in FEATURES if feature in flags) or "no known features"
    return Finding("processor", f"{cpus()} CPUs of {name}: {known}")


def cpus() -> int:
    """CPUs that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory(needed: int, available: int | None = None) -> Finding:
    """`needed` and `available` in bytes; by default what the machine and its container have left."""
    available = _available() if available is None else available
    says = f"{available / GIB:.1f} GiB free of {psutil.virtual_memory().total / GIB:.1f}"
    if available >= needed:
        return Finding("memory", says)
    return Finding("memory", says, "fails", f"free some: the demo takes about {needed / GIB:.0f} GiB at its peak")


def _available() -> int:
    free = int(psutil.virtual_memory().available)
    most, used = (_number(Path("/sys/fs/cgroup", name)) for name in ("memory.max", "memory.current"))
    return free if most is None or used is None else min(free, most - used)


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return None


def disk(name: str, key: str, folder: str, needed: int) -> Finding:
    """Room where `folder` is or will be, which `key` names; `needed` in bytes."""
    place = Path(folder).expanduser().absolute()
    while not place.exists():
        place = place.parent
    usage = shutil.disk_usage(place)
    says = f"{usage.free / GIB:.1f} GiB free at {place}"
    if not place.is_dir() or not os.access(place, os.W_OK):
        says = f"{place} {'cannot be written to' if place.is_dir() else 'is no folder'}"
        return Finding(name, says, "fails", f"give another folder with {key}")
    fix = f"free some, or give another folder with {key}:"
    if usage.free < needed:
        return Finding(name, says, "fails", f"{fix} {needed / GIB:.0f} GiB are needed")
    if usage.free < (1 - FULL) * usage.total:
        return Finding(name, says, "limited", f"{fix} this one is fuller than {FULL:.0%}, where Ray may refuse to work")
    return Finding(name, says)


def shared_memory(needed: int, folder: str = "/dev/shm") -> Finding:
    """Where Ray keeps the objects that processes share; `needed` in bytes."""
    if not Path(folder).is_dir():
        return Finding("shared memory", f"no {folder}: Ray keeps its objects in files")
    free = shutil.disk_usage(folder).free
    says = f"{free / GIB:.2f} GiB free at {folder}"
    if free >= needed:
        return Finding("shared memory", says)
    fix = (
        f"give the container more (docker run --shm-size={-(-needed * 2 // GIB)}g), or lower cluster.object_store_mb:"
        f" Ray wants {needed / GIB:.1f} GiB, and keeps its objects in slower files otherwise"
    )
    return Finding("shared memory", says, "limited", fix)


def name_of(distribution: metadata.Distribution) -> str | None:
    """What an installed distribution is called; None of what is left of a removed one, a folder without metadata.

    importlib_metadata, which finds for importlib.metadata once anybody has imported it, raises there (9.1.0).
    """
    try:
        return distribution.name
    except FileNotFoundError:
        return None


def packages(constraints: Path, name: str = "cpt-ray", installed: Mapping[str, str] | None = None) -> Finding:
    """Whether what is installed is what was tested: the versions of `constraints`, where that file is, and all that
    `name` requires."""
    if installed is None:
        # Of two on the path the first is imported.
        found = [(name_of(d), d) for d in reversed([*metadata.distributions()])]
        installed = {canonicalize_name(called): d.version for called, d in found if called}
    wrong: dict[str, str] = {}
    try:
        required = [Requirement(line) for line in metadata.requires(name) or []]
    except metadata.PackageNotFoundError:
        required = []
    for one in required:
        version = installed.get(canonicalize_name(one.name))
        if one.marker is not None and not one.marker.evaluate({"extra": ""}):
            continue
        if version is None or not one.specifier.contains(version, prereleases=True):
            wrong[one.name] = f"{one.name} {version or 'is missing'}, wanted {one.specifier or 'any version'}"
    pins = constraints.read_text().splitlines() if constraints.is_file() else []
    for pin, wanted in (line.split("==") for line in pins if "==" in line):
        version = installed.get(canonicalize_name(pin))
        if version is not None and Version(version).public != Version(wanted).public:
            wrong[pin] = f"{pin} {version}, wanted {wanted}"
    if wrong:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        fix = f"make setup, or pip install -c constraints.txt {' '.join(list(wrong)[:NAMED])}"
        return Finding("packages", "; ".join(list(wrong.values())[:NAMED]) + more, "fails", fix)
    of = f"the {len(pins)} of {constraints.name}" if pins else "all that are required"
    return Finding("packages", f"{of}, in the versions that were tested")
