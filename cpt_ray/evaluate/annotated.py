"""CodeSearchNet's 99 queries with people's judgements, by the definition of its own evaluator (Husain et al. 2019,
src/relevanceeval.py of that repository).

1. Several judgements of a function (0 to 3) are averaged; its gain is 2^relevance - 1.
2. A ranking is all functions of a language; what stands after the first 300 counts as not found.
3. `within` counts the places among the judged functions alone, `all` those in the whole ranking. The ideal is that of all
   judged functions of the query, whether the corpus has them or not. A query without a gain is left out, and a language of
   which no query is left.

Ties are as in `ranking`: each figure is its expectation over a random order of the tied. Letters: N functions, J judged.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom

from cpt_ray.errors import UserError
from cpt_ray.evaluate.lines import either, objects, opened
from cpt_ray.evaluate.statistics import Figure
from cpt_ray.ranking import Floats

DEPTH = 300
ANNOTATIONS = "annotationStore.csv"
CODE = ("code", "function", "original_string")
"""Names of the column with the source, as CodeSearchNet's files have them; the first that is there."""


@dataclass(frozen=True)
class Judged:
    """The functions of a language and its queries with a gain: of each the judged functions that the corpus has (`at`, J),
    their gains (J,), and the DCG of the ideal order of all judged ones."""

    language: str
    functions: list[str]
    queries: list[str]
    at: list[npt.NDArray[np.int64]]
    gain: list[Floats]
    ideal: list[float]
    covered: float


def read_judgements(path: str) -> dict[str, dict[str, dict[str, float]]]:
    """{language: {query: {url: mean relevance}}}, the first two in lower case. UserError for a line that is none."""
    found: dict[str, dict[str, dict[str, list[float]]]] = {}
    with opened(path, newline="") as lines:
        for row in (reader := csv.DictReader(lines)):
            try:
                relevance = float(row["Relevance"])
                language, query, url = (row[name] for name in ("Language", "Query", "GitHubUrl"))
                of = found.setdefault(language.lower(), {}).setdefault(query.lower(), {})
            except (KeyError, ValueError, TypeError, AttributeError):
                raise UserError(
                    "not a judgement",
                    where=f"{path}:{reader.line_num}",
                    fix="expected the columns Language, Query, GitHubUrl, Relevance",
                ) from None
            of.setdefault(url, []).append(relevance)
    return {
        language: {query: {url: float(np.mean(values)) for url, values in urls.items()} for query, urls in of.items()}
        for language, of in found.items()
    }


def function_files(folder: str, language: str) -> list[Path]:
    """`<language>.jsonl` or .jsonl.gz in `folder`, or all below `<language>/`, as CodeSearchNet's archives unpack."""
    root = Path(folder)
    own = [path for path in (root / f"{language}.jsonl", root / f"{language}.jsonl.gz") if path.is_file()]
    return own or sorted(path for path in root.glob(f"{language}/**/*.jsonl*") if path.is_file())


def read_functions(paths: Iterable[Path]) -> dict[str, str]:
    """{url: source}, in the files' order; of a URL the first. UserError for a line that is no function."""
    found: dict[str, str] = {}
    for path in paths:
        for where, row in objects(path):
            source = next((row[name] for name in CODE if name in row), None)
            if not isinstance(source, str) or not isinstance(row.get("url"), str):
                raise UserError("not a function", where=where, fix=f"expected url and one of {', '.join(CODE)}")
            found.setdefault(row["url"], source)
    return found


def judged(folder: str) -> list[Judged]:
    """Every language of the annotations that has a query with a gain and functions in the folder, by name. UserError where
    there is none."""
    found = []
    for language, queries in sorted(read_judgements(str(either(Path(folder, ANNOTATIONS)))).items()):
        asked = {query: urls for query, urls in queries.items() if any(relevance > 0 for relevance in urls.values())}
        if asked and (functions := read_functions(function_files(folder, language))):
            found.append(_judged(language, functions, asked))
    if not found:
        raise UserError(
            "no function of a language that is judged", where=folder, fix="put <language>.jsonl beside the annotations"
        )
    return found


