"""What is trained again and what is not: the parameters by which the pipelines' models are found again."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from cpt_ray.artifacts import Stage, fingerprint
from cpt_ray.model.options import ModelOptions
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.train.options import PretrainOptions, TrainOptions
from cpt_ray.web.crawl import CRAWL
from cpt_ray.web.options import CrawlOptions
from pipelines import config, demo, evaluate, pretrain, sweep, train

HOW = {"workers": 4, "elastic_workers": 8, "engine": "reference", "zero_stage": 3, "reduce": "chunk", "compile": True}
HOW |= {"offload": True, "gradient_checkpointing": True, "portable_checkpoints": True, "checkpoint_every": 7}
TRAINED_HOW = HOW | {"chunk_tokens": 64, "keep_graphs_mb": 0, "tile_rows": 8, "peak_tflops": 9.0}
MODEL_HOW = {"init": "/elsewhere", "attention": "eager"}


class _Asked(Exception):
    """Carries the parameters of a build instead of opening it."""


def published(path: str) -> SimpleNamespace:
    """Stands for a manifest."""
    return SimpleNamespace(
        digest=path, step="toy", version=1, params={"batch_size": 8}, inputs={}, extra={"batches": 1}
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls `make` and returns a fingerprint of the parameters that it asks `build` for."""

    def build(stage: Stage, path: str, *, params: Any, **rest: Any) -> None:
        raise _Asked(fingerprint(params))

    monkeypatch.setattr(Stage, "build", build)
    for pipeline in (pretrain, sweep, train):
        monkeypatch.setattr(pipeline, "read_manifest", published)
        monkeypatch.setattr(pipeline, "weights_identity", lambda init: "weights")
        monkeypatch.setattr(pipeline, "settle", lambda options, *rest, **more: (options, {}))

    def call(make: Any, *arguments: Any) -> str:
        with pytest.raises(_Asked) as found:
            make(*arguments)
        return str(found.value)

    return call


def test_a_demo_from_a_hub_id_is_of_one_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Tokenizer and weights of the same revision; what is trained from their pretraining is a folder without one."""
    commit = "a" * 40
    options = config.load(
        "demo",
        demo.PipelineOptions,
        [f"cluster.outputs={tmp_path}", "initial.model.init=owner/name", "initial.model.revision=v1"],
    )
    monkeypatch.setattr("cpt_ray.model.weights.commit_of", lambda name, revision: {"v1": commit}[revision])
    monkeypatch.setattr(demo.doctor, "summary", lambda options: options.initial.model.init)
    monkeypatch.setattr(demo, "connect", lambda cluster: nullcontext({"num_cpus": 8.0}))
    monkeypatch.setattr(demo, "Tracked", lambda *arguments: nullcontext())

    def flow(out: str, options: Any, *rest: Any) -> None:
        raise _Asked(options.initial.model.init, options.initial.model.revision)

    monkeypatch.setattr(demo, "flow", flow)
    with pytest.raises(_Asked) as found:
        demo.run(options)
    assert found.value.args == (f"owner/name@{commit}", None)


def test_what_is_evaluated_from_a_hub_id_is_of_one_commit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Search and suite alike; where the revision moves, it is another evaluation."""
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "cpt_ray.json").touch()
    commits = iter(("a" * 40, "b" * 40))
    seen: list[Any] = []
    monkeypatch.setattr("cpt_ray.model.weights.commit_of", lambda name, revision: next(commits))
    monkeypatch.setattr(evaluate, "make", lambda path, pairs, model, initial, *_: seen.append(initial) or Told())
    monkeypatch.setattr(evaluate, "make_suite", lambda path, tasks, model, initial, *_: seen.append(initial) or Told())
    for name in ("print_search", "print_suite", "print_artifacts"):
        monkeypatch.setattr(evaluate, name, lambda *_: None)
    monkeypatch.setattr(evaluate.reads, "check_options", lambda *_: None)
    task = {"kind": "candidates", "pairs": "pairs"}
    options = evaluate.PipelineOptions(
        trained=str(tmp_path / "model"), initial="owner/name", pairs="pairs", suite={"tasks": [task]}
    )
    for _ in range(2):
        evaluate.run(options)
    assert seen == [f"owner/name@{letter * 40}" for letter in "aabb"]


class Told:
    """Stands for a manifest."""

    extra: ClassVar[dict[str, Any]] = {"search": {}, "intervals": {}, "rows": []}


def test_a_model_is_what_it_is_however_it_was_trained(asked: Any) -> None:
    def identity(options: TrainOptions, model: ModelOptions) -> str:
        return asked(train.make_model, "path", "model", "batches", "heldout", model, options, None)

    options, model = TrainOptions(), ModelOptions()
    first = identity(options, model)
    assert identity(options.model_copy(update=TRAINED_HOW), model.model_copy(update=MODEL_HOW)) == first
    for change in ({"learning_rate": 1.0}, {"precision": "fp32"}, {"evaluate_every": 7}, {"best": "heldout_mrr"}):
        assert identity(options.model_copy(update=change), model) != first
    assert identity(options, model.model_copy(update={"layers": 2})) != first


def test_first_weights_are_what_they_are_however_they_were_trained(asked: Any) -> None:
    def identity(options: PretrainOptions, model: ModelOptions) -> str:
        steps = pretrain.Steps().model_copy(update={"pretrain": options, "model": model})
        return asked(pretrain.make_weights, "path", "windows", "tokenizer", steps, None)

    options, model = PretrainOptions(), ModelOptions()
    first = identity(options, model)
    how = options.model_copy(update=HOW | {"micro_batch_tokens": 64})
    assert identity(how, model.model_copy(update=MODEL_HOW)) == first
    assert identity(options.model_copy(update={"seed": 1}), model) != first
    assert identity(options, model.model_copy(update={"layers": 2})) != first


def test_a_sweep_of_another_model_is_another_sweep(asked: Any) -> None:
    def identity(options: TrainOptions, model: ModelOptions, grid: SweepOptions) -> str:
        return asked(sweep.make, "out", "pairs", "heldout", model, BatchOptions(), options, grid, None)

    options, model, grid = TrainOptions(), ModelOptions(), SweepOptions()
    first = identity(options, model, grid)
    assert identity(options, model.model_copy(update={"dropout": 0.1}), grid) != first
    assert identity(options, model, grid.model_copy(update={"examples": 1024})) != first
    how = options.model_copy(update=TRAINED_HOW), model.model_copy(update=MODEL_HOW)
    assert identity(*how, grid.model_copy(update={"concurrent": 2})) == first


def test_a_crawl_made_more_polite_is_the_same_crawl(tmp_path: Path) -> None:
    """An unfinished one goes on when pace or patience change, and is kept beside when what is crawled does."""
    first = CrawlOptions(seeds=("https://e.example/",), contact="me@e.example")
    path = str(tmp_path / "crawl")
    with CRAWL.build(path, params=first) as work:
        Path(work.path, "segment-00000.warc.gz").write_bytes(b"three days of pages")
    polite = {
        "concurrency": 1,
        "per_host": 1,
        "delay": 9.0,
        "timeout": 99.0,
        "retries": 9,
        "backoff": 9.0,
        "max_wait": 9.0,
    }
    with CRAWL.build(path, params=first.model_copy(update=polite)) as work:
        assert work.resumed
        assert Path(work.path, "segment-00000.warc.gz").exists()
    for change in ({"seeds": ("https://f.example/",)}, {"max_pages": 1}, {"allow_private": ("10.0.0.0/8",)}):
        assert first.model_copy(update=change).result() != first.result()
