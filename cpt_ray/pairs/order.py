"""Which pair stands where in the training order: a pure function of (seed, batch, content of the pairs).

1. Each source is an endless stream: epoch after epoch, its pairs sorted by a keyed hash of their ids, each once or as often
   as `rehydrate` allows.
2. Sources take turns by weight (`quotas`), so that how far each stream is read before batch k follows from k alone.
3. Batches are cut into ranges of RANGE slots, by their numbers. A range reads each stream from where the quotas say, and
   knows no other range: a pair whose duplicate cluster is already in the batch waits for a later batch of the range,
   and the one behind it takes its place. The few that still wait where the range ends are not shown in that epoch; as
   many pairs from behind its end were, and are read again by the next range.

Up to RANGE slots there is one range, and every pair comes in its turn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import xxhash

from cpt_ray.errors import UserError
from cpt_ray.pairs.options import BatchOptions

RANGE = 1 << 20
"""Slots of a range, about: whole batches, at least one."""

Pulled = tuple[int, int]
"""A row of the pairs and its duplicate cluster."""
Quota = Mapping[str, int]
"""How many pairs of each source a batch takes."""


class TooShort(Exception):
    """A stream that was given up to some epoch ended before its range was full."""


class Plan(NamedTuple):
    """The sources that take part and how many pairs each has, why the others do not, and the number of batches."""

    sizes: dict[str, int]
    left_out: dict[str, str]
    batches: int


def plan(sizes: Mapping[str, int], differ: Callable[[Collection[str]], bool], options: BatchOptions) -> Plan:
    """What is ordered, of sources with so many usable pairs; `differ(sources)` says whether they have, together, as many
    duplicate clusters as a batch has pairs.

    Raises UserError when that is nothing, or a weight names a source that is not there.
    """
    unknown = sorted(set(options.weights) - set(sizes))
    if unknown:
        raise UserError(
            f"no pairs of source {unknown[0]!r}; there are: {', '.join(sorted(sizes))}",
            where="weights",
            fix="name one of them",
        )
    left_out: dict[str, str] = {}
    for name in sizes:
        if options.weights and not options.weights.get(name):
            left_out[name] = "weight_zero"
        elif options.homogeneous and not differ([name]):
            left_out[name] = "source_smaller_than_batch"
    taking = {name: sizes[name] for name in sorted(sizes) if name not in left_out}
    batches = options.steps or int(options.epochs * sum(taking.values()) // options.batch_size)
    if not taking or batches == 0 or not (options.homogeneous or differ(list(taking))):
        raise UserError(
            f"{sum(sizes.values()):,} usable pairs do not fill one batch of {options.batch_size:,} pairs of different"
            " duplicate clusters",
            where="batch_size",
            fix="choose a smaller batch_size, or give more pairs",
        )
    return Plan(taking, left_out, batches)


def quotas(sizes: Mapping[str, int], options: BatchOptions) -> Iterator[dict[str, int]]:
    """How many pairs of each source batch after batch takes, without end: what keeps the total nearest to the shares."""
    weight = {name: options.weights.get(name, 0.0) if options.weights else size for name, size in sizes.items()}
    shares = {name: value / sum(weight.values()) for name, value in weight.items()}
    drawn = dict.fromkeys(sizes, 0)
    batch = 0
    while True:
        quota = _quota(shares, drawn, batch, options)
        yield quota
        for name, wanted in quota.items():
            drawn[name] += wanted
        batch += 1


class Range(NamedTuple):
    """Batches `first` and after it, by their quotas, and how far each stream was read before them."""

    first: int
    quotas: list[dict[str, int]]
    at: dict[str, int]


def ranges(plan: Plan, options: BatchOptions) -> list[Range]:
    """All batches of the plan, RANGE slots at a time."""
    per = max(1, RANGE // options.batch_size)
    of_batch = quotas(plan.sizes, options)
    at = dict.fromkeys(plan.sizes, 0)
    found = []
    for first in range(0, plan.batches, per):
        taken = [next(of_batch) for _ in range(min(per, plan.batches - first))]
        found.append(Range(first, taken, dict(at)))
        for quota in taken:
            for name, wanted in quota.items():
                at[name] += wanted
    return found


@dataclass
class Stream:
    """One source from some place on, with the rows that wait for a batch without their cluster. `size`: its pairs."""

    pull: Iterator[Pulled]
    size: int
    waiting: dict[int, list[int]] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)

    def take(self, wanted: int, present: set[int]) -> list[int]:
        """`wanted` rows whose clusters are not `present`; `present` grows by theirs."""
        taken: list[int] = []
        for cluster in [c for c in self.waiting if c not in present][:wanted]:
            line = self.waiting[cluster]
            row = line.pop(0)
            self.held.discard(row)
            if not line:
                del self.waiting[cluster]
            present.add(cluster)
            taken.append(row)
        seen = 0
        while len(taken) < wanted:
            if seen > 2 * self.size:
                raise UserError(
                    f"a batch needs {wanted:,} pairs of different duplicate clusters from one source and there are not"
                    " that many",
                    where="batch_size",
                    fix="choose a smaller batch_size, or give more pairs",
                )
            row, cluster = next(self.pull, (-1, 0))
            if row < 0:
                raise TooShort
            seen += 1
            if cluster not in present:
                present.add(cluster)
                taken.append(row)
            elif row not in self.held:  # an earlier copy of it may still be waiting
                self.waiting.setdefault(cluster, []).append(row)
                self.held.add(row)
        return taken


def place(streams: Mapping[str, Stream], quotas: Iterable[Quota]) -> np.ndarray:
    """Rows of each batch, int64 [batches, batch_size]; what then waits is in the streams. TooShort when one ends."""
    batches = []
    for quota in quotas:
        present: set[int] = set()
        batches.append([row for name, wanted in quota.items() for row in streams[name].take(wanted, present)])
    return np.array(batches, np.int64)


def salt(seed: int, epoch: int) -> np.uint64:
    """What the keys of an epoch are mixed with."""
    return np.uint64(xxhash.xxh3_64_intdigest(f"{seed}/{epoch}".encode()))


def keyed_order(keys: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """Positions of `keys` (u64, one per row) sorted by a hash of (seed, epoch, key); ties by position."""
    return np.argsort(mix(keys ^ salt(seed, epoch)), kind="stable")


def repeated(keys: np.ndarray, copies: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(positions, u64 keys): each of `keys` so many times, the first as it is, so that copies stand apart in an order."""
    at = np.repeat(np.arange(len(keys)), copies)
    nth = np.arange(len(at)) - np.repeat(np.cumsum(copies) - copies, copies)
    return at, np.where(nth > 0, mix(keys[at] ^ mix(nth)), keys[at])


