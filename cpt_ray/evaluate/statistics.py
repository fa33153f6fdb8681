"""How sure a figure is: intervals by bootstrap over the queries, and a paired test between two models.

1. A `Figure` is a number that remembers what each query scored: the mean over the queries, or Spearman's rank
   correlation of (N, 2) rows (cosine, people's score), or the mean of such correlations, one of each part of the data,
   weighted by the parts' sizes.
2. `interval` draws the queries again with replacement (percentile bootstrap, Efron 1979): what the figure would be on
   other queries of the same kind; each part keeps its size. The corpus, the training and the probes stay as they are.
3. `paired` tests by randomisation (Fisher 1935; Smucker, Allan and Carterette, CIKM 2007): if two models are alike, it
   does not matter which of the two gave which answer, so the answers are exchanged query by query at random. It assumes
   nothing of the distribution of reciprocal ranks, which is far from normal, and its p is exact but for the number of
   draws; a bootstrap of the difference would be so only for many queries. It gives the interval of the difference.

The seed is fixed: the same scores give the same numbers anywhere. Letters: N queries, B draws.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from cpt_ray.ranking import Floats

Rows = npt.NDArray[np.intp]
DRAWS, EXCHANGES = 2_000, 10_000
"""Of the bootstrap, whose quantiles are then right to 0.05 of the interval's width; of the test, whose p is at least 1e-4."""
CELLS = 1 << 22
"""Of the (B, N) matrices that are worked on at a time: 32 MiB of float64."""


class Figure(float):
    """The number, and in `each` what it was computed of: (N,) whose mean it is, or (N, 2) whose columns it correlates.
    `said` are N words of what the model answered, or none; `parts` N names of the parts whose correlations are averaged, or
    none."""

    each: Floats
    said: Sequence[str]
    parts: Sequence[str]

    @classmethod
    def of(cls, each: Floats, said: Sequence[str] = (), parts: Sequence[str] = ()) -> Figure:
        """Of (N,) scores their mean, of (N, 2) rows Spearman's rho, 0 where a column is constant, within each part."""
        each = np.asarray(each, np.float64)
        if not len(each):
            raise ValueError("a figure of nothing")
        figure = cls(sum(share * _figures(each[None, rows])[0] for share, rows in _strata(len(each), parts)))
        figure.each, figure.said, figure.parts = each, said, parts
        return figure

    def __reduce__(self) -> tuple[object, ...]:
        return Figure.of, (self.each, self.said, self.parts)


@dataclass(frozen=True)
class Paired:
    """The second minus the first: the difference, its 95 % interval, p (two-sided) of no difference, and how many of the
    N queries each won."""

    difference: float
    low: float
    high: float
    p: float
    won: int
    lost: int
    queries: int


def interval(figure: Figure, level: float = 0.95, draws: int = DRAWS, seed: int = 0) -> tuple[float, float]:
    """(low, high) of `figure` over draws of its queries."""
    strata = _strata(len(figure.each), figure.parts)
    low, high = _quantiles(_drawn(figure.each, strata, draws, seed, _figures), level)
    return low, high


def paired(
    first: Figure, second: Figure, level: float = 0.95, draws: int = DRAWS, exchanges: int = EXCHANGES, seed: int = 0
) -> Paired:
    """Compare two figures of the same queries in the same order. ValueError where they cannot be."""
    a, b = first.each, second.each
    if a.shape != b.shape or list(first.parts) != list(second.parts):
        raise ValueError(f"{a.shape} and {b.shape} are not scores of the same queries")
    both = np.stack([a, b], axis=1)  # (N, 2) or (N, 2, 2)
    strata = _strata(len(a), first.parts)

    def difference(drawn: Floats) -> Floats:
        return _figures(drawn[:, :, 1]) - _figures(drawn[:, :, 0])

    low, high = _quantiles(_drawn(both, strata, draws, seed, difference), level)
    own = merits(first), merits(second)
    return Paired(
        difference=float(second) - float(first),
        low=low,
        high=high,
        p=_p(a, b, strata, exchanges, seed),
        won=int(np.count_nonzero(own[1] > own[0])),
        lost=int(np.count_nonzero(own[1] < own[0])),
        queries=len(a),
    )


def holm(ps: Sequence[float]) -> list[float]:
    """The same p's corrected for having been asked together (Holm 1979): below 0.05 is sure with all others in view."""
    order = np.argsort(ps, kind="stable")
    found = np.empty(len(order))
    running = 0.0
    for place, at in enumerate(order):
        running = max(running, min(1.0, (len(order) - place) * ps[at]))
        found[at] = running
    return [float(p) for p in found]


