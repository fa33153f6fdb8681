"""The flow of the whole path; what it is made of stands in `options/demo.py`."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("demo")  # ends here, before the imports below, which may take seconds

import functools
import logging
import posixpath
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace

from cpt_ray import memory
from cpt_ray.artifacts import Manifest, Wanted, check_flow, read_manifest, run_flow
from cpt_ray.cluster import connect
from cpt_ray.errors import UserError
from cpt_ray.evaluate.candidates import EVALUATE
from cpt_ray.evaluate.options import CandidateOptions
from cpt_ray.installed import Distribution, distributions, fingerprint
from cpt_ray.installed.options import SiteOptions
from cpt_ray.installed.server import serve_site
from cpt_ray.installed.site import HOST, RENDER, site_shards
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.weights import pinned
from cpt_ray.options import Options
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.sweep.run import SWEEP
from cpt_ray.train.launch import check_room
from cpt_ray.web.crawl import CRAWL
from cpt_ray.web.options import CrawlOptions

from . import code_pairs, crawl, demo_report, doctor, embed, evaluate, pretrain, sweep, text_pairs, train
from .config import under
from .options.demo import PipelineOptions, SweepSteps
from .tracked import Tracked

log = logging.getLogger("cpt_ray")


def run(options: PipelineOptions) -> demo_report.DemoReport:
    """Everything, or what of it is not done yet; returns the report."""
    out = options.cluster.on_disk(options.output)
    identity = demo_report.identity(options, fingerprint())
    if (done := demo_report.finished(out, identity)) is not None:
        demo_report.show(done, out, note="everything was done already")
        return done
    with under("initial", pretrain.Steps):
        initial = options.initial.model_copy(update={"model": pinned(options.initial.model)})
    options = options.model_copy(update={"initial": initial})
    found = chosen(options.only)
    log.info("%s", doctor.summary(options))
    started = time.monotonic()
    with ExitStack() as stack:
        peak = stack.enter_context(memory.watch())
        resources = stack.enter_context(connect(options.cluster))
        for trained in (
            options.initial.dealt,
            options.code_model.train,
            options.text_model.train,
            options.sweep.steps.train,
        ):
            check_room(trained, resources, here=options.cluster.address is None)
        key = f"demo/{out}/{identity}"
        tracked = stack.enter_context(
            Tracked(options.tracking, options.cluster.folder(""), options.output, key, options)
        )
        wanted = flow(out, options, found, tracked)
        check_flow(wanted, resources)
        made = run_flow(wanted, ended=tracked.ended)
        return demo_report.write(
            out,
            {posixpath.basename(path): (path, manifest) for path, manifest in made.items()},
            tracked,
            identity=identity,
            queries=options.queries,
            started=started,
            peak=peak,
        )


def flow(out: str, options: PipelineOptions, found: Sequence[Distribution], tracked: Tracked) -> list[Wanted]:
    """All artifacts of the demo under `out`, of these distributions."""
    at = functools.partial(posixpath.join, out)
    installed = {"installed": fingerprint(found)}
    site, archive, initial = at("site"), at("crawl"), at("initial")
    shards = code_pairs.installed_shards(found)
    model = options.initial.model.model_copy(update={"init": initial})
    return [
        Wanted(site, RENDER, lambda: make_site(site, found, options.site, installed)),
        Wanted(archive, CRAWL, lambda: crawl_site(archive, site, options.web), (site,)),
        *text_pairs.flow(out, archive, options.text),
        *code_pairs.flow(out, shards, code_pairs.mine_installed_shard, options.code, installed),
        *below(
            "initial",
            pretrain.Steps,
            pretrain.flow(out, pretrain.corpus_sources(out, out), options.initial, options.code.split, tracked),
        ),
        *below(
            "code_model",
            train.Steps,
            train.flow(out, "code_model", at("code_pairs"), model, options.code_model, tracked),
        ),
        *below(
            "text_model",
            train.Steps,
            train.flow(out, "text_model", at("text_pairs"), model, options.text_model, tracked),
        ),
        Wanted(at("sweep"), SWEEP, lambda: make_sweep(out, at, model, options.sweep, tracked), (at("code_pairs"),)),
        measured(at("code_search"), at("code_pairs"), at("code_model"), initial, options.evaluation),
        measured(at("text_search"), at("text_pairs"), at("text_model"), initial, options.evaluation),
        *embed.flow(out, at("functions"), at("code_model"), options.index),
    ]


def below(section: str, steps: type[Options], wanted: Sequence[Wanted]) -> list[Wanted]:
    """The same, whose errors name keys of `steps` as they are typed here: below `section`."""

    def named(make: Callable[[], Manifest]) -> Manifest:
        with under(section, steps):
            return make()

    return [replace(one, make=functools.partial(named, one.make)) for one in wanted]


def measured(path: str, pairs: str, trained: str, initial: str, options: CandidateOptions) -> Wanted:
    """Search among held-out candidates by a model and by the weights it started from."""
    return Wanted(
        path, EVALUATE, lambda: evaluate.make(path, pairs, trained, initial, options), (pairs, trained, initial)
    )


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


def crawl_site(path: str, site: str, options: CrawlOptions) -> Manifest:
    """The archive of the site, which is served on loopback for as long as it takes."""
    with serve_site(site) as served:
        return crawl.make(path, options, resolve={HOST: served.address}, source=read_manifest(site).digest)


def make_sweep(
    out: str, at: Callable[[str], str], model: ModelOptions, options: SweepSteps, tracked: Tracked
) -> Manifest:
    """The trials on the code pairs."""
    pairs, heldout, steps = at("code_pairs"), at("code_model_heldout"), options.steps
    with under("sweep.grid", SweepOptions), under("sweep.steps", train.Recipe):
        return sweep.make(out, pairs, heldout, model, steps.batches, steps.train, options.grid, tracked)
