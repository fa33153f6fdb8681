"""Training from an order to a model: it learns, resumes to the bit, and says what is wrong before it starts."""

from __future__ import annotations

import json
import re
import shutil
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from transformers.models.llama.modeling_llama import LlamaMLP

from cpt_ray.errors import UserError
from cpt_ray.model.embedder import Embedder
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.precision import Choice
from cpt_ray.model.weights import load_tokenizer, new_language_model, save_language_model
from cpt_ray.train import grad_cache, writer
from cpt_ray.train.checkpoint import Checkpoints, Kind
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import make_engine
from cpt_ray.train.loop import TrainResult, train_model
from cpt_ray.train.metrics import METRICS, MetricsFile
from cpt_ray.train.options import TrainOptions

SMALL = ModelOptions(hidden_size=32, layers=2, heads=2, feedforward=64, context=64)
TIMES = ("pairs_per_second", "tokens_per_second")


def options(**changes: Any) -> TrainOptions:
    settings = {
        "workers": 0,
        "engine": "reference",
        "precision": "fp32",
        "learning_rate": 5e-3,
        "checkpoint_every": 4,
        "evaluate_every": 10,
        "chunk_tokens": 256,
        "keep_graphs_mb": 1,
    }
    return TrainOptions(**(settings | changes))


def train(
    corpus: dict[str, str],
    tokenizer: str,
    places: dict[str, str],
    changes: dict[str, Any] | None = None,
    model: ModelOptions = SMALL,
    **arguments: Any,
) -> TrainResult:
    given = {"batches": corpus["batches"], "heldout": corpus["heldout"], "tokenizer": tokenizer}
    return train_model(options(**(changes or {})), model, **(given | places | arguments))


def without_times(metrics: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in row.items() if name not in TIMES} for row in metrics]


