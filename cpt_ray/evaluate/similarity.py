"""Sentence similarity: Spearman's rank correlation between the cosine of two sentences and the people's score (STS-B,
STS 12-16)."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpt_ray.errors import UserError
from cpt_ray.evaluate.embed import Embed
from cpt_ray.evaluate.statistics import Figure


@dataclass(frozen=True)
class SimilarityTask:
    """Two sentences per row and the score people gave, 0 (unrelated) to 5 (equal)."""

    first: list[str]
    second: list[str]
    score: np.ndarray


def read_similarity(path: str) -> SimilarityTask:
    """A TSV file with the header `score`, `sentence1`, `sentence2`; quotes are characters like any other."""
    with Path(path).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    for line, row in enumerate(rows, start=2):
        if None in row.values() or None in row:
            raise UserError(
                "not three tab-separated fields", where=f"{path}:{line}", fix="expected score, sentence1, sentence2"
            )
    scores = np.array([float(row["score"]) for row in rows])
    return SimilarityTask([row["sentence1"] for row in rows], [row["sentence2"] for row in rows], scores)


def similarity(task: SimilarityTask, embed: Embed) -> float:
    """Spearman's rho in [-1, 1], average ranks for ties. The relation is symmetric, so both sentences are of one side: y, as
    sentence-transformers' `encode` and with it mteb take the published model's default route, `document`."""
    first, second = embed(task.first, "y"), embed(task.second, "y")
    cosine = np.einsum("nd,nd->n", first, second, dtype=np.float64)
    return Figure.of(np.stack([cosine, task.score], axis=1), [f"{value:.3f}" for value in cosine])
