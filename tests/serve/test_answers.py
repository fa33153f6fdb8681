"""One question, its answers, and how they are printed."""

import io

import numpy as np
import pyarrow as pa
import pytest
from rich.console import Console

from cpt_ray.errors import UserError
from cpt_ray.serve.exact import ExactIndex
from cpt_ray.serve.search import search, show
from tests.serve.serve_samples import functions

INDEX = ExactIndex(functions(0, 6), "", np.eye(6, dtype=np.float32))


def embed(texts: list[str], side: str) -> np.ndarray:
    """The digit in the text is its direction; half of it goes to the next one."""
    assert side == "x"
    vectors = np.zeros((len(texts), 6), np.float32)
    for row, text in enumerate(texts):
        vectors[row, int(text[-1])], vectors[row, (int(text[-1]) + 1) % 6] = 0.8, 0.6
    return vectors


def test_answers_carry_score_and_place() -> None:
    """Best first, with path:line, name and a summary on one line."""
    first, second, *_ = search("thing 4", INDEX, embed, k=3)
    assert (first.where, first.name, first.summary) == ("pkg/mod4.py:5", "Class.name_4", "Does thing number 4.")
    assert (first.score, second.score) == (pytest.approx(0.8), pytest.approx(0.6))
    assert second.name == "Class.name_5"


def test_pages_have_an_address_instead() -> None:
    """An index of documents answers with title and URL."""
    rows = pa.table({"url": ["http://a/b"], "title": ["About b"], "text": ["word " * 100]})
    (answer,) = search("page 0", ExactIndex(rows, "", np.eye(1, 6, dtype=np.float32)), embed)
    assert (answer.where, answer.name) == ("http://a/b", "About b")


def test_the_table_shows_path_and_line_unbroken() -> None:
    """Path and line stand in the output in one piece, and text from outside is not taken for markup."""
    out = io.StringIO()
    answers = search("[bold]thing[/] 4", INDEX, embed, k=2)
    show("[bold]thing[/] 4", answers, Console(file=out, width=100))
    assert "[bold]thing[/] 4" in out.getvalue()
    assert "pkg/mod4.py:5" in out.getvalue()
    assert "0.800" in out.getvalue()


@pytest.mark.parametrize("query", ["", "  \n", "x" * 20_001])
def test_what_is_no_query(query: str) -> None:
    """Blank and overlong queries are errors of the user."""
    with pytest.raises(UserError):
        search(query, INDEX, embed)
