"""Postgres as MLflow's store: a server of the test's own, and trials that start on an empty database at once."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

psycopg = pytest.importorskip("psycopg", reason="no driver: pip install 'cpt-ray[postgres]'")


def _programs() -> Path | None:
    """The folder of initdb and postgres: on the path, or where Debian's package has them."""
    found = shutil.which("initdb")
    folders = [Path(found).resolve().parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return next((folder for folder in reversed(folders) if (folder / "initdb").is_file()), None)


def _owner() -> dict[str, Any]:
    """Whose the server is: Postgres refuses to run as root."""
    if os.geteuid():
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    pytest.skip("no user but root, as whom Postgres does not run")


@pytest.fixture(scope="module")
def postgres() -> Iterator[str]:
    """The address of a fresh server's empty database."""
    programs = _programs()
    if programs is None:
        pytest.skip("no Postgres: apt-get install postgresql")
    owner = _owner()
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as taken:
        data, port = Path(folder, "data"), taken.getsockname()[1]
        taken.close()
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        quiet: Any = {"check": True, "capture_output": True, "cwd": folder, **owner}
        subprocess.run([programs / "initdb", "-D", data, "-U", "tracker", "-A", "trust", "-N"], **quiet)
        control = [programs / "pg_ctl", "-D", data, "-l", Path(folder, "log"), "-w"]
        options = f"-F -k {folder} -h 127.0.0.1 -p {port} -c max_connections=200"
        subprocess.run([*control, "-o", options, "start"], **{**quiet, "capture_output": False})
        try:
            yield f"postgresql://tracker@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **quiet)


TRIAL = """
import sys, time, pathlib
from cpt_ray.tracking.mlflow import Player, load
from cpt_ray.tracking.outbox import Outbox, ReportedRun
uri, folder, number = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
load(); (folder / f"{number}.ready").touch()
while len(list(folder.glob("*.ready"))) < 4: time.sleep(0.01)
about = {"uri": uri, "experiment": "cold"}
box = Outbox(str(folder / number), about, Player(**about).connect)
run = ReportedRun(box, number, "trial", parent=ReportedRun(box, "sweep", "sweep") if number == "0" else None)
run.params({"number": number})
for step in range(20): run.metrics(step, {"loss": step / 2})
run.end()
sys.exit(box.close(patience=200))
"""


@pytest.mark.slow
def test_trials_start_at_once_on_an_empty_database(postgres: str, tmp_path: Path) -> None:
    """Four processes make the schema and the experiment: none dies in another's migration, there is one experiment, and
    every value arrives once."""
    commands = [[sys.executable, "-c", TRIAL, postgres, str(tmp_path), str(number)] for number in range(4)]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    said = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, said
    from mlflow import MlflowClient

    client = MlflowClient(postgres)
    experiment = client.get_experiment_by_name("cold")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(run.info.run_name for run in runs) == ["sweep", "trial", "trial", "trial", "trial"]
    for run in runs:
        if run.info.run_name == "trial":
            history = client.get_metric_history(run.info.run_id, "loss")
            assert [(metric.step, metric.value) for metric in history] == [(step, step / 2) for step in range(20)]
            assert run.info.status == "FINISHED"


def test_trackers_start_at_once_on_an_empty_database(postgres: str, tmp_path: Path) -> None:
    """The same without an outbox, which would try again: one makes the schema, the others wait for it."""
    script = (
        "import sys, time, pathlib\n"
        "from cpt_ray.tracking.mlflow import Tracker, load\n"
        "load(); open(sys.argv[2], 'w').close()\n"
        "while len(list(pathlib.Path(sys.argv[2]).parent.glob('*.ready'))) < 3: time.sleep(0.01)\n"
        "run = Tracker(sys.argv[1], 'cold', sys.argv[3]).run(sys.argv[2], 'r'); run.metrics(0, {'a': 1}); run.end()\n"
    )
    made = f"{postgres.rpartition('/')[0]}/fresh"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
    commands = [
        [sys.executable, "-c", script, made, str(tmp_path / f"{i}.ready"), str(tmp_path / "artifacts")]
        for i in range(3)
    ]
    processes = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for command in commands]
    errors = [process.communicate()[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 3, errors
    with psycopg.connect(made) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (3,)
        assert connection.execute("SELECT count(*) FROM experiments WHERE name = 'cold'").fetchone() == (1,)
