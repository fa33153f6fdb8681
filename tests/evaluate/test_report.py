"""The report: one record, two files, a page that needs nothing else."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from pydantic import ValidationError

from cpt_ray.evaluate.page import duration, size
from cpt_ray.evaluate.report import DemoReport, figures, html, write
from tests.evaluate.report_sample import sample_report

VOID = {"meta", "br", "path", "use", "rect", "circle", "line", "image", "input", "img", "link", "hr"}


class Page(HTMLParser):
    """Collects ids and what is referred to, and checks that elements nest."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: Counter[str] = Counter()
        self.references: list[str] = []
        self.open: list[str] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id":
                self.ids[value or ""] += 1
            if name in ("src", "href", "xlink:href", "data", "action"):
                self.references.append(value or "")
            self.references += re.findall(r"url\(([^)]*)\)", value or "")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(text: str) -> Page:
    page = Page()
    page.feed(text)
    page.close()
    assert page.open == []
    return page


def test_the_page_needs_nothing_else() -> None:
    """Whatever is referred to is on the page itself: an element by a unique id, or data."""
    page = page_of(html(sample_report()))
    assert max(page.ids.values()) == 1
    assert page.references
    for reference in page.references:
        assert reference.startswith("data:") or reference.strip("\"'").removeprefix("#") in page.ids, reference
    assert "@import" not in page.text
    assert "<script" not in html(sample_report()).lower()


def test_figures_follow_the_page() -> None:
    """No colour of the ink and no font of the drawing library is left in the SVG."""
    text = html(sample_report())
    assert text.count("<svg") == 10
    assert "DejaVu" not in text
    assert "#1b2027" not in text.split("</style>", 1)[1]


def test_numbers_and_foreign_text_stand_on_the_page() -> None:
    """Metrics with three digits, ledgers with their reasons, and text from outside escaped."""
    report = sample_report()
    page = page_of(html(report))
    for wanted in ("0.412", "0.513", "0.007", "55.0", "no docstring", "214,002", "17 min 23 s", "6.1 GiB", "0.204"):
        assert wanted in page.text, wanted
    assert "Strip <b>tags</b> & comments." in page.text
    assert "remove <script> & other tags" in page.text


def test_json_holds_what_was_promised(tmp_path: Path) -> None:
    """The keys of the demo's contract, and the record reads back equal."""
    report = sample_report()
    json_path, html_path = write(report, str(tmp_path / "new"))
    data = json.loads(Path(json_path).read_text())
    for task in ("code_search", "text_search"):
        for method in ("model", "initial", "bm25", "chance"):
            assert {"mrr", "recall_at_1", "recall_at_10"} <= data[task][method].keys()
    assert all({"seconds", "rows_in", "kept", "dropped"} <= stage.keys() for stage in data["stages"].values())
    assert len(data["sweep"]) == 4
    assert DemoReport.model_validate(data) == report
    assert Path(html_path).read_text().startswith("<!doctype html>")
    assert {p.name for p in (tmp_path / "new").iterdir()} == {"report.json", "report.html"}


def test_the_best_trial_stands_out_whatever_ranks_it() -> None:
    """Trials come best first; of a loss that is the lowest."""
    report = sample_report()
    losses = [trial.model_copy(update={"metrics": {"heldout_loss": 1.0 + i}}) for i, trial in enumerate(report.sweep)]
    page = html(report.model_copy(update={"sweep": losses, "sweep_metric": "heldout_loss"}))
    table = page.partition("<h2>Sweep</h2>")[2].partition("<tbody>")[2].partition("</tbody>")[0]
    rows = re.findall(r"<tr.*?</tr>", table, re.DOTALL)
    assert ['class="own"' in row for row in rows] == [True, False, False, False]
    assert "1.000" in rows[0]


def test_a_report_without_the_optional_parts() -> None:
    """No sweep, curves, examples or settings: the page stands without them."""
    full = sample_report().model_dump()
    bare = {key: full[key] for key in ("seconds", "stages", "code_search", "text_search")}
    bare["code_search"]["setting"] = None
    report = DemoReport.model_validate(bare)
    assert set(figures(report)) == {"funnel"}
    assert "Sweep" not in page_of(html(report)).text


def test_the_same_report_gives_the_same_page() -> None:
    """No clock and no random id is in the page."""
    assert html(sample_report()) == html(sample_report())


def test_an_unknown_key_is_refused() -> None:
    """A misspelt part of the report must not vanish."""
    with pytest.raises(ValidationError, match="swep"):
        DemoReport.model_validate(sample_report().model_dump() | {"swep": []})


def test_words_for_time_and_size() -> None:
    """Durations and sizes as people write them."""
    assert [duration(s) for s in (0.44, 9.96, 59.4, 59.6, 185, 7800)] == [
        "0.4 s",
        "10 s",
        "59 s",
        "1 min 00 s",
        "3 min 05 s",
        "2 h 10 min",
    ]
    assert [size(b) for b in (5 << 20, 3 << 30)] == ["5 MiB", "3.0 GiB"]


def test_the_cards_and_the_sweeps_table_say_the_whole() -> None:
    """BM25 stands on the cards of both tasks, and beside a model that it beats this is said; the sweep's table has the
    page's whole width to itself."""
    report = sample_report()
    better = report.text_search.bm25.model_copy(update={"mrr": 2 * report.text_search.model.mrr})
    text = report.text_search.model_copy(update={"bm25": better})
    page = html(report.model_copy(update={"text_search": text}))
    cards = page[page.index('class="facts"') : page.index("Search on held-out projects")]
    assert f"BM25 {report.code_search.bm25.mrr:.3f}" in cards
    assert f"BM25 {better.mrr:.3f}" in cards
    assert "0.5×" in cards
    assert "text search over BM25: matching words is better here" in cards
    sweep = page[page.index("<h2>Sweep</h2>") : page.index("<h2>Corpus and stages</h2>")]
    figure, _, table = sweep.partition("</figure>")
    assert "<table" not in figure
    assert table.index("</div>") < table.index("<table")
