"""The one place where MRR, recall@k and nDCG@k are computed.

1. A `Judgement` says which candidates are relevant to which query (flat arrays sorted by query, as in a TREC qrels
   file).
2. `place` walks over tiles of the score matrix (queries x candidates) and keeps, for each relevant candidate, two
   counts: how many candidates score strictly better, and how many score the same (itself included). Nothing of size
   queries x candidates is kept.
3. `metrics` turns the counts into means over the queries.

Ties are neither lucky nor unlucky: each metric is its exact expectation over a random order of the tied candidates
(McSherry and Najork, "Computing Information Retrieval Performance Measures Efficiently in the Presence of Tied
Scores", ECIR 2008). So a scorer that gives every candidate the same score measures exactly chance, and BM25 is not
punished for the many zeros in its scores.

Letters: Q queries, N candidates, R relevant (query, candidate) entries, D dimensions.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import gammaln

from cpt_ray.errors import UserError

Floats = npt.NDArray[np.floating]
TILE_BYTES = 64 << 20


@dataclass(frozen=True)
class Judgement:
    """Relevant entries: `query` (R,) int64 ascending, `candidate` (R,) int64, `gain` (R,) float64 > 0; `queries` is
    Q."""

    query: npt.NDArray[np.int64]
    candidate: npt.NDArray[np.int64]
    gain: npt.NDArray[np.float64]
    queries: int

    @classmethod
    def of(cls, relevant: Sequence[dict[int, float] | Iterable[int]]) -> "Judgement":
        """From one entry per query: the relevant candidates, or {candidate: gain}. Gains of 0 and below mean not
        relevant."""
        query: list[int] = []
        candidate: list[int] = []
        gain: list[float] = []
        for number, entries in enumerate(relevant):
            graded = entries if isinstance(entries, dict) else dict.fromkeys(entries, 1.0)
            for position in sorted(graded):
                if graded[position] > 0:
                    query.append(number)
                    candidate.append(position)
                    gain.append(float(graded[position]))
        return cls(np.array(query, np.int64), np.array(candidate, np.int64), np.array(gain, np.float64), len(relevant))

    @classmethod
    def diagonal(cls, n: int) -> "Judgement":
        """Query i is answered by candidate i alone."""
        return cls(np.arange(n, dtype=np.int64), np.arange(n, dtype=np.int64), np.ones(n), n)


@dataclass(frozen=True)
class Places:
    """For each of the R entries of `judgement`: `better` and `tied` (int64; tied counts the entry itself), `score`
    float64. For each of the Q queries: `first` (int64), the best candidate, of tied ones the one that stands first."""

    judgement: Judgement
    better: npt.NDArray[np.int64]
    tied: npt.NDArray[np.int64]
    score: npt.NDArray[np.float64]
    first: npt.NDArray[np.int64]


def cosine_tiles(queries: Floats, candidates: Floats, tile_bytes: int = TILE_BYTES) -> Iterator[Floats]:
    """Scores of (Q, D) against (N, D) L2-normalised rows as float32 tiles (q, N), in the order of the queries,
    `tile_bytes` each at most (one row at least). All candidates stand in one tile, so a query's scores come from one
    matrix product and compare exactly."""
    rows = max(1, tile_bytes // max(1, 4 * len(candidates)))
    columns = np.ascontiguousarray(candidates, np.float32).T
    for start in range(0, len(queries), rows):
        yield np.asarray(queries[start : start + rows], np.float32) @ columns


def place(tiles: Iterable[Floats], judgement: Judgement) -> Places:
    """Where the relevant candidates stand. `tiles`: score matrices (q, N) that together hold the Q queries in order;
    higher is better.

    Raises UserError on a score that is not a number (NaN compares false with everything, so a broken model would look
    perfect).
    """
    entries = len(judgement.query)
    better, tied, score = np.zeros(entries, np.int64), np.zeros(entries, np.int64), np.zeros(entries, np.float64)
    first = np.zeros(judgement.queries, np.int64)
    start = 0
    for tile in tiles:
        if np.isnan(tile).any():
            row = start + int(np.flatnonzero(np.isnan(tile).any(axis=1))[0])
            raise UserError(
                "a score is not a number",
                where=f"query {row}",
                fix="look for NaN in the embeddings or the model's weights",
            )
        first[start : start + len(tile)] = tile.argmax(axis=1)
        low, high = np.searchsorted(judgement.query, [start, start + len(tile)])
        for entry in range(low, high):
            scores = tile[judgement.query[entry] - start]
            own = scores[judgement.candidate[entry]]
            score[entry] = own
            better[entry] = np.count_nonzero(scores > own)
            tied[entry] = np.count_nonzero(scores == own)
        start += len(tile)
    if start != judgement.queries:
        raise ValueError(f"the tiles hold {start} queries, the judgement {judgement.queries}")
    return Places(judgement, better, tied, score, first)


def metrics(places: Places, ks: Sequence[int] = (1, 10), ndcg: bool = False) -> dict[str, float]:
    """Means over the queries that have a relevant candidate, of what `per_query` gives."""
    return {name: float(np.mean(values)) for name, values in per_query(places, ks, ndcg).items()}


def per_query(
    places: Places, ks: Sequence[int] = (1, 10), ndcg: bool = False, mrr: Sequence[int] = ()
) -> dict[str, npt.NDArray[np.float64]]:
    """(queries that have a relevant candidate,) each: `mrr` (no cut-off), `recall_at_<k>` (share of the relevant
    candidates among the first k), on demand `ndcg_at_<k>` (linear gain, log2 discount, as in BEIR's pytrec_eval), and
    `mrr_at_<k>` (0 for an answer beyond k) for each k of `mrr`."""
    judgement, better, tied = places.judgement, places.better, places.tied
    query, starts = np.unique(judgement.query, return_index=True)
    if len(query) == 0:
        raise UserError(
            "no query has a relevant candidate", fix="look at the judgements: the ids must occur among the candidates"
        )
    sizes = np.diff(np.append(starts, len(judgement.query)))
    result = {"mrr": _reciprocal_ranks(places, starts, sizes)}
    result |= {f"mrr_at_{k}": _reciprocal_ranks(places, starts, sizes, k) for k in mrr}
    for k in ks:
        # The chance that a place drawn from better + 1 .. better + tied is at most k.
        within = np.clip((k - better) / tied, 0.0, 1.0)
        result[f"recall_at_{k}"] = np.add.reduceat(within, starts) / sizes
    if ndcg:
        for k in ks:
            discounts = np.zeros(int((better + tied).max()) + 1)
            discounts[1 : k + 1] = 1.0 / np.log2(np.arange(2, min(k, len(discounts) - 1) + 2))
            summed = np.cumsum(discounts)
            gained = np.add.reduceat(judgement.gain * (summed[better + tied] - summed[better]) / tied, starts)
            ideal = [_ideal(judgement.gain[a : a + n], k) for a, n in zip(starts, sizes, strict=True)]
            result[f"ndcg_at_{k}"] = gained / np.array(ideal)
    return result


def _ideal(gain: npt.NDArray[np.float64], k: int) -> float:
    best = np.sort(gain)[::-1][:k]
    return float((best / np.log2(np.arange(2, len(best) + 2))).sum())


def _reciprocal_ranks(
    places: Places, starts: npt.NDArray[np.intp], sizes: npt.NDArray[np.intp], deepest: float = np.inf
) -> npt.NDArray[np.float64]:
    """(queries with an answer,) expected 1 / rank of the first relevant candidate, 0 beyond `deepest`. Only the best tied
    group that holds a relevant one counts; with r relevant among its t members, the first of them is at place i of the
    group with probability C(t-i, r-1) / C(t, r)."""
    result = np.empty(len(starts))
    for number, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        better = places.better[start : start + size]
        first = int(better.min())
        relevant = int(np.count_nonzero(better == first))
        group = int(places.tied[start + int(better.argmin())])
        at = np.arange(1, group - relevant + 2)
        log_probability = _log_choose(group - at, relevant - 1) - _log_choose(np.array(group), relevant)
        result[number] = float(np.sum(np.exp(log_probability) / (first + at), where=first + at <= deepest))
    return result


def _log_choose(n: npt.NDArray[np.int64], k: int) -> npt.NDArray[np.float64]:
    chosen: npt.NDArray[np.float64] = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1)
    return chosen
