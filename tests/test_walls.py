"""The house stands as drawn: a module imports only from below, and Ray stays at the edges."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LIBRARY = ROOT / "cpt_ray"

FLOORS = [
    {
        "compat",
        "errors",
        "options",
        "kinds",
        "progress",
        "memory",
        "machine",
        "ranking",
        "nearest",
        "words",
        "addresses",
        "licences",
        "masks",
        "telemetry",
    },
    {"artifacts", "tracking", "cluster"},
    {"installed"},
    {"web", "code", "dedup"},
    {"pairs", "inspect"},
    {"corpus"},
    {"model"},
    {"train"},
    {"evaluate"},
    {"sweep", "serve"},
]
"""From the ground up. A room imports from floors below its own, never from a neighbour on the same floor."""

RAY_ALLOWED = {
    *(
        "artifacts/shards.py",
        "cluster.py",
        "telemetry.py",
        "corpus.py",
        "train/launch.py",
        "sweep/run.py",
        "serve/replicas.py",
        "serve/datasets.py",
    ),
    *("sweep/searches/asha.py", "sweep/searches/optuna.py"),
}


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "cpt_ray" and len(parts) > 1 else None


MODULES = sorted(LIBRARY.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_imports_only_from_below(path: Path) -> None:
    """No module imports a room on its own floor or above, and the library never imports pipelines."""
    own = path.relative_to(LIBRARY).parts[0].removesuffix(".py")
    if own == "__init__":
        return
    floor = {room: level for level, rooms in enumerate(FLOORS) for room in rooms}
    assert own in floor, f"{own} has no floor: add it to FLOORS and to CONTRIBUTING.md"
    for module in imports_of(path):
        assert module.split(".")[0] != "pipelines", f"{path} imports {module}"
        room = room_of(module)
        if room is not None and room in floor and room != own:
            within_ground = floor[own] == 0 and floor[room] == 0
            assert floor[room] < floor[own] or within_ground, f"{path.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_ray_is_known_only_at_the_edges(path: Path) -> None:
    """Work is described without Ray, so that it is tested without a cluster."""
    uses_ray = any(module.split(".")[0] == "ray" for module in imports_of(path))
    assert not uses_ray or str(path.relative_to(LIBRARY)) in RAY_ALLOWED


HEAVY = ("torch", "transformers", "ray", "deepspeed", "pyarrow", "numpy", "numba", "sklearn", "mlflow", "tree_sitter")
TASKS = [path for path in MODULES if path.parent == LIBRARY / "evaluate" / "tasks" and path.stem != "__init__"]
LIGHT = [
    *(path for path in MODULES if path.stem.endswith("options")),
    *TASKS,
    *(LIBRARY / "web" / "filters").glob("[a-z]*.py"),
    *(LIBRARY / "serve" / "indexes").glob("[a-z]*.py"),
    *(LIBRARY / "train" / "losses").glob("[a-z]*.py"),
    *(LIBRARY / "sweep" / "searches").glob("[a-z]*.py"),
    LIBRARY / "cluster.py",
    *sorted((ROOT / "pipelines" / "options").glob("[a-z]*.py")),
    *(ROOT / "pipelines" / f"{name}.py" for name in ("cli", "config", "compose")),
]


INNER = ("deepspeed.runtime", "transformers.models", "transformers.modeling_utils", "ray._", "torch._", "aiohttp._")
"""Beginnings of the names of other libraries' own modules."""
PROMISED = {"_replace", "_asdict", "_fields"}
"""Of named tuples, which the standard library documents."""


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(LIBRARY)))
def test_internals_of_other_libraries_are_used_in_one_room(path: Path) -> None:
    """What is private to a library stands in `compat`, with the version it is true for and a test."""
    if path.parent == LIBRARY / "compat":
        return
    inner = {module for module in imports_of(path) if module.startswith(INNER)}
    tree = ast.parse(path.read_text())
    ours = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute) or not node.attr.startswith("_") or node.attr.startswith("__"):
            continue
        of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
        if not of_self and node.attr not in ours | PROMISED:
            inner.add(ast.unparse(node))
    assert not inner, f"move it to cpt_ray/compat: {sorted(inner)}"


def test_options_are_light() -> None:
    """Help and configuration need the options of everything, and must not wait for what everything imports."""
    modules = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in LIGHT]
    code = f"import sys, {', '.join(modules)}; print(*(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == []


def test_modules_of_the_pipelines_know_no_name_of_their_own() -> None:
    """They are `pipelines` in a checkout and `cpt_ray.pipelines` where they are installed."""
    absolute = [
        f"{path.name}: {line}"
        for path in (ROOT / "pipelines").rglob("*.py")
        for line in path.read_text().splitlines()
        if line.lstrip().startswith(("from pipelines", "import pipelines"))
    ]
    assert absolute == []


NAMES = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in MODULES}


def _at_import(path: Path) -> set[str]:
    """Modules of ours that this one needs when it is imported: not in functions, not for the type checker alone."""
    found: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(path.read_text())]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            # A name of a package is a module of its own, or something that its __init__ has.
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inner & set(NAMES.values()) or {node.module}
        waiting += ast.iter_child_nodes(node)
    return found & set(NAMES.values()) - {NAMES[path]}


def test_no_module_imports_itself_by_way_of_others() -> None:
    """Inside a room too: modules stand in an order, so each can be read, and moved, after those it stands on."""
    below = {NAMES[path]: _at_import(path) for path in MODULES}
    while leaves := {name for name, imports in below.items() if not imports}:
        below = {name: imports - leaves for name, imports in below.items() if name not in leaves}
    assert not below, f"circles among {sorted(below)}"
