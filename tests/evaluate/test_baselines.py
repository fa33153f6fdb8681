"""BM25 against its formula; the split of identifiers; chance against counting."""

import math

import numpy as np
import pytest

from cpt_ray.evaluate.baselines import bm25_tiles, chance
from cpt_ray.ranking import Judgement, metrics, place
from cpt_ray.words import terms as words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("HTTPServer.parse_isoDate(x1)", "http server parse iso date x1"),
        ("__init__ getURL2Path", "init get url2 path"),
        ("Größe des_Baums 東京", "größe des baums 東京"),
        ("", ""),
    ],
)
def test_identifiers_are_split(text: str, expected: str) -> None:
    """camelCase and snake_case part into lower-cased words."""
    assert words(text) == expected.split()


def test_bm25_is_the_formula() -> None:
    """Scores equal Lucene's BM25 written out, with k1 1.2 and b 0.75."""
    docs = ["parse an iso date", "open the file and read the date", "dateParser of iso iso strings", ""]
    queries = ["iso date", "read_file", "unheard of", ""]
    got = np.vstack(list(bm25_tiles(queries, docs)))
    tokens = [words(d) or [""] for d in docs]
    mean = sum(map(len, tokens)) / len(tokens)
    for q, query in enumerate(queries):
        for d, terms in enumerate(tokens):
            want = 0.0
            for term in words(query):
                df = sum(term in t for t in tokens)
                tf = terms.count(term)
                idf = math.log(1 + (len(docs) - df + 0.5) / (df + 0.5))
                want += idf * tf / (tf + 1.2 * (1 - 0.75 + 0.75 * len(terms) / mean))
            assert got[q, d] == pytest.approx(want, abs=1e-5)


def test_a_query_of_unknown_words_measures_chance() -> None:
    """A query that shares no term with any candidate ties them all."""
    got = metrics(place(bm25_tiles(["zebra"] * 4, ["a", "b", "c", "d"]), Judgement.diagonal(4)))
    assert got == pytest.approx(chance(4))


def test_chance_among_a_thousand() -> None:
    """The figure that the paper's setting is compared with: H_1000 / 1000 = 0.0075."""
    assert chance(1000) == {"mrr": pytest.approx(0.00748547, abs=1e-8), "recall_at_1": 0.001, "recall_at_10": 0.01}
