"""Every command and every piece of Python of docs/analyst.md, run as it is written over a small demo; numbers alone are smaller,
since the demo is. What asks a hub is run in tests/evaluate (test_named.py, test_mteb.py)."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.pipelines.conftest import ROOT, Demo
from tests.pipelines.test_docs import PAGE, _commands, _labelled

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

SIZES = ["batches.batch_size=16", "batches.max_x_tokens=16", "batches.max_y_tokens=24", "heldout_pairs=16"]
TRAINING = [*SIZES, "model.context=64", "train.workers=1", "train.threads=1", "train.precision=fp32"]
SMALLER = {
    "train": [*TRAINING, "batches.steps=4", "train.evaluate_every=2"],
    "sweep sweep.over.batches": [*TRAINING[1:], "sweep.over.batches.batch_size=[8,16]", "sweep.examples=64"],
    "sweep sweep.search.kind=random": [*TRAINING, "sweep.search.trials=2", "sweep.examples=64"],
    "evaluate pairs": ["candidates.candidates=50"],
}
"""What is added to a command that begins so (with its key), because the demo is small."""
WHERE = {"pairs": "outputs/demo/code_pairs", "model.init": "outputs/demo/initial"}
"""For a key whose value is `...` on the page."""
READY = 120.0


@pytest.fixture(scope="module")
def desk(undisturbed: Demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `outputs` of a demo, and labelled data in `eval`."""
    folder = tmp_path_factory.mktemp("desk")
    (folder / "outputs").symlink_to(undisturbed.outputs)
    labelled = _labelled(folder / "eval")
    shutil.copy(labelled / "similarity" / "STSB" / "test.tsv", labelled / "similarity" / "STSB" / "dev.tsv")
    return folder


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_DISABLE_TELEMETRY": "true"}


def _cpt_ray(words: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "pipelines.cli", *words]


def _run(command: Sequence[str], desk: Path) -> str:
    done = subprocess.run(command, cwd=desk, env=_environment(), capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-6000:]}"
    return done.stdout


def _words(command: str) -> list[str]:
    """Of a command as it is written: placeholders and what is left out are filled in, and what is smaller is added."""
    words = shlex.split(command.replace("<folder>", "eval"), comments=True)
    words = [word if not word.endswith("=...") else f"{word[:-3]}{WHERE[word[:-4]]}" for word in words]
    added = [
        more
        for begun, more in SMALLER.items()
        if begun.split()[0] == words[0] and any(word.startswith(begun.split()[-1]) for word in words)
    ]
    return [*words, *(word for more in added for word in more)]


COMMANDS = sorted(
    {command for page, command in _commands() if page == "analyst.md"}, key=lambda one: one.split()[0] != "train"
)
"""Training first: it makes what others measure."""
ELSEWHERE = ("mteb:", "<one model>", "<another>", "outputs/one_suite", "<name>", "serve")
"""Of commands that need a hub, that test_docs.py runs in their order, that stand in a sentence, or are served below."""


@pytest.mark.parametrize("command", [one for one in COMMANDS if not any(word in one for word in ELSEWHERE)])
def test_the_command_does_its_work(desk: Path, command: str) -> None:
    assert _run(_cpt_ray(_words(command)), desk)


@pytest.mark.parametrize("command", [one for one in COMMANDS if one.startswith("serve")])
def test_what_is_served_answers_each_curl(desk: Path, command: str) -> None:
    """The calls that the page shows after it, each answered."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    calls = re.findall(r"^curl (.*)$", PAGE, re.MULTILINE) if "index=null" not in command else ["127.0.0.1:8080/health"]
    assert calls
    served = subprocess.Popen(_cpt_ray([*_words(command), f"http.port={port}"]), cwd=desk, env=_environment())
    try:
        until = time.monotonic() + READY
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
                break
            except OSError:
                assert served.poll() is None
                assert time.monotonic() < until
                time.sleep(0.2)
        for call in calls:
            words = shlex.split(call.replace("127.0.0.1:8080", f"127.0.0.1:{port}"), comments=True)
            assert _run(["curl", "--fail-with-body", "-sS", *words], desk).startswith("{")
    finally:
        served.terminate()
        served.wait()


def _blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def test_the_models_opened_from_python(desk: Path) -> None:
    """Any model and any task, and the champion as MLflow loads it, here and where the outputs were moved to."""
    (tasks,) = (block for block in _blocks() if "read_beir" in block)
    for said, there in {
        "path/to/beir-folder": "eval/search/xquad-en",
        "stsb/dev.tsv": "eval/similarity/STSB/dev.tsv",
        '"train.tsv"': '"eval/classification/TREC/train.tsv"',
        '"test.tsv"': '"eval/classification/TREC/test.tsv"',
    }.items():
        assert said in tasks
        tasks = tasks.replace(said, there)
    assert len(_run([sys.executable, "-c", tasks], desk).splitlines()) == 4
    (champion,) = (block for block in _blocks() if "pyfunc" in block)
    ends = "\nprint(len(queries), len(functions), abs(sum(v * v for v in queries[0]) - 1) < 1e-4)"
    assert _run([sys.executable, "-c", champion + ends], desk) == "1 1 True\n"
    moved = desk / "moved"
    shutil.copytree(desk / "outputs", moved / "outputs")
    (change,) = (block for block in _blocks() if "file:///old" in block)
    old, new = (desk / "outputs").resolve(), (moved / "outputs").resolve()
    change = change.replace("file:///old/outputs/", f"file://{old}/").replace("file:///new/outputs/", f"file://{new}/")
    _run([sys.executable, "-c", change], moved)
    hidden = old.with_name("elsewhere")
    old.rename(hidden)
    try:
        assert _run([sys.executable, "-c", champion + ends], moved) == "1 1 True\n"
    finally:
        hidden.rename(old)


def test_every_block_is_run_somewhere() -> None:
    """Three here, the one of mteb in tests/evaluate/test_mteb.py."""
    assert len(_blocks()) == 4
    assert sum("mteb.evaluate" in block for block in _blocks()) == 1
