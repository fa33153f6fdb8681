"""Real stages killed at random moments of their publishing: the same command goes on, repeats nothing, ends the same."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from cpt_ray.artifacts import Manifest, Work, read_manifest, run_flow
from cpt_ray.installed import distributions
from cpt_ray.model.options import ModelOptions, TokenizerOptions
from cpt_ray.model.tokenizer import train_tokenizer
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.tracking.options import TrackingOptions
from cpt_ray.train.options import TrainOptions
from pipelines import code_pairs, crawl, train
from pipelines.options.code_pairs import Steps as CodeSteps
from pipelines.options.train import Steps
from pipelines.tracked import Tracked
from tests.artifacts.test_store import TOUCHES
from tests.model.written import write_model
from tests.web.conftest import HOST, serve

SEEDS = 10
Make = Callable[[str], Manifest]


def _killed(make: Make, out: str, seed: int) -> int:
    """The exit code of a process that makes `out` and is killed at a random touch of a file while it publishes."""

    def run() -> None:
        at, seen, publish = random.Random(seed).randrange(1, 60), 0, Work.publish

        def hook(event: str, arguments: tuple) -> None:
            nonlocal seen
            if event in TOUCHES and any(out in str(argument) for argument in arguments):
                seen += 1
                if seen == at:
                    os.kill(os.getpid(), signal.SIGKILL)

        def publishing(self: Work, *given: object, **more: object) -> Manifest:
            sys.addaudithook(hook)
            return publish(self, *given, **more)  # type: ignore[arg-type]

        Work.publish = publishing  # type: ignore[method-assign]
        make(out)

    child = multiprocessing.get_context("fork").Process(target=run)
    child.start()
    child.join()
    assert child.exitcode is not None
    return child.exitcode


def _finished(make: Make, out: str) -> None:
    child = multiprocessing.get_context("fork").Process(target=make, args=(out,))
    child.start()
    child.join()
    assert child.exitcode == 0


def _content(manifest: Manifest) -> dict[str, str]:
    """Digests by file, but for the metrics, which hold seconds."""
    return {file.path: file.digest for file in manifest.files if file.path != "metrics.jsonl"}


def _goes_on(make: Make, tmp_path: Path, name: str) -> Manifest:
    """SEEDS kills, each mended by one more run; all end with the files of an undisturbed one, whose manifest this is."""
    _finished(make, str(tmp_path / "undisturbed"))
    expected, killed = read_manifest(f"{tmp_path}/undisturbed/{name}"), 0
    for seed in range(SEEDS):
        out = str(tmp_path / str(seed))
        killed += _killed(make, out, seed) == -signal.SIGKILL
        _finished(make, out)
        found = read_manifest(f"{out}/{name}")
        assert _content(found) == _content(expected), f"seed {seed}"
        assert not list(Path(out).rglob("*.building*")), f"seed {seed}"
    assert killed >= SEEDS // 2
    return expected


@pytest.mark.slow
def test_data(tmp_path: Path) -> None:
    """Functions, their clusters with all phases, and pairs: whichever is published at the moment."""
    (click,) = (one for one in distributions() if one.name == "click")
    shards = code_pairs.installed_shards([click])

    def make(out: str) -> Manifest:
        wanted = code_pairs.flow(out, shards, code_pairs.mine_installed_shard, CodeSteps(), {"installed": "click"})
        return run_flow(wanted)[f"{out}/code_pairs"]

    assert _goes_on(make, tmp_path, "code_pairs").rows > 10


@pytest.mark.slow
def test_a_crawl(tmp_path: Path) -> None:
    """No page is asked for again: what was fetched is fetched, though it was killed while it was published."""
    pages = {f"/{n}": f'<p>page {n}</p><a href="/{n + 1}">next</a>' for n in range(20)}
    with serve({"/robots.txt": "User-agent: *\nAllow: /\n", **pages}) as served:
        options = crawl.CrawlOptions(
            seeds=(f"http://{HOST}/0",), contact="me@e.example", allow_private=("127.0.0.0/8",), delay=0, sitemaps=False
        )

        def make(out: str) -> Manifest:
            return crawl.make(f"{out}/crawl", options, resolve={HOST: served.address})

        for seed in range(SEEDS):
            out = str(tmp_path / str(seed))
            _killed(make, out, seed)
            asked = list(served.requests)
            _finished(make, out)
            assert set(served.requests[len(asked) :]) <= {"/robots.txt"}, f"seed {seed}"
            assert read_manifest(f"{out}/crawl").rows == 20


@pytest.mark.slow
def test_a_training(tmp_path: Path) -> None:
    """Order, held-out batch and model; a training that is finished takes no step again."""
    words = [f"word{n:03d}" for n in range(300)]
    tokenizer = train_tokenizer(words, TokenizerOptions(vocabulary=400))
    options = ModelOptions(hidden_size=32, layers=1, heads=2, feedforward=64, context=64)
    write_model(str(tmp_path / "init"), tokenizer, options, tokens=len(tokenizer), x=16, y=24)
    chosen = [one for one in distributions() if one.name in ("click", "jinja2", "markdown-it-py", "packaging", "rich")]
    shards = code_pairs.installed_shards(chosen)
    data = CodeSteps.model_validate({"split": {"heldout_share": 0.5}})
    run_flow(code_pairs.flow(str(tmp_path / "data"), shards, code_pairs.mine_installed_shard, data, {"installed": "c"}))
    steps = Steps(
        batches=BatchOptions(batch_size=8, steps=6, max_x_tokens=12, max_y_tokens=16),
        train=TrainOptions(workers=0, engine="reference", precision="fp32", checkpoint_every=2),
        heldout_pairs=4,
    )
    model, pairs = ModelOptions(init=str(tmp_path / "init")), str(tmp_path / "data" / "code_pairs")

    def make(out: str) -> Manifest:
        with Tracked(TrackingOptions(), out, "train", out, steps) as tracked:
            return run_flow(train.flow(out, "model", pairs, model, steps, tracked))[f"{out}/model"]

    _goes_on(make, tmp_path, "model")
