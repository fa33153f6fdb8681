"""Whatever ails MLflow, nobody waits for it and nothing is lost: kept on disk, sent later, each thing once."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from cpt_ray.tracking import outbox as module
from cpt_ray.tracking.mlflow import Player
from cpt_ray.tracking.outbox import REFUSED, Message, Outbox, Refused, ReportedRun, ending

ABOUT = {"uri": "somewhere", "experiment": "demo"}


class Store:
    """Stands for MLflow: takes messages, or fails in the way that it is told to."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.fails: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()

    def connect(self) -> Any:
        if self.fails:
            raise self.fails
        return self.send

    def send(self, batch: Sequence[Message]) -> None:
        self.gate.wait()
        if self.fails:
            raise self.fails
        self.taken += batch

    def steps(self) -> list[int]:
        return [message["step"] for message in self.taken if message["call"] == "metrics"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)


def _left(folder: Path) -> list[Path]:
    return sorted(folder.glob("[0-9]*"))


def test_all_is_sent_in_order_and_nothing_stays(tmp_path: Path) -> None:
    store = Store()
    box = Outbox(str(tmp_path), ABOUT, store.connect)
    run = ReportedRun(box, "a", "train", tags={"t": 1})
    run.params({"lr": {"first": 0.1}})
    for step in range(1000):
        run.metrics(step, {"loss": step / 2})
    figure = Figure()
    run.figure(figure, "figures/loss.png")
    run.end()
    run.end("FAILED")
    assert box.close() == 0
    assert [message["call"] for message in store.taken if message["call"] != "metrics"] == [
        "open",
        "params",
        "artifact",
        "end",
    ]
    assert store.steps() == list(range(1000))
    assert store.taken[-1]["status"] == "FINISHED"
    assert _left(tmp_path) == []


