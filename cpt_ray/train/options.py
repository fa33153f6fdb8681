"""Options of training, and the combinations of them that cannot work."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from cpt_ray.errors import UserError
from cpt_ray.kinds import one_of
from cpt_ray.options import How, Options
from cpt_ray.train.losses.infonce import InfoNCE
from cpt_ray.train.zero_keys import check_zero_keys

Precision = Literal["auto", "fp32", "bf16", "bf16_weights"]
TRAINED_TEMPERATURES = (0.01, 1.0)
"""Bounds of the temperature while it is trained: the lower is CLIP's, the upper is ours."""
LARGEST_BATCH = 1 << 24
"""Pairs of a batch that nobody trains with."""
HeldoutMetric = Literal["heldout_mrr", "heldout_recall_at_1", "heldout_recall_at_10", "heldout_loss"]


class EngineOptions(Options):
    """Workers, engine, optimiser and schedule: what contrastive training and pretraining have in common.

    What says `How` comes to the same within rounding, so a run goes on when it changes. `precision` does not: it is more
    than rounding; nor `deepspeed`, whose keys may be too, or lay checkpoints out otherwise; nor `evaluate_every`, by which
    `best` chooses.
    """

    workers: How[int] = Field(2, ge=0, description="Ray Train workers; 0: in this process, without Ray")
    elastic_workers: How[int | None] = Field(
        None, ge=1, description="most workers when the cluster has room; null: always exactly `workers`"
    )
    threads: How[int] = Field(1, ge=1, description="CPUs, and threads, of each worker")
    gpu: How[bool] = Field(False, description="one GPU for each worker")
    max_failures: How[int] = Field(3, ge=0, description="times a dead worker is replaced before the run gives up")
    engine: How[Literal["deepspeed", "reference"]] = Field(
        "deepspeed", description="'reference' is plain PyTorch in one process, which tests compare with"
    )
    zero_stage: How[Literal[0, 1, 2, 3]] = Field(
        2, description="ZeRO: 0 nothing, 1 optimiser, 2 gradients, 3 weights sharded"
    )
    reduce: How[Literal["step", "chunk"]] = Field(
        "step",
        description="reduce gradients once a step, with a whole local gradient on every worker; or after every chunk, which"
        " costs that many reductions and lets ZeRO 2 and 3 keep only their share",
    )
    offload: How[bool] = Field(False, description="keep the optimiser's state in host memory (ZeRO 1 to 3)")
    deepspeed: dict[str, Any] = Field(
        default_factory=dict,
        description="more keys of DeepSpeed's zero_optimization section; unknown ones are refused, and those that"
        " zero_stage and offload set",
    )
    precision: Precision = Field(
        "auto",
        description="fp32; bf16: matrix products in bf16 over fp32 weights; bf16_weights: bf16 weights, fp32 masters; auto:"
        " of the first two the one that is faster here, which is measured before training begins",
    )
    compile: How[bool] = Field(False, description="torch.compile the model")
    gradient_checkpointing: How[bool] = Field(False, description="recompute activations layer by layer")
    learning_rate: float = Field(1e-3, gt=0, description="peak learning rate")
    embedding_rate_factor: float = Field(1.0, gt=0, description="learning rate of token embeddings, as a multiple")
    schedule: Literal["cosine", "linear", "constant"] = Field("cosine", description="after the warm-up")
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the steps in which the rate grows from 0")
    final_rate: float = Field(0.1, ge=0, le=1, description="last learning rate, as a share of the peak")
    weight_decay: float = Field(0.1, ge=0, description="of matrices; vectors (norms, biases) are never decayed")
    beta1: float = Field(0.9, ge=0, lt=1, description="AdamW")
    beta2: float = Field(0.95, ge=0, lt=1, description="AdamW")
    eps: float = Field(1e-8, gt=0, description="AdamW")
    clip: float = Field(1.0, ge=0, description="largest global gradient norm; 0: no clipping")
    seed: int = Field(0, ge=0, lt=1 << 63, description="of new weights and dropout")
    checkpoint_every: How[int] = Field(50, ge=1, description="steps between checkpoints; the last step has one too")
    portable_checkpoints: How[bool] = Field(
        False,
        description="save whole weights and moments too, so that another number of workers or ZeRO stage can go on;"
        " always with elastic_workers",
    )
    keep_checkpoints: How[int] = Field(2, ge=1, description="complete checkpoints kept, newest first")