def content_keys(ids: list[str]) -> np.ndarray:
    """u64 hash of each id."""
    return np.fromiter((xxhash.xxh3_64_intdigest(name.encode()) for name in ids), np.uint64, len(ids))


def mix(values: np.ndarray) -> np.ndarray:
    """splitmix64's finaliser: a bijection of u64 in which every input bit moves half of the output bits."""
    with np.errstate(over="ignore"):
        mixed = values.astype(np.uint64)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return mixed ^ (mixed >> np.uint64(31))


def _quota(shares: Mapping[str, float], drawn: Mapping[str, int], batch: int, options: BatchOptions) -> dict[str, int]:
    size = options.batch_size
    if options.homogeneous:
        behind = max(shares, key=lambda name: (shares[name] * (batch + 1) * size - drawn[name], name))
        return {behind: size}
    due = {name: share * (batch + 1) * size - drawn[name] for name, share in shares.items()}
    whole = {name: max(int(np.floor(value)), 0) for name, value in due.items()}
    by_rest = sorted(due, key=lambda name: (whole[name] - due[name], name))
    for at in range(size - sum(whole.values())):
        whole[by_rest[at % len(by_rest)]] += 1
    while (over := sum(whole.values()) - size) > 0:
        most = max(whole, key=lambda name: (whole[name], name))
        whole[most] -= min(over, whole[most])
    return whole
