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

from cpt_ray.compat.mlflow import everywhere
from cpt_ray.errors import UserError
from cpt_ray.options import flatten
from cpt_ray.tracking.mlflow import KEY, PARENT, TrackedRun, Tracker, provenance_tags
from tests.tracking.together import begin_together


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


def test_a_name_that_mlflow_does_not_take_costs_no_parameter(tracker: Tracker) -> None:
    """Names of sources are the users'."""
    run = tracker.run("odd", "odd")
    for _ in range(2):
        run.params({"weights": {"web@2026": 1, "https://e.example/": 2, "x" * 300: 3}, "seed": 4})
    held = tracker._client.get_run(run.id).data.params
    assert held["weights.web_2026"] == "1"
    assert held["weights.https:__e.example_"] == "2"
    assert held["seed"] == "4"
    assert sorted(held.values()) == ["1", "2", "3", "4"]


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


@pytest.fixture
def loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that writes MLflow models whose prediction is the file `weights`; it counts how often."""
    (tmp_path / "saves_for_test.py").write_text(
        """
import pathlib, mlflow.pyfunc
written = []
class M:
    def __init__(self, p):
        self.p = pathlib.Path(p)
    def predict(self, data):
        return (self.p / "weights").read_text()
def _load_pyfunc(path):
    return M(path)
def save(folder, to):
    written.append(folder)
    mlflow.pyfunc.save_model(to, loader_module="saves_for_test", data_path=folder, pip_requirements=["numpy"])
"""
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("saves_for_test", None)
    return "saves_for_test"


def _export(folder: Path, weights: str) -> str:
    folder.mkdir()
    (folder / "weights").write_text(weights)
    return str(folder)


def test_a_model_is_logged_once_with_its_figures_and_its_run(tracker: Tracker, tmp_path: Path, loader: str) -> None:
    """Logged again after a kill, also when its run has ended, it is the same LoggedModel and version: with metrics that
    point at model and data, and of the run that trained it."""
    import mlflow.pyfunc

    run = tracker.run("model", "train")
    run.end()
    for again in (run, tracker.run("model", "train")):
        again.model(
            _export(tmp_path / f"export-{again is run}", "w"),
            "digest-1",
            metrics={"search_mrr": 0.5, "heldout_mrr": 0.4},
            step=7,
            data={"name": "pairs", "digest": "d" * 36},
            registered="cpt-once",
            alias="best",
            loader=loader,
        )
    assert len(sys.modules[loader].written) == 1
    client = _client(tracker)
    (version,) = client.search_model_versions("name = 'cpt-once'")
    assert version.run_id == run.id
    assert version.tags["search_mrr"] == "0.5"
    logged = client.get_logged_model(version.source.removeprefix("models:/"))
    assert logged.source_run_id == run.id
    assert {(m.key, m.value, m.dataset_name) for m in logged.metrics} == {
        ("search_mrr", 0.5, "pairs"),
        ("heldout_mrr", 0.4, "pairs"),
    }
    assert [output.model_id for output in client.get_run(run.id).outputs.model_outputs] == [logged.model_id]
    assert client.get_run(run.id).info.status == "FINISHED"
    with everywhere(tracker.uri):
        model = mlflow.pyfunc.load_model("models:/cpt-once@best")
    assert model.predict(["text"]) == "w"
    assert model.metadata.model_id == logged.model_id


def test_a_model_half_logged_by_a_kill_is_finished(
    tracker: Tracker, tmp_path: Path, loader: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tracker.run("half", "train")
    folder = _export(tmp_path / "export", "w")
    with monkeypatch.context() as patch:
        patch.setattr("mlflow.MlflowClient.log_model_artifacts", lambda *_: (_ for _ in ()).throw(OSError("full")))
        with pytest.raises(OSError, match="full"):
            run.model(folder, "digest", loader=loader)
    tracker.run("half", "train").model(folder, "digest", loader=loader)
    (output,) = _client(tracker).get_run(run.id).outputs.model_outputs
    assert _client(tracker).get_logged_model(output.model_id).status == "READY"


def test_the_champion_is_the_best_and_not_the_last(tracker: Tracker, tmp_path: Path, loader: str) -> None:
    """By the first figure that both have; a version without a figure to compare by does not become it."""

    def export(name: str, **metrics: float) -> str:
        run = tracker.run(f"champion {name}", name)
        run.model(
            _export(tmp_path / name, name),
            name,
            metrics=metrics,
            registered="cpt-best",
            alias="champion",
            loader=loader,
        )
        return str(_client(tracker).get_model_version_by_alias("cpt-best", "champion").tags["cpt_ray.digest"])

    assert export("a", search_mrr=0.4, heldout_mrr=0.9) == "a"
    assert export("b", search_mrr=0.3, heldout_mrr=0.95) == "a"
    assert export("c", search_mrr=0.4) == "a"
    assert export("d", search_mrr=0.41) == "d"
    assert export("e", heldout_mrr=0.99) == "d"
    assert export("f") == "d"
    assert export("g", search_mrr=0.5, heldout_mrr=0.1) == "g"
    assert export("h", heldout_mrr=0.2) == "h"


def test_times_are_those_that_were_given(tracker: Tracker) -> None:
    """A run told of afterwards lasts as long as its work did."""
    run = tracker.run("times", "stage", started=1_000_000)
    run.metrics(3, {"loss": 1.0}, at=1_050_000)
    run.end(at=1_090_000)
    info = _client(tracker).get_run(run.id).info
    assert (info.start_time, info.end_time) == (1_000_000, 1_090_000)
    assert _client(tracker).get_metric_history(run.id, "loss")[0].timestamp == 1_050_000


def test_an_experiment_says_what_it_holds(tracker: Tracker) -> None:
    """Where it is made; a description that somebody has put there since stays."""
    client = _client(tracker)
    made = client.get_experiment_by_name("demo")
    assert "held-out" in made.tags["mlflow.note.content"]
    client.set_experiment_tag(made.experiment_id, "mlflow.note.content", "ours")
    Tracker(tracker.uri, "demo")
    assert client.get_experiment_by_name("demo").tags["mlflow.note.content"] == "ours"


def test_ten_processes_start_on_a_fresh_folder(tmp_path: Path) -> None:
    """A job array: none dies in another's migration, and there is one experiment."""
    uri = f"sqlite:///{tmp_path}/outputs/mlflow.db"
    work = "run = Tracker(uri, 'cold').run(number, 'r'); run.metrics(0, {'a': 1}); run.end()"
    begin_together(work, uri, tmp_path, 10)
    from mlflow import MlflowClient

    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("cold")
    assert len(client.search_runs([experiment.experiment_id])) == 10


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
