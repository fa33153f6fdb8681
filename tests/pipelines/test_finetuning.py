"""From labelled pairs, or from pairs and a model, to a model trained with hard negatives: the commands, in this process."""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mlflow import MlflowClient
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from cpt_ray.artifacts import Ledger, build, read_manifest, read_table, run_flow, store
from cpt_ray.cluster import ClusterOptions
from cpt_ray.compat.mlflow import everywhere
from cpt_ray.errors import UserError
from cpt_ray.evaluate.options import CandidateOptions
from cpt_ray.evaluate.suite_options import SuiteOptions
from cpt_ray.model.embedder import Embedder
from cpt_ray.model.options import ModelOptions, TokenizerOptions
from cpt_ray.model.tokenizer import train_tokenizer
from cpt_ray.pairs import splits
from cpt_ray.pairs.make import publish_pairs
from cpt_ray.pairs.options import BatchOptions, SplitOptions
from cpt_ray.pairs.schema import Pair, pairs_table
from cpt_ray.pairs.splits import split_pairs
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.tracking.outbox import ReportedRun
from cpt_ray.train import continued
from cpt_ray.train.loop import train_model
from cpt_ray.train.losses.one_way import OneWay
from cpt_ray.train.metrics import read_metrics
from cpt_ray.train.options import MineOptions, TrainOptions
from cpt_ray.train.schedule import rate_factor
from pipelines import crawl, evaluate, hard_negatives, labelled_pairs, pretrain, sweep, train
from pipelines.tracked import Tracked, TrackingOptions
from tests.model.written import write_model