def test_training_learns_and_exports_a_model(corpus: Any, tokenizer: str, places: Any) -> None:
    """Loss falls, held-out retrieval rises, every step is in metrics.jsonl once, and the exported model embeds."""
    result = train(corpus, tokenizer, places)
    assert [row["step"] for row in result.metrics] == list(range(21))
    assert result.metrics[20]["loss"] < result.metrics[1]["loss"] - 0.5
    assert result.metrics[20]["heldout_mrr"] > 2 * result.metrics[0]["heldout_mrr"]
    assert 0 < result.metrics[1]["padding_share"] < 0.5
    lines = Path(result.model, "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == result.metrics
    embedder = Embedder(result.model)
    assert embedder.info.temperature == pytest.approx(result.temperature)
    assert embedder.embed(["abc", "def"], "x").shape == (2, 32)


class Killed(Exception):
    """Stands for a SIGKILL: raised where rank 0 reports a step, after the metrics file was written."""


@pytest.mark.parametrize("engine", ["reference", "deepspeed"])
def test_a_killed_run_goes_on_to_the_bit(corpus: Any, tokenizer: str, tmp_path: Path, engine: str) -> None:
    """Killed after steps 6 and 13, with checkpoints at 4, 8, 12: metrics and weights equal an undisturbed run's exactly."""
    changes = {"engine": engine}

    def at(name: str) -> dict[str, str]:
        return {"out": str(tmp_path / name / "out"), "scratch": str(tmp_path / name / "scratch")}

    whole = train(corpus, tokenizer, at("whole"), changes)
    for last in (6, 13):

        def report(step: int, metrics: dict[str, float], last: int = last) -> None:
            if step == last:
                raise Killed

        with pytest.raises(Killed):
            train(corpus, tokenizer, at("killed"), changes, on_metrics=report)
    seen: list[int] = []
    resumed = train(corpus, tokenizer, at("killed"), changes, on_metrics=lambda step, metrics: seen.append(step))
    assert seen == list(range(13, 21))
    assert without_times(resumed.metrics) == without_times(whole.metrics)
    one, other = (torch.from_numpy(Embedder(r.model).embed(["abcde", "gh"], "y")) for r in (whole, resumed))
    assert torch.equal(one, other)


def test_a_killed_run_goes_on_in_the_precision_it_began_with(
    corpus: Any, tokenizer: str, places: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faster precision is asked for anew at every call, and where two are near each other the answer changes."""

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 10:
            raise Killed

    for measured, on_metrics in (("bf16", stop), ("fp32", None)):
        choice = Choice(measured, 1.0, 1.0)  # type: ignore[arg-type]
        monkeypatch.setattr("cpt_ray.train.steps.faster", lambda shape, options, choice=choice: choice)
        with pytest.raises(Killed) if on_metrics else nullcontext():
            train(corpus, tokenizer, places, {"precision": "auto"}, on_metrics=on_metrics)
    marker = max(Path(places["scratch"], "checkpoints").glob("*/complete.json"))
    assert json.loads(marker.read_text())["kind"]["precision"] == "bf16"


def test_an_incomplete_checkpoint_does_not_count(corpus: Any, tokenizer: str, places: Any) -> None:
    """A checkpoint without its marker, or with a file cut short, is passed over for the one before it."""

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 10:
            raise Killed

    with pytest.raises(Killed):
        train(corpus, tokenizer, places, on_metrics=stop)
    newest = Path(places["scratch"], "checkpoints", "step-00000008")
    (newest / "reference.pt").write_bytes(b"cut")
    seen: list[int] = []
    with pytest.raises(Killed):
        train(corpus, tokenizer, places, on_metrics=lambda step, metrics: seen.append(step) or stop(step, metrics))
    assert seen[0] == 5
    seen.clear()
    train(corpus, tokenizer, places, on_metrics=lambda step, metrics: seen.append(step))
    assert seen[0] == 9  # what was cut short has been written again


def test_a_run_that_goes_on_keeps_the_same_graphs(
    corpus: Any, tokenizer: str, places: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a token costs is measured once a run, not once a process: another batch would measure another cost, other graphs
    would be kept, and sums in another order are no longer equal to the bit."""

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 6:
            raise Killed

    def again(*arguments: Any) -> None:
        raise AssertionError("measured again")

    with pytest.raises(Killed):
        train(corpus, tokenizer, places, {"keep_graphs_mb": 2}, on_metrics=stop)
    monkeypatch.setattr(grad_cache, "saved_bytes", again)
    metrics = train(corpus, tokenizer, places, {"keep_graphs_mb": 2}).metrics
    assert all(0 < row["recomputed_share"] < 1 for row in metrics[1:])


@pytest.fixture
def folder(corpus: Any, tokenizer: str, tmp_path: Path) -> str:
    """A language model's weights and tokenizer, as `from_pretrained` reads them: in evaluation mode."""
    path = str(tmp_path / "initial")
    model = new_language_model(SMALL, len(load_tokenizer(tokenizer)), seed=0)
    save_language_model(model, load_tokenizer(tokenizer), path, model.state_dict())
    return path


def test_weights_from_a_folder_train_as_new_ones_do(corpus: Any, folder: str, tmp_path: Path) -> None:
    """Dropout and activation checkpointing are on in the steps, though `from_pretrained` gives a model in evaluation mode;
    held-out figures are without dropout, and equal those of no dropout before the first step."""

    def at(name: str) -> dict[str, str]:
        return {"out": str(tmp_path / name / "out"), "scratch": str(tmp_path / name / "scratch")}

    def first_rows(name: str, changes: dict[str, Any], **model: Any) -> list[dict[str, float]]:
        given = SMALL.model_copy(update={"init": folder, **model})
        return train(corpus, folder, at(name), {"steps": 1, "keep_graphs_mb": 0} | changes, given).metrics

    plain, dropped = first_rows("plain", {}), first_rows("dropped", {}, dropout=0.5)
    assert dropped[0] == plain[0]
    assert abs(dropped[1]["loss"] - plain[1]["loss"]) > 0.01
    saved: list[int] = []
    forward = LlamaMLP.forward

    def counted(self: Any, *arguments: Any, **more: Any) -> Any:
        saved.append(1)
        return forward(self, *arguments, **more)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(LlamaMLP, "forward", counted)
        first_rows("again", {"evaluate_every": 100})
        usual = len(saved)
        saved.clear()
        first_rows("checkpointed", {"evaluate_every": 100, "gradient_checkpointing": True})
    assert len(saved) > usual


def test_folders_are_known_from_any_working_directory(
    corpus: Any, folder: str, places: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray's workers have working directories of their own: what they are given is absolute."""
    monkeypatch.chdir(Path(folder).parent)
    jobs: list[Any] = []

    def launch(work: Any, job: Any, options: Any, scratch: str) -> None:
        jobs.append(job)
        raise InterruptedError

    monkeypatch.setattr("cpt_ray.train.loop.launch", launch)
    with pytest.raises(InterruptedError):
        train(corpus, "initial", places, model=SMALL.model_copy(update={"init": "initial"}))
    assert (jobs[0].model.init, jobs[0].tokenizer) == (folder, folder)
    with pytest.raises(InterruptedError):
        train(corpus, "initial", places)
    assert (jobs[1].model.init, jobs[1].tokenizer) == ("new", folder)


def test_old_checkpoints_are_removed(corpus: Any, tokenizer: str, places: Any) -> None:
    train(corpus, tokenizer, places, {"keep_checkpoints": 2})
    kept = sorted(path.name for path in Path(places["scratch"], "checkpoints").iterdir())
    assert kept == ["step-00000016", "step-00000020"]


def test_an_old_checkpoint_that_does_not_go_ends_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a shared folder while somebody has a file of it open; the next time it goes, and what a kill left goes too."""
    (tmp_path / "step-00000001").mkdir()
    (tmp_path / "step-00000001" / "rank-00000.pt").touch()
    engine = make_engine(torch.nn.Linear(2, 2), options(), Workers.alone())
    checkpoints = Checkpoints(str(tmp_path), Kind.of(options(), Workers.alone(), "model"), Workers.alone(), keep=1)

    def held(*arguments: Any, **settings: Any) -> None:
        raise OSError(39, "Directory not empty")

    with checkpoints.written():
        checkpoints.save(2, engine, {})
    with monkeypatch.context() as patched, checkpoints.written():
        patched.setattr("os.rmdir", held)
        checkpoints.save(3, engine, {})
        checkpoints._writer.wait()
    with checkpoints.written():
        checkpoints.save(4, engine, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000004"]


def test_a_checkpoint_is_what_it_was_when_it_was_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that stalls, `save` returns, training changes the weights, and the checkpoint holds those of before."""
    stalled = threading.Event()
    write = writer._write

    def slow(*arguments: Any) -> None:
        assert stalled.wait(30)
        write(*arguments)

    monkeypatch.setattr(writer, "_write", slow)
    module = torch.nn.Linear(2, 2, bias=False)
    engine = make_engine(module, options(), Workers.alone())
    before = module.weight.detach().clone()
    checkpoints = Checkpoints(str(tmp_path), Kind.of(options(), Workers.alone(), "model"), Workers.alone(), keep=2)
    with checkpoints.written():
        checkpoints.save(1, engine, {"temperature": 1.0})
        assert checkpoints.newest() is None
        with torch.no_grad():
            module.weight.add_(1.0)
        stalled.set()
    assert checkpoints.restore(engine) == (1, {"temperature": 1.0})
    assert torch.equal(module.weight, before)


def test_a_checkpoint_that_cannot_be_written_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk is no silent loss: the error arrives, and nothing is marked complete."""

    def full(*arguments: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(writer, "_write", full)
    engine = make_engine(torch.nn.Linear(2, 2), options(), Workers.alone())
    checkpoints = Checkpoints(str(tmp_path), Kind.of(options(), Workers.alone(), "model"), Workers.alone(), keep=2)
    with pytest.raises(OSError, match="No space left"), checkpoints.written():
        checkpoints.save(1, engine, {})
    assert checkpoints.newest() is None


@pytest.mark.parametrize("name", ["reference.pt", "complete.json", "best.pt", "model.safetensors"])
@pytest.mark.parametrize("engine", ["reference", "deepspeed"])
def test_a_full_disk_is_said_and_loses_nothing(
    corpus: Any, tokenizer: str, tmp_path: Path, engine: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever cannot be written any more, at whatever step: our words, with the place; afterwards the run goes on to the
    bit."""

    def at(name: str) -> dict[str, str]:
        return {"out": str(tmp_path / name / "out"), "scratch": str(tmp_path / name / "scratch")}

    changes = {"engine": engine, "best": "heldout_mrr", "steps": 8, "evaluate_every": 6}
    name = name.replace("reference.pt", "optim_states.pt") if engine == "deepspeed" else name
    whole = train(corpus, tokenizer, at("whole"), changes)
    opened, replaced = open, save_file

    def full(path: Any, mode: str = "r", *more: Any, **settings: Any) -> Any:
        if name in str(path) and "w" in mode and ("step-00000008" in str(path) or name == "best.pt"):
            raise OSError(28, "No space left on device", str(path))
        return opened(path, mode, *more, **settings)

    def no_model(state: Any, path: str, **settings: Any) -> None:
        if name == "model.safetensors":
            raise SafetensorError("I/O error: No space left on device (os error 28)")
        replaced(state, path, **settings)

    monkeypatch.setattr(writer, "open", full, raising=False)
    monkeypatch.setattr(Path, "open", lambda self, *more, **settings: full(self, *more, **settings))
    monkeypatch.setattr("transformers.modeling_utils.safe_save_file", no_model)
    with pytest.raises(UserError, match="No space left") as caught:
        train(corpus, tokenizer, at("full"), changes)
    assert str(tmp_path / "full") in str(caught.value.where)
    monkeypatch.undo()
    assert not list((tmp_path / "full").rglob("*.pt.tmp"))
    assert without_times(train(corpus, tokenizer, at("full"), changes).metrics) == without_times(whole.metrics)


def test_the_best_model_is_exported(corpus: Any, tokenizer: str, tmp_path: Path) -> None:
    """With `best`, the model is that of the best evaluation, to the bit that of a run that ended there; a kill after it,
    and worse evaluations, change nothing."""
    changes = {"evaluate_every": 2, "learning_rate": 0.04, "schedule": "constant", "warmup": 0.0}

    def at(name: str) -> dict[str, str]:
        return {"out": str(tmp_path / name / "out"), "scratch": str(tmp_path / name / "scratch")}

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 11:
            raise Killed

    with pytest.raises(Killed):
        train(corpus, tokenizer, at("best"), changes | {"best": "heldout_loss"}, on_metrics=stop)
    found = train(corpus, tokenizer, at("best"), changes | {"best": "heldout_loss"})
    values = {row["step"]: row["heldout_loss"] for row in found.metrics if "heldout_loss" in row}
    wanted = min(values, key=lambda step: values[step])
    assert found.exported_step == wanted
    assert 0 < wanted < 20
    whole = train(corpus, tokenizer, at("short"), changes | {"steps": wanted})
    assert found.temperature == whole.temperature
    one, other = (Embedder(result.model).embed(["abcde", "gh"], "y") for result in (found, whole))
    assert (one == other).all()


def test_a_checkpoint_of_another_kind_is_refused(corpus: Any, tokenizer: str, places: Any) -> None:
    """Another model's checkpoint, or another precision's, is an error that says what to do."""
    train(corpus, tokenizer, places, {"steps": 4})
    with pytest.raises(UserError, match="model="):
        train(corpus, tokenizer, places, model=SMALL.model_copy(update={"layers": 1}))
    with pytest.raises(UserError, match="precision"):
        train(corpus, tokenizer, places, {"precision": "bf16"})


def test_divergence_names_the_batch(corpus: Any, tokenizer: str, places: Any) -> None:
    """A loss that is not a number stops the run with the batch's number and what to change."""
    with pytest.raises(UserError, match=r"batch \d+ of .*batches") as caught:
        train(corpus, tokenizer, places, {"learning_rate": 1e30, "clip": 0.0, "warmup": 0.0})
    assert "learning_rate" in caught.value.fix


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"workers": 5, "engine": "deepspeed"}, "batches.batch_size"),
        ({"workers": 2}, "train.engine"),
        ({"chunk_tokens": 20}, "train.chunk_tokens"),
        ({"precision": "bf16_weights", "engine": "deepspeed", "zero_stage": 1}, "train.precision"),
        ({"offload": True}, "train.offload"),
        ({"reduce": "chunk"}, "train.reduce"),
        ({"steps": 21}, "train.steps"),
    ],
)
def test_what_cannot_work_is_refused_before_it_starts(
    corpus: Any, tokenizer: str, places: Any, changes: dict[str, Any], key: str
) -> None:
    """Each impossible combination names its key and a fix, and nothing has been written."""
    with pytest.raises(UserError) as caught:
        train(corpus, tokenizer, places, changes)
    assert caught.value.where == key
    assert caught.value.fix
    assert not Path(places["out"]).exists()


