"""Gradient equality: every way of cutting and sharding a step against a single-process full-batch fp64 oracle.

Run as `make gradient-matrix`. Each cell is a real group of gloo processes that trains a small decoder for three optimiser
steps; the oracle is plain autograd over the whole logits matrix in float64, written here independently of cpt_ray/train.
A cell reports the largest difference over all gradients of the first step, the temperature's included, and over all weights
and the temperature after three steps. The last line is the maximum; the exit code is 1 if a cell exceeds BOUND.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import torch
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn import functional as F

from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.encoder import Encoder, chunks_by_tokens, collate
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.weights import load_backbone
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import make_engine
from cpt_ray.train.grad_cache import GradCache, Pairs, cut_to, deal, saved_bytes
from cpt_ray.train.losses import Kind
from cpt_ray.train.losses.infonce import InfoNCE
from cpt_ray.train.losses.one_way import OneWay
from cpt_ray.train.options import EngineOptions
from cpt_ray.train.temperature import Temperature

BOUND = 1e-6
STEPS = 3
RATE, TEMPERATURE_RATE, EPS, DECAY, CLIP = 1e-3, 1e-2, 1e-3, 0.1, 0.5
BETAS = (0.9, 0.95)
TEMPERATURE = 0.25
MODEL = ModelOptions(hidden_size=32, layers=2, heads=2, feedforward=64, context=64)
VOCABULARY = 64
LONGEST = 32
DELIMITERS = Delimiters(x=(0, 1), y=(2, 3))


@dataclass(frozen=True)
class Cell:
    """One way of running a step. `chunks`: one pair of texts per chunk, an odd size, everything, or kept graphs."""

    ranks: int
    stage: int
    chunks: str
    mask: bool
    hard: bool
    unequal: bool
    reduce: Literal["step", "chunk"] = "step"
    loss: Kind = field(default_factory=InfoNCE)

    def __str__(self) -> str:
        words = [f"{self.ranks} ranks, ZeRO {self.stage}, chunks {self.chunks:<5}"]
        words.append(f"a reduction per {self.reduce:<5}")
        for name in ("mask", "hard", "unequal"):
            words.append(name if getattr(self, name) else "-" * len(name))
        words.append(str(type(self.loss).__name__))
        return "  ".join(words)


@dataclass
class Difference:
    """Largest absolute differences from the oracle."""

    gradient: float
    temperature_gradient: float
    weights: float
    loss: float
    temperature: float = field(default=0.0)

    @property
    def largest(self) -> float:
        return max(self.gradient, self.temperature_gradient, self.weights, self.loss, self.temperature)


def matrix(ranks: Sequence[int] = (2, 4), stages: Sequence[int] = (0, 1, 2, 3)) -> list[Cell]:
    """All cells: ranks x ZeRO x chunking x masks x hard negatives x unequal lengths; the hardest by other ways too."""
    flags = list(itertools.product((False, True), repeat=3))
    cells = [
        Cell(r, stage, chunks, *switches)
        for r, stage, chunks, switches in itertools.product(ranks, stages, ("one", "odd", "all", "kept"), flags)
    ]
    hardest = [cell for cell in cells if cell.mask and cell.hard and cell.unequal]
    by_chunk = [replace(cell, reduce="chunk") for cell in hardest if cell.stage >= 2]
    return cells + by_chunk + [replace(cell, loss=OneWay()) for cell in hardest if cell.chunks == "odd"]


def batch(cell: Cell, step: int, pairs: int = 12) -> Pairs:
    """A global batch with repeated content: x of pairs 0 and 5, y of 1 and 6, the cluster of 2 and 7."""
    random = np.random.default_rng([step, cell.unequal, cell.hard])

    def texts(count: int) -> list[np.ndarray]:
        return [
            random.integers(4, VOCABULARY, random.integers(1, LONGEST - 2) if cell.unequal else 12)
            for _ in range(count)
        ]

    x, y = texts(pairs), texts(pairs)
    hard = texts(2 * pairs) if cell.hard else []
    x_hash, y_hash, cluster = (np.arange(pairs, dtype=np.int64) + base for base in (100, 200, 300))
    hard_hash = np.arange(len(hard), dtype=np.int64) + 400
    x_hash[5], y_hash[6], cluster[7] = x_hash[0], y_hash[1], cluster[2]
    x[5], y[6] = x[0], y[1]
    if cell.hard:
        hard[3], hard_hash[3] = y[8], y_hash[8]
    return Pairs(
        [DELIMITERS.wrap(ids, "x") for ids in x],
        [DELIMITERS.wrap(ids, "y") for ids in y],
        [DELIMITERS.wrap(ids, "y") for ids in hard],
        2 if cell.hard else 0,
        x_hash,
        y_hash,
        cluster,
        hard_hash,
        DELIMITERS,
    )


def model() -> Encoder:
    """Fresh weights, three times as large: fresh ones give all texts nearly one embedding, which would hide mistakes."""
    encoder = Encoder(load_backbone(MODEL, VOCABULARY, seed=1), DELIMITERS)
    with torch.no_grad():
        for parameter in encoder.parameters():
            if parameter.ndim >= 2:
                parameter.mul_(3)
    return encoder


@dataclass
class Outcome:
    """Losses by step, gradients of the first step, and weights at the end; by parameter name."""

    losses: list[float]
    gradients: dict[str, Tensor]
    dtau: float
    weights: dict[str, Tensor]
    tau: float


def oracle(cell: Cell) -> Outcome:
    """Plain autograd in float64: each text on its own, the whole matrix, torch's cross-entropy and AdamW."""
    encoder = model().double()
    tau = torch.tensor(np.log(1 / TEMPERATURE), dtype=torch.float64, requires_grad=True)
    decayed = [p for p in encoder.parameters() if p.ndim >= 2]
    others = [p for p in encoder.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": DECAY}, {"params": others, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, lr=RATE, betas=BETAS, eps=EPS)
    scalar = torch.optim.Adam([tau], lr=TEMPERATURE_RATE, betas=BETAS, eps=EPS)
    outcome = Outcome([], {}, 0.0, {}, 0.0)
    for step in range(STEPS):
        pairs = batch(cell, step)

        def embed(texts: list[np.ndarray]) -> Tensor:
            rows = [encoder.backbone(torch.from_numpy(ids)[None]).last_hidden_state[0, -1] for ids in texts]
            return F.normalize(torch.stack(rows), dim=-1)

        q, d = embed(pairs.x), embed(pairs.y + pairs.hard)
        logits = q @ d.T * tau.exp()
        if cell.mask:
            logits = logits.masked_fill(_false_negatives(pairs), -torch.inf)
        n = len(pairs)
        right = torch.arange(n)
        loss = F.cross_entropy(logits, right)
        if cell.loss == InfoNCE():
            loss = (loss + F.cross_entropy(logits[:, :n].T, right)) / 2
        loss.backward()
        if step == 0:
            outcome.gradients = {name: p.grad.clone() for name, p in encoder.named_parameters() if p.grad is not None}
            outcome.dtau = float(tau.grad or 0.0)
        torch.nn.utils.clip_grad_norm_(encoder.parameters(), CLIP)
        optimiser.step()
        scalar.step()
        optimiser.zero_grad()
        scalar.zero_grad()
        outcome.losses.append(loss.item())
    outcome.weights = {name: p.detach() for name, p in encoder.named_parameters()}
    outcome.tau = tau.item()
    return outcome


def _false_negatives(pairs: Pairs) -> Tensor:
    """Written out pair by pair, on purpose."""
    n = len(pairs)
    hidden = torch.zeros(n, n + len(pairs.hard), dtype=torch.bool)
    for i in range(n):
        for j in range(n):
            same = pairs.x_hash[i] == pairs.x_hash[j] or pairs.y_hash[i] == pairs.y_hash[j]
            hidden[i, j] = bool(i != j and (same or pairs.cluster[i] == pairs.cluster[j]))
        for k in range(len(pairs.hard)):
            hidden[i, n + k] = bool(pairs.hard_hash[k] == pairs.y_hash[i])
    return hidden


def distributed(cell: Cell, workers: Workers) -> Outcome:
    """The same training by this process's part of the group."""
    options = EngineOptions(
        engine="deepspeed" if workers.count > 1 else "reference",
        workers=workers.count if workers.count > 1 else 0,
        zero_stage=cell.stage,
        reduce=cell.reduce,
        precision="fp32",
        learning_rate=RATE,
        weight_decay=DECAY,
        beta1=BETAS[0],
        beta2=BETAS[1],
        eps=EPS,
        clip=CLIP,
    )
    engine = make_engine(model(), options, workers)
    temperature = Temperature(TEMPERATURE, betas=BETAS, eps=EPS)
    budget = {"one": LONGEST, "odd": 3 * LONGEST + 7, "all": 1 << 20, "kept": LONGEST}[cell.chunks]
    cache = GradCache(
        engine,
        temperature,
        workers,
        chunk_tokens=budget,
        keep_bytes=keep_some(cell, budget) if cell.chunks == "kept" else 0,
        tile_rows=4,
        mask=cell.mask,
        loss=cell.loss,
    )
    outcome = Outcome([], {}, 0.0, {}, 0.0)
    for step in range(STEPS):
        if step == 0:
            loss, numbers = cache.gradients(batch(cell, 0).dealt(workers))
            if cell.chunks == "kept":
                # With two, one backward pass follows another without a forward pass between them.
                few = 2 if numbers["chunks"] >= 6 else 1
                assert few <= numbers["kept_chunks"] < numbers["chunks"], f"{cell} should keep some graphs: {numbers}"
            outcome.losses.append(float(loss.value))
            outcome.dtau = float(loss.dtau)
            outcome.gradients = {
                name: _gradient(p, cell.stage, workers) for name, p in engine.module.named_parameters()
            }
            engine.step(RATE)
            temperature.step(loss.dtau, TEMPERATURE_RATE)
        else:
            outcome.losses.append(cache.step(batch(cell, step).dealt(workers), RATE, TEMPERATURE_RATE).loss)
    outcome.weights = engine.export()
    outcome.tau = float(temperature.tau.detach())
    return outcome


def keep_some(cell: Cell, budget: int) -> int:
    """Bytes that keep the graphs of some chunks of the first batch, and not of all: about half, as far as that goes."""
    pairs = batch(cell, 0)
    pools = [pairs.part(rows).pool() for rows in deal(pairs.lengths(), cell.ranks)]
    lengths = [np.array([len(ids) for ids in pool], np.int64) for pool in pools]
    plans = [chunks_by_tokens(pool, budget) for pool in lengths]
    plans = [cut_to(chunks, max(map(len, plans))) for chunks in plans]
    rooms = [
        max(int(lengths[rank][chunks[at]].max()) * len(chunks[at]) for rank, chunks in enumerate(plans))
        for at in range(len(plans[0]))
    ]
    encoder = model()
    with saved_bytes(encoder) as saved:
        encoder(*collate([pools[0][row] for row in plans[0][0]], DELIMITERS))
    few = 2 if len(rooms) >= 6 else 1
    # A chunk is kept while room for one more, the largest, is left.
    return int(saved[0] / rooms[0] * max(sum(rooms) / 2, (few + 1.3) * max(rooms)))


def _gradient(parameter: torch.nn.Parameter, stage: int, workers: Workers) -> Tensor:
    if workers.count == 1 or stage == 0:
        assert parameter.grad is not None
        return parameter.grad.clone()
    from deepspeed.utils import safe_get_full_grad

    return safe_get_full_grad(parameter).clone()


def compare(expected: Outcome, got: Outcome) -> Difference:
    assert expected.gradients.keys() == got.gradients.keys()
    assert expected.weights.keys() <= got.weights.keys()

    def worst(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
        return max(float((value - other[name].double()).abs().max()) for name, value in one.items())

    return Difference(
        gradient=worst(expected.gradients, got.gradients),
        temperature_gradient=abs(expected.dtau - got.dtau),
        weights=worst(expected.weights, got.weights),
        loss=max(abs(a - b) for a, b in zip(expected.losses, got.losses, strict=True)),
        temperature=abs(expected.tau - got.tau),
    )


def run(cells: Sequence[Cell]) -> list[tuple[Cell, Difference]]:
    """All cells of one group size, in one group of processes."""
    ranks = {cell.ranks for cell in cells}
    assert len(ranks) == 1
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(_worker, (ranks.pop(), list(cells), folder), nprocs=cells[0].ranks, join=True)
        differences = torch.load(os.path.join(folder, "differences.pt"), weights_only=True)
    return [(cell, Difference(*values)) for cell, values in zip(cells, differences, strict=True)]


def _worker(rank: int, ranks: int, cells: list[Cell], folder: str) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=ranks)
    workers = Workers.of_process_group()
    found = []
    for cell in cells:
        got = distributed(cell, workers)
        if rank == 0:
            difference = compare(oracle(cell), got)
            found.append([getattr(difference, name) for name in difference.__dataclass_fields__])
        workers.barrier()
    if rank == 0:
        torch.save(found, os.path.join(folder, "differences.pt"))
    workers.barrier()
    torch.distributed.destroy_process_group()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--stages", type=int, nargs="+", default=[0, 1, 2, 3])
    arguments = parser.parse_args()
    worst = 0.0
    print(f"{'cell':<93} {'gradient':>9} {'dtau':>9} {'weights':>9} {'loss':>9}")
    for ranks, stage in itertools.product(arguments.ranks, arguments.stages):
        for cell, difference in run(matrix([ranks], [stage])):
            values = (difference.gradient, difference.temperature_gradient, difference.weights, difference.loss)
            over = "   exceeds the bound" if difference.largest > BOUND else ""
            print(f"{cell!s:<93} " + " ".join(f"{value:9.1e}" for value in values) + over, flush=True)
            worst = max(worst, difference.largest)
    print(f"maximum difference {worst:.2e} (bound {BOUND:.0e})")
    return int(worst > BOUND)


if __name__ == "__main__":
    sys.exit(main())