WORDS = ["".join(chr(97 + (i // 26**k + i * (2 * k + 1)) % 26) for k in range(4)) for i in range(200)]
TRAIN = TrainOptions(workers=0, engine="reference", precision="fp32", learning_rate=5e-3, evaluate_every=4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder as training writes it, with random weights."""
    tokenizer: PreTrainedTokenizerFast = train_tokenizer(WORDS, TokenizerOptions(vocabulary=300))
    assert set(pre_tokenizers.ByteLevel.alphabet()) <= set(tokenizer.get_vocab())
    options = ModelOptions(hidden_size=32, layers=1, heads=2, feedforward=64, context=64)
    folder = str(tmp_path_factory.mktemp("model"))
    write_model(folder, tokenizer, options, tokens=len(tokenizer), x=16, y=24)
    return folder


@pytest.fixture
def pairs(tmp_path: Path) -> str:
    """A pairs artifact: 190 pairs, of which each x stands in two."""
    found = [
        Pair(
            "code",
            "code",
            f"g{i // 2 % 19}",
            f"say {WORDS[i // 2]}",
            f"def {word}: {i}",
            f"c{i}",
            f"d{i}",
            f"d{i}",
            (0, 1),
            (0, 1),
        )
        for i, word in enumerate(WORDS[:190])
    ]
    table, ledger = split_pairs(pairs_table(found), SplitOptions(heldout_share=0.3))
    path = str(tmp_path / "pairs")
    with build(path, step="toy", version=1, params={}) as work:
        publish_pairs(work, table, Ledger.of("pairs", read=len(found), kept=table.num_rows, dropped=ledger.dropped))
    return path


def fine_tuned(
    out: str,
    pairs: str,
    model: str,
    hard: int,
    register_as: str = "",
    batches: int = 8,
    watch: SuiteOptions = SuiteOptions(),  # noqa: B008 - frozen
    **changes: Any,
) -> dict[str, Any]:
    """The manifests of `cpt-ray train` on `pairs`, without Ray."""
    steps = train.Steps(
        batches=BatchOptions(batch_size=8, steps=batches, hard_negatives=hard, max_x_tokens=16, max_y_tokens=24),
        train=TRAIN.model_copy(update=changes),
        heldout_pairs=16,
        watch=watch,
    )
    with Tracked(TrackingOptions(), out, "train", out, steps) as tracked:
        flow = train.flow(out, "model", pairs, ModelOptions(init=model), steps, tracked)
        made = run_flow(flow, ended=tracked.ended)
        if register_as:
            train.register(made, register_as, tracked)
        return made


def test_tasks_are_measured_as_training_goes_on_and_may_choose_the_checkpoint(
    pairs: str, model: str, tmp_path: Path
) -> None:
    """Search, classification and similarity by step, in the metrics file; the exported model is the one of the best step, and
    scores there what `evaluate` measures of it."""
    for name in ("corpus", "queries"):
        rows = [json.dumps({"_id": str(i), "text": f"{name[0]} {word}"}) + "\n" for i, word in enumerate(WORDS[:30])]
        (tmp_path / "toy").mkdir(exist_ok=True)
        (tmp_path / "toy" / f"{name}.jsonl").write_text("".join(rows))
    (tmp_path / "toy" / "qrels").mkdir()
    judged = "".join(f"{i}\t{i}\t1\n" for i in range(30))
    (tmp_path / "toy" / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    labelled = "".join(f"{i % 2}\t{'bad' if i % 2 else 'good'} {word}\n" for i, word in enumerate(WORDS[:60]))
    for part in ("train", "test"):
        (tmp_path / "toy" / f"{part}.tsv").write_text("label\ttext\n" + labelled)
    scored = "".join(f"{i % 6}\t{word}\t{WORDS[i * 7 % 40]}\n" for i, word in enumerate(WORDS[:40]))
    (tmp_path / "toy" / "sts.tsv").write_text("score\tsentence1\tsentence2\n" + scored)
    tasks = [
        {"kind": "beir", "folder": str(tmp_path / "toy")},
        {"kind": "classification", "folder": str(tmp_path / "toy")},
        {"kind": "similarity", "file": str(tmp_path / "toy" / "sts.tsv")},
    ]
    watch = SuiteOptions.model_validate({"tasks": tasks})
    names = ["toy_ndcg_at_10", "toy_accuracy", "toy_sts_spearman"]
    out = str(tmp_path / "out")
    made = fine_tuned(out, pairs, model, 0, watch=watch, best=names[2], evaluate_every=1, learning_rate=3e-2)
    manifest = made[f"{out}/model"]
    rows = read_metrics(f"{out}/model/metrics.jsonl")
    assert all(set(names) <= set(row) for row in rows)
    best = max(rows, key=lambda row: (row[names[2]], -row["step"]))
    assert manifest.extra["exported_step"] == best["step"]
    embed = Embedder(f"{out}/model").embed
    found = [task.scores(embed)[task.metric] for task in watch.tasks]
    assert [best[name] for name in names] == pytest.approx(found, abs=1e-6)
    assert [set(task) > {"kind", "data"} for task in manifest.params["watch"].values()] == [True] * 3
    with pytest.raises(ValidationError, match="nothing measures"):
        train.Steps(train=TRAIN.model_copy(update={"best": names[2]}))


def test_a_sweep_by_loss_lists_the_lowest_first(
    pairs: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the figures of its run in MLflow are those of the children: each cell of the heatmap, each line's last point."""
    drawn: dict[str, Any] = {}
    log = ReportedRun.figure
    monkeypatch.setattr(
        ReportedRun, "figure", lambda run, figure, file: (drawn.setdefault(file, figure), log(run, figure, file))
    )
    out = str(tmp_path / "out")
    steps = train.Recipe(batches=BatchOptions(max_x_tokens=16, max_y_tokens=24), train=TRAIN, heldout_pairs=16)
    train.make_heldout(f"{out}/heldout", pairs, model, steps)
    over = {"batches": {"batch_size": [4, 16]}, "train": {"temperature": [0.05, 0.5]}}
    grid = SweepOptions(over=over, examples=32, metric="heldout_loss")
    with Tracked(TrackingOptions(), out, "sweep", out, steps) as tracked:
        made = sweep.make(
            out, pairs, f"{out}/heldout", ModelOptions(init=model), steps.batches, steps.train, grid, tracked
        )
    losses = [trial["metrics"][sweep.column(made.extra["metric"])] for trial in made.extra["trials"]]
    assert len(set(losses)) == 4
    assert losses == sorted(losses)
    assert next(iter(made.extra["trials"][0]["metrics"])) == "mrr"

    client = MlflowClient(tracked.uri)
    runs = client.search_runs([client.get_experiment_by_name(TrackingOptions().experiment).experiment_id])
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    children = [run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id]
    assert len(children) == 4
    assert all(run.info.start_time <= run.info.end_time for run in runs)
    assert {file.path for file in client.list_artifacts(parent.info.run_id, "figures")} == set(drawn)
    of = {
        (int(child.data.params["batch_size"]), float(child.data.params["temperature"])): child.data.metrics[
            "heldout_loss"
        ]
        for child in children
    }
    (axes,) = drawn["figures/sweep.png"].axes
    sizes = [int(label.get_text().replace(",", "")) for label in axes.get_yticklabels()]
    temperatures = [float(label.get_text()) for label in axes.get_xticklabels()]
    cells = {
        (sizes[int(cell.get_position()[1])], temperatures[int(cell.get_position()[0])]): cell.get_text()
        for cell in axes.texts
    }
    assert cells == {point: f"{loss:.3f}" for point, loss in of.items()}
    (axes,) = drawn["figures/examples.png"].axes
    lines = {line.get_label(): line.get_xydata()[-1].tolist() for line in axes.lines}
    assert lines == {
        f"{size:,}, {temperature:g}": [32, pytest.approx(loss)] for (size, temperature), loss in of.items()
    }


def test_a_killed_training_goes_on_however_it_is_run_and_is_kept_beside_another(
    pairs: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the options of a killed run `chunk_tokens` may change, as its error asks, and it goes on from its checkpoint. A
    learning rate is another training; set back, the first goes on."""
    out = str(tmp_path / "out")

    def dies(step: int, metrics: dict[str, float]) -> None:
        if step == 5:
            raise KeyboardInterrupt

    steps: list[int] = []
    monkeypatch.setattr(store, "WORTH_KEEPING", -1.0)
    with monkeypatch.context() as until:
        until.setattr(train, "train_model", functools.partial(train_model, on_metrics=dies))
        for changes in ({"checkpoint_every": 2}, {"learning_rate": 1e-4}):
            with pytest.raises(KeyboardInterrupt):
                fine_tuned(out, pairs, model, 0, **changes)
    monkeypatch.setattr(
        train, "train_model", functools.partial(train_model, on_metrics=lambda step, _: steps.append(step))
    )
    made = fine_tuned(out, pairs, model, 0, chunk_tokens=64, keep_graphs_mb=0)
    assert steps == [5, 6, 7, 8]
    assert made[f"{out}/model"].resumed
    assert len(list(Path(out).glob("model.building*"))) == 1, "the other learning rate's"
    assert fine_tuned(out, pairs, model, 0, tile_rows=2) == made


TIMES = ("pairs_per_second", "tokens_per_second")


def rows_of(folder: str) -> list[dict[str, float]]:
    """The metrics of a trained model, without times."""
    rows = read_metrics(f"{folder}/metrics.jsonl")
    return [{name: value for name, value in row.items() if name not in TIMES} for row in rows]


@pytest.mark.parametrize("by", ["batches", "train.steps"])
def test_a_finished_training_goes_on_with_more_steps(
    by: str, pairs: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At a constant rate, 8 steps that become 16, killed on the way, are 16 steps at once: the same losses and weights, to
    the bit, whether the order had so many batches or is made longer. Only the later steps are trained."""
    whole, out = str(tmp_path / "whole"), str(tmp_path / "out")
    constant = {"schedule": "constant", "warmup": 0.0, "checkpoint_every": 2}

    def lasting(count: int, **changes: Any) -> dict[str, Any]:
        length = {"batches": count} if by == "batches" else {"batches": 16, "steps": count}
        return fine_tuned(out, pairs, model, 0, **length, **constant, **changes)

    fine_tuned(whole, pairs, model, 0, batches=16, **constant)
    first = lasting(8)[f"{out}/model"]
    steps: list[int] = []

    def told(step: int, metrics: dict[str, float]) -> None:
        steps.append(step)
        if len(steps) == 5:
            assert read_manifest(f"{out}/model").identity == first.identity, "the finished one stays until then"
            raise KeyboardInterrupt

    monkeypatch.setattr(train, "train_model", functools.partial(train_model, on_metrics=told))
    with pytest.raises(KeyboardInterrupt):
        lasting(16)
    last = lasting(16, tile_rows=4096)[f"{out}/model"]
    assert steps == [9, 10, 11, 12, 13, 13, 14, 15, 16]
    assert last.extra["steps"] == 16
    assert rows_of(f"{out}/model") == rows_of(f"{whole}/model")
    got, wanted = (load_file(f"{folder}/model/model.safetensors") for folder in (out, whole))
    assert got.keys() == wanted.keys()
    assert all((weight == wanted[name]).all() for name, weight in got.items())
    assert lasting(16)[f"{out}/model"] == last
    assert not list(Path(out).glob("*.building*"))


def test_later_steps_follow_the_longer_schedule(pairs: str, model: str, tmp_path: Path) -> None:
    """With a cosine the steps that are done keep their losses and rates; the others have the rates of 12 steps."""
    out = str(tmp_path / "out")
    fine_tuned(out, pairs, model, 0)
    before = rows_of(f"{out}/model")
    fine_tuned(out, pairs, model, 0, batches=12)
    after = rows_of(f"{out}/model")
    assert after[:9] == before
    assert [row["lr"] for row in after[9:]] == [
        TRAIN.learning_rate * rate_factor(step, 12, TRAIN) for step in range(8, 12)
    ]
    fine_tuned(out, pairs, model, 0)
    assert rows_of(f"{out}/model") == before, "fewer steps are another training, from its start"


def test_a_longer_training_of_other_options_says_which(
    pairs: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More steps and another learning rate: an error that names it, and nothing is lost. Another rate alone trains anew."""
    out = str(tmp_path / "out")
    first = fine_tuned(out, pairs, model, 0)[f"{out}/model"]
    for changes, named in (
        ({"learning_rate": 1e-3}, "train.learning_rate 0.005 -> 0.001"),
        ({"loss": OneWay()}, "train.loss.kind None -> 'one_way'"),
        ({"temperature": 0.5, "clip": 2.0}, "train.clip 1.0 -> 2.0; train.temperature 0.07 -> 0.5"),
    ):
        with pytest.raises(UserError, match=f"8 steps .* cannot go on to 12.*: {re.escape(named)}\n") as caught:
            fine_tuned(out, pairs, model, 0, batches=12, **changes)
        assert caught.value.where == f"{out}/model.checkpoint"
        assert read_manifest(f"{out}/model") == first
    steps: list[int] = []
    told = functools.partial(train_model, on_metrics=lambda step, _: steps.append(step))
    monkeypatch.setattr(train, "train_model", told)
    fine_tuned(out, pairs, model, 0, learning_rate=1e-3)
    assert steps == list(range(9))


@pytest.mark.parametrize(
    "cut", ["copy", *(pytest.param(name, marks=pytest.mark.slow) for name in ("copytree", "rmtree"))]
)
def test_a_kill_while_a_training_is_taken_up_loses_nothing(
    cut: str, pairs: str, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it comes while the checkpoint is put in place, or put beside the model at the end."""
    out, steps, calls = str(tmp_path / "out"), [], []
    fine_tuned(out, pairs, model, 0)

    def dies(*given: Any, **named: Any) -> Any:
        calls.append(cut)
        if len(calls) in (1, 3):
            raise KeyboardInterrupt
        return getattr(shutil, cut)(*given, **named)

    told = functools.partial(train_model, on_metrics=lambda step, _: steps.append(step))
    monkeypatch.setattr(train, "train_model", told)
    monkeypatch.setattr(continued, "shutil", SimpleNamespace(**{**vars(shutil), cut: dies}))
    for _ in range(5):
        with contextlib.suppress(KeyboardInterrupt):
            fine_tuned(out, pairs, model, 0, batches=12)
    assert len(calls) >= 3
    assert steps == [9, 10, 11, 12]
    assert read_manifest(f"{out}/model").extra["steps"] == 12


def test_nli_to_a_trained_model(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Labelled pairs are a pairs artifact like others: split by premise with nothing on both sides, trained on with their
    hard negatives, and measured."""
    rows = [f"entailment\t{w} is\t{w} yes\ncontradiction\t{w} is\t{w} {v}\n" for w, v in itertools.pairwise(WORDS)]
    source = tmp_path / "nli.tsv"
    source.write_text("label\tpremise\thypothesis\n" + "".join(dict.fromkeys(rows)))
    options = labelled_pairs.PipelineOptions(
        source=str(source), split=SplitOptions(heldout_share=0.3), cluster=ClusterOptions(outputs=str(tmp_path))
    )
    ((path, manifest),) = labelled_pairs.run(options).items()
    assert "labelled_pairs" in capsys.readouterr().out
    table = read_table(path)
    sides = {side: table.filter([one == side for one in table["split"].to_pylist()]) for side in ("train", "heldout")}
    assert manifest.extra["splits"] == {side: part.num_rows for side, part in sides.items()}
    seen = {text for name in ("x", "y") for text in sides["train"][name].to_pylist()}
    seen |= {text for row in sides["train"]["hard"].to_pylist() for text in row}
    assert not seen & {text for name in ("x", "y") for text in sides["heldout"][name].to_pylist()}
    for row in table.to_pylist()[:5]:
        assert source.read_text().splitlines()[row["line"] - 1] == f"entailment\t{row['x']}\t{row['y']}"
    assert labelled_pairs.run(options)[path].digest == manifest.digest

    made = fine_tuned(str(tmp_path / "tuned"), path, model, hard=1)
    found = evaluate.make(
        str(tmp_path / "evaluation"), path, str(tmp_path / "tuned" / "model"), model, CandidateOptions(candidates=20)
    )
    assert found.extra["search"]["model"]["mrr"] > 0
    assert "heldout_mrr" in made[str(tmp_path / "tuned" / "model")].extra["last"]


def test_weights_changed_in_place_are_other_weights(model: str, pairs: str, tmp_path: Path) -> None:
    """A folder without a manifest is known by its content: the same path with other weights trains again."""
    init = tmp_path / "init"
    shutil.copytree(model, init)
    out = str(tmp_path / "tuned")
    first = fine_tuned(out, pairs, str(init), hard=0)[f"{out}/model"]
    assert fine_tuned(out, pairs, str(init), hard=0)[f"{out}/model"].created == first.created
    weights = load_file(init / "model.safetensors")
    save_file({name: 2 * weight for name, weight in weights.items()}, init / "model.safetensors", {"format": "pt"})
    again = fine_tuned(out, pairs, str(init), hard=0)[f"{out}/model"]
    assert again.identity != first.identity
    assert again.extra["last"]["loss"] != first.extra["last"]["loss"]


def test_going_on_from_weights_changed_in_place_packs_again(model: str, tmp_path: Path, monkeypatch: Any) -> None:
    """The Codex route of `cpt-ray pretrain` knows its first weights by their content too."""
    init = tmp_path / "init"
    shutil.copytree(model, init)
    seen: list[Any] = []
    monkeypatch.setattr(pretrain, "make_corpus", lambda *_, **__: "corpus")
    monkeypatch.setattr(pretrain, "build_windows", lambda *given: seen.append(given[-1]["tokenizer"]))
    monkeypatch.setattr(pretrain, "read_manifest", lambda path: path)
    monkeypatch.setattr(
        pretrain, "make_weights", lambda *given: seen.append(pretrain.tokenizer_identity(given[2], False))
    )
    steps = pretrain.Steps(model=ModelOptions(init=str(init)))
    for scale in (1, 2):
        weights = load_file(init / "model.safetensors")
        save_file(
            {name: scale * weight for name, weight in weights.items()}, init / "model.safetensors", {"format": "pt"}
        )
        run_flow(pretrain.flow(str(tmp_path), {}, steps, SplitOptions(), None))  # type: ignore[arg-type]
    assert seen[0] == seen[1] != seen[2] == seen[3]


def test_mistakes_name_the_keys_of_train(model: str, pairs: str, tmp_path: Path) -> None:
    """What the steps call batch_size, weights or tokenizer has another name on the command line."""
    many = train.Steps(batches=BatchOptions(batch_size=512), train=TRAIN)
    absent = train.Steps(batches=BatchOptions(batch_size=8, weights={"web": 1.0}), train=TRAIN)
    for steps, key in ((many, "batches.batch_size"), (absent, "batches.weights")):
        with pytest.raises(UserError) as error:
            train.make_order(str(tmp_path / "b"), pairs, splits.TRAIN, model, steps.batches)
        assert error.value.where == key
    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
    bare.save_pretrained(tmp_path / "bare")
    for init, what in (("new", "starts from weights"), (str(tmp_path / "bare"), "no token '\\['")):
        with pytest.raises(UserError, match=what) as error:
            train.open_tokenizer(init)
        assert error.value.where == f"model.init={init}"
    with pytest.raises(UserError, match="end-of-text") as error:
        pretrain.open_tokenizer(str(tmp_path / "bare"))
    assert error.value.where == f"model.init={tmp_path / 'bare'}"


def test_mistakes_name_the_keys_of_crawl(tmp_path: Path) -> None:
    for given, key in ({}, "web.seeds"), ({"seeds": ["https://example.org/"]}, "web.contact"):
        with pytest.raises(UserError) as error:
            crawl.make(str(tmp_path / "crawl"), crawl.CrawlOptions(**given))
        assert error.value.where == key


def test_a_changed_file_or_fewer_lines_are_other_pairs(tmp_path: Path) -> None:
    """The artifact is of the file's content; `lines` reads its beginning."""
    source = tmp_path / "triples.tsv"
    source.write_text("".join(f"{w} q\t{w} yes\t{w} no\n" for w in dict.fromkeys(WORDS)))
    given = {"source": str(source), "format": "triplets", "cluster": ClusterOptions(outputs=str(tmp_path))}
    first = next(iter(labelled_pairs.run(labelled_pairs.PipelineOptions(**given)).values()))
    fewer = next(iter(labelled_pairs.run(labelled_pairs.PipelineOptions(**given, lines=10)).values()))
    assert fewer.balance.units["rows"].read == 10
    source.write_text(source.read_text().replace("yes", "indeed"))
    changed = next(iter(labelled_pairs.run(labelled_pairs.PipelineOptions(**given)).values()))
    assert len({first.identity, fewer.identity, changed.identity}) == 3
    with pytest.raises(UserError, match="source=/nope"):
        labelled_pairs.run(labelled_pairs.PipelineOptions(source="/nope"))


def test_mined_negatives_to_a_trained_model(model: str, pairs: str, tmp_path: Path) -> None:
    """A mined negative is a training document and no known answer to its x; what is held out stays what it was; training
    with them scores the same held-out pairs as training without."""
    out = str(tmp_path / "mined")
    fine_tuned(str(tmp_path / "first"), pairs, model, hard=0)
    mine = MineOptions(count=2, first=1, last=30, margin=2.0)
    made = hard_negatives.make(out, pairs, str(tmp_path / "first" / "model"), mine)
    before, after = read_table(pairs), read_table(f"{out}/hard_pairs")
    for manifest in made.values():
        manifest.balance.check("mined")
    heldout = [row for row in before.to_pylist() if row["split"] == "heldout"]
    plain = [{k: v for k, v in row.items() if not k.startswith("hard")} for row in after.to_pylist()]
    assert [row for row in plain if row["split"] == "heldout"] == heldout
    training = [row for row in before.to_pylist() if row["split"] == "train"]
    answers: dict[str, set[str]] = {}
    for row in training:
        answers.setdefault(row["x"], set()).add(row["y"])
    mined = [row for row in after.to_pylist() if row["split"] == "train"]
    assert len(mined) > 0.8 * len(training)
    for row in mined:
        assert len(set(row["hard"])) == 2
        assert not set(row["hard"]) & answers[row["x"]]
        assert set(row["hard"]) <= {one["y"] for one in training}

    both = [fine_tuned(str(tmp_path / f"tuned{hard}"), f"{out}/hard_pairs", model, hard=hard) for hard in (0, 2)]
    scored = [read_manifest(str(tmp_path / f"tuned{hard}" / "model_heldout")).files for hard in (0, 2)]
    assert scored[0] == scored[1]
    order = read_table(str(tmp_path / "tuned2" / "model_batches"))
    assert all(len(row) == 2 for row in order["hard_ids"].to_pylist())
    assert both[0] != both[1]


def test_a_registered_model_is_the_one_that_was_trained(model: str, pairs: str, tmp_path: Path) -> None:
    """From the registry it gives the folder's vectors on both sides; its run is the training's, with the data it saw and
    the figures that decide who is champion. A worse model registered later does not become it, and the same one again is
    no second version."""
    import mlflow
    from mlflow import MlflowClient

    out = str(tmp_path / "out")
    digests, want = [], []
    for rate in (5e-3, 1e-9):
        for _ in range(2):
            made = fine_tuned(out, pairs, model, 0, "toy-code", learning_rate=rate)
        digests.append(made[f"{out}/model"].digest)
        embedder = Embedder(f"{out}/model")
        want.append({side: embedder.embed(WORDS[:3], side) for side in ("x", "y")})
    uri = f"sqlite:///{out}/mlflow.db"
    client = MlflowClient(uri)
    versions = client.search_model_versions("name = 'toy-code'", order_by=["version_number ASC"])
    scores = [float(version.tags["heldout_mrr"]) for version in versions]
    assert len(scores) == 2
    assert scores[0] != scores[1]
    champion = client.get_model_version_by_alias("toy-code", "champion")
    best = scores.index(max(scores))
    assert champion.tags["cpt_ray.digest"] == digests[best]
    run = client.get_run(champion.run_id)
    assert run.data.metrics["heldout_mrr"] == pytest.approx(scores[best], abs=1e-6)
    assert {told.dataset.digest for told in run.inputs.dataset_inputs} == {
        read_manifest(f"{out}/model_{name}").digest for name in ("batches", "heldout")
    }
    with everywhere(uri):
        loaded = mlflow.pyfunc.load_model("models:/toy-code@champion")
    for side in ("x", "y"):
        np.testing.assert_allclose(loaded.predict(WORDS[:3], params={"side": side}), want[best][side], atol=1e-6)
    weights = [path for path in Path(out, "mlartifacts").rglob("*.safetensors") if not path.is_symlink()]
    assert len(weights) == 2

    # The outputs are moved, and what the manual says to do about it is done.
    moved = shutil.move(out, str(tmp_path / "moved"))
    text = (Path(__file__).parents[2] / "docs" / "analyst.md").read_text()
    code = text[text.index("import sqlite3") : text.index("```", text.index("import sqlite3"))]
    code = code.replace("/old/outputs/", f"{out}/").replace("/new/outputs/", f"{moved}/")
    exec(code.replace("outputs/mlflow.db", f"{moved}/mlflow.db"), {})
    with everywhere(f"sqlite:///{moved}/mlflow.db"):
        loaded = mlflow.pyfunc.load_model("models:/toy-code@champion")
    np.testing.assert_allclose(loaded.predict(WORDS[:3]), want[best]["x"], atol=1e-6)
