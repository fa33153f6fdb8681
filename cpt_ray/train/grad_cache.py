"""One exact step over a batch that does not fit: gradient caching (arXiv 2101.06983), cut by tokens, under any engine.

    share    the pairs of the global batch are dealt out to the ranks by length, so that all have equally much to do; a rank
             makes texts of its own rows alone
    plan     both sides of a rank's pairs, and its hard negatives, form one pool; sorted by length it is cut into chunks
             of at most `chunk_tokens` padded tokens, the same number of chunks on every rank (ZeRO-3 would hang otherwise)
    pass 1   embeddings of every chunk, without graphs, except for as many chunks as the memory budget allows
    loss     over all embeddings of all ranks (loss.py, losses/), which gives the gradient g of every embedding
    pass 2   kept graphs first, then the other chunks again: backward of the surrogate <embedding, g>, summed up by the
             engine and reduced once

The loss is the global one on every rank and the engine averages over ranks, so g is multiplied by the number of ranks.
With dropout on, pass 2 replays the random state of pass 1.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor, nn

from cpt_ray.compat.torch import is_weight
from cpt_ray.model.delimiters import ADDED, Delimiters
from cpt_ray.model.encoder import chunks_by_tokens, collate
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import Engine
from cpt_ray.train.loss import Embedded, Keys, Loss
from cpt_ray.train.losses import Kind
from cpt_ray.train.losses.infonce import InfoNCE
from cpt_ray.train.options import TrainOptions
from cpt_ray.train.temperature import Temperature


@dataclass(frozen=True)
class Pairs:
    """The pairs of one global batch, or one rank's share of them: delimited ids of both sides, `per_row` hard negatives
    each, and content hashes."""

    x: list[np.ndarray]
    y: list[np.ndarray]
    hard: list[np.ndarray]
    per_row: int
    x_hash: np.ndarray
    y_hash: np.ndarray
    cluster: np.ndarray
    hard_hash: np.ndarray
    delimiters: Delimiters

    @staticmethod
    def of(table: pa.Table, delimiters: Delimiters) -> Pairs:
        """From a batch of the training order; `hard_ids` (list<list<i32>>) and `hard_hash` (list<u64>) may be there."""
        x = [delimiters.wrap(ids, "x") for ids in _lists(table["x_ids"])]
        y = [delimiters.wrap(ids, "y") for ids in _lists(table["y_ids"])]
        hard: list[np.ndarray] = []
        hard_hash = np.empty(0, np.int64)
        if "hard_ids" in table.column_names:
            hard = [delimiters.wrap(ids, "y") for row in table["hard_ids"].to_pylist() for ids in row]
            hard_hash = _signed(np.array([h for row in table["hard_hash"].to_pylist() for h in row], np.uint64))
        if len(hard) % len(x):
            raise ValueError(f"{len(hard)} hard negatives for {len(x)} pairs: every pair must have equally many")
        x_hash, y_hash, cluster = (_signed(table[name].to_numpy()) for name in ("x_hash", "y_hash", "cluster"))
        return Pairs(x, y, hard, len(hard) // len(x), x_hash, y_hash, cluster, hard_hash, delimiters)

    @staticmethod
    def share(table: pa.Table, delimiters: Delimiters, workers: Workers) -> Pairs:
        """This rank's share of a batch of the training order; no other rank's texts are looked at."""
        sides = ["x_ids", "y_ids", *(["hard_ids"] if "hard_ids" in table.column_names else [])]
        lengths = np.sum([_tokens(table[name]) for name in sides], axis=0)
        own = deal(lengths, workers.count)[workers.rank]
        names = [name for name in (*sides, "x_hash", "y_hash", "cluster", "hard_hash") if name in table.column_names]
        return Pairs.of(table.select(names).take(pa.array(own)), delimiters)

    def dealt(self, workers: Workers) -> Pairs:
        """This rank's share of a global batch that is at hand."""
        return self.part(deal(self.lengths(), workers.count)[workers.rank])

    def __len__(self) -> int:
        return len(self.x)

    def lengths(self) -> np.ndarray:
        """(pairs,) tokens of all texts of each pair."""
        hard = np.array([len(ids) for ids in self.hard], np.int64).reshape(len(self), self.per_row).sum(axis=1)
        return np.array([len(a) + len(b) for a, b in zip(self.x, self.y, strict=True)], np.int64) + hard

    def part(self, rows: np.ndarray) -> Pairs:
        """The pairs `rows`, in this order."""
        negatives = (rows[:, None] * self.per_row + np.arange(self.per_row)).ravel()
        return Pairs(
            [self.x[row] for row in rows],
            [self.y[row] for row in rows],
            [self.hard[row] for row in negatives],
            self.per_row,
            self.x_hash[rows],
            self.y_hash[rows],
            self.cluster[rows],
            self.hard_hash[negatives],
            self.delimiters,
        )

    def pool(self) -> list[np.ndarray]:
        """All texts to embed: x, then y, then hard negatives."""
        return self.x + self.y + self.hard

    def keys(self, device: torch.device) -> Keys:
        # Copies: what comes from Arrow may not be written to, and PyTorch knows no such tensors.
        return Keys(*(torch.tensor(a, device=device) for a in (self.x_hash, self.y_hash, self.cluster, self.hard_hash)))


