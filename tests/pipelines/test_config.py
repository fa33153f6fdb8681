"""Options come typed out of conf/ and the command line, and every mistake names its key and the fix."""

from __future__ import annotations

import errno
import functools
import importlib
import operator
import os
from pathlib import Path
from typing import Annotated, Literal

import pytest
import yaml
from pydantic import Field, model_validator

from cpt_ray.errors import UserError
from cpt_ray.options import Options
from cpt_ray.serve.indexes.exact import Exact
from cpt_ray.train.losses.one_way import OneWay
from pipelines import cli, config, sweep, train

FREE = "query"


class Item(Options):
    path: str = Field(description="where")


class A(Options):
    kind: Literal["a"] = "a"
    one: int = 1


class B(Options):
    kind: Literal["b"] = "b"


class Inner(Options):
    rate: float = Field(0.5, gt=0, description="a rate")
    names: list[str] = ["a"]
    separator: str = "\n\n"
    shares: dict[str, float] = {}
    items: tuple[Item, ...] = ()
    kinds: tuple[Annotated[A | B, Field(discriminator="kind")], ...] = ()


class Toy(Options):
    """A toy."""

    input: str = Field(description="what to read")
    batch: int = Field(8, description="rows a step")
    workers: int = 2
    query: str | None = None
    inner: Inner = Inner()

    @model_validator(mode="after")
    def _divides(self) -> Toy:
        if self.batch % self.workers:
            raise ValueError(f"batch={self.batch} is not a multiple of workers={self.workers}; use {self.workers * 4}")
        return self


@pytest.fixture
def conf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "toy.yaml").write_text("defaults:\n  - toy_defaults\n  - inner: slow\n  - _self_\n\nbatch: 16\n")
    (tmp_path / "inner" / "slow.yaml").write_text("rate: 0.1\n")
    (tmp_path / "inner" / "fast.yaml").write_text("rate: 2.0\n")
    monkeypatch.setattr(config, "CONF", tmp_path)
    return tmp_path


def test_defaults_then_yaml_then_command_line(conf):
    """The last word is the command line's; keys the YAML does not mention can be overridden too."""
    options = config.load("toy", Toy, ["input=here", "inner.names=[b,c]", "inner=fast"])
    assert options == Toy(input="here", batch=16, inner=Inner(rate=2.0, names=["b", "c"]))


@pytest.mark.parametrize("given", [["inner.shares.web=2", "inner.shares.code=1"], ["inner.shares={web: 2, code: 1}"]])
def test_keys_of_a_mapping_are_the_users_own(conf, given):
    assert config.load("toy", Toy, ["input=here", *given]).inner.shares == {"web": 2.0, "code": 1.0}


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["input=x", "bacth=3"], ["bacth", "did you mean batch"]),
        (["input=x", "inner.rat=3"], ["inner.rat", "did you mean inner.rate"]),
        (["input=x", "+inner.extra=3"], ["inner.extra", "no such key"]),
        (["input=x", "inner=medium"], ["inner=medium", "fast, slow"]),
        (["input=x", "batch=many"], ["batch", "integer", "many"]),
        (["input=x", "inner.rate=0"], ["inner.rate", "greater than 0"]),
        (["input=x", "inner.rate=inf"], ["inner.rate", "finite"]),
        (["input=x", "batch=9"], ["batch=9", "workers=2", "use 8"]),
        ([], ["input", "needs a value", "what to read"]),
        (["input=x", "inner.names=[b"], ["inner.names"]),
        (["input=x", "inner.names=b"], ["inner.names", "a list, as in inner.names=[", "'b'"]),
        (["input=x", "inner.items=[b]"], ["inner.items.0", "has keys, as in {path: ...}", "'b'"]),
        (
            ["input=x", "inner.items=[{pth: b}]"],
            ["inner.items.0.pth", "did you mean path?", "as in {path: ...} (where)"],
        ),
        (["input=x", "inner.kinds=[{kind: c}]"], ["inner.kinds.0", "no kind 'c'; one of 'a', 'b'"]),
        (["input=x", "inner.kinds=[{one: 1}]"], ["inner.kinds.0.kind: needs a value, as in {kind: ...}"]),
        (["input=x", "inner.kinds=[{kind: a, on: 1}]"], ["inner.kinds.0.a.on", "did you mean one?"]),
    ],
)
def test_a_mistake_names_the_key_and_the_fix(conf, overrides, words):
    """An unknown key, a wrong type, an impossible combination, a missing value: said before anything starts."""
    with pytest.raises(UserError) as error:
        config.load("toy", Toy, overrides)
    for word in words:
        assert word in str(error.value)


