"""Sentence similarity: Spearman's rank correlation between the cosine of two sentences and the people's score (STS-B,
SICK-R, STS 12-16)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cpt_ray.errors import UserError
from cpt_ray.evaluate.embed import Embed
from cpt_ray.evaluate.lines import either, fields, lines
from cpt_ray.evaluate.statistics import Figure

COLUMNS = ("score", "sentence1", "sentence2"), ("relatedness_score", "sentence_A", "sentence_B")
"""Of a file of ours, and of SICK's."""
STSB = [4, 5, 6]
"""The same columns of `sts-test.csv`, which has no header."""


@dataclass(frozen=True)
class SimilarityTask:
    """Two sentences per row and the score people gave, 0 (unrelated) to 5 (equal); maybe the part of the data that each row
    is of."""

    first: list[str]
    second: list[str]
    score: np.ndarray
    parts: Sequence[str] = ()

    def items(self) -> list[tuple[str, str]]:
        """(both sentences, the score) of each row."""
        rows = zip(self.first, self.second, self.score.tolist(), strict=True)
        return [(f"{first}\n{second}", f"{score:g}") for first, second, score in rows]


def read_similarity(path: str) -> SimilarityTask:
    """A TSV file with the columns `score`, `sentence1`, `sentence2`, or those of SICK, or STS-B's own without a header."""
    first, second, scores, at, width = [], [], [], None, 0
    for where, row in fields(path):
        if at is None:
            names = next((names for names in COLUMNS if set(names) <= set(row)), None)
            at = [row.index(name) for name in names] if names else STSB
            if names:
                width = len(row)
                continue
        if len(row) <= max(at) or (width and len(row) != width) or not _is_number(row[at[0]]):
            raise UserError(
                "not a score and two tab-separated sentences",
                where=where,
                fix="expected the columns score, sentence1, sentence2",
            )
        scores.append(float(row[at[0]]))
        first.append(row[at[1]])
        second.append(row[at[2]])
    return _task(first, second, scores, path)


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _task(
    first: list[str], second: list[str], scores: list[float], where: str, parts: Sequence[str] = ()
) -> SimilarityTask:
    if not scores:
        raise UserError("no pair of sentences with a score", where=where, fix="see docs/analyst.md for the layouts")
    return SimilarityTask(first, second, np.array(scores), parts)


def year_files(folder: str) -> dict[str, tuple[Path, Path]]:
    """The parts of a year of STS as they were published, in order of their names: sentences and scores of each."""
    root = Path(folder)
    found = {path.name.removesuffix(".gz") for path in root.glob("STS.input.*.txt*")}
    names = sorted(name.removeprefix("STS.input.").removesuffix(".txt") for name in found if name.endswith(".txt"))
    return {name: (either(root / f"STS.input.{name}.txt"), either(root / f"STS.gs.{name}.txt")) for name in names}


def read_year(folder: str) -> SimilarityTask:
    """Every part of a year of STS. What people gave no score is left out; columns beyond two sentences are of no use."""
    first, second, scores, parts = [], [], [], []
    for name, (inputs, gold) in year_files(folder).items():
        pairs = _lines(inputs)
        values = _lines(gold, len(pairs))  # a pair at the end may have no score, which is a blank line
        if len(pairs) != len(values):
            raise UserError(
                f"{len(values)} scores for {len(pairs)} pairs of sentences",
                where=str(gold),
                fix="use the matching files",
            )
        for line, (pair, value) in enumerate(zip(pairs, values, strict=True), start=1):
            if not value.strip():
                continue
            sentences = pair.split("\t")
            if len(sentences) < 2:
                raise UserError("not two tab-separated sentences", where=f"{inputs}:{line}", fix="see docs/analyst.md")
            if not _is_number(value):
                raise UserError(f"{value!r} is no score", where=f"{gold}:{line}", fix="see docs/analyst.md")
            first.append(sentences[0])
            second.append(sentences[1])
            scores.append(float(value))
            parts.append(name)
    return _task(first, second, scores, folder, parts)


def similarity(task: SimilarityTask, embed: Embed) -> Figure:
    """Spearman's rho in [-1, 1], average ranks for ties; of several parts the mean of theirs, weighted by their sizes, as
    SentEval aggregates a year of STS. The relation is symmetric, so both sentences are of one side: y, as
    sentence-transformers' `encode` and with it mteb take the published model's default route, `document`."""
    first, second = embed(task.first, "y"), embed(task.second, "y")
    cosine = np.einsum("nd,nd->n", first, second, dtype=np.float64)
    return Figure.of(np.stack([cosine, task.score], axis=1), [f"{value:.3f}" for value in cosine], task.parts)


def by_part(figure: Figure) -> dict[str, float]:
    """Of a figure of several parts: `all_spearman`, of all rows together (what SimCSE and mteb report), `mean_spearman`, of
    the parts unweighted, and `<part>_spearman`."""
    parts, each = np.asarray(figure.parts), figure.each
    own = {name: Figure.of(each[parts == name]) for name in dict.fromkeys(figure.parts)}
    found = {"all": Figure.of(each), "mean": float(np.mean(list(own.values()))), **own}
    return {f"{name}_spearman": value for name, value in found.items()}


def _lines(path: Path, most: int | None = None) -> list[str]:
    """Of a file whose lines are those of another: blank ones too, but for those at its end beyond `most`, by default all."""
    found = [line for _, line in lines(path, blank=True)]
    while len(found) > (most or 0) and not found[-1].strip():
        found.pop()
    return found
