"""Postgres as MLflow's store: a server of the test's own, and trials that start on an empty database at once."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.tracking.together import begin_together

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
    begin_together(TRIAL, postgres, tmp_path, 4)
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
    made = f"{postgres.rpartition('/')[0]}/fresh"
    with psycopg.connect(postgres, autocommit=True) as connection:
        connection.execute("CREATE DATABASE fresh")
    work = "run = Tracker(uri, 'cold', str(folder / 'artifacts')).run(number, 'r'); run.metrics(0, {'a': 1}); run.end()"
    begin_together(work, made, tmp_path, 3)
    with psycopg.connect(made) as connection:
        assert connection.execute("SELECT count(*) FROM runs").fetchone() == (3,)
        assert connection.execute("SELECT count(*) FROM experiments WHERE name = 'cold'").fetchone() == (1,)
