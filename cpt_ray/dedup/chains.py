"""Who stays: chains of duplicates are broken against what is kept.

In A ~ B ~ C with A !~ C, a component alone would remove B and C for A although C is no duplicate of it. Here a member
is removed only if it was compared with a kept document and found similar: the best member of a component is kept, the
others are compared with it, the best of those that do not match is kept next, and so on.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from cpt_ray.dedup.kernels import I64, U64

Compare = Callable[[I64, I64], npt.NDArray[np.float64]]

ROUNDS = 16
"""Documents of one component that all its undecided members are compared with; after that, known pairs decide."""


def survivors_of(
    labels: I64, centre: I64, member: I64, compare: Compare, threshold: float, rounds: int = ROUNDS
) -> I64:
    """[nodes] int64: the kept node that removes a node, -1 for a node that is kept.

    Nodes are numbered best first. labels [nodes]: the component of each; centre, member [edges]: accepted pairs,
    centre < member; compare(centre, member) gives similarities of any pairs.
    """
    nodes = len(labels)
    matched = np.full(nodes, -1, np.int64)
    undecided = np.zeros(nodes, bool)
    undecided[centre] = undecided[member] = True
    known = np.sort(_codes(centre, member, nodes))
    for _ in range(rounds):
        left = np.flatnonzero(undecided)
        if not len(left):
            return matched
        # The first undecided node of each component: nodes are best first, so it is the smallest.
        group, first = np.unique(labels[left], return_index=True)
        best = left[first]
        undecided[best] = False
        rest = np.flatnonzero(undecided)
        if not len(rest):
            return matched
        keeper = best[np.searchsorted(group, labels[rest])]
        same = _is_in(_codes(keeper, rest, nodes), known)
        ask = np.flatnonzero(~same)
        same[ask] = compare(keeper[ask], rest[ask]) >= threshold
        matched[rest[same]] = keeper[same]
        undecided[rest[same]] = False
    _decide_by_known(matched, undecided, centre, member)
    return matched


def _decide_by_known(matched: I64, undecided: npt.NDArray[np.bool_], centre: I64, member: I64) -> None:
    """Best first: a node goes if an accepted pair ties it to a better one that is kept."""
    chosen = np.flatnonzero(undecided[member])
    order = np.lexsort((centre[chosen], member[chosen]))
    for edge in chosen[order]:
        a, b = int(centre[edge]), int(member[edge])
        if matched[b] < 0 and matched[a] < 0:
            matched[b] = a
    undecided[:] = False


def _codes(a: I64, b: I64, nodes: int) -> U64:
    return a.astype(np.uint64) * np.uint64(max(nodes, 1)) + b.astype(np.uint64)


def _is_in(codes: U64, known: U64) -> npt.NDArray[np.bool_]:
    """[codes] bool: whether each stands in `known`, which is sorted."""
    if not len(known):
        return np.zeros(len(codes), bool)
    at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    found: npt.NDArray[np.bool_] = known[at] == codes
    return found
