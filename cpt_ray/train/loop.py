"""Contrastive training from a materialised order of batches to an exported model.

    validate -> workers -> weights, engine, temperature -> newest checkpoint -> step after step -> export

The work of one worker is `contrastive`, a plain function; `train_model` checks the options before anything starts and runs it
on Ray Train or in this process.
"""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from cpt_ray import memory
from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import BUILDING, read_manifest
from cpt_ray.errors import UserError
from cpt_ray.model.decoder import context_of
from cpt_ray.model.delimiters import ADDED, Delimiters
from cpt_ray.model.encoder import Encoder
from cpt_ray.model.options import ModelOptions, Side
from cpt_ray.model.precision import Shape
from cpt_ray.model.start import prepare
from cpt_ray.model.weights import (
    ModelInfo,
    absolute,
    config_of,
    load_backbone,
    load_tokenizer,
    pinned,
    save_model,
)
from cpt_ray.pairs.batches import BatchReader
from cpt_ray.train import card
from cpt_ray.train.best import BestModel
from cpt_ray.train.collectives import Workers
from cpt_ray.train.flops import TRAINING, weights_of
from cpt_ray.train.grad_cache import GradCache, Pairs, Step
from cpt_ray.train.heldout import evaluate, shared
from cpt_ray.train.launch import launch
from cpt_ray.train.metrics import METRICS, OnMetrics, read_metrics
from cpt_ray.train.options import TrainOptions, check_batch, check_best, check_engine
from cpt_ray.train.plan import check_chunk
from cpt_ray.train.schedule import rate_factor
from cpt_ray.train.steps import CHECKPOINTS, Job, job_identity, open_engine, run_steps, settled
from cpt_ray.train.temperature import Temperature
from cpt_ray.train.watched import Watched, measure
from cpt_ray.train.writer import told_where


@dataclass(frozen=True)
class ContrastiveJob(Job):
    """What a worker needs: paths and options, no data."""

    options: TrainOptions
    model: ModelOptions
    heldout: str | None
    tokenizer: str
    max_x_tokens: int
    max_y_tokens: int
    pairs: str | None = None
    watched: Watched | None = None


@dataclass(frozen=True)
class TrainResult:
    """What training returns: the exported model's folder, the step it is of, and the metrics of every step, in order."""

    model: str
    steps: int
    exported_step: int
    temperature: float
    metrics: list[dict[str, float]]
    seconds: float
    peak_memory_mb: float