@pytest.mark.parametrize(
    "ill", [ConnectionError("gone"), TimeoutError("slow"), OSError(errno.ENOSPC, "full"), RuntimeError("locked")]
)
def test_what_is_not_taken_stays_and_is_sent_by_the_next(
    tmp_path: Path, ill: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Gone from the middle on: `close` gives up soon, and the next command sends the whole, before what is its own."""
    store = Store()
    box = Outbox(str(tmp_path), ABOUT, store.connect)
    run = ReportedRun(box, "a", "train")
    run.metrics(1, {"loss": 1})
    while not store.steps():
        time.sleep(0.001)
    store.fails = ill
    run.metrics(2, {"loss": 0.5})
    run.end()
    assert box.close() > 0
    assert "sent by the next command" in caplog.text
    assert len(_left(tmp_path)) == 1

    again = Store()
    other = Outbox(str(tmp_path), {**ABOUT, "uri": "elsewhere"}, again.connect)
    assert other.close() == 0
    assert not again.taken  # it is another MLflow
    box = Outbox(str(tmp_path), ABOUT, again.connect)
    ReportedRun(box, "b", "next")
    assert box.close() == 0
    assert [(m["run"], m["call"]) for m in again.taken] == [
        ("a", "open"),
        ("a", "metrics"),
        ("a", "metrics"),
        ("a", "end"),
        ("b", "open"),
    ]
    assert _left(tmp_path) == []


def test_an_outage_in_between_costs_nothing(tmp_path: Path) -> None:
    store = Store()
    store.fails = ConnectionError("gone")
    box = Outbox(str(tmp_path), ABOUT, store.connect)
    run = ReportedRun(box, "a", "train")
    for step in range(5):
        run.metrics(step, {"loss": 1})
    time.sleep(0.05)
    store.fails = None
    assert box.close() == 0
    assert store.steps() == list(range(5))


def test_a_store_that_hangs_is_waited_for_only_so_long(tmp_path: Path) -> None:
    """Neither `put` nor, beyond its patience, `close` waits for a call that does not return."""
    store = Store()
    store.gate.clear()
    box = Outbox(str(tmp_path), ABOUT, store.connect)
    ReportedRun(box, "a", "train").metrics(1, {"loss": 1})
    assert box.close(patience=0.2) > 0
    assert len(_left(tmp_path)) == 1
    store.gate.set()


def test_what_is_refused_holds_nothing_up_and_is_kept(tmp_path: Path) -> None:
    class Picky(Store):
        def send(self, batch: Sequence[Message]) -> None:
            if batch[0]["call"] == "params":
                raise Refused("no such parameter")
            super().send(batch)

    store = Picky()
    box = Outbox(str(tmp_path), ABOUT, store.connect)
    run = ReportedRun(box, "a", "train")
    run.params({"a": 1})
    run.metrics(1, {"loss": 1})
    assert box.close() == 0
    assert store.steps() == [1]
    (kept,) = [json.loads(line) for line in (tmp_path / REFUSED).read_text().splitlines()]
    assert (kept["call"], kept["values"], kept["error"]) == ("params", {"a": 1}, "no such parameter")


def test_what_a_refused_report_speaks_of_is_kept_with_it(tmp_path: Path) -> None:
    class Picky(Store):
        def send(self, batch: Sequence[Message]) -> None:
            if batch[0]["call"] == "artifact":
                raise Refused("no such run")
            super().send(batch)

    box = Outbox(str(tmp_path / "waiting"), ABOUT, Picky().connect)
    ReportedRun(box, "a", "train").figure(Figure(), "figures/loss.png")
    (tmp_path / "own.txt").write_text("the user's file")
    ReportedRun(box, "b", "train").artifact(str(tmp_path / "own.txt"))
    assert box.close() == 0
    assert _left(tmp_path / "waiting") == []
    figure, own = [json.loads(line)["path"] for line in (tmp_path / "waiting" / REFUSED).read_text().splitlines()]
    assert Path(figure).read_bytes().startswith(b"\x89PNG")
    assert Path(figure).name == "loss.png"
    assert own == str(tmp_path / "own.txt")


def test_a_full_disk_here_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be kept is still sent."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store()
    box = Outbox(str(tmp_path), ABOUT, store.connect)
    run = ReportedRun(box, "a", "train")
    monkeypatch.setattr(module._File, "write", full)
    run.metrics(1, {"loss": 1})
    assert box.close() == 0
    assert store.steps() == [1]
    (tmp_path / "file").touch()
    assert Outbox(str(tmp_path / "file"), ABOUT, store.connect).close() == 0


def test_a_killed_process_leaves_its_reports_and_a_living_one_keeps_them(tmp_path: Path) -> None:
    """Nobody takes the file of a process that lives; when it is killed, the next one sends it, and a line cut short is
    left out."""
    script = (
        "import sys, time\n"
        "from cpt_ray.tracking.outbox import Outbox, ReportedRun\n"
        f"box = Outbox(sys.argv[1], {ABOUT}, lambda: 1 / 0)\n"
        "ReportedRun(box, 'a', 'train').metrics(7, {'loss': 1})\n"
        "print('told', flush=True); time.sleep(600)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "told\n"
    store = Store()
    assert Outbox(str(tmp_path), ABOUT, store.connect).close() == 0
    assert store.taken == []
    process.send_signal(signal.SIGKILL)
    process.communicate()
    (left,) = _left(tmp_path)
    with left.open("a") as sink:
        sink.write('{"run": "a", "call": "metr')
    assert Outbox(str(tmp_path), ABOUT, store.connect).close() == 0
    assert store.steps() == [7]
    assert _left(tmp_path) == []


def test_how_a_run_ends() -> None:
    """An interrupt and an exit are somebody's wish, an exception is a failure."""
    assert [ending(kind) for kind in (None, ValueError, KeyboardInterrupt, SystemExit)] == [
        "FINISHED",
        "FAILED",
        "KILLED",
        "KILLED",
    ]


def _history(uri: str) -> dict[str, list[tuple[int, float]]]:
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("demo")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    return {
        str(run.info.run_name): [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")]
        for run in runs
    }


def test_everything_reaches_a_real_store_once_however_often_it_is_sent(tmp_path: Path) -> None:
    """The lines of one process, sent three times over: the same runs, values, figure and end."""
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    about = {"uri": uri, "experiment": "demo"}
    folder = tmp_path / "waiting"
    box = Outbox(str(folder), about, Store().connect)
    parent = ReportedRun(box, "p", "parent", started=1000.0)
    child = ReportedRun(box, "c", "child", parent=parent, started=1001.0)
    child.params({"batch_size": 8})
    for step in range(30):
        child.metrics(step, {"loss": step / 2})
    child.table([{"a": 1}], "board.json")
    figure = Figure()
    child.figure(figure, "figures/f.png")
    child.end(at=1091.0)
    parent.end()
    box._file.attachments.rename(tmp_path / "saved")  # type: ignore[union-attr]
    lines = _left(folder)[0].read_text()
    assert box.close() == 0
    for number in range(3):
        (folder / f"{number}.jsonl").write_text(lines)
        attached = Path(json.loads(next(line for line in lines.splitlines() if '"artifact"' in line))["path"]).parent
        attached.mkdir(parents=True, exist_ok=True)
        (attached / "f.png").write_bytes(next((tmp_path / "saved").rglob("f.png")).read_bytes())
        assert Outbox(str(folder), about, Player(**about).connect).close(patience=200) == 0
    assert not (folder / REFUSED).exists()
    assert _history(uri) == {"parent": [], "child": [(step, step / 2) for step in range(30)]}
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    (run,) = client.search_runs([client.get_experiment_by_name("demo").experiment_id], "params.batch_size = '8'")
    assert (run.info.start_time, run.info.end_time, run.info.status) == (1_001_000, 1_091_000, "FINISHED")
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"board.json", "figures"}


def test_a_locked_database_is_waited_out_by_the_next_command(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path}/mlflow.db"
    about = {"uri": uri, "experiment": "demo"}
    box = Outbox(str(tmp_path / "waiting"), about, Player(**about).connect)
    run = ReportedRun(box, "a", "train")
    run.metrics(1, {"loss": 1})
    while box._queue:
        time.sleep(0.01)
    with sqlite3.connect(tmp_path / "mlflow.db", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        run.metrics(2, {"loss": 0.5})
        assert box.close(patience=0.5) > 0
        other.execute("ROLLBACK")
    assert Outbox(str(tmp_path / "waiting"), about, Player(**about).connect).close(patience=200) == 0
    assert _history(uri) == {"train": [(1, 1.0), (2, 0.5)]}


def test_a_server_that_never_answers(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        about = {"uri": f"http://127.0.0.1:{silent.getsockname()[1]}", "experiment": "demo"}
        box = Outbox(str(tmp_path), about, Player(**about).connect)
        ReportedRun(box, "a", "train").metrics(1, {"loss": 1})
        assert box.close(patience=0.5) == 2
    assert len(_left(tmp_path)) == 1
    assert os.path.getsize(_left(tmp_path)[0]) > 0