def test_a_chunk_over_the_memory_is_refused_before_it_starts(corpus: Any, tokenizer: str, places: Any) -> None:
    """A chunk that would keep more activations than the machine has memory; the fix names a number that fits."""
    from transformers import AutoConfig

    from cpt_ray.train.plan import check_chunk

    wide = AutoConfig.for_model("llama", hidden_size=8192, num_hidden_layers=80, intermediate_size=28672)
    with pytest.raises(UserError, match="activations") as caught:
        check_chunk(options(chunk_tokens=1 << 24), wide, 1 << 24, "train")
    assert caught.value.where == "train.chunk_tokens"
    fits = int(caught.value.fix.split(" at most")[0].removeprefix("lower it to ").replace(",", ""))
    check_chunk(options(chunk_tokens=fits), wide, 1 << 24, "train")
    train(corpus, tokenizer, places, {"chunk_tokens": 1 << 40, "steps": 1})  # a chunk never exceeds the batch


def test_a_tokenizer_without_a_delimiter_is_refused_before_it_starts(
    corpus: Any, tokenizer: str, places: Any, tmp_path: Path
) -> None:
    content = Path(tokenizer, "tokenizer.json").read_text()
    folder = tmp_path / "tokenizer"
    shutil.copytree(tokenizer, folder)
    vocabulary = json.loads(content)
    vocabulary["model"]["vocab"]["(("] = vocabulary["model"]["vocab"].pop("{")
    (folder / "tokenizer.json").write_text(json.dumps(vocabulary))
    with pytest.raises(UserError, match=re.escape("'{'")) as caught:
        train(corpus, str(folder), places)
    assert "add the tokens" in caught.value.fix
    assert not Path(places["out"]).exists()


