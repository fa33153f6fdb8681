"""Locality-sensitive hashing by bands: how a signature is cut, and the keys that equal bands share."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt

from cpt_ray.dedup.kernels import U64, key_all
from cpt_ray.dedup.options import DedupOptions

_GRID = 1024
"""Simpson intervals of an integral over [0, threshold] or [threshold, 1]; the integrands are polynomials."""


def probability(similarity: npt.ArrayLike, bands: int, rows: int) -> npt.NDArray[np.float64]:
    """Chance that two documents of this Jaccard similarity share at least one band: 1 - (1 - s^rows)^bands."""
    s = np.asarray(similarity, np.float64)
    return 1.0 - (1.0 - s**rows) ** bands


@lru_cache(maxsize=64)
def optimal(threshold: float, permutations: int, false_negative_weight: float) -> tuple[int, int]:
    """(bands, rows) with the least weighted area of false positives and negatives: datasketch's `_optimal_param`."""
    best, least = (1, 1), float("inf")
    for bands in range(1, permutations + 1):
        rows = np.arange(1, permutations // bands + 1)
        positive = _simpson(0.0, threshold, bands, rows)
        negative = (1.0 - threshold) - _simpson(threshold, 1.0, bands, rows)
        error = positive * (1.0 - false_negative_weight) + negative * false_negative_weight
        at = int(np.argmin(error))
        if error[at] < least:
            best, least = (bands, int(rows[at])), float(error[at])
    return best


def _simpson(low: float, high: float, bands: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    x = np.linspace(low, high, _GRID + 1)
    y = 1.0 - (1.0 - x[None, :] ** rows[:, None]) ** bands
    weights = np.where(np.arange(_GRID + 1) % 2 == 1, 4.0, 2.0)
    weights[0] = weights[-1] = 1.0
    area: npt.NDArray[np.float64] = y @ weights * ((high - low) / _GRID / 3.0)
    return area


def shape(options: DedupOptions) -> tuple[int, int]:
    """(bands, rows) that these options mean."""
    if options.bands is not None and options.rows is not None:
        return options.bands, options.rows
    return optimal(options.threshold, options.permutations, options.false_negative_weight)


def band_keys(signatures: npt.NDArray[np.uint32], bands: int, rows: int) -> U64:
    """[documents, bands] uint64: equal where all `rows` values of a band are equal."""
    out = np.empty((len(signatures), bands), np.uint64)
    key_all(np.ascontiguousarray(signatures), bands, rows, out)
    return out