class TrainOptions(EngineOptions):
    """Contrastive training."""

    steps: int | None = Field(None, ge=1, description="stop after this many batches; null: all of them")
    loss: one_of("cpt_ray.train.losses") = Field(  # type: ignore[valid-type]
        InfoNCE(), description="what is minimised, by kind"
    )
    temperature: float = Field(
        0.07, gt=0, description="initial temperature, 0.01 to 1 if it is trained; logits are cosine / temperature"
    )
    train_temperature: bool = Field(True, description="learn the temperature")
    temperature_rate: float = Field(1e-2, gt=0, description="peak learning rate of the log-temperature")
    mask_false_negatives: bool = Field(
        True, description="same content or same duplicate cluster off the diagonal is not a negative"
    )
    chunk_tokens: How[int] = Field(8192, ge=16, description="padded tokens that one forward pass may hold")
    keep_graphs_mb: How[int] = Field(
        512,
        ge=0,
        description="activations kept between the two passes, per worker, in MB; chunks beyond it are recomputed",
    )
    tile_rows: How[int] = Field(512, ge=1, description="rows of the logits computed at once")
    evaluate_every: int = Field(50, ge=1, description="steps between held-out evaluations; the last step has one too")
    best: str | None = Field(
        None,
        description="export the model of the evaluation with the best value of this: heldout_mrr, another held-out figure,"
        " or that of a task of `watch`; null: the last",
    )
    peak_tflops: How[float] = Field(
        0.0, ge=0, description="bf16 peak of one device, for the model FLOPs utilisation; 0: not logged"
    )

    def result(self, *besides: str) -> dict[str, Any]:
        """Without the paper's loss: models were trained with it before there were others, and are found again."""
        return super().result(*besides, *(["loss"] if self.loss == InfoNCE() else []))


class MineOptions(Options):
    """Which neighbours become hard negatives."""

    count: int = Field(1, ge=1, description="hard negatives of each pair")
    first: int = Field(10, ge=0, description="first rank of the window, 0 is the nearest document")
    last: int = Field(100, ge=1, description="the window ends before this rank")
    margin: float = Field(0.95, gt=0, description="drop what scores more than this share of the positive's score")
    consistent: int | None = Field(
        None,
        ge=1,
        description="drop training pairs whose y is not among the so many nearest to x; null: none is dropped",
    )

    @model_validator(mode="after")
    def _window(self) -> MineOptions:
        if self.last - self.first < self.count:
            raise ValueError(f"the window of ranks {self.first} to {self.last} is narrower than count={self.count}")
        return self


class PretrainOptions(EngineOptions):
    """Causal language modelling."""

    steps: int | None = Field(None, ge=1, description="stop after this many batches; null: all of them")
    micro_batch_tokens: How[int] = Field(4096, ge=8, description="tokens of one forward and backward pass")
    evaluate_every: int = Field(50, ge=1, description="steps between held-out losses; the last step has one too")


class PackOptions(Options):
    """How texts are packed for language modelling."""

    context: int = Field(128, ge=8, description="tokens of a window")
    batch_size: int = Field(64, ge=1, description="windows of one global batch, over all workers")
    epochs: int = Field(1, ge=1, description="passes over the windows; more only when `steps` asks for more")
    steps: int | None = Field(None, ge=1, description="number of global batches; null: from `epochs`")
    seed: int = Field(0, ge=0, description="seed of the order")


class ClusterSize(Options):
    """The machine that a plan is for."""

    devices: int = Field(8, ge=1, description="GPUs, or training workers")
    memory_gb: float = Field(80.0, gt=0, description="memory of one device, in 10^9 bytes")
    tflops: float = Field(989.0, gt=0, description="bf16 peak of one device, dense")
    utilisation: float = Field(0.4, gt=0, le=1, description="share of the peak that useful FLOPs are expected to reach")


class PlanOptions(Options):
    """What is to be trained, on what."""

    cluster: ClusterSize = ClusterSize()
    vocabulary: int = Field(50257, ge=260, description="token ids, when the model is new")
    pairs: int = Field(10_000_000, ge=1, description="training pairs")
    epochs: float = Field(1.0, gt=0, description="passes over the pairs")
    batch_size: int = Field(12288, ge=2, description="pairs of a global batch")
    max_x_tokens: int = Field(254, ge=1, description="x, without delimiters")
    max_y_tokens: int = Field(254, ge=1, description="y, without delimiters")
    filled: float = Field(0.6, gt=0, le=1, description="mean length of a text, as a share of the longest")


class LabelledOptions(Options):
    """Which labelled pairs are read."""

    format: Literal["nli", "triplets"] = Field(
        "nli",
        description="nli: label, premise, hypothesis, named by the first line; triplets: query, relevant passage,"
        " other passage (MS MARCO). Tab-separated, .gz too",
    )
    lines: int | None = Field(None, ge=1, description="read so many lines at most; null: the whole file, in memory")