def deal(lengths: np.ndarray, ranks: int) -> list[np.ndarray]:
    """Positions for each rank, equally many, sorted by length and dealt to and fro so that token counts are near equal."""
    order = np.argsort(-lengths, kind="stable")
    rounds = order.reshape(-1, ranks).copy()
    rounds[1::2] = rounds[1::2, ::-1]
    return [rounds[:, rank] for rank in range(ranks)]


@dataclass(frozen=True)
class Plan:
    """How this rank's pool is cut; and over all ranks the most padded tokens of each chunk (`room`), and the sums."""

    chunks: list[np.ndarray]
    room: list[int]
    tokens: int
    padded_tokens: int


def plan(lengths: np.ndarray, budget: int, workers: Workers) -> Plan:
    """Chunks of this rank's pool within `budget`, equally many on all ranks, which agree by two small collectives.

    `lengths` (texts,) are of this rank's pool, in tokens.
    """
    chunks = chunks_by_tokens(lengths, budget)
    most = torch.tensor(len(chunks), dtype=torch.int64, device=workers.device)
    chunks = cut_to(chunks, int(workers.max(most)))
    padded = [int(lengths[rows].max()) * len(rows) for rows in chunks]
    own = torch.tensor([[int(lengths.sum()), *padded]], dtype=torch.int64, device=workers.device)
    everyone = workers.all_gather(own).cpu()  # (ranks, 1 + chunks)
    return Plan(chunks, everyone[:, 1:].amax(dim=0).tolist(), int(everyone[:, 0].sum()), int(everyone[:, 1:].sum()))


