"""One question over an index: rows with score and place, and their table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cpt_ray.errors import UserError
from cpt_ray.serve.indexes import Index
from cpt_ray.serve.options import MAX_CHARACTERS

if TYPE_CHECKING:
    import numpy as np

    from cpt_ray.evaluate.embed import Embed

FUNCTION_COLUMNS = ["group", "version", "path", "start_line", "end_line", "qualname", "summary", "licence"]
_OTHER_COLUMNS = ["url", "title", "x_doc", "line", "x", "y"]
"""Of documents and of pairs."""


@dataclass(frozen=True)
class Answer:
    """One row of the index: the cosine with the query, and the columns that describe it."""

    score: float
    row: dict[str, Any]
    number: int = -1  # of the row, in its index

    @property
    def where(self) -> str:
        """`path:line` of a function, the address of a page."""
        if self.row.get("path"):
            line = self._first("start_line", "line")
            return f"{self.row['path']}:{line}" if line else str(self.row["path"])
        return self._first("url", "x_doc")

    @property
    def name(self) -> str:
        """A function's name, a page's title, or the beginning of a pair's x."""
        return self._first("qualname", "title") or _short(" ".join(self._first("x").split()), 80)

    @property
    def summary(self) -> str:
        """The docstring's summary, or the text, on one line."""
        return " ".join(self._first("summary", "text", "y", "code").split())

    def _first(self, *columns: str) -> str:
        """The first of these columns that says something."""
        return next((str(self.row[name]) for name in columns if self.row.get(name)), "")


def answer_columns(columns: Sequence[str], text: str) -> list[str]:
    """Of a source's `columns`, those that an index carries so that its answers say what and where they are: of functions,
    documents and pairs what is known to, else all; the embedded column `text` where no summary stands for it."""
    known = [name for name in (*FUNCTION_COLUMNS, *_OTHER_COLUMNS) if name in columns]
    shown = known or list(columns)
    return shown if "summary" in shown or text in shown else [*shown, text]


def search(query: str, index: Index, embed: Embed, k: int = 10) -> list[Answer]:
    """The k rows nearest to the query, best first. Raises UserError for a blank or an overlong query."""
    check_query(query)
    return nearest(embed([query], "x"), index, k)


def check_query(query: str, most: int = MAX_CHARACTERS) -> None:
    """UserError for a blank query, and for one of more than `most` characters."""
    if not query.strip():
        raise UserError("the query is empty", fix='ask something: cpt-ray search "parse an ISO date"')
    if len(query) > most:
        raise UserError(f"the query has {len(query):,} characters", fix=f"at most {most:,}")


def nearest(query: np.ndarray, index: Index, k: int) -> list[Answer]:
    """The k rows nearest to the vector `query` (1, D), best first."""
    scores, rows = index.search(query, k)
    return answers_of(index, rows[0], scores[0])


def answers_of(index: Index, rows: np.ndarray, scores: np.ndarray) -> list[Answer]:
    """These rows (n,) with these scores (n,)."""
    # By slices: `take` makes an array of the numbers, for which pyarrow imports pandas, a third of a second.
    found = (index.rows.slice(int(row), 1).to_pylist()[0] for row in rows)
    return [Answer(float(score), row, int(at)) for score, row, at in zip(scores, found, rows, strict=True)]


def show(query: str, answers: Sequence[Answer], console: Console | None = None) -> None:
    """Print the answers: score, name and summary, and below them path and line, which terminals open on a click."""
    table = Table(
        title=Text(query, style="bold"), title_justify="left", box=None, padding=(0, 2, 1, 0), show_header=False
    )
    table.add_column(justify="right", style="cyan", no_wrap=True)
    table.add_column(overflow="fold")
    for answer in answers:
        body = Text(answer.name, style="bold")
        if answer.summary:
            body.append(f"  {_short(answer.summary)}", style="not bold")
        group = " ".join(str(answer.row[name]) for name in ("group", "version") if answer.row.get(name))
        body.append(f"\n{answer.where}", style="not bold blue")
        body.append(f"  {group}" if group else "", style="not bold dim")
        table.add_row(f"{answer.score:.3f}", body)
    (console or Console()).print(table)


def _short(text: str, most: int = 160) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
