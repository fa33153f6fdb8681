"""The flow of `cpt-ray pretrain`: corpora become a tokenizer, windows and first weights."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("pretrain")  # ends here, before the imports below, which may take seconds

import functools
import itertools
import logging
import posixpath
from typing import Any

from cpt_ray.artifacts import Ledger, Manifest, Wanted, check_flow, read_manifest, run_flow
from cpt_ray.cluster import connect
from cpt_ray.errors import UserError
from cpt_ray.model.options import TokenizerOptions
from cpt_ray.model.precision import Choice, Shape, settle
from cpt_ray.model.tokenizer import TOKENIZE, encode, train_tokenizer
from cpt_ray.model.weights import config_of, load_tokenizer, pinned, weights_identity
from cpt_ray.pairs.corpus import GATHER, Source, batches_of_texts, make_corpus
from cpt_ray.pairs.options import SplitOptions
from cpt_ray.train.continued import KEPT, Course, goes_on, keep, settled_before, take_up
from cpt_ray.train.estimate import Load, Training, say, seconds
from cpt_ray.train.faster import faster
from cpt_ray.train.flops import weights_of, without_memory
from cpt_ray.train.launch import check_room
from cpt_ray.train.metrics import METRICS
from cpt_ray.train.options import PackOptions, PretrainOptions
from cpt_ray.train.packing import PACK, build_windows
from cpt_ray.train.pretrain import PRETRAIN, pretrain
from cpt_ray.train.steps import finished_in, job_identity

from . import reads
from .config import at, under
from .options.pretrain import READS, PipelineOptions, Steps
from .summary import print_artifacts
from .tracked import Tracked

log = logging.getLogger("cpt_ray")

MAX_TOKENS = 1 << 30
"""Nothing is truncated when texts are packed."""


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Make the tokenizer and the weights; returns the manifests by path."""
    sources = corpus_sources(options.documents, options.functions)
    if not sources:
        raise UserError(
            "nothing to read", where="documents, functions", fix="give documents=... or functions=... or both"
        )
    reads.check_options(READS, options)
    for source in sources.values():
        read_manifest(source.rows)
        read_manifest(source.clusters)
    options = options.model_copy(update={"model": pinned(options.model)})
    if options.model.init != "new":
        open_tokenizer(options.model.init)
    out = options.cluster.on_disk(options.output)
    with (
        connect(options.cluster) as resources,
        Tracked(options.tracking, options.cluster.folder(""), "pretrain", f"pretrain/{out}", options) as tracked,
    ):
        wanted = flow(out, sources, options, options.split, tracked)
        check_flow(wanted, resources)
        check_room(options.dealt, resources, here=options.cluster.address is None)
        made = run_flow(wanted, ended=tracked.ended)
    print_artifacts(made)
    return made


def corpus_sources(documents: str | None, functions: str | None) -> dict[str, Source]:
    """The sources of the corpus in the folders of the two corpora."""
    sources = {}
    if documents:
        rows, clusters = (posixpath.join(documents, name) for name in ("clean_documents", "document_clusters"))
        sources["text"] = Source(rows, clusters, "doc_id", ("title", "text"))
    if functions:
        rows, clusters = (posixpath.join(functions, name) for name in ("functions", "function_clusters"))
        sources["code"] = Source(rows, clusters, "function_id", ("docstring", "code"))
    return sources


def flow(out: str, sources: dict[str, Source], steps: Steps, split: SplitOptions, tracked: Tracked) -> list[Wanted]:
    """`corpus`, `tokenizer`, `windows` and `initial` under `out`; with `model.init` not new, only what that needs."""
    corpus, windows, initial = (posixpath.join(out, name) for name in ("corpus", "windows", "initial"))
    new = steps.model.init == "new"
    # Otherwise the Codex route: go on from weights that exist, with their own tokenizer.
    tokenizer = posixpath.join(out, "tokenizer") if new else steps.model.init
    rows = tuple(path for source in sources.values() for path in (source.rows, source.clusters))
    wanted = [
        Wanted(corpus, GATHER, lambda: make_corpus(corpus, sources, split=split, options=steps.corpus), rows),
        Wanted(windows, PACK, lambda: make_windows(windows, corpus, tokenizer, steps.windows, new), (corpus,)),
        Wanted(initial, PRETRAIN, lambda: make_weights(initial, windows, tokenizer, steps, tracked), (windows,)),
    ]
    if new:
        make = functools.partial(make_tokenizer, tokenizer, corpus, steps.tokenizer, steps.tokenizer_texts)
        wanted.insert(1, Wanted(tokenizer, TOKENIZE, make, (corpus,)))
    return wanted


