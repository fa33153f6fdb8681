"""The whole path in miniature, on Ray, from a crawl to a searchable model."""

from __future__ import annotations

import pytest

from cpt_ray.artifacts import read_manifest, read_table
from cpt_ray.evaluate.report import DemoReport
from pipelines import cli, search
from pipelines.search import PipelineOptions


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_path_and_a_second_run(undisturbed, capsys):
    """One run makes every artifact, the report, MLflow's runs and an index that answers; a second one does no work."""
    one = undisturbed
    found = DemoReport.model_validate_json((one.folder / "report.json").read_text())
    for task in (found.code_search, found.text_search):
        assert task.chance.mrr == pytest.approx(sum(1 / k for k in range(1, 51)) / 50)
        assert task.bm25.mrr > task.chance.mrr
    assert len(found.sweep) == 4
    for stage in found.stages.values():
        manifest = read_manifest(stage.path)
        assert manifest.balance.check(stage.path)
    html = (one.folder / "report.html").read_text()
    assert "<svg" in html
    assert "http://" not in html.replace("http://www.w3.org", "").replace("http://docs.installed.example", "")

    answers = search.run(PipelineOptions(query="parse a url", folder=str(one.folder), k=3))
    assert len(answers) == 3
    assert all(":" in answer.where for answer in answers)

    import mlflow

    client = mlflow.MlflowClient(f"sqlite:///{one.outputs}/mlflow.db")
    runs = client.search_runs([client.get_experiment_by_name("cpt-ray").experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert [run.info.run_name for run in parents] == ["demo"]
    by_stage = {run.data.tags.get("cpt_ray.stage"): run for run in runs}
    assert set(found.stages) <= set(by_stage)
    losses = client.get_metric_history(by_stage["code_model"].info.run_id, "loss")
    assert [metric.step for metric in losses] == list(range(1, 17))

    before = {path: path.stat().st_mtime_ns for path in one.folder.rglob("*") if path.is_file()}
    assert "everything was done already" in one.run()
    assert {path: path.stat().st_mtime_ns for path in one.folder.rglob("*") if path.is_file()} == before
    assert cli.main(["search", "x", "folder=/nowhere"]) == 2


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_sigkill_in_the_middle_of_every_stage(demo, undisturbed):
    """One run, killed with all its processes in crawl, extraction, mining, dedup, training and sweep, goes on each time
    and ends with the Parquet of an undisturbed run; of the crawl with the same pages, each once."""
    killed = demo("killed")
    for stage in ("crawl", "documents", "functions", "function_clusters", "code_model", "sweep"):
        assert killed.kill_in(stage), f"{stage} was over before it could be killed"
    killed.run()
    expected, found = undisturbed.parquet(), killed.parquet()
    # Another archive of the same pages: what quotes its offsets and times differs, and nothing that follows from it.
    of_the_archive = ("documents/", "clean_documents/", "clean_documents.phases/", "document_clusters.phases/")
    for files in (expected, found):
        for name in [name for name in files if name.startswith(of_the_archive)]:
            del files[name]
    assert found.keys() == expected.keys()
    assert {name for name in expected if found[name] != expected[name]} == set()
    urls = [read_table(str(one.folder / "documents"))["url"].to_pylist() for one in (undisturbed, killed)]
    assert sorted(urls[0]) == sorted(urls[1])
    assert len(set(urls[1])) == len(urls[1])
