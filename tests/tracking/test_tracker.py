"""The tracker against a real SQLite store: runs are found again, nothing is logged twice, finished runs stay as they
are."""

import json
import pickle
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cpt_ray.errors import UserError
from cpt_ray.options import flatten
from cpt_ray.tracking.mlflow import KEY, PARENT, TrackedRun, Tracker, provenance_tags


@dataclass
class Manifest:
    step: str = "pairs"
    digest: str = "0123456789abcdef0123456789abcdef"
    rows: int = 7
    columns: dict[str, str] = field(default_factory=lambda: {"x": "string"})


@pytest.fixture(scope="module")
def tracker(tmp_path_factory: pytest.TempPathFactory) -> Tracker:
    return Tracker(f"sqlite:///{tmp_path_factory.mktemp('store')}/mlflow.db", "demo")


def _client(tracker: Tracker):
    from mlflow import MlflowClient

    return MlflowClient(tracker.uri)


def test_a_killed_run_goes_on(tracker: Tracker) -> None:
    """The same key gives the same run while it is RUNNING; steps it holds are not logged again, new ones are."""
    first = tracker.run("killed", "train", params={"batch": 512})
    first.metrics(1, {"loss": 3.0})
    first.metrics(2, {"loss": 2.0})
    first.flush()  # and here comes the kill
    second = tracker.run("killed", "train", params={"batch": 512})
    assert second.id == first.id
    second.history([{"step": 2, "loss": 2.0}, {"step": 3, "loss": 1.0, "note": "text"}])
    second.end()
    history = _client(tracker).get_metric_history(first.id, "loss")
    assert [(m.step, m.value) for m in history] == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_a_finished_run_is_not_touched(tracker: Tracker) -> None:
    """Whatever is logged to a run that is found FINISHED is left out."""
    with tracker.run("done", "stage", params={"a": 1}) as run:
        run.metrics(0, {"rows": 5})
    before = _client(tracker).get_run(run.id)
    with tracker.run("done", "stage", params={"a": 2}, tags={"new": "tag"}) as again:
        assert again.finished
        again.metrics(1, {"rows": 6})
        again.params({"b": 1})
        again.table([{"a": 1}], "t.json")
        again.figure(Figure(), "f.png")
        again.artifact(__file__)
        again.dataset("d", Manifest())
        again.model("nowhere")
    after = _client(tracker).get_run(run.id)
    assert after.to_dictionary() == before.to_dictionary()
    assert _client(tracker).list_artifacts(run.id) == []


def test_failure_is_recorded_and_the_run_used_again(tracker: Tracker) -> None:
    """An exception ends the run FAILED and goes on upwards; the next try takes the same run to FINISHED."""
    with pytest.raises(ZeroDivisionError), tracker.run("fails", "stage") as run:
        raise ZeroDivisionError
    assert _client(tracker).get_run(run.id).info.status == "FAILED"
    with tracker.run("fails", "stage") as again:
        assert _client(tracker).get_run(run.id).info.status == "RUNNING"
    assert again.id == run.id
    assert _client(tracker).get_run(run.id).info.status == "FINISHED"


def test_children_belong_to_their_parent(tracker: Tracker) -> None:
    """Children carry MLflow's parent tag, and the same key below another parent is another run."""
    one, two = tracker.run("parent 1", "demo"), tracker.run("parent 2", "demo")
    a, b = tracker.run("crawl", "crawl", parent=one), tracker.run("crawl", "crawl", parent=two)
    assert a.id != b.id
    assert a.id == tracker.run("crawl", "crawl", parent=one).id
    tags = _client(tracker).get_run(a.id).data.tags
    assert tags[PARENT] == one.id
    assert tags[KEY] == f"{one.id}/crawl"


def test_another_value_for_a_parameter_is_an_error(tracker: Tracker) -> None:
    """A key that does not tell two configurations apart is a mistake of the caller."""
    tracker.run("coarse", "r", params={"model": {"layers": 4}})
    with pytest.raises(ValueError, match=r"model\.layers"):
        tracker.run("coarse", "r", params={"model": {"layers": 5}})


