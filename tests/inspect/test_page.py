"""The page about an artifact says what the ledgers say, and asks nothing of anybody."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from cpt_ray.artifacts import examples, read_manifest, read_table
from cpt_ray.artifacts.examples import rows_of
from cpt_ray.artifacts.store import build
from cpt_ray.code.functions import Origin, Source, mine
from cpt_ray.code.options import MineOptions
from cpt_ray.errors import UserError
from cpt_ray.inspect.lineage import lineage
from cpt_ray.inspect.page import _parts, dropped_of, funnel, page, percent, write_page
from cpt_ray.inspect.survey import SAMPLE, Histogram, kind_of, survey
from cpt_ray.pairs.docstrings import code_pairs
from cpt_ray.pairs.options import DocstringOptions


class Tags(HTMLParser):
    """Every element with its attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_funnel_is_every_ledger_on_the_way(corpus: Path) -> None:
    """From records to pairs, in order, each count and each reason."""
    steps = funnel(lineage(str(corpus / "text_pairs")))
    names = list(dict.fromkeys(step.artifact for step in steps))
    assert names == ["documents", "clean_documents", "document_clusters", "text_pairs"]
    for name in names:
        ledger = read_manifest(str(corpus / name)).balance
        own = {step.unit: step for step in steps if step.artifact == name}
        assert list(own) == list(ledger.units)
        for unit, count in ledger.units.items():
            assert (own[unit].read, own[unit].kept) == (count.read, count.kept)
            assert {reason.name: reason.rows for reason in own[unit].reasons} == dict(count.dropped)


def test_each_reason_has_examples_of_itself(corpus: Path) -> None:
    """As many as there are, up to twenty, wherever text was dropped; duplicates beside what was kept."""
    seen = set()
    for step in funnel(lineage(str(corpus / "text_pairs"))):
        for reason in step.reasons:
            if (step.artifact, reason.name) == ("text_pairs", "duplicate"):
                continue  # those of the clusters
            seen.add(reason.name)
            if reason.name == "repeated_within_host":  # one paragraph, of which there are many
                assert reason.examples
                continue
            assert len(reason.examples) == min(reason.rows, examples.MOST), reason.name
    assert {"record_request", "too_short", "exact_duplicate", "near_duplicate"} <= seen
    clusters = lineage(str(corpus / "document_clusters"))
    kept = set(read_table(clusters.path).filter(read_table(clusters.path)["kept"])["doc_id"].to_pylist())
    for held in dropped_of(clusters).values():
        assert all(one.texts["kept"] in kept and one.key not in kept and one.texts["x"] for one in held)
        assert all(one.texts["y"] for one in held)


@pytest.mark.parametrize("name", ["text_pairs", "documents", "clean_documents"])
def test_page_is_closed(corpus: Path, name: str) -> None:
    """No script, no address, no handler, whatever a crawled page has for its title and text."""
    text = page(str(corpus / name))
    found = Tags(text).found
    assert "&lt;script&gt;alert(1)" in text or name == "text_pairs"
    assert {tag for tag, _ in found} & {"script", "img", "iframe", "link", "object", "a", "form", "base"} == set()
    assert not [key for _, attributes in found for key in attributes if key.startswith("on") or key in ("src", "href")]
    assert re.search(r"url\(|@import", text[: text.index("</style>")]) is None
    assert any(attributes.get("content", "").startswith("default-src 'none'") for _, attributes in found)


def test_survey_counts_every_row_once(corpus: Path) -> None:
    """Histograms and shares add up; the sample is of the rows, and the same whatever the order."""
    path = str(corpus / "text_pairs")
    found, table = survey(path, kind_of(path)), read_table(path)
    assert found.rows == table.num_rows > SAMPLE
    lengths = [len(text) for text in table["x"].to_pylist()]
    assert found.histograms[0].rows == len(lengths)
    assert found.histograms[0].mean == pytest.approx(np.mean(lengths))
    assert found.shares["group"].total() == table.num_rows
    assert len({row["pair_id"] for row in found.sample}) == SAMPLE
    assert survey(path, kind_of(path)).sample == found.sample


