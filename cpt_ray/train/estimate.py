"""About how long a training takes here, told before it begins: from the probe of the precision, and what a step multiplies.

    a step      its matrix products (train/flops.py) at the speed that the probe found in the precision that was chosen, and
                OTHER times what every weight on every token would take in fp32: norms, activations, scores, the loss and
                AdamW, which are done in fp32 whatever the precision
    a training  START, its steps, its looks at held-out pairs

OTHER and START are of the demo's trainings on two CPUs of an AMD EPYC: with bf16 instructions, and without, the same two
give their times within a fifth. What else runs on the machine is in the probe as far as it runs then.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.model.delimiters import ADDED
from cpt_ray.model.precision import AUTO, Choice, Shape
from cpt_ray.pairs.batches import BatchReader
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.progress import spoken
from cpt_ray.train.flops import FORWARD, TRAINING, Weights
from cpt_ray.train.options import EngineOptions, PackOptions, TrainOptions

log = logging.getLogger("cpt_ray")

OTHER = 0.35
START = 12.0
"""Seconds that workers take to start: most is what they import."""
FILLED = 0.85
"""Mean length of a text as a share of the longest, where the texts are not known yet."""


@dataclass(frozen=True)
class Load:
    """What is run at once, over all workers: tokens with their delimiters, and texts."""

    tokens: float
    texts: float

    @staticmethod
    def of_first(path: str) -> Load:
        """Of the first batch of a published order, which the others resemble."""
        table = BatchReader(path)[0]
        if "ids" in table.column_names:
            return Load(pc.sum(pc.list_value_length(table["ids"])).as_py(), 0)  # windows: all of it is text
        lists: list[pa.ChunkedArray] = [table["x_ids"], table["y_ids"]]
        if "hard_ids" in table.column_names:
            lists.append(pc.list_flatten(table["hard_ids"]))
        texts = sum(len(column) for column in lists)
        return Load(sum(pc.sum(pc.list_value_length(one)).as_py() or 0 for one in lists) + ADDED * texts, texts)

    @staticmethod
    def of_pairs(pairs: int, options: BatchOptions) -> Load:
        """Of a batch of so many pairs that is not made yet."""
        texts = pairs * (2 + options.hard_negatives)
        longest = options.max_x_tokens + options.max_y_tokens * (1 + options.hard_negatives)
        return Load(pairs * longest * FILLED + ADDED * texts, texts)

    @staticmethod
    def of_windows(options: PackOptions) -> Load:
        return Load(options.batch_size * options.context, 0)


@dataclass(frozen=True)
class Training:
    """So many steps of a load each, and looks at held-out pairs of another."""

    steps: int
    step: Load
    looks: int = 0
    look: Load = Load(0, 0)

    @staticmethod
    def of(steps: int, step: Load, look: Load, options: TrainOptions) -> Training:
        return Training(steps, step, 1 + -(-steps // options.evaluate_every), look)


def seconds(training: Training, weights: Weights, shape: Shape, choice: Choice, options: EngineOptions) -> float:
    """Wall time of the whole; `choice` was measured on a layer of `shape`, with logits for a language model."""
    whole = weights.per_token + weights.per_text + shape.vocabulary * shape.width
    if shape.vocabulary:  # its head is a matrix like others, and it has no use for the last token alone
        weights = Weights(whole, 0)
    of_layer = TRAINING * shape.weights
    precision = choice.precision if options.precision == AUTO else options.precision
    fast = of_layer * (choice.fp32_tokens_per_second if precision == "fp32" else choice.bf16_tokens_per_second)
    slow = of_layer * choice.fp32_tokens_per_second
    workers = max(options.workers, 1)

    def run(load: Load, each: float) -> float:
        products = weights.products(load.tokens, load.texts) / fast + OTHER * whole * load.tokens / slow
        return each * products / workers

    start = START if options.workers else 0.0
    return start + training.steps * run(training.step, TRAINING) + training.looks * run(training.look, FORWARD)


def say(name: str, time: float) -> None:
    """The line at the beginning of a stage."""
    log.info("%s: about %s on this machine", name, spoken(time))
