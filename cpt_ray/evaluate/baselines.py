"""What a model has to beat: BM25 (bm25s, Lucene's variant, k1 1.2, b 0.75), TF-IDF with
SVD, and chance (its exact expectation)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from cpt_ray.ranking import Floats
from cpt_ray.words import terms

if TYPE_CHECKING:
    from cpt_ray.evaluate.embed import Embed
    from cpt_ray.model.delimiters import Side


def bm25_tiles(queries: Sequence[str], candidates: Sequence[str], k1: float = 1.2, b: float = 0.75) -> Iterator[Floats]:
    """BM25 scores of each query over all candidates as float32 tiles (1, N). A query whose terms occur nowhere scores
    0 throughout."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    tokens = [terms(text) or [""] for text in candidates]
    index = bm25s.BM25(k1=k1, b=b, method="lucene")
    index.index(tokens, show_progress=False)
    known = set().union(*tokens)
    for query in queries:
        wanted = [term for term in terms(query) if term in known]
        scores = index.get_scores(wanted) if wanted else np.zeros(len(candidates), np.float32)
        yield np.asarray(scores, np.float32)[None, :]


def tfidf_svd(texts: Sequence[str], dimension: int = 256) -> Embed:
    """An embedding without a neural model: TF-IDF of the same terms, reduced by truncated SVD (latent semantic analysis,
    Deerwester et al. 1990), fitted on `texts`. Gives (N, D) float32, L2-normalised; both sides are one."""
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.preprocessing import normalize

    counts = TfidfVectorizer(analyzer=terms, sublinear_tf=True)
    matrix = counts.fit_transform(texts)
    reduced = TruncatedSVD(max(1, min(dimension, min(matrix.shape) - 1)), random_state=0).fit(matrix)

    def embed(texts: list[str], side: Side) -> Floats:
        found: Floats = normalize(reduced.transform(counts.transform(texts))).astype(np.float32)
        return found

    return embed


def chance(n: int, ks: Sequence[int] = (1, 10)) -> dict[str, float]:
    """Expected metrics of a random order of n candidates of which one is right: MRR = H_n / n, recall@k = k / n."""
    result = {"mrr": float(np.sum(1.0 / np.arange(1, n + 1)) / n)}
    return result | {f"recall_at_{k}": min(1.0, k / n) for k in ks}