def check_best(options: TrainOptions, watched: Sequence[str], where: str) -> None:
    """UserError for a figure that nothing measures; `watched` are the names of those of tasks."""
    known = (*get_args(HeldoutMetric), *watched)
    if options.best is not None and options.best not in known:
        raise UserError(
            f"nothing measures {options.best!r} as training goes on", where=where, fix=f"one of {', '.join(known)}"
        )


def merit(metric: str, value: float) -> float:
    """By which values of `metric` are compared, higher is better: a loss counts negative."""
    return -value if metric == "heldout_loss" else value


def check_engine(options: EngineOptions, where: str) -> None:
    """UserError for combinations of engine options that cannot work, before anything starts."""
    if options.engine == "reference":
        if options.workers > 1 or options.elastic_workers:
            raise UserError(
                f"the reference engine is single-process, but workers={options.workers}",
                where=f"{where}.engine",
                fix="use engine=deepspeed, or workers=0",
            )
        if options.precision == "bf16_weights":
            raise UserError(
                "the reference engine keeps fp32 weights", where=f"{where}.precision", fix="use precision=bf16 or fp32"
            )
    elif options.precision == "bf16_weights" and options.zero_stage < 2:
        raise UserError(
            f"DeepSpeed accumulates bf16 weights' gradients in bf16 under ZeRO {options.zero_stage}",
            where=f"{where}.precision",
            fix="use zero_stage=2 or 3, or precision=bf16 (bf16 products over fp32 weights)",
        )
    if options.reduce == "chunk" and (options.engine == "reference" or options.zero_stage < 2):
        raise UserError(
            "reducing after every chunk saves memory under ZeRO 2 and 3 only",
            where=f"{where}.reduce",
            fix="use reduce=step, or zero_stage=2 or 3",
        )
    if options.offload and (options.engine == "reference" or options.zero_stage == 0):
        raise UserError("offload needs ZeRO 1 to 3", where=f"{where}.offload", fix="use zero_stage=2, or offload=false")
    if options.elastic_workers is not None and options.elastic_workers < options.workers:
        raise UserError(
            f"elastic_workers={options.elastic_workers} is less than workers={options.workers}",
            where=f"{where}.elastic_workers",
            fix="make it larger, or leave it out",
        )
    if isinstance(options, TrainOptions):
        check_temperature(options, options.temperature, f"{where}.temperature")
    check_zero_keys(options.deepspeed, f"{where}.deepspeed")


def check_divisible(options: EngineOptions, batch_size: int, where: str) -> None:
    """UserError when some number of workers that there may be does not divide the batch; `where` names its size."""
    counts = range(max(options.workers, 1), max(options.elastic_workers or options.workers, 1) + 1)
    unequal = next((workers for workers in counts if batch_size % workers), None)
    if unequal is not None:
        together = _multiple(counts)
        raise UserError(
            f"a batch of {batch_size:,} cannot be divided by {unequal} workers",
            where=where,
            fix=f"use a multiple of {together}, such as {-(-batch_size // together) * together}"
            if together
            else "lower elastic_workers: no batch is divided by all numbers up to it",
        )


def _multiple(counts: Iterable[int]) -> int | None:
    """The least common multiple; None where no batch is as large."""
    together = 1
    for count in counts:
        together = math.lcm(together, count)
        if together > LARGEST_BATCH:
            return None
    return together


def check_temperature(options: TrainOptions, initial: float, where: str) -> None:
    """UserError for an initial temperature that the first step would silently move to a bound."""
    lowest, highest = TRAINED_TEMPERATURES
    if options.train_temperature and not lowest <= initial <= highest:
        raise UserError(
            f"a trained temperature stays between {lowest:g} and {highest:g}, and this one starts at {initial:g}",
            where=where,
            fix="start within the bounds, or set train_temperature=false",
        )


def check_batch(options: TrainOptions, batch_size: int, longest: int, context: int, where: str) -> None:
    """UserError when the batches do not suit the workers, the chunks or the model's context.

    `longest` is the longest side in tokens with its delimiters.
    """
    check_divisible(options, batch_size, "batches.batch_size")
    if longest > options.chunk_tokens:
        raise UserError(
            f"a text of {longest} tokens with its delimiters does not fit chunk_tokens={options.chunk_tokens}",
            where=f"{where}.chunk_tokens",
            fix="raise chunk_tokens, or lower max_x_tokens and max_y_tokens",
        )
    if longest > context:
        raise UserError(
            f"a text of {longest} tokens with its delimiters does not fit the model's context of {context}",
            where="batches.max_y_tokens",
            fix=f"lower max_x_tokens and max_y_tokens to {context - 2} at most, or choose a model with more context",
        )