def test_functions_are_shown_by_language_and_licence(tmp_path: Path) -> None:
    """Twenty at most of each, kept and dropped, the most frequent first, all of them of that language; pairs likewise."""
    text = 'def f{0}(x):\n    """Adds {0} to it all."""\n    y = x\n    return y\n\ndef g{0}(x):\n    return x\n'
    sources = [Source(f"{i}.py", text.format(i).encode()) for i in range(30)]
    sources.append(
        Source(
            "a.rb",
            b"# SPDX-License-Identifier: MIT\n\n# Adds one to all.\ndef f(x)\n  y = x\n  y\nend\ndef g(x)\nend\n",
        )
    )
    table, ledger = mine(
        sources, Origin("g", "1", "unknown"), MineOptions(languages=("python", "ruby"), mask=("email",))
    )
    path = str(tmp_path / "functions")
    with build(path, step="functions", version=1, params={}, inputs={}) as work:
        work.write_parts(table, 7)
        work.publish(ledger, rows=table.num_rows, schema=table.schema)
    found = survey(path, kind_of(path)).each
    assert {value: len(rows) for value, rows in found["language"].items()} == {"python": 20, "ruby": 1}
    assert {row["language"] for row in found["language"]["python"]} == {"python"}
    assert {value: len(rows) for value, rows in found["licence"].items()} == {"unknown": 20, "MIT": 1}
    told = rows_of(path)
    python, ruby = _parts("language", survey(path, kind_of(path)), told)
    assert (python.value, python.kept, python.dropped, len(python.examples)) == ("python", 30, {"no_docstring": 30}, 20)
    assert (ruby.value, ruby.kept, ruby.dropped, len(ruby.rows)) == ("ruby", 1, {"no_docstring": 1}, 1)
    assert ["def g(x)" in one.texts["text"] for one in ruby.examples] == [True]
    assert {one.texts["path"].partition(".")[2][:2] for one in python.examples} == {"py"}
    assert [one.value for one in _parts("licence", survey(path, kind_of(path)), told)] == ["unknown", "MIT"]
    pairs, ledger = code_pairs(table, None, DocstringOptions(further=("signature", "name")))
    path = str(tmp_path / "pairs")
    with build(path, step="code_pairs", version=1, params={}, inputs={}) as work:
        work.write_parts(pairs, 7)
        work.publish(ledger, rows=pairs.num_rows, schema=pairs.schema)
    python, ruby = _parts("language", survey(path, kind_of(path)), rows_of(path))
    assert [(one.value, len(one.rows), len(one.examples)) for one in (python, ruby)] == [
        ("python", 20, 20),
        ("ruby", 2, 1),
    ]
    assert ruby.examples[0].texts["reason"] == "name_of_one_word"
    assert "<h2>By language</h2>" in page(path)
    text = page(str(tmp_path / "functions"))
    assert text.index("<h2>By language</h2>") < text.index("<h2>By licence</h2>")
    assert [percent(share) for share in (100, 99.96, 99.4, 7.23, 0.051)] == ["100%", "100%", "99%", "7.2%", "0.051%"]


def test_histogram_loses_nothing_when_it_is_cut() -> None:
    """Values outside the edges count at the ends; putting bins together keeps the sum, and the quantiles are near."""
    chance = np.random.default_rng(0)
    values = np.exp(chance.normal(6, 2, 10_000))
    histogram = Histogram.empty("x", np.r_[0.0, 2.0 ** np.arange(0, 31, 0.125)])
    histogram.add(np.r_[values, np.nan, np.inf])
    histogram.add(np.array([-5.0, 1e12]))
    assert histogram.rows == 10_002
    cut = histogram.cut()
    assert cut.rows == 10_002
    assert len(cut.counts) <= 40
    assert len(cut.edges) == len(cut.counts) + 1
    assert np.all(np.diff(cut.edges) > 0)
    assert histogram.below(0.5) == pytest.approx(np.median(values), rel=0.1)
    assert Histogram.empty("x", np.linspace(0, 1, 21)).cut().rows == 0


def test_what_is_not_beside_is_said(corpus: Path, tmp_path: Path) -> None:
    """An artifact that was taken elsewhere still has its page."""
    shutil.copytree(corpus / "text_pairs", tmp_path / "text_pairs")
    write_page(str(tmp_path / "text_pairs"), str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text()
    assert "Not found beside this artifact" in text
    assert "text_pairs: rows" in text


def test_another_artifact_is_refused(corpus: Path) -> None:
    with pytest.raises(UserError, match="no documents, functions or pairs") as caught:
        page(str(corpus / "document_clusters"))
    assert caught.value.where == str(corpus / "document_clusters")
