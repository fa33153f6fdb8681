"""Where pairs lie in a model's space, small enough to be drawn: how near they are, and a plane through all of them."""

from __future__ import annotations

from typing import Any

import numpy as np

from cpt_ray.ranking import Floats

BINS = 80
"""Equal ones, of cosines from -1 to 1."""
SHOWN = 300
"""Pairs on the map, the first ones."""


def space_of(x: Floats, y: Floats) -> dict[str, Any]:
    """Of N pairs, x (N, D) and y (N, D) L2-normalised: `right` and `other`, how many cosines of a query with its own answer
    and with those of others lie in each bin; `map`, of each pair shown the places of query and answer (4 numbers)."""
    cosines = np.clip(x.astype(np.float64) @ y.astype(np.float64).T, -1, 1)
    own = np.eye(len(x), dtype=bool)
    mean, axes = principal_axes(np.concatenate([x, y]))
    places = np.hstack([(side[:SHOWN] - mean) @ axes for side in (x, y)])
    return {
        "right": np.histogram(cosines[own], BINS, (-1, 1))[0].tolist(),
        "other": np.histogram(cosines[~own], BINS, (-1, 1))[0].tolist(),
        "map": np.round(places, 4).tolist(),
    }


def principal_axes(vectors: Floats) -> tuple[Floats, Floats]:
    """The mean (D,) of vectors (N, D), and the two directions (D, 2) in which they differ most, the first one most."""
    wide = np.asarray(vectors, np.float64)
    mean = wide.mean(axis=0)
    axes = np.linalg.eigh((wide - mean).T @ (wide - mean))[1][:, : -3 if wide.shape[1] > 2 else None : -1]
    # A direction has no sign of its own.
    return mean, axes * np.where(np.abs(axes).max(axis=0) == axes.max(axis=0), 1, -1)