def test_an_error_names_the_key_as_it_is_typed():
    """A step knows its own keys; the command knows below which section they stand. A path stays as it is."""
    for where, typed in [("rate", "inner.rate"), ("names.3", "inner.names.3"), ("/some/path", "/some/path"), ("", "")]:
        with pytest.raises(UserError) as error, config.under("inner", Inner):
            raise UserError("wrong", where=where, fix="right")
        assert (error.value.where, error.value.what, error.value.fix) == (typed, "wrong", "right")
    outer, inner = config.under("outer", Toy), config.under("inner", Inner)
    with pytest.raises(UserError, match=r"outer\.inner\.rate: wrong"), outer, inner:
        raise UserError("wrong", where="rate")


@pytest.mark.parametrize(
    ("pipeline", "overrides", "key"),
    [
        ("train", ["pairs=x", "batches.batch_size=9"], "batches.batch_size"),
        ("train", ["pairs=x", "batches.batch_size=8", "train.elastic_workers=3"], "batches.batch_size"),
        ("demo", ["code_model.batches.batch_size=9"], "code_model.batches.batch_size"),
        ("pretrain", ["windows.batch_size=9"], "windows.batch_size"),
        ("pretrain", ["windows.batch_size=8", "pretrain.elastic_workers=3"], "windows.batch_size"),
        ("demo", ["initial.windows.batch_size=9"], "initial.windows.batch_size"),
        ("demo", ["initial.windows.batch_size=9", "cluster.workers=8"], "initial.windows.batch_size"),
        ("train", ["pairs=x", "train.zero_stage=0", "train.offload=true"], "train.offload"),
        ("demo", ["code_model.train.zero_stage=0", "code_model.train.offload=true"], "code_model.train.offload"),
        ("sweep", ["pairs=x", "sweep.over.batches.batch_size=[31]"], "sweep.examples"),
        (
            "sweep",
            ["pairs=x", "sweep.over.batches.batch_size=[31]", "sweep.examples=31"],
            "sweep.over.batches.batch_size",
        ),
        ("demo", ["sweep.grid.over.batches.batch_size=[31]"], "sweep.grid.examples"),
        ("sweep", ["pairs=x", "sweep.metric=heldout_mr"], "sweep.metric: Input should be 'heldout_mrr'"),
        ("sweep", ["pairs=x", "sweep.over.train.temperature=[0.001]"], "sweep.over.train.temperature"),
        ("pretrain", ["pretrain.reduce=chunk", "pretrain.zero_stage=1"], "pretrain.reduce"),
        ("demo", ["initial.pretrain.reduce=chunk", "initial.pretrain.zero_stage=1"], "initial.pretrain.reduce"),
        ("hard_negatives", ["pairs=x", "trained=y", "mine.first=99"], "mine: the window of ranks 99 to 100"),
    ],
)
def test_impossible_combinations_name_the_keys_of_the_command(pipeline, overrides, key):
    """The same mistake has another name in `train`, `sweep` and `demo`: each its own."""
    module = importlib.import_module(f"pipelines.{pipeline}")
    if "mine.first=99" in overrides:
        overrides = [*overrides, "mine.count=2"]
    with pytest.raises(UserError) as error:
        config.load(pipeline, module.PipelineOptions, overrides)
    assert f"\n  {key}" in str(error.value)


def test_a_sweep_has_batch_sizes_of_its_own():
    """What one training would be refused is nothing to a sweep, which never uses it."""
    load = functools.partial(config.load, overrides=["pairs=x", "batches.batch_size=31"])
    assert load("sweep", sweep.PipelineOptions).sweep.axes["batches.batch_size"] == [256, 512]
    with pytest.raises(UserError, match=r"batches\.batch_size"):
        load("train", train.PipelineOptions)


@pytest.mark.parametrize(
    ("pipeline", "required", "key", "kind", "refusal", "shown"),
    [
        (
            "train",
            ["pairs=a", "model.init=b"],
            "train.loss",
            OneWay(),
            r"train\.loss.*infonce.*one_way",
            ["train.loss.kind=infonce", "one_way"],
        ),
        (
            "embed",
            ["source=a", "trained=b"],
            "index",
            Exact(),
            r"index: .*'exact', 'hnsw'",
            ["kind: exact", "index.kind=exact"],
        ),
    ],
)
def test_a_kind_is_a_key_of_its_pipeline(pipeline, required, key, kind, refusal, shown, capsys):
    """Chosen by name, refused with the names there are, and listed by --help."""
    options = importlib.import_module(f"pipelines.options.{pipeline}").PipelineOptions
    chosen = config.load(pipeline, options, [*required, f"{key}.kind={kind.kind}"])
    assert operator.attrgetter(key)(chosen) == kind
    with pytest.raises(UserError, match=refusal):
        config.load(pipeline, options, [*required, f"{key}.kind=nothing"])
    assert cli.main([pipeline, "--help"]) == 0
    printed = capsys.readouterr().out
    assert all(words in printed for words in shown)