def _judged(language: str, functions: Mapping[str, str], asked: Mapping[str, Mapping[str, float]]) -> Judged:
    number = {url: place for place, url in enumerate(functions)}
    there = [[url for url in urls if url in number] for urls in asked.values()]
    return Judged(
        language,
        list(functions.values()),
        list(asked),
        [np.array([number[url] for url in urls], np.int64) for urls in there],
        [
            np.array([_gain(of[url]) for url in urls], np.float64)
            for urls, of in zip(there, asked.values(), strict=True)
        ],
        [dcg_of(sorted((_gain(relevance) for relevance in urls.values()), reverse=True)) for urls in asked.values()],
        sum(map(len, there)) / sum(map(len, asked.values())),
    )


def _gain(relevance: float) -> float:
    return float(2**relevance - 1)


def dcg_of(gains: Sequence[float]) -> float:
    """Of gains in their order."""
    return float(sum(gain / np.log2(place + 1) for place, gain in enumerate(gains, start=1)))


def expected_dcg(scores: Floats, at: npt.NDArray[np.int64], gain: Floats, *, within: bool, depth: int = DEPTH) -> float:
    """Of the judged functions `at` (J,) with `gain` (J,) among all `scores` (N,), higher being better."""
    own, total = scores[at], 0.0
    for score, worth in zip(own, gain, strict=True):
        if not worth:
            continue
        better, tied = int(np.count_nonzero(scores > score)), int(np.count_nonzero(scores == score))
        place = np.arange(1, min(tied, depth - better) + 1)  # in the group of the tied, each as likely
        if not within:
            total += worth * float((1 / np.log2(better + place + 1)).sum()) / tied
            continue
        judged_better, judged_tied = int(np.count_nonzero(own > score)), int(np.count_nonzero(own == score))
        before = np.arange(judged_tied)[:, None]  # judged ones of the group that stand before it
        chance = hypergeom.pmf(before, tied - 1, judged_tied - 1, place - 1) if tied > 1 else np.ones((1, len(place)))
        total += worth * float((chance / np.log2(judged_better + before + 2)).sum()) / tied
    return total


def scores_of(tasks: Sequence[Judged], tiles: Iterable[Iterable[Floats]]) -> dict[str, float]:
    """`ndcg` (within) and `all_ndcg`, means over the languages of the means over their queries; the same of each language;
    and the share of the judged functions that the corpus has. `tiles`: for each language score matrices (q, N)."""
    figures: dict[str, list[Floats]] = {"ndcg": [], "all_ndcg": []}
    said: list[str] = []
    for task, several in zip(tasks, tiles, strict=True):
        rows = (scores for tile in several for scores in tile)
        each: dict[str, list[float]] = {"ndcg": [], "all_ndcg": []}
        for scores, at, gain, ideal in zip(rows, task.at, task.gain, task.ideal, strict=True):
            if np.isnan(scores).any():
                raise UserError("a score is not a number", where=task.language, fix="look for NaN in the embeddings")
            each["ndcg"].append(expected_dcg(scores, at, gain, within=True) / ideal)
            each["all_ndcg"].append(expected_dcg(scores, at, gain, within=False) / ideal)
            said.append(task.functions[int(scores.argmax())])
        for name, values in each.items():
            figures[name].append(np.array(values))
    count = sum(len(task.queries) for task in tasks)
    found: dict[str, float] = {}
    for name, languages in figures.items():
        # Each language counts the same, however many queries it has.
        weighted = [values * count / len(tasks) / len(values) for values in languages]
        found[name] = Figure.of(np.concatenate(weighted), said)
    for place, task in enumerate(tasks):
        found |= {f"{task.language}_{name}": Figure.of(of[place]) for name, of in figures.items()}
    return found | {"covered": float(np.mean([task.covered for task in tasks]))}