def test_a_model_with_too_little_context_is_refused(corpus: Any, tokenizer: str, places: Any) -> None:
    with pytest.raises(UserError, match="context"):
        train(corpus, tokenizer, places, model=SMALL.model_copy(update={"context": 16}))


def test_unknown_deepspeed_keys_are_refused() -> None:
    """DeepSpeed itself ignores a misspelt key without a word."""
    from cpt_ray.train.engine.zero import deepspeed_config

    assert deepspeed_config(options(deepspeed={"reduce_bucket_size": 1000}), "cpu")["zero_optimization"]
    with pytest.raises(UserError, match="reduce_bucket_sise"):
        deepspeed_config(options(deepspeed={"reduce_bucket_sise": 1000}), "cpu")


@pytest.mark.parametrize("value", [{"reduce_bucket_size": "large"}, {"sub_group_size": -1}, {"zenflow": 3}])
def test_values_that_deepspeed_does_not_take_are_the_users(value: dict[str, Any]) -> None:
    """In a worker a UserError ends the run; any other would be tried again."""
    from cpt_ray.train.engine.zero import deepspeed_config

    with pytest.raises(UserError, match="it is") as caught:
        deepspeed_config(options(deepspeed=value), "cpu")
    assert caught.value.where == f"deepspeed.{next(iter(value))}"


def test_metrics_that_cannot_be_written_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = MetricsFile(str(tmp_path / METRICS), 0)

    def full(path: Path, *more: Any) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match="No space left") as caught:
        file.append(1, {"loss": 1.0})
    assert caught.value.where == str(tmp_path / METRICS)