def cut_to(chunks: list[np.ndarray], count: int) -> list[np.ndarray]:
    """So many chunks, by halving the one with most texts, the first of several, over and over."""
    # A chunk's place is a path of halves, which sorts as the halves stand.
    of: dict[tuple[int, ...], np.ndarray] = {(at,): rows for at, rows in enumerate(chunks)}
    largest = [(-len(rows), place) for place, rows in of.items()]
    heapq.heapify(largest)
    while len(of) < count:
        _, place = heapq.heappop(largest)
        rows = of.pop(place)
        for side, half in enumerate((rows[: len(rows) // 2], rows[len(rows) // 2 :])):
            of[*place, side] = half
            heapq.heappush(largest, (-len(half), (*place, side)))
    return [of[place] for place in sorted(of)]


@dataclass(frozen=True)
class Step:
    """What one step did, over all ranks. `masked` logits were left out, which leaves so many `negatives` for a query."""

    loss: float
    temperature: float
    grad_norm: float
    masked: int
    negatives: float
    correct: float
    pairs: int
    tokens: int
    padded_tokens: int
    chunks: int
    kept_chunks: int


class GradCache:
    """Runs exact contrastive steps of `engine`, with the same result for every `chunk_tokens` and `keep_bytes`."""

    def __init__(
        self,
        engine: Engine,
        temperature: Temperature,
        workers: Workers,
        *,
        chunk_tokens: int,
        keep_bytes: int = 0,
        tile_rows: int = 512,
        mask: bool = True,
        dropout: bool = False,
        loss: Kind = InfoNCE(),  # noqa: B008 - options are frozen
    ) -> None:
        self._loss = loss
        self.engine, self.temperature, self.workers = engine, temperature, workers
        self._budget, self._keep_bytes, self._tile_rows, self._mask = chunk_tokens, keep_bytes, tile_rows, mask
        self._dropout = dropout
        self._bytes_per_token: float | None = None

    @staticmethod
    def of(
        options: TrainOptions, engine: Engine, temperature: Temperature, workers: Workers, *, dropout: bool = False
    ) -> GradCache:
        """As a training's options have it."""
        return GradCache(
            engine,
            temperature,
            workers,
            chunk_tokens=options.chunk_tokens,
            keep_bytes=options.keep_graphs_mb << 20,
            tile_rows=options.tile_rows,
            mask=options.mask_false_negatives,
            dropout=dropout,
            loss=options.loss,
        )

    def state(self) -> dict[str, Any]:
        """What was measured, so that a run that goes on keeps the same graphs, and adds up in the same order."""
        return {"bytes_per_token": self._bytes_per_token}

    def restore(self, state: dict[str, Any]) -> None:
        self._bytes_per_token = state["bytes_per_token"]

    def step(self, own: Pairs, rate: float, temperature_rate: float) -> Step:
        """One optimiser step on a global batch of which each rank holds its share. FloatingPointError if the loss is not
        finite."""
        loss, numbers = self.gradients(own)
        pairs = len(own) * self.workers.count
        norm = self.engine.step(rate)
        if not np.isfinite(norm):
            raise FloatingPointError(f"the gradient norm is {norm}")
        self.temperature.step(loss.dtau, temperature_rate)
        return Step(
            loss=float(loss.value),
            temperature=self.temperature.value,
            grad_norm=norm,
            masked=loss.masked,
            negatives=pairs * (1 + own.per_row) - 1 - loss.masked / pairs,
            correct=loss.correct,
            pairs=pairs,
            **numbers,
        )

    def gradients(self, own: Pairs) -> tuple[Loss, dict[str, int]]:
        """Accumulate and reduce the gradients of the batch in the engine, without the optimiser's step."""
        pool = own.pool()
        planned = plan(np.array([len(ids) for ids in pool], np.int64), self._budget, self.workers)
        chunks = planned.chunks
        embeddings, graphs, states = self._first_pass(own, pool, chunks, planned.room)
        numbers = {"tokens": planned.tokens, "padded_tokens": planned.padded_tokens, "chunks": len(chunks)}
        numbers["kept_chunks"] = len(graphs)
        n = len(own)
        loss = self._loss(
            Embedded(
                embeddings[:n],
                embeddings[n : 2 * n],
                embeddings[2 * n :],
                self.temperature.tau,
                own.keys(self.workers.device),
                self.workers,
                mask=self._mask,
                tile_rows=self._tile_rows,
            )
        )
        if not torch.isfinite(loss.value):
            raise FloatingPointError(f"the loss is {float(loss.value)}")
        wanted = torch.cat([loss.dq, loss.dd, loss.dhard]) * self.engine.averages
        with self.engine.accumulate():
            order = sorted(range(len(chunks)), key=lambda i: i not in graphs)
            for at in order:
                vectors = graphs.pop(at, None)
                if vectors is None:
                    with replayed(states[at], self.workers.device) if self._dropout else nullcontext():
                        vectors = self._embed(own, pool, chunks[at])
                self.engine.backward((vectors * wanted[chunks[at]]).sum(), last=at == order[-1])
                del vectors
        return loss, numbers

    def _first_pass(
        self, own: Pairs, pool: list[np.ndarray], chunks: list[np.ndarray], room: list[int]
    ) -> tuple[Tensor, dict[int, Tensor], list[Tensor]]:
        """Embeddings of the pool (without graph), the graphs that were kept by chunk, and random states by chunk."""
        keep = self._kept(own, pool, chunks, room)
        graphs: dict[int, Tensor] = {}
        states: list[Tensor] = []
        embeddings: Tensor | None = None
        for at, rows in enumerate(chunks):
            if self._dropout:
                states.append(random_state(self.workers.device))
            with torch.set_grad_enabled(at in keep):
                vectors = self._embed(own, pool, rows)
            if embeddings is None:
                embeddings = vectors.new_empty(len(pool), vectors.shape[1])
            embeddings[rows] = vectors.detach()
            if at in keep:
                graphs[at] = vectors
        assert embeddings is not None
        return embeddings, graphs, states

    def _kept(self, own: Pairs, pool: list[np.ndarray], chunks: list[np.ndarray], room: list[int]) -> set[int]:
        """Chunks whose graphs fit the budget, the same on all ranks; room for one more chunk is always left.

        What a token costs is measured, once: the bytes that autograd saves in one forward pass of the first chunk.
        """
        if self._keep_bytes == 0:
            return set()
        if self._bytes_per_token is None:
            device = self.workers.device
            with replayed(random_state(device), device), saved_bytes(self.engine.module) as saved:
                vectors = self._embed(own, pool, chunks[0])
            del vectors
            padded = max(len(pool[row]) for row in chunks[0]) * len(chunks[0])
            cost = torch.tensor([saved[0] / padded], dtype=torch.float64, device=self.workers.device)
            self._bytes_per_token = max(float(self.workers.max(cost)), 1.0)
        left = self._keep_bytes / self._bytes_per_token
        if sum(room) <= left:
            return set(range(len(chunks)))
        left -= max(room)
        kept = set()
        for at, tokens in enumerate(room):
            if tokens > left:
                break
            left -= tokens
            kept.add(at)
        return kept

    def _embed(self, own: Pairs, pool: list[np.ndarray], rows: np.ndarray) -> Tensor:
        ids, last = collate([pool[row] for row in rows], own.delimiters)
        return self.engine.embed(ids.to(self.workers.device), last.to(self.workers.device))


@contextmanager
def saved_bytes(module: nn.Module) -> Iterator[list[int]]:
    """Counts, in a list of one, the bytes of the tensors that autograd saves inside; the module's weights do not count."""
    total = [0]
    seen = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}
    alive: list[Tensor] = []  # a storage that is freed inside may come back under the same address

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if not is_weight(tensor) and storage.data_ptr() not in seen:
            seen.add(storage.data_ptr())
            alive.append(tensor)
            total[0] += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield total


def random_state(device: torch.device) -> Tensor:
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


@contextmanager
def replayed(state: Tensor, device: torch.device) -> Iterator[None]:
    """Inside, random numbers are those that came after `state` was taken; outside, nothing changes."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        if device.type == "cuda":
            torch.cuda.set_rng_state(state, device)
        else:
            torch.set_rng_state(state)
        yield


def _lists(column: pa.ChunkedArray) -> list[np.ndarray]:
    """Rows of a list<i32> column as views into one array."""
    array = column.combine_chunks()
    offsets = array.offsets.to_numpy()
    values = array.values.to_numpy()
    return [values[start:end] for start, end in pairwise(offsets)]


def _tokens(column: pa.ChunkedArray) -> np.ndarray:
    """(rows,) tokens of the texts of each row, with their delimiters, of a list<i32> or list<list<i32>> column."""
    array = column.combine_chunks()
    ends = array.offsets.to_numpy()
    if pa.types.is_list(array.type.value_type):
        inner = array.values.offsets.to_numpy()
        return np.diff(inner[ends]) + ADDED * np.diff(ends)
    return np.diff(ends) + ADDED


def _signed(values: np.ndarray) -> np.ndarray:
    """u64 seen as int64, which torch compares."""
    return np.ascontiguousarray(values, np.uint64).view(np.int64)
