"""Candidate pairs: only (band, key, document) is grouped, and a bucket of n documents gives n - 1 pairs, a star.

Documents are *slots*: numbers in the order of the survivor rule, 0 the best, so the centre of a star is the smallest
slot and the pairs do not depend on the order of the input. Members whose comparison with the centre fails form a
smaller bucket with a centre of its own, up to a stated number of stars: a hot bucket costs stars x n, never n x n.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from cpt_ray.dedup.kernels import I64, U64


@dataclass(frozen=True)
class Buckets:
    """Members of every bucket of at least two documents, sorted by (bucket, slot).

    group [members] int64: number of the bucket; slot [members] int64.
    """

    group: I64
    slot: I64

    def stars(self) -> tuple[I64, I64]:
        """(centre, member) of every pair, with repeats between bands."""
        if not len(self.group):
            return self.group, self.slot
        first = np.r_[True, self.group[1:] != self.group[:-1]]
        centre = self.slot[np.maximum.accumulate(np.where(first, np.arange(len(first)), 0))]
        return centre[~first], self.slot[~first]

    def without(self, accepted: np.ndarray) -> Buckets:
        """What is left when the centres and the members accepted by them leave (accepted: one bool per star edge)."""
        if not len(self.group):
            return self
        first = np.r_[True, self.group[1:] != self.group[:-1]]
        stays = np.zeros(len(first), bool)
        stays[~first] = ~accepted
        return _at_least_two(self.group[stays], self.slot[stays])


def buckets_of(keys: U64) -> Iterator[Buckets]:
    """One Buckets per band of keys [slots, bands]; a row's number is its slot."""
    slots = np.arange(len(keys), dtype=np.int64)
    for band in range(keys.shape[1]):
        yield group(np.ascontiguousarray(keys[:, band]), slots)


def group(keys: U64, slots: I64) -> Buckets:
    """The buckets of one band; slots [keys] in any order."""
    order = np.lexsort((slots, keys)) if np.any(slots[1:] < slots[:-1]) else np.argsort(keys, kind="stable")
    ordered = keys[order]
    number = np.cumsum(np.r_[False, ordered[1:] != ordered[:-1]]) if len(ordered) else order
    return _at_least_two(number.astype(np.int64), slots[order])


def shared_bands(buckets: Iterable[Buckets], nodes: int, a: I64, b: I64) -> I64:
    """[pairs] int64: in how many bands the two slots of each pair are in one bucket."""
    count = np.zeros(len(a), np.int64)
    for bucket in buckets:
        number = np.full(nodes, -1, np.int64)
        number[bucket.slot] = bucket.group
        count += (number[a] >= 0) & (number[a] == number[b])
    return count


def unique_pairs(centre: I64, member: I64, nodes: int) -> U64:
    """Sorted distinct pairs as centre * nodes + member."""
    return np.unique(centre.astype(np.uint64) * np.uint64(nodes) + member.astype(np.uint64))


def split(pairs: U64, nodes: int) -> tuple[I64, I64]:
    """(centre, member) of coded pairs."""
    n = np.uint64(max(nodes, 1))
    return (pairs // n).astype(np.int64), (pairs % n).astype(np.int64)


def _at_least_two(group: I64, slot: I64) -> Buckets:
    if not len(group):
        return Buckets(group, slot)
    edges = np.flatnonzero(np.r_[True, group[1:] != group[:-1], True])
    large = np.repeat(np.diff(edges) > 1, np.diff(edges))
    return Buckets(group[large], slot[large])
