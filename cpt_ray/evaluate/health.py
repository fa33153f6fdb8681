"""How a space of embeddings is, without labels: whether pairs are near, texts are spread out, and all dimensions are used.

- `alignment`, `uniformity` (Wang and Isola, ICML 2020): mean squared distance of a pair, and log of the mean of exp(-2 d^2)
  over all pairs of different texts; lower is better of both. A model that maps everything to one point has 0 and 0.
- `effective_rank` (Roy and Vetterli 2007): exp of the entropy of the covariance's eigenvalues, of at most D.
- `hubness` (Radovanovic et al., JMLR 2010): skewness of how often a text is among the 10 nearest of others, 0 in a space
  without hubs; `orphans`: share of texts that are among nobody's 10 nearest.
- `length_bias`: Spearman's rho of a text's length and its mean cosine to all queries; 0 is none.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.stats import skew

from cpt_ray.evaluate.statistics import Figure
from cpt_ray.ranking import Floats, cosine_tiles

NEAREST = 10


def health(x: Floats, y: Floats, lengths: Sequence[int]) -> dict[str, float]:
    """Of N pairs, x (N, D) and y (N, D) L2-normalised, and the lengths of the N texts of y."""
    n = len(x)
    if len(y) != n or len(lengths) != n or n < 3:
        raise ValueError(f"{len(x)}, {len(y)} and {len(lengths)} rows are not three pairs or more")
    k = min(NEAREST, n - 1)
    spread, reached, near = 0.0, np.zeros(n, np.int64), np.zeros(n)
    for tile in cosine_tiles(x, y):
        near += tile.sum(axis=0, dtype=np.float64)
        np.add.at(reached, np.argpartition(-tile, k - 1, axis=1)[:, :k].ravel(), 1)
    start = 0
    for tile in cosine_tiles(y, y):
        own = np.arange(start, start + len(tile))
        gaps = np.exp(-2 * np.maximum(2 - 2 * tile.astype(np.float64), 0))
        spread += float(gaps.sum() - gaps[np.arange(len(tile)), own].sum())
        start += len(tile)
    return {
        "alignment": float(np.mean(np.sum((x.astype(np.float64) - y) ** 2, axis=1))),
        "uniformity": float(np.log(spread / (n * (n - 1)))),
        "effective_rank": effective_rank(y),
        "hubness": float(skew(reached)) if np.ptp(reached) else 0.0,
        "orphans": float(np.mean(reached == 0)),
        "length_bias": float(Figure.of(np.stack([lengths, near], axis=1))),
    }


def effective_rank(vectors: Floats) -> float:
    """Between 1 (a line) and D (a ball); 1 where all vectors are the same."""
    centred = vectors - vectors.mean(axis=0, dtype=np.float64)
    values = np.clip(np.linalg.eigvalsh(centred.T @ centred), 0, None)
    if values.sum() <= 1e-12 * len(vectors):
        return 1.0
    shares = values[values > 0] / values.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))