def train_model(
    options: TrainOptions,
    model: ModelOptions,
    *,
    batches: str,
    out: str,
    scratch: str,
    heldout: str | None = None,
    tokenizer: str | None = None,
    on_metrics: OnMetrics | None = None,
    where: str = "train",
    pairs: str | None = None,
    watched: Watched | None = None,
) -> TrainResult:
    """Train on the published order at `batches` and write the model into the folder `out`.

    `model.init` names the first weights; the tokenizer is read from there unless `tokenizer` says otherwise. `heldout` is
    a published order too, of which batch 0 is the evaluation set. Checkpoints and everything else that a killed run needs
    to go on are in `scratch`: call again with the same arguments. Metrics of all steps are in `out`/metrics.jsonl as well.
    `pairs`, the artifact that was ordered, is what the model card counts by source and licence. `watched` are tasks that are
    measured whenever held-out pairs are.
    """
    check_engine(options, where)
    check_best(options, watched.names if watched else (), f"{where}.best")
    if model.init == "new" and tokenizer is None:
        raise UserError("new weights need a tokenizer", where="model.init", fix="give the tokenizer's folder")
    order = read_manifest(batches)
    size, most_x, most_y = (int(order.params[name]) for name in ("batch_size", "max_x_tokens", "max_y_tokens"))
    model = pinned(model)
    known = absolute(tokenizer or model.init)
    words = load_tokenizer(known)
    Delimiters.of(words)
    config = config_of(model, len(words))
    options = settled(options, Shape.of(config, sequence=max(most_x, most_y) + ADDED, trained=True), scratch)
    check_batch(options, size, max(most_x, most_y) + ADDED, context_of(config), where)
    tokens = size // max(options.workers, 1) * (most_x + most_y + 2 * ADDED)
    check_chunk(options, config, tokens, where)
    count = len(BatchReader(batches))
    most = options.elastic_workers or options.workers
    if heldout is not None and (held := read_manifest(heldout).rows) < most:
        raise UserError(
            f"{held} held-out pairs are fewer than {most} workers",
            where="heldout_pairs",
            fix="hold more out, or use fewer workers",
        )
    if options.best and heldout is None and options.best not in (watched.names if watched else ()):
        raise UserError(
            f"best={options.best} needs held-out pairs", where=f"{where}.best", fix="give some, or leave it out"
        )
    if options.steps is not None and options.steps > count:
        raise UserError(
            f"steps={options.steps:,}, but the order has {count:,} batches",
            where=f"{where}.steps",
            fix="lower it, or materialise more batches (batches.epochs or batches.steps)",
        )
    job = ContrastiveJob(
        options=options,
        model=model,
        batches=os.path.abspath(batches),
        heldout=os.path.abspath(heldout) if heldout else None,
        tokenizer=known,
        out=os.path.abspath(out),
        scratch=os.path.abspath(scratch),
        steps=options.steps or count,
        max_x_tokens=most_x,
        max_y_tokens=most_y,
        on_metrics=on_metrics,
        identity=job_identity(order, model),
        pairs=None if pairs is None else absolute(pairs),
        watched=watched,
    )
    Path(job.out).mkdir(parents=True, exist_ok=True)
    Path(job.scratch).mkdir(parents=True, exist_ok=True)
    return launch(contrastive, job, options, job.scratch)


def contrastive(job: ContrastiveJob, workers: Workers) -> TrainResult:
    """The work of one worker. All of them run every line; only rank 0 writes metrics and the model."""
    started = time.monotonic()
    options = job.options
    tokenizer = load_tokenizer(job.tokenizer)
    backbone = load_backbone(job.model, len(tokenizer), options.seed)
    if options.gradient_checkpointing:
        backbone.activation_checkpointing_enable({"use_reentrant": False})
    delimiters = Delimiters.of(tokenizer)
    prepare(backbone, delimiters, job.model.start, options.seed)
    encoder = Encoder(backbone, delimiters, autocast=options.precision == "bf16")
    counted = weights_of(backbone)
    torch.manual_seed(options.seed + workers.rank)  # dropout; a checkpoint brings its own state
    opened = open_engine(encoder, job, workers)
    engine = opened.engine
    temperature = Temperature(options.temperature, trained=options.train_temperature, device=workers.device)
    cache = GradCache.of(options, engine, temperature, workers, dropout=job.model.dropout > 0)
    heldout = Pairs.of(BatchReader(job.heldout)[0], encoder.delimiters) if job.heldout else None

    def take(number: int, table: pa.Table) -> dict[str, float]:
        before = time.monotonic()
        factor = rate_factor(number, job.steps, options)
        rate = options.learning_rate * factor
        own = Pairs.share(table, encoder.delimiters, workers)
        did = cache.step(own, rate, options.temperature_rate * factor)
        flops = TRAINING * counted.products(did.tokens, texts=did.pairs * (2 + own.per_row))
        return _metrics(did, rate, time.monotonic() - before, flops, job, workers)

    def restore(state: dict[str, Any]) -> None:
        temperature.restore(state["temperature"])
        cache.restore(state["cache"])

    best = BestModel(os.path.join(job.scratch, CHECKPOINTS), options.best, workers)

    limits: dict[Side, int] = {"x": job.max_x_tokens, "y": job.max_y_tokens}

    def look(finished: int) -> dict[str, float]:
        metrics: dict[str, float] = {}
        if heldout is not None:
            metrics |= evaluate(engine, heldout, temperature, workers, options.chunk_tokens, options.loss)
        if job.watched is not None:
            chunk = options.chunk_tokens
            metrics |= measure(job.watched, engine, tokenizer, encoder.delimiters, limits, workers, chunk)
        best.offer(finished, metrics, engine, temperature.state())
        return metrics

    run_steps(
        job,
        workers,
        opened,
        take,
        evaluate=look,
        evaluate_every=options.evaluate_every,
        state=lambda: {"temperature": temperature.state(), "cache": cache.state()},
        restore=restore,
    )
    if (found := best.load()) is None:
        exported, state = job.steps, engine.export()
    else:
        exported, state, of_temperature = found
        temperature.restore(of_temperature)
    if workers.rank == 0:
        among = 0 if heldout is None else shared(len(heldout), workers.count)
        info = ModelInfo(
            delimiters=encoder.delimiters.to_dict(),
            max_x_tokens=job.max_x_tokens,
            max_y_tokens=job.max_y_tokens,
            temperature=temperature.value,
            embedding_dimension=encoder.dimension,
        )
        prefix = "backbone."
        weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        with told_where(job.out):
            save_model(encoder, tokenizer, info, job.out, weights)
            card.write(job.out, _facts(job, info, backbone.config, exported, among))
    return TrainResult(
        model=job.out,
        steps=job.steps,
        exported_step=exported,
        temperature=temperature.value,
        metrics=read_metrics(os.path.join(job.out, METRICS)) if workers.rank == 0 else [],
        seconds=time.monotonic() - started,
        peak_memory_mb=peak_memory_mb(workers),
    )