def merits(figure: Figure) -> Floats:
    """(N,) of each query, higher is better: its score, or of a correlation how near its two ranks are."""
    if figure.each.ndim == 1:
        return figure.each
    found = np.empty(len(figure.each))
    for _, rows in _strata(len(found), figure.parts):
        found[rows] = _closeness(figure.each[rows])
    return found


def _strata(n: int, parts: Sequence[str]) -> list[tuple[float, Rows]]:
    """The share that each part has of n queries, and its rows; all of them where there are no parts."""
    if not len(parts):
        return [(1.0, np.arange(n))]
    names = np.asarray(parts)
    return [(float(np.mean(names == name)), np.flatnonzero(names == name)) for name in dict.fromkeys(parts)]


def _p(a: Floats, b: Floats, strata: Sequence[tuple[float, Rows]], exchanges: int, seed: int) -> float:
    """Two-sided p of the difference when the answers of a and b are exchanged query by query.

    Of a correlation the ranks are exchanged, since cosines of two models are of two scales.
    """
    n = len(a)
    if a.ndim == 1:
        signed = b - a

        def apart(s: Floats) -> Floats:
            return np.abs(s @ signed)
    else:
        ranked = []
        for share, rows in strata:
            gold = share * _standard(rankdata(a[rows, 1])[None])[0]
            one, other = rankdata(a[rows, 0]), rankdata(b[rows, 0])
            ranked.append((rows, (one + other) / 2, (other - one) / 2, gold))

        def apart(s: Floats) -> Floats:
            total = np.zeros(len(s))
            for rows, middle, half, gold in ranked:
                moved = s[:, rows] * half
                total += _standard(middle + moved) @ gold - _standard(middle - moved) @ gold
            return np.abs(total)

    observed = apart(np.ones((1, n)))[0] * (1 - 1e-12)  # sums in another order are no smaller a difference
    as_far = sum(int(np.count_nonzero(apart(s) >= observed)) for s in _signs(n, exchanges, seed))
    return (1 + as_far) / (1 + exchanges)


def _signs(n: int, rows: int, seed: int) -> Iterator[Floats]:
    """(B, N) of -1 and 1, in pieces that together have `rows` rows."""
    rng = np.random.default_rng(seed)
    for count in _pieces(rows, n):
        yield 2.0 * rng.integers(0, 2, (count, n), np.int8) - 1.0


def _drawn(
    each: Floats, strata: Sequence[tuple[float, Rows]], draws: int, seed: int, of: Callable[[Floats], Floats]
) -> Floats:
    """(B,) `of` the queries drawn with replacement, (B, N, ...); each part's from its own, weighted by its share."""
    rng = np.random.default_rng(seed)
    total = np.zeros(draws)
    for share, rows in strata:
        part, n = each[rows], len(rows)
        found = [of(part[rng.integers(0, n, (count, n))]) for count in _pieces(draws, part.size)]
        total += share * np.concatenate(found)
    return total


def _pieces(rows: int, width: int) -> Iterator[int]:
    most = max(1, CELLS // max(1, width))
    for start in range(0, rows, most):
        yield min(most, rows - start)


def _figures(drawn: Floats) -> Floats:
    """(B,) the figure of each draw (B, N) or (B, N, 2)."""
    if drawn.ndim == 2:
        means: Floats = drawn.mean(axis=1)
        return means
    return _spearman(drawn[:, :, 0], drawn[:, :, 1])


def _spearman(x: Floats, y: Floats) -> Floats:
    """(B,) Spearman's rho of the rows of (B, N) and (B, N); average ranks for ties, 0 for a constant row."""
    found: Floats = np.einsum("bn,bn->b", _standard(rankdata(x, axis=1)), _standard(rankdata(y, axis=1)))
    return found


def _standard(ranks: Floats) -> Floats:
    """Rows of mean 0 and length 1; a constant row becomes 0."""
    centred = ranks - ranks.mean(axis=-1, keepdims=True)
    length = np.linalg.norm(centred, axis=-1, keepdims=True)
    standard: Floats = centred / np.where(length == 0, 1.0, length)
    return standard


def _closeness(rows: Floats) -> Floats:
    """(N,) minus the distance of the two ranks of each row of (N, 2), as a share of N."""
    found: Floats = -np.abs(rankdata(rows[:, 0]) - rankdata(rows[:, 1])) / len(rows)
    return found


def _quantiles(values: Floats, level: float) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
