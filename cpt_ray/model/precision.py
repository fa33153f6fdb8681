"""Which precision is faster here: measured with the products of the model at hand, never looked up.

bf16 products are up to three times as fast as fp32 ones where the processor has instructions for them, and up to 90 times
slower where it has none (PyTorch 2.13 on AVX2). Names of processors do not tell, since a virtual machine may hide what its
host has. So `precision=auto` times one layer of the model's width in both: projections, attention and, for a language
model, the logits, forward and, where it is trained, backward.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cpt_ray.artifacts.manifest import Manifest
from cpt_ray.artifacts.stage import Stage
from cpt_ray.compat.torch import attention_by_matrices, product
from cpt_ray.model.decoder import inner_of, text_config
from cpt_ray.model.encoder import SHORT

log = logging.getLogger("cpt_ray")
AUTO, PRECISIONS = "auto", ("fp32", "bf16")
MARGIN = 1.1
"""bf16 must be faster than fp32 by this much: it costs digits."""
HOPELESS = 8.0
"""So many times slower with few tokens, bf16 is not tried with many: that alone could take minutes."""
FEW, MOST = 32, 4096
"""Tokens of the first look, and of the measurement, at most."""
OPERATIONS = 4e9
"""Floating-point operations of one measurement, about: some hundredths of a second on one core."""
REPEATS = 3

Clock = Callable[[], float]
Layer = Callable[[int, bool], None]
"""(tokens, in bf16) -> runs one layer over so many tokens."""


@dataclass(frozen=True)
class Choice:
    """The faster precision, and tokens per second of the layer that was timed, in both."""

    precision: Literal["fp32", "bf16"]
    fp32_tokens_per_second: float
    bf16_tokens_per_second: float

    def __str__(self) -> str:
        return (
            f"{self.precision} (one layer: {self.fp32_tokens_per_second:,.0f} tokens/s in fp32,"
            f" {self.bf16_tokens_per_second:,.0f} in bf16)"
        )

    def to_dict(self) -> dict[str, Any]:
        """For a manifest."""
        return asdict(self)


@dataclass(frozen=True)
class Shape:
    """Of the layer that is timed: width, heads, inner width, vocabulary (0: no logits), longest sequence in tokens."""

    width: int
    heads: int
    inner: int
    vocabulary: int
    sequence: int
    trained: bool

    @staticmethod
    def of(config: Any, *, sequence: int, trained: bool, logits: bool = False) -> Shape:
        """From a configuration of transformers; what it does not name is as in GPT-2."""
        text = text_config(config)
        width, heads = int(text.hidden_size), int(getattr(text, "num_attention_heads", None) or 1)
        words = int(text.vocab_size) if logits else 0
        return Shape(width, math.gcd(width, heads), inner_of(text), words, sequence, trained)

    @property
    def weights(self) -> int:
        """Numbers that a token is multiplied with."""
        return 4 * self.width**2 + 2 * self.width * self.inner + self.width * self.vocabulary

    @property
    def tokens(self) -> int:
        """As many as OPERATIONS allows, at least one sequence of FEW."""
        return max(FEW, min(MOST, int(OPERATIONS / ((6 if self.trained else 2) * self.weights))))


def choose(layer: Layer, tokens: int, clock: Clock = time.perf_counter) -> Choice:
    """The faster of both for `layer` at `tokens`; within MARGIN, fp32."""

    def seconds(count: int, low: bool) -> float:
        start = clock()
        layer(count, low)
        return max(clock() - start, 1e-9)

    few = max(4, min(FEW, tokens // 8))
    for low in (False, True):
        layer(few, low)  # makes the kernels
    first = {low: seconds(few, low) for low in (False, True)}
    hopeless = first[True] > HOPELESS * first[False]
    tried = (False,) if hopeless else (False, True)
    for low in tried:
        layer(tokens, low)
    # In turn, and the least of each: what else runs on the machine slows both, or one only now and then.
    best = {False: math.inf, True: first[True] / few * tokens if hopeless else math.inf}
    for _ in range(REPEATS):
        for low in tried:
            best[low] = min(best[low], seconds(tokens, low))
    faster = best[True] * MARGIN < best[False]
    return Choice("bf16" if faster else "fp32", tokens / best[False], tokens / best[True])


def layer_of(shape: Shape, device: str) -> Layer:
    """One layer of random weights, run as the encoder runs its own."""
    generator = torch.Generator().manual_seed(0)

    def weight(rows: int, columns: int) -> Tensor:
        made = torch.randn(rows, columns, generator=generator) / math.sqrt(columns)
        return made.to(device).requires_grad_(shape.trained)

    mixed, back = weight(3 * shape.width, shape.width), weight(shape.width, shape.width)
    up, down = weight(shape.inner, shape.width), weight(shape.width, shape.inner)
    words = weight(shape.vocabulary, shape.width) if shape.vocabulary else None
    weights = [one for one in (mixed, back, up, down, words) if one is not None]

    def run(tokens: int, low: bool) -> None:
        length = min(shape.sequence, tokens)
        rows = tokens // length
        times = product if device == "cpu" and not (low or shape.trained) else F.linear
        by_matrices = low and device == "cpu" and length <= SHORT and shape.trained
        with torch.set_grad_enabled(shape.trained):
            hidden = torch.ones(rows, length, shape.width, device=device)
            with torch.autocast(device, torch.bfloat16, enabled=low), attention_by_matrices(enabled=by_matrices):
                parts = times(hidden, mixed).view(rows, length, 3, shape.heads, -1).unbind(2)
                query, key, value = (part.transpose(1, 2) for part in parts)
                seen = F.scaled_dot_product_attention(query, key, value, is_causal=True)
                hidden = hidden + times(seen.transpose(1, 2).reshape(rows, length, -1), back)
                hidden = hidden + times(F.gelu(times(hidden, up)), down)
                if words is not None:
                    hidden = times(hidden, words)
            total = hidden.float().mean()
        if shape.trained:
            torch.autograd.grad(total, weights)
        if device == "cuda":
            torch.cuda.synchronize()

    return run


def measured(shape: Shape, device: str, threads: int) -> Choice:
    """The choice for `shape` on this machine, with so many threads; takes well under a second."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return choose(layer_of(shape, device), shape.tokens)
    finally:
        torch.set_num_threads(before)


def settle(
    wanted: str,
    stage: Stage,
    path: str,
    *,
    params: Callable[[str], object],
    inputs: Mapping[str, str | Manifest],
    measure: Callable[[], Choice],
) -> tuple[str, dict[str, Any]]:
    """The precision of an artifact before it has an identity, and what its manifest says of how it was chosen.

    Where `wanted` is auto: one that stands or was begun at `path` goes on as it began, on whatever machine, and a line says
    so if this one would choose otherwise; only a new one takes what `measure()` finds. `params(precision)` and `inputs` are
    what `stage` is identified by there.
    """
    if wanted != AUTO:
        return wanted, {}
    for precision in PRECISIONS:
        state = stage.begun(path, params=params(precision), inputs=inputs)
        if state == "done":
            return precision, {}
        if state == "unfinished":
            here = measure()
            if here.precision != precision:
                log.info("%s goes on in %s, as it began; here %s", stage.name, precision, here)
            return precision, {"precision": {**here.to_dict(), "precision": precision}}
    here = measure()
    log.info("%s: precision %s", stage.name, here)
    return here.precision, {"precision": here.to_dict()}