def _facts(job: ContrastiveJob, info: ModelInfo, config: Any, exported: int, heldout: int) -> card.Facts:
    """What the card says of the weights after `exported` steps, measured among so many `heldout` pairs."""
    rows = read_metrics(os.path.join(job.out, METRICS))
    measured = next((row for row in rows if row["step"] == exported), {})
    order = read_manifest(job.batches)
    return card.Facts(
        name=Path(job.out).name.removesuffix(BUILDING),
        info=info,
        architecture=f"a {config.model_type} decoder of {config.num_hidden_layers} layers of {config.hidden_size:,}",
        recipe=card.recipe(order, job.options.result(), exported, info.temperature),
        step=exported,
        figures={name: value for name, value in measured.items() if name.startswith("heldout_")},
        heldout=heldout,
        data=None if job.pairs is None else card.Data.of(job.pairs),
    )


def _metrics(
    did: Step, rate: float, seconds: float, flops: float, job: ContrastiveJob, workers: Workers
) -> dict[str, float]:
    """Logged by step. `mfu` counts the `flops` that the texts need, not what gradient caching recomputes."""
    metrics = {
        "loss": did.loss,
        "temperature": did.temperature,
        "grad_norm": did.grad_norm,
        "lr": rate,
        "in_batch_accuracy": did.correct,
        "masked_pairs": float(did.masked),
        "negatives": did.negatives,
        "pairs_per_second": did.pairs / seconds,
        "tokens_per_second": did.tokens / seconds,
        "padding_share": 1 - did.tokens / did.padded_tokens,
        "recomputed_share": 1 - did.kept_chunks / did.chunks,
    }
    if job.options.peak_tflops:
        metrics["mfu"] = flops / seconds / (workers.count * job.options.peak_tflops * 1e12)
    assert all(math.isfinite(value) for value in metrics.values()), metrics
    return metrics


def peak_memory_mb(workers: Workers) -> float:
    """Peak of all workers together: of their GPUs if they have them, else of their processes."""
    if workers.device.type == "cuda":
        own = torch.cuda.max_memory_allocated(workers.device) / 2**20
    else:
        own = memory.peak_rss() / 2**20
    return float(workers.sum(torch.tensor(own, dtype=torch.float64, device=workers.device)))


TRAIN_MODEL = Stage("model", version=3, unit="slots")
