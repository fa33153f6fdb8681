"""The whole path on the packages installed here: crawl to searchable, tracked models.

1. A documentation site is rendered from the installed distributions, served on loopback and crawled.
2. Its pages become documents, duplicate clusters and neighbouring-text pairs.
3. Documented functions are mined from the same distributions and become (docstring, code) pairs.
4. A tokenizer and a small GPT are trained on both: the initial weights.
5. A text model and a code model are trained contrastively, and batch size and temperature are swept.
6. Held-out distributions are searched by the models, their initial weights, BM25 and chance.
7. All functions are indexed, and a report is written.

Every stage is an artifact and a run in MLflow; the same command goes on where it stopped.
"""

from __future__ import annotations

import functools
import posixpath
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from pydantic import Field, model_validator

from cpt_ray import memory
from cpt_ray.artifacts import Manifest
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.errors import UserError
from cpt_ray.evaluate.candidates import CandidateOptions
from cpt_ray.installed import Distribution, distributions, fingerprint
from cpt_ray.installed.server import serve_site
from cpt_ray.installed.site import HOST, RENDER, SiteOptions, site_shards
from cpt_ray.model.weights import ModelOptions
from cpt_ray.options import Options
from cpt_ray.serve.embed import EmbedOptions
from cpt_ray.sweep.grid import SweepOptions
from cpt_ray.web.crawl import CrawlOptions
from pipelines import code_pairs, crawl, demo_report, embed, evaluate, pretrain, sweep, text_pairs, train
from pipelines.cli import script
from pipelines.config import under, validating
from pipelines.tracked import Tracked, TrackingOptions


class SweepSteps(Options):
    """The sweep: short trainings on the code pairs from the same initial weights."""

    grid: SweepOptions = SweepOptions()
    steps: train.Recipe = train.Recipe()

    @model_validator(mode="after")
    def _possible(self) -> SweepSteps:
        with validating(), under("grid", SweepOptions):
            sweep.check(self.grid, self.steps)
        return self


class PipelineOptions(Options):
    """Options of `cpt-ray demo`."""

    cluster: ClusterOptions = ClusterOptions()
    tracking: TrackingOptions = TrackingOptions()
    output: str = Field("demo", description="folder under cluster.outputs")
    only: tuple[str, ...] = Field((), description="use these installed distributions alone; none: all of them")
    site: SiteOptions = SiteOptions()
    web: CrawlOptions = CrawlOptions()
    text: text_pairs.Steps = text_pairs.Steps()
    code: code_pairs.Steps = code_pairs.Steps()
    initial: pretrain.Steps = pretrain.Steps()
    code_model: train.Steps = train.Steps()
    text_model: train.Steps = train.Steps()
    sweep: SweepSteps = SweepSteps()
    evaluation: CandidateOptions = CandidateOptions()
    index: EmbedOptions = EmbedOptions()
    queries: tuple[str, ...] = Field((), description="example searches shown in the report")


def run(options: PipelineOptions) -> demo_report.DemoReport:
    """Everything, or what of it is not done yet; returns the report."""
    out = options.cluster.folder(options.output)
    identity = demo_report.identity(options, fingerprint())
    if (done := demo_report.finished(out, identity)) is not None:
        demo_report.show(done, out, note="everything was done already")
        return done
    started = time.monotonic()
    with ExitStack() as stack:
        peak = stack.enter_context(memory.watch())
        stack.enter_context(connect(options.cluster))
        key = f"demo/{out}/{identity}"
        tracked = stack.enter_context(
            Tracked(options.tracking, options.cluster.folder(""), options.output, key, options)
        )
        stages = Stages(tracked)
        make(out, options, stages)
        return demo_report.write(
            out,
            stages.made,
            tracked,
            identity=identity,
            queries=options.queries,
            started=started,
            peak=peak,
        )


@dataclass
class Stages:
    """The stages so far: name -> (path, manifest), each logged to MLflow as it is finished."""

    tracked: Tracked
    made: dict[str, tuple[str, Manifest]] = field(default_factory=dict)

    def add(self, made: dict[str, Manifest]) -> None:
        for path, manifest in made.items():
            name = posixpath.basename(path)
            self.made[name] = (path, manifest)
            self.tracked.finish(name, path, manifest)


def make(out: str, options: PipelineOptions, stages: Stages) -> None:
    """All artifacts of the demo under `out`."""
    at = functools.partial(posixpath.join, out)
    found = chosen(options.only)
    installed = {"installed": fingerprint(found)}

    stages.add({at("site"): make_site(at("site"), found, options.site, installed)})
    stages.add({at("crawl"): crawl_site(at("crawl"), at("site"), stages, options.web)})
    stages.add(text_pairs.make(out, at("crawl"), options.text))
    shards = code_pairs.installed_shards(found)
    stages.add(code_pairs.make(out, shards, code_pairs.mine_installed_shard, options.code, installed))

    sources = pretrain.corpus_sources(out, out)
    with under("initial", pretrain.Steps):
        stages.add(pretrain.make(out, sources, options.initial, options.code.split, stages.tracked))
    model = options.initial.model.model_copy(update={"init": at("initial")})
    for name, pairs, steps in (
        ("code_model", "code_pairs", options.code_model),
        ("text_model", "text_pairs", options.text_model),
    ):
        with under(name, train.Steps):
            stages.add(train.make(out, name, at(pairs), model, steps, stages.tracked))
    with under("sweep.grid", SweepOptions), under("sweep.steps", train.Recipe):
        stages.add({at("sweep"): make_sweep(out, at, model, options.sweep, stages.tracked)})

    for name, pairs, trained in (
        ("code_search", "code_pairs", "code_model"),
        ("text_search", "text_pairs", "text_model"),
    ):
        stages.add({at(name): evaluate.make(at(name), at(pairs), at(trained), at("initial"), options.evaluation)})
    stages.add(embed.make(out, at("functions"), at("code_model"), options.index))


def chosen(only: Sequence[str]) -> list[Distribution]:
    """The installed distributions, or those of them that are named."""
    found = distributions()
    unknown = sorted(set(only) - {distribution.name for distribution in found})
    if unknown:
        raise UserError(f"not installed: {', '.join(unknown)}", where="only", fix="name distributions that pip lists")
    return [distribution for distribution in found if not only or distribution.name in only]


def make_site(path: str, found: Sequence[Distribution], options: SiteOptions, inputs: dict[str, str]) -> Manifest:
    """The documentation site as an artifact of pages."""
    return RENDER.map(
        path,
        params=options,
        inputs=inputs,
        shards=site_shards(found, options),
        options=options,
    )


def crawl_site(path: str, site: str, stages: Stages, options: CrawlOptions) -> Manifest:
    """The archive of the site, which is served on loopback for as long as it takes."""
    digest = stages.made["site"][1].digest
    with serve_site(site) as served:
        return crawl.make(path, options, resolve={HOST: served.address}, source=digest)


def make_sweep(
    out: str, at: Callable[[str], str], model: ModelOptions, options: SweepSteps, tracked: Tracked
) -> Manifest:
    """The trials on the code pairs."""
    return sweep.make(
        out,
        at("code_pairs"),
        at("code_model_heldout"),
        model,
        options.steps.batches,
        options.steps.train,
        options.grid,
        tracked,
    )


if __name__ == "__main__":
    script("demo")
