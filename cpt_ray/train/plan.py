"""What a training would need: memory per device by ZeRO stage, chunk size, steps and hours; refuses what cannot fit.

Nothing is allocated: parameters are counted on the meta device. Static memory is arithmetic over what DeepSpeed keeps;
activations are the bytes that autograd saves per token and layer, measured on small models and linear in their widths (a
test holds the figures). The trainer itself measures, once, before it decides how many graphs to keep.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import psutil
import torch

from cpt_ray.errors import UserError
from cpt_ray.model.decoder import context_of, inner_of, text_config, width_of
from cpt_ray.model.delimiters import ADDED
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.weights import config_of
from cpt_ray.train.flops import FORWARD, TRAINING, weights_of, without_memory
from cpt_ray.train.options import PlanOptions, TrainOptions, check_engine

GB = 1e9
SPARE = 0.1
"""Share of a device's memory left to the allocator's gaps, to collectives and to the driver."""


@dataclass(frozen=True)
class Memory:
    """Bytes on one device under one ZeRO stage; `chunk_tokens` is what fits beside the static part, 0 if nothing does."""

    zero_stage: int
    weights: float
    gradients: float
    optimiser: float
    embeddings: float
    chunk_tokens: int

    @property
    def static(self) -> float:
        return self.weights + self.gradients + self.optimiser + self.embeddings


@dataclass(frozen=True)
class Plan:
    """A plan for the ZeRO stage that the options ask for, and the memory of all stages to compare with.

    `hours` is with the options' keep_graphs_mb, `hours_kept` with `keep_graphs_mb`, which is what fits and can be of use.
    """

    parameters: int
    longest: int
    bytes_per_token: float
    stages: list[Memory]
    chosen: Memory
    steps: int
    tokens: float
    hours: float
    keep_graphs_mb: int
    hours_kept: float

    @property
    def host_bytes(self) -> float:
        """Of one worker at the start: it makes or reads the whole model, in fp32, before its device gets its part."""
        return self.parameters * 4.0


def make_plan(options: PlanOptions, model: ModelOptions, train: TrainOptions) -> Plan:
    """UserError when the chosen ZeRO stage cannot hold the model or one text, naming what could."""
    check_engine(train.model_copy(update={"workers": options.cluster.devices}), "train")
    devices = options.cluster.devices
    if options.batch_size % devices:
        nearest = -(-options.batch_size // devices) * devices
        raise UserError(
            f"a batch of {options.batch_size:,} pairs cannot be divided by {devices} devices",
            where="plan.cluster.devices",
            fix=f"use plan.batch_size={nearest}, or a number of devices that divides the batch",
        )
    config = config_of(model, options.vocabulary)
    shape = without_memory(config, model)
    parameters = sum(p.numel() for p in shape.parameters())
    longest = max(options.max_x_tokens, options.max_y_tokens) + ADDED
    context = context_of(config)
    if longest > context:
        raise UserError(
            f"a text of {longest} tokens with its delimiters does not fit the model's context of {context}",
            where="plan.max_y_tokens",
            fix="lower max_x_tokens and max_y_tokens, or choose a model with more context",
        )
    per_token = activation_bytes(config, train)
    memory = options.cluster.memory_gb * GB * (1 - SPARE)
    embeddings = _embedding_bytes(options.batch_size, devices, width_of(config), train.tile_rows)
    stages = [
        _memory(stage, parameters, devices, per_token, memory, embeddings, train)
        for stage in (0, 1, 2, 3)
        if train.precision != "bf16_weights" or stage >= 2
    ]
    chosen = next(stage for stage in stages if stage.zero_stage == train.zero_stage)
    if chosen.chunk_tokens < longest:
        _refuse(chosen, stages, longest, options, parameters, train)
    steps = int(options.epochs * options.pairs // options.batch_size)
    if steps == 0:
        raise UserError(
            f"{options.pairs:,} pairs do not fill one batch of {options.batch_size:,}",
            where="plan.batch_size",
            fix="lower it, or plan for more pairs",
        )
    mean = (options.max_x_tokens + options.max_y_tokens) * options.filled + 2 * ADDED
    tokens = steps * options.batch_size * mean
    of_a_device = options.batch_size * mean / devices
    fits = min(chosen.chunk_tokens, of_a_device)  # tokens
    products = weights_of(shape).products(tokens, texts=2 * steps * options.batch_size)
    speed = devices * options.cluster.tflops * 1e12 * options.cluster.utilisation

    def hours(graphs: float) -> float:
        """With room for the graphs of so many tokens, as the trainer uses it."""
        kept = 1.0 if graphs >= of_a_device else max(graphs - train.chunk_tokens, 0.0) / of_a_device
        # A graph that is not kept costs a second forward pass, and checkpointing one more.
        return (TRAINING + FORWARD * (1 - kept + train.gradient_checkpointing)) * products / speed / 3600

    return Plan(
        parameters=parameters,
        longest=longest,
        bytes_per_token=per_token,
        stages=stages,
        chosen=chosen,
        steps=steps,
        tokens=tokens,
        hours=hours(min((train.keep_graphs_mb << 20) / per_token, fits)),
        keep_graphs_mb=math.ceil(fits * per_token / (1 << 20)),
        hours_kept=hours(fits),
    )


def activation_bytes(config: Any, train: TrainOptions) -> float:
    """Bytes that autograd keeps for one token of the whole model (flash or sdpa attention, no dropout)."""
    config = text_config(config)
    width, inner, layers = int(config.hidden_size), inner_of(config), int(config.num_hidden_layers)
    gated = hasattr(config, "num_key_value_heads")  # Llama's layer: gate, and norms and rotations written out
    low = train.precision == "bf16_weights"
    of_width, of_inner = (24 if low else 40, 8) if gated else (16 if low else 26, 4)
    layer = (of_width * width + of_inner * inner) * (1.5 if train.precision == "fp32" else 1.0)
    if train.gradient_checkpointing:
        return layers * width * (2 if low else 4) + layer
    return layers * layer


def check_chunk(options: TrainOptions, config: Any, tokens: int, where: str) -> None:
    """UserError when the graph of one chunk cannot fit this machine's GPU, or its memory without GPUs.

    `config` is the model's; `tokens` is the most that a worker's share of a batch holds, which a chunk never exceeds.
    """
    if not options.gpu:
        memory, of = psutil.virtual_memory().total, "this machine has"
    elif torch.cuda.is_available():
        memory, of = torch.cuda.get_device_properties(0).total_memory, "a GPU here has"
    else:
        return  # the GPUs are elsewhere; a worker that runs out of memory says the same
    needed = activation_bytes(config, options) * min(options.chunk_tokens, tokens)
    if needed > memory:
        fits = int(memory * (1 - SPARE) / activation_bytes(config, options))
        raise UserError(
            f"a chunk of {min(options.chunk_tokens, tokens):,} tokens keeps {needed / GB:,.1f} GB of activations, and {of}"
            f" {memory / GB:,.1f} GB",
            where=f"{where}.chunk_tokens",
            fix=f"lower it to {fits:,} at most, or set gradient_checkpointing=true",
        )


def _memory(
    stage: int, parameters: int, devices: int, per_token: float, memory: float, embeddings: float, train: TrainOptions
) -> Memory:
    low = train.precision == "bf16_weights"
    whole = parameters * (2.0 if low else 4.0)
    weights = whole / devices if stage == 3 else whole
    if train.precision == "bf16":
        weights += parameters * 2.0 / (devices if stage == 3 else 1)  # bf16 copies that autocast makes
    # One whole local gradient, in fp32, until the one reduction of a step; or only this device's share after every chunk.
    share = devices if train.reduce == "chunk" and stage >= 2 else 1
    gradients = parameters * 4.0 / share + (whole if low and share == 1 else 0)
    if stage > 0:
        gradients += parameters * 4.0 / devices
    moments, masters = parameters * 8.0, parameters * 4.0 if stage > 0 else 0.0
    optimiser = 0.0 if train.offload else (moments + masters) / (devices if stage > 0 else 1)
    static = weights + gradients + optimiser + embeddings
    return Memory(stage, weights, gradients, optimiser, embeddings, max(int((memory - static) / per_token), 0))


def _embedding_bytes(batch: int, devices: int, width: int, tile: int) -> float:
    """fp32: all documents and their gradients, own queries with theirs, and two tiles of logits."""
    return 4.0 * (2 * batch * width + 4 * batch // devices * width + 2 * min(tile, batch // devices) * batch)


def _refuse(
    chosen: Memory, stages: list[Memory], longest: int, options: PlanOptions, parameters: int, train: TrainOptions
) -> None:
    others = [stage.zero_stage for stage in stages if stage.chunk_tokens >= longest]
    if others:
        fix = f"use zero_stage={others[0]}"
    else:
        ways = ["more devices", "offload=true"]
        if train.reduce == "step":
            ways.insert(0, "reduce=chunk")
        if train.precision != "bf16_weights":
            ways.insert(0, "precision=bf16_weights")
        if not train.gradient_checkpointing:
            ways.insert(0, "gradient_checkpointing=true")
        fix = "with zero_stage=3: " + ", ".join(ways)
    raise UserError(
        f"{parameters / 1e9:,.2f} billion parameters under ZeRO {chosen.zero_stage} need {chosen.static / GB:,.1f} GB"
        f" on each of {options.cluster.devices} devices before the first text of {longest} tokens, and a device has"
        f" {options.cluster.memory_gb:g} GB, of which {SPARE:.0%} are left free",
        where="train.zero_stage",
        fix=fix,
    )
