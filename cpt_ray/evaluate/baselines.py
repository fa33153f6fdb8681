"""What a model has to beat: BM25 (bm25s, Lucene's variant, k1 1.2, b 0.75), TF-IDF with
SVD, the average of word vectors trained on the corpus, and chance (its exact expectation)."""

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

MOST_WORDS = 30_000
"""With a vector, the commonest ones."""


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

    if not any(map(terms, texts)):
        return _nothing
    counts = TfidfVectorizer(analyzer=terms, sublinear_tf=True)
    matrix = counts.fit_transform(texts)
    reduced = TruncatedSVD(max(1, min(dimension, min(matrix.shape) - 1)), random_state=0).fit(matrix)

    def embed(texts: list[str], side: Side) -> Floats:
        found: Floats = normalize(reduced.transform(counts.transform(texts))).astype(np.float32)
        return found

    return embed


def word_vectors(texts: Sequence[str], dimension: int = 256, window: int = 5) -> Embed:
    """The average of word vectors trained on `texts`: how much more often than by chance two words stand within `window`
    words of each other (positive PMI, contexts smoothed by 0.75), reduced by SVD; on small corpora as good as skip-grams
    (Levy, Goldberg and Dagan, TACL 2015). A text without a known word is a zero vector. Otherwise as `tfidf_svd`."""
    from scipy import sparse
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.preprocessing import normalize
    from sklearn.utils.extmath import randomized_svd

    lines = [terms(text) for text in texts]
    if not any(lines):
        return _nothing
    counts = CountVectorizer(analyzer=terms, max_features=MOST_WORDS).fit(texts)
    place, width = counts.vocabulary_, len(counts.vocabulary_)
    ids = np.array([place.get(word, -1) for line in lines for word in line], np.int64)
    text_of = np.repeat(np.arange(len(lines)), [len(line) for line in lines])
    together = sparse.csr_matrix((width, width))
    for apart in range(1, window + 1):
        left, right = ids[:-apart], ids[apart:]
        seen = (text_of[:-apart] == text_of[apart:]) & (left >= 0) & (right >= 0)
        left, right = left[seen], right[seen]
        together += sparse.csr_matrix((np.ones(len(left)), (left, right)), (width, width))
    together = (together + together.T).tocoo()
    own = np.asarray(together.sum(axis=1)).ravel()
    smooth = own**0.75 / max((own**0.75).sum(), 1.0)
    found = together.data / (own[together.row] * smooth[together.col])
    positive = sparse.csr_matrix((np.log(np.maximum(found, 1.0)), (together.row, together.col)), (width, width))
    left, strength, _ = randomized_svd(positive, max(1, min(dimension, width - 1)), random_state=0)
    vectors = left * np.sqrt(strength)

    def embed(texts: list[str], side: Side) -> Floats:
        means: Floats = normalize(counts.transform(texts) @ vectors).astype(np.float32)
        return means

    return embed


def _nothing(texts: list[str], side: Side) -> Floats:
    """What texts without a word teach: a vector of one 0 for each, (N, 1) float32."""
    return np.zeros((len(texts), 1), np.float32)


def chance(n: int, ks: Sequence[int] = (1, 10)) -> dict[str, float]:
    """Expected metrics of a random order of n candidates of which one is right: MRR = H_n / n, recall@k = k / n."""
    result = {"mrr": float(np.sum(1.0 / np.arange(1, n + 1)) / n)}
    return result | {f"recall_at_{k}": min(1.0, k / n) for k in ks}