def test_data_figures_tables_and_files(tracker: Tracker, tmp_path: Path) -> None:
    """A dataset carries the manifest's digest; a table logged again after a kill replaces the old one."""
    import mlflow.data

    (tmp_path / "report.html").write_text("<p>")
    run = tracker.run("logs", "evaluate", tags={"zero": 2, "absent": None})
    run.dataset("outputs/pairs", Manifest(), context="training")
    run.table([{"trial": 1, "mrr": 0.1}], "leaderboard.json")
    run.table([{"trial": 1, "mrr": 0.2}, {"trial": 2, "mrr": 0.3}], "leaderboard.json")
    run.figure(Figure(), "figures/loss.png")
    run.artifact(str(tmp_path / "report.html"))
    client = _client(tracker)
    data = client.get_run(run.id)
    (logged,) = data.inputs.dataset_inputs
    assert logged.dataset.digest == Manifest().digest
    assert json.loads(logged.dataset.profile) == {"num_rows": 7}
    assert mlflow.data.get_source(logged.dataset).uri.endswith("outputs/pairs")
    assert data.data.tags["zero"] == "2"
    assert "absent" not in data.data.tags
    table = json.loads(Path(client.download_artifacts(run.id, "leaderboard.json")).read_text())
    assert table == {"columns": ["trial", "mrr"], "data": [[1, 0.2], [2, 0.3]]}
    assert json.loads(data.data.tags["mlflow.loggedArtifacts"]) == [{"path": "leaderboard.json", "type": "table"}]
    assert {a.path for a in client.list_artifacts(run.id)} == {"figures", "leaderboard.json", "report.html"}
    assert data.info.artifact_uri.startswith(Path(tracker.uri.removeprefix("sqlite:///")).parent.as_uri())


def test_the_winner_is_registered_once(tracker: Tracker, tmp_path: Path) -> None:
    """Logging the model again after a kill adds no second version; the alias points at it, and MLflow can load it."""
    import mlflow.pyfunc

    module = tmp_path / "loads_for_test.py"
    module.write_text("import pathlib\n\n\nclass M:\n    def __init__(self, p):\n        self.p = pathlib.Path(p)\n\n"
                      "    def predict(self, data):\n        return (self.p / 'weights').read_text()\n\n\n"
                      "def _load_pyfunc(path):\n    return M(path)\n")  # fmt: skip
    (tmp_path / "export").mkdir()
    (tmp_path / "export" / "weights").write_text("w")
    run = tracker.run("model", "train")
    for _ in range(2):
        run.model(
            str(tmp_path / "export"),
            registered="cpt-code",
            alias="best",
            loader="loads_for_test",
            requirements=["numpy"],
        )
    client = _client(tracker)
    assert len(client.search_model_versions("name = 'cpt-code'")) == 1
    assert client.get_model_version_by_alias("cpt-code", "best").run_id == run.id
    folder = client.download_artifacts(run.id, "model")
    sys.path.insert(0, str(tmp_path))
    try:
        assert mlflow.pyfunc.load_model(folder).predict(["text"]) == "w"
    finally:
        sys.path.remove(str(tmp_path))


def test_workers_log_in_parallel_to_a_store_made_by_the_driver(tracker: Tracker, tmp_path: Path) -> None:
    """Two other processes log to pickled runs at the same time, and every value arrives."""
    runs = [tracker.run(f"worker {i}", "trial") for i in range(2)]
    script = "import pickle,sys\nrun=pickle.load(open(sys.argv[1],'rb'))\nfor s in range(50): run.metrics(s,{'loss':s}); run.flush()\n"
    processes = []
    for i, run in enumerate(runs):
        (tmp_path / f"{i}").write_bytes(pickle.dumps(run))
        processes.append(subprocess.Popen([sys.executable, "-c", script, str(tmp_path / f"{i}")]))
    assert [p.wait() for p in processes] == [0, 0]
    for run in runs:
        assert len(_client(tracker).get_metric_history(run.id, "loss")) == 50


def test_names_and_stores_that_mlflow_refuses(tracker: Tracker) -> None:
    """An @ in a name and the plain-file store fail at once, with a word on what to do."""
    with pytest.raises(ValueError, match="recall@10"):
        tracker.run("bad name", "r").metrics(0, {"recall@10": 1.0})
    with pytest.raises(UserError, match="sqlite"):
        Tracker("./mlruns", "demo")


def test_importing_the_tracker_does_not_import_mlflow() -> None:
    """A pipeline that finds everything done must not pay for it."""
    code = "import sys, cpt_ray.tracking.mlflow; assert not {'mlflow', 'ray', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_flatten_and_provenance() -> None:
    """Nested options become dotted names; provenance is plain strings."""
    assert flatten({"a": {"b": {"c": 1}}, "d": [1, 2]}) == {"a.b.c": 1, "d": [1, 2]}
    assert all(isinstance(v, str) for v in provenance_tags().values())
    assert not TrackedRun("sqlite:///x.db", "id").finished
