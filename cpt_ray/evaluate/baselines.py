"""What a model has to beat: BM25 (bm25s, Lucene's variant, k1 1.2, b 0.75) and chance (its exact expectation)."""

import logging
import re
from collections.abc import Iterator, Sequence

import numpy as np

from cpt_ray.ranking import Floats

_WORD = re.compile(r"[^\W_]+")  # letters and digits of any script; without the underscore, so snake_case is split
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # parseISODate -> parse ISO Date


def words(text: str) -> list[str]:
    """Lower-cased terms with camelCase and snake_case split: "HTTPServer.parse_isoDate" -> http server parse iso
    date."""
    return [part.lower() for word in _WORD.findall(text) for part in _HUMP.split(word)]


def bm25_tiles(queries: Sequence[str], candidates: Sequence[str], k1: float = 1.2, b: float = 0.75) -> Iterator[Floats]:
    """BM25 scores of each query over all candidates as float32 tiles (1, N). A query whose terms occur nowhere scores
    0 throughout."""
    import bm25s

    logging.getLogger("bm25s").setLevel(logging.WARNING)
    tokens = [words(text) or [""] for text in candidates]
    index = bm25s.BM25(k1=k1, b=b, method="lucene")
    index.index(tokens, show_progress=False)
    known = set().union(*tokens)
    for query in queries:
        terms = [term for term in words(query) if term in known]
        scores = index.get_scores(terms) if terms else np.zeros(len(candidates), np.float32)
        yield np.asarray(scores, np.float32)[None, :]


def chance(n: int, ks: Sequence[int] = (1, 10)) -> dict[str, float]:
    """Expected metrics of a random order of n candidates of which one is right: MRR = H_n / n, recall@k = k / n."""
    result = {"mrr": float(np.sum(1.0 / np.arange(1, n + 1)) / n)}
    return result | {f"recall_at_{k}": min(1.0, k / n) for k in ks}