def make_windows(path: str, corpus: str, tokenizer: str, options: PackOptions, new: bool) -> Manifest:
    """The windows artifact: the texts of the corpus in tokens, end to end."""
    known = load_tokenizer(tokenizer) if new else open_tokenizer(tokenizer)
    with under("windows", PackOptions):
        return build_windows(
            path,
            corpus,
            functools.partial(encode, known, max_tokens=MAX_TOKENS),
            known.eos_token_id,
            options,
            {"corpus": read_manifest(corpus), "tokenizer": tokenizer_identity(tokenizer, new)},
        )


def tokenizer_identity(tokenizer: str, new: bool) -> str | Manifest:
    """What a tokenizer is known by: our own by its manifest, that of existing weights by theirs."""
    return read_manifest(tokenizer) if new else weights_identity(tokenizer)


def open_tokenizer(init: str) -> Any:
    """The tokenizer of weights that exist; UserError where it has no token to put between texts."""
    with at("model.init", init):
        tokenizer = load_tokenizer(init)
        if tokenizer.eos_token_id is None:
            raise UserError("the tokenizer has no end-of-text token, which separates texts", fix="use another model")
        return tokenizer


def make_tokenizer(path: str, corpus: str, options: TokenizerOptions, most: int) -> Manifest:
    """The tokenizer artifact: a folder that AutoTokenizer.from_pretrained reads."""
    params = {**options.result(), "texts": most}
    with TOKENIZE.build(path, params=params, inputs={"corpus": read_manifest(corpus)}) as work:
        if work.manifest is not None:
            return work.manifest
        texts = list(itertools.islice(itertools.chain.from_iterable(batches_of_texts(corpus)), most))
        trained = train_tokenizer(texts, options)
        trained.save_pretrained(work.path)
        ledger = Ledger.of("texts", read=len(texts), kept=len(texts))
        return work.publish(ledger, rows=len(trained), extra={"vocabulary": len(trained)})


def make_weights(path: str, windows: str, tokenizer: str, steps: Steps, tracked: Tracked) -> Manifest:
    """The initial-weights artifact: a standard language-model folder with its tokenizer, and metrics.jsonl.

    Beside it, the last checkpoint: a pretraining that is asked for more steps goes on from there.
    """
    order = read_manifest(windows)
    identity = tokenizer_identity(tokenizer, steps.model.init == "new")
    inputs: dict[str, str | Manifest] = {"windows": order, "tokenizer": identity}

    def params(precision: str) -> dict[str, Any]:
        return {"model": steps.model.result("start"), "pretrain": {**steps.pretrain.result(), "precision": precision}}

    def config() -> Any:
        return config_of(steps.model, len(load_tokenizer(tokenizer)))

    def shape() -> Shape:
        return Shape.of(config(), sequence=int(order.params["context"]), trained=True, logits=True)

    def measure() -> Choice:
        return faster(shape(), steps.dealt)

    total = steps.pretrain.steps or int(order.extra["batches"])
    first = identity if isinstance(identity, str) else identity.digest

    def course(precision: str) -> Course:
        return Course.of(total, PRETRAIN.version, params(precision), order, first)

    kept = path + KEPT
    wanted = settled_before(steps.pretrain.precision, course, kept)
    precision, chosen = settle(wanted, PRETRAIN, path, params=params, inputs=inputs, measure=measure)
    options = steps.dealt.model_copy(update={"precision": precision})
    longer = goes_on(course(precision), kept)
    with PRETRAIN.build(path, params=params(precision), inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        if options.workers < steps.pretrain.workers:
            log.info("%d of %d workers: a batch has no more windows", options.workers, steps.pretrain.workers)
        if longer:
            take_up(kept, work.scratch, work.path, job_identity(order, pinned(steps.model)))
        left = total - finished_in(work.scratch)
        weights = weights_of(without_memory(config(), steps.model))
        say("initial", seconds(Training(left, Load.of_first(windows)), weights, shape(), measure(), options))
        size = int(order.params["batch_size"])
        live = tracked.live("initial", work.identity, posixpath.join(work.path, METRICS), total, size)
        with live, under("pretrain", PretrainOptions):
            result = pretrain(
                options,
                steps.model,
                windows=windows,
                tokenizer=tokenizer,
                out=work.path,
                scratch=work.scratch,
                heldout=None,
            )
        keep(course(precision), kept, work.scratch, work.path)
        seen = result.steps * size
        ledger = Ledger.of("windows", read=order.rows, kept=seen, dropped={"beyond_steps": order.rows - seen})
        extra = {"steps": result.steps, "peak_memory_mb": result.peak_memory_mb, "last": result.metrics[-1], **chosen}
        return work.publish(ledger, rows=seen, extra=extra)
