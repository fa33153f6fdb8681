"""Causal language modelling of a small decoder on our own corpus: the first weights when no hub is reachable.

It goes through the same engine, loop and checkpoints as contrastive training. With a small model most of the work is the
head, one logit per word of the vocabulary; `TokenLoss` computes loss and gradient of it together, tile by tile, so that the
logits are written once and never kept.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from cpt_ray.artifacts.stage import Stage
from cpt_ray.artifacts.store import read_manifest
from cpt_ray.compat.deepspeed import is_cut
from cpt_ray.errors import UserError
from cpt_ray.model.decoder import context_of, text_config
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.precision import Shape
from cpt_ray.model.weights import (
    absolute,
    config_of,
    load_language_model,
    load_tokenizer,
    pinned,
    save_language_model,
)
from cpt_ray.pairs.batches import BatchReader
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import Engine, evaluating
from cpt_ray.train.launch import launch
from cpt_ray.train.loop import TrainResult, peak_memory_mb
from cpt_ray.train.metrics import METRICS, OnMetrics, read_metrics
from cpt_ray.train.options import PretrainOptions, check_divisible, check_engine
from cpt_ray.train.schedule import rate_factor
from cpt_ray.train.steps import Job, job_identity, open_engine, run_steps, settled
from cpt_ray.train.writer import told_where

TILE = 256
SCALES = ("final_logit_softcapping", "logits_scaling", "logit_scale", "lm_head_multiplier")
"""Keys of configurations whose models change their logits after the head, which `LanguageModel` would leave out."""
_OTHER_MODEL = "train on from another model, or contrastively (cpt-ray train), where no logits are used"


@dataclass(frozen=True)
class PretrainJob(Job):
    """What a worker needs: paths and options, no data."""

    options: PretrainOptions
    model: ModelOptions
    heldout: str | None
    tokenizer: str


class LanguageModel(nn.Module):
    """A causal language model whose forward pass is its loss: mean cross-entropy of the next token, in nats."""

    def __init__(self, model: PreTrainedModel, *, autocast: bool = False) -> None:
        super().__init__()
        self.model = model
        self.autocast = autocast

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) int64, every one of them text."""
        with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.autocast):
            hidden = self.model.base_model(input_ids=ids, use_cache=False).last_hidden_state
        hidden = hidden[:, :-1].reshape(-1, hidden.shape[-1])
        head = self.model.get_output_embeddings()
        right = ids[:, 1:].reshape(-1)
        if getattr(head, "bias", None) is not None or is_cut(head.weight):
            with torch.autocast(ids.device.type, torch.bfloat16, enabled=self.autocast):
                logits = head(hidden)  # as a module, which gathers its weight under ZeRO-3
            return F.cross_entropy(logits.float(), right)
        dtype = torch.bfloat16 if self.autocast else head.weight.dtype
        return TokenLoss.apply(hidden, head.weight, right, dtype)