@pytest.mark.parametrize("cluster", ["gpus", "job"])
def test_a_variable_that_is_not_set_is_named(monkeypatch, cluster):
    """A cluster keeps its artifacts where CPT_RAY_OUTPUTS says: no folder that one node alone sees can stand in."""
    monkeypatch.delenv("CPT_RAY_OUTPUTS", raising=False)
    module = importlib.import_module("pipelines.crawl")
    chosen = f"cluster={cluster}"
    with pytest.raises(UserError, match="CPT_RAY_OUTPUTS is not set"):
        config.load("crawl", module.PipelineOptions, [chosen])
    assert config.load("crawl", module.PipelineOptions, [chosen, "cluster.outputs=x"]).cluster.outputs == "x"


def test_help_names_the_groups_that_the_command_has(conf, capsys):
    """`inner=slow` can be typed where conf/toy.yaml has that group; groups of other commands are not offered."""
    (conf / "unrelated").mkdir()
    assert config.choices("toy") == {"inner": ["fast", "slow"]}
    assert cli.run("toy", Toy, lambda options: pytest.fail("ran"), ["--help"]) == 0
    shown = capsys.readouterr().out
    assert "inner=..." in shown
    assert "unrelated" not in shown


def test_print_config_round_trips(conf, capsys):
    """What --print-config shows, validated again, is the same configuration."""
    assert cli.run("toy", Toy, lambda options: pytest.fail("ran"), ["input=x", "--print-config"]) == 0
    shown = yaml.safe_load(capsys.readouterr().out)
    assert config.validate(Toy, shown) == config.load("toy", Toy, ["input=x"])


def test_print_config_shows_what_is_missing(conf, capsys):
    """All there is, with ??? in the place of what must be given; the mistake is said as ever."""
    with pytest.raises(UserError, match="input: needs a value"):
        cli.run("toy", Toy, lambda options: pytest.fail("ran"), ["--print-config"])
    shown = yaml.safe_load(capsys.readouterr().out)
    assert (shown["input"], shown["batch"]) == ("???", 16)


def test_a_suite_without_its_data_says_so():
    """`data` is needed where what was chosen reads ${data}, and nowhere else."""
    options = importlib.import_module("pipelines.options.evaluate").PipelineOptions
    with pytest.raises(UserError, match="data is not given"):
        config.load("evaluate", options, ["trained=a", "suite=text"])
    assert config.load("evaluate", options, ["trained=a", "pairs=b", "initial=c"]).data is None


@pytest.mark.parametrize("text", ["parse an ISO date", "what's {this}, [that]: a=b?", 'say "hi" \\ there'])
def test_free_text_reaches_the_query_unharmed(conf, text):
    """Quotes, brackets and equal signs inside a query are text, not Hydra's grammar."""
    seen: list[Toy] = []
    assert cli.run("toy", Toy, seen.append, ["input=x", text]) == 0
    assert seen[0].query == text


def test_help_lists_every_key(conf, capsys):
    assert cli.run("toy", Toy, lambda options: pytest.fail("ran"), ["--help"]) == 0
    shown = capsys.readouterr().out
    for key in ("input", "batch", "inner.rate", "a rate", "required", "[a]", '"\\n\\n"'):
        assert key in shown


def test_a_mistake_ends_with_code_2_and_no_traceback(capsys):
    assert cli.main(["crowl"]) == 2
    shown = capsys.readouterr().err
    assert "crowl" in shown
    assert "did you mean crawl?" in shown
    assert "Traceback" not in shown


def test_a_section_that_is_misspelt_is_said_as_it_was_typed(capsys):
    assert cli.main(["text-pairs", "archive=x", "clusters.outputs=y"]) == 2
    assert "clusters.outputs: there is no such key; did you mean cluster.outputs" in capsys.readouterr().err


def test_what_the_system_refuses_ends_with_code_2_and_its_place(monkeypatch, capsys):
    """As a full disk; an error of ours keeps its traceback."""

    def full(name, options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/outputs/part")

    monkeypatch.setattr(cli, "_start", full)
    assert cli.main(["search", "x"]) == 2
    assert "/outputs/part: no space left on device" in capsys.readouterr().err
    monkeypatch.setattr(cli, "_start", lambda name, options: Path("/nowhere/at/all").read_text())
    with pytest.raises(FileNotFoundError):
        cli.main(["search", "x"])


@pytest.mark.parametrize("words", [["-h"], ["help"], ["search", "-h"]])
def test_help_goes_by_its_usual_names(words, capsys):
    assert cli.main(words) == 0
    assert "cpt-ray" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for names in cli.GROUPS.values() for name in names])
def test_every_pipeline_has_help_and_a_default_for_each_key(name, capsys):
    """--help of each pipeline composes and describes every key; an unknown one is named."""
    assert cli.main([name.replace("_", "-"), "--help"]) == 0
    module = importlib.import_module(f"pipelines.{name}")
    undescribed = [key for key, (_, text) in config.keys(module.PipelineOptions).items() if not text]
    assert undescribed == []
    assert cli.main([name.replace("_", "-"), "no_such_key=1"]) == 2
    assert "no_such_key: there is no such key" in capsys.readouterr().err