class TokenLoss(torch.autograd.Function):
    """Mean cross-entropy of `hidden @ weight.T` (n, V) against `right` (n,), products in `dtype`, the rest in fp32."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
        low, words = hidden.to(dtype), weight.to(dtype)
        wide = torch.float64 if dtype == torch.float64 else torch.float32
        loss = torch.zeros((), dtype=wide, device=hidden.device)
        dhidden = torch.empty_like(low)
        dweight = torch.zeros(weight.shape, dtype=wide, device=weight.device)
        for start in range(0, len(low), TILE):
            rows = slice(start, start + TILE)
            answers = right[rows, None]
            probability = torch.softmax(low[rows] @ words.T, dim=1, dtype=wide)
            own = probability.gather(1, answers)
            loss -= own.clamp_min(torch.finfo(wide).tiny).log().sum()
            gradient = probability.scatter_(1, answers, own - 1).to(dtype)
            torch.mm(gradient, words, out=dhidden[rows])
            dweight += gradient.T @ low[rows]
        ctx.save_for_backward(dhidden, dweight)
        ctx.dtypes = hidden.dtype, weight.dtype
        return loss / len(low)

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor, Tensor, None, None]:
        dhidden, dweight = ctx.saved_tensors
        of_hidden, of_weight = ctx.dtypes
        share = upstream[0] / len(dhidden)
        return (dhidden * share).to(of_hidden), (dweight * share).to(of_weight), None, None


def pretrain(
    options: PretrainOptions,
    model: ModelOptions,
    *,
    windows: str,
    tokenizer: str,
    out: str,
    scratch: str,
    heldout: str | None = None,
    on_metrics: OnMetrics | None = None,
    where: str = "pretrain",
) -> TrainResult:
    """Train on the published windows and write a standard language-model folder (with tokenizer) to `out`.

    With `model.init` a folder or hub id training goes on from there (the Codex route). `heldout` is published windows too,
    of which batch 0 is the evaluation set. A killed run goes on from `scratch` when called again.
    """
    check_engine(options, where)
    model = pinned(model)
    order = read_manifest(windows)
    size, context = int(order.params["batch_size"]), int(order.params["context"])
    check_divisible(options, size, "windows.batch_size")
    config = config_of(model, len(load_tokenizer(tokenizer)))
    check_logits(config, model.init)
    options = settled(options, Shape.of(config, sequence=context, trained=True, logits=True), scratch)
    most = context_of(config)
    if context > most:
        raise UserError(
            f"windows of {context} tokens do not fit the model's context of {most}",
            where="windows.context",
            fix="choose shorter windows, or a model with more context",
        )
    if options.micro_batch_tokens < context:
        raise UserError(
            f"micro_batch_tokens={options.micro_batch_tokens} is less than one window of {context} tokens",
            where=f"{where}.micro_batch_tokens",
            fix="raise it",
        )
    count = len(BatchReader(windows))
    if options.steps is not None and options.steps > count:
        raise UserError(
            f"steps={options.steps:,}, but there are {count:,} batches of windows",
            where=f"{where}.steps",
            fix="lower it, or pack more windows",
        )
    job = PretrainJob(
        options=options,
        batches=os.path.abspath(windows),
        steps=options.steps or count,
        out=os.path.abspath(out),
        scratch=os.path.abspath(scratch),
        identity=job_identity(order, model),
        on_metrics=on_metrics,
        model=model,
        heldout=os.path.abspath(heldout) if heldout else None,
        tokenizer=absolute(tokenizer),
    )
    Path(job.out).mkdir(parents=True, exist_ok=True)
    Path(job.scratch).mkdir(parents=True, exist_ok=True)
    return launch(language_modelling, job, options, job.scratch)


def check_logits(config: Any, init: str) -> None:
    """UserError for a model whose configuration says that it scales or caps its logits: known before anything starts."""
    config = text_config(config)
    for key in SCALES:
        if getattr(config, key, None) not in (None, 1):
            raise UserError(
                f"this model changes its logits by {key}={getattr(config, key)}, which pretraining does not",
                where=init,
                fix=_OTHER_MODEL,
            )


@torch.no_grad()
def check_head(model: PreTrainedModel, init: str) -> None:
    """UserError for a model whose logits are not those of its head over its last hidden state, whatever it is told by."""
    head = model.get_output_embeddings()
    if head is not None:
        ids = torch.arange(1, 9)[None] % len(head.weight)
        theirs, ours = model(input_ids=ids).logits, head(model.base_model(input_ids=ids).last_hidden_state)
        if (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max():  # else more than rounding
            return
    raise UserError(
        "this model's logits are not those of its head over its last hidden state, as pretraining has them",
        where=init,
        fix=_OTHER_MODEL,
    )


def language_modelling(job: PretrainJob, workers: Workers) -> TrainResult:
    """The work of one worker."""
    started = time.monotonic()
    options = job.options
    tokenizer = load_tokenizer(job.tokenizer)
    language_model = load_language_model(job.model, len(tokenizer), options.seed)
    if job.model.init != "new":
        check_head(language_model, job.model.init)
    if options.gradient_checkpointing:
        language_model.activation_checkpointing_enable({"use_reentrant": False})
    module = LanguageModel(language_model, autocast=options.precision == "bf16")
    torch.manual_seed(options.seed + workers.rank)  # dropout; a checkpoint brings its own state
    opened = open_engine(module, job, workers)
    engine = opened.engine
    heldout = _windows(BatchReader(job.heldout)[0]) if job.heldout else None

    def take(number: int, table: pa.Table) -> dict[str, float]:
        before = time.monotonic()
        rate = options.learning_rate * rate_factor(number, job.steps, options)
        ids = _windows(table)
        total = torch.zeros((), dtype=torch.float64, device=workers.device)
        parts = _micro_batches(ids, workers, options.micro_batch_tokens)
        with engine.accumulate():
            for number_of_part, part in enumerate(parts, 1):
                value = engine.embed(part.to(workers.device))
                share = len(part) * engine.averages / len(ids)
                engine.backward(value * share, last=number_of_part == len(parts))
                total += value.detach().double() * len(part) / len(ids)
        loss = float(workers.sum(total))
        if not np.isfinite(loss):
            raise FloatingPointError(f"the loss is {loss}")
        norm = engine.step(rate)
        if not np.isfinite(norm):
            raise FloatingPointError(f"the gradient norm is {norm}")
        seconds = time.monotonic() - before
        return {"loss": loss, "grad_norm": norm, "lr": rate, "tokens_per_second": ids.numel() / seconds}

    def look(finished: int) -> dict[str, float]:
        return {"heldout_loss": _loss(engine, heldout, workers, options)} if heldout is not None else {}

    run_steps(job, workers, opened, take, evaluate=look, evaluate_every=options.evaluate_every)
    state = engine.export()
    if workers.rank == 0:
        weights = {name.removeprefix("model."): value for name, value in state.items()}
        with told_where(job.out):
            save_language_model(language_model, tokenizer, job.out, weights)
    return TrainResult(
        model=job.out,
        steps=job.steps,
        exported_step=job.steps,
        temperature=0.0,
        metrics=read_metrics(os.path.join(job.out, METRICS)) if workers.rank == 0 else [],
        seconds=time.monotonic() - started,
        peak_memory_mb=peak_memory_mb(workers),
    )


def _loss(engine: Engine, ids: Tensor, workers: Workers, options: PretrainOptions) -> float:
    ids = ids[: len(ids) // workers.count * workers.count]
    parts = _micro_batches(ids, workers, options.micro_batch_tokens)
    with evaluating(engine):
        total = sum(float(engine.embed(part.to(workers.device))) * len(part) for part in parts)
    return float(workers.sum(torch.tensor(total, dtype=torch.float64, device=workers.device))) / len(ids)


def _windows(table: pa.Table) -> Tensor:
    """(windows, context) int64."""
    column = table["ids"].combine_chunks()
    return torch.from_numpy(column.values.to_numpy().reshape(len(column), -1).astype(np.int64))


def _micro_batches(ids: Tensor, workers: Workers, most: int) -> list[Tensor]:
    """This rank's windows, cut to at most `most` tokens; equally many on all ranks."""
    own = ids[workers.rank :: workers.count]
    return list(own.split(max(most // ids.shape[1], 1)))


PRETRAIN = Stage("initial", version=2, unit="windows")
