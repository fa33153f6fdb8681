"""Further filters: what each drops, in which order, what they change of an identity; a new one is one file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import cpt_ray.web.filters
from cpt_ray.errors import UserError
from cpt_ray.kinds import kinds, one_of
from cpt_ray.web import filters
from cpt_ray.web.extract import extract_shard
from cpt_ray.web.filters import Document
from cpt_ray.web.filters.pii import Pii
from cpt_ray.web.filters.url import Url
from cpt_ray.web.filters.ut1 import Ut1
from cpt_ray.web.filters.words import Words, _found, _terms
from cpt_ray.web.options import ExtractOptions
from pipelines import cli, config
from tests.web.test_extract import archive, page

SHORT = '''
"""A kind that a user has added."""
from typing import Literal
from cpt_ray.web.filters import Document, Filter


class NoTitle(Filter):
    """Drop what has no title."""

    kind: Literal["no_title"] = "no_title"
    least: int = 1

    def reason(self, document: Document) -> str | None:
        return "no_title" if len(document.title) < self.least else None
'''


def seen(text: str = "", url: str = "http://h/") -> Document:
    return Document(url, "", text, "en")


def words(folder: Path, terms: str, **bounds: float) -> Words:
    (folder / "terms.txt").write_text(terms, "utf-8")
    return Words(file=str(folder / "terms.txt"), **bounds)  # type: ignore[arg-type]


def test_url_patterns_are_looked_for_anywhere() -> None:
    chosen = Url(patterns=(r"/tag/", r"[?&]print="))
    urls = ("http://h/tag/x", "http://h/a?b=1&print=1", "http://h/tags/x", "http://h/atag/")
    assert [chosen.reason(seen(url=url)) for url in urls] == ["url", "url", None, None]


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "url"},
        {"kind": "url", "patterns": []},
        {"kind": "url", "patterns": ["("]},
        {"kind": "url", "patterns": [""]},
        {"kind": "words", "file": "x"},
        {"kind": "words", "file": "x", "min_count": 0},
        {"kind": "words", "file": "x", "min_share": 0},
        {"kind": "nothing"},
    ],
)
def test_a_filter_that_says_nothing_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        ExtractOptions.model_validate({"filters": [options]})


@pytest.mark.parametrize(
    ("terms", "text", "count"),
    [
        ("bad", "A BAD day, a badge, not bad.", 2),
        ("bad\nbad day\n", "bad day after bad day and bad", 3),  # the longest that begins first
        ("\ufeffbad\r\n\r\nworse\r\n", "bad and worse", 2),
        ("straße", "Die STRASSE", 1),
        ("café", "a cafe\u0301", 1),
        ("悪い", "これは悪い本です", 1),
        ("a b c\nb", "a b d b", 2),
        ("bad", "", 0),
    ],
)
def test_terms_are_whole_words_in_any_case_and_script(tmp_path: Path, terms: str, text: str, count: int) -> None:
    assert words(tmp_path, terms, min_count=max(1, count)).reason(seen(text)) == ("words" if count else None)
    assert words(tmp_path, terms, min_count=count + 1).reason(seen(text)) is None


def test_a_share_is_of_words(tmp_path: Path) -> None:
    """A term of two words covers two; the bound itself is reached."""
    assert words(tmp_path, "very bad", min_share=0.5).reason(seen("very bad it is")) == "words"
    assert words(tmp_path, "very bad", min_share=0.5).reason(seen("very bad it is not")) is None
    assert words(tmp_path, "very bad", min_share=0.5).reason(seen("")) is None


@given(st.lists(st.text("ab ", min_size=1, max_size=5).filter(str.strip), min_size=1), st.text("ab ", max_size=40))
def test_terms_are_found_as_a_walk_over_all_of_them_finds_them(terms: list[str], text: str) -> None:
    split, oracle = text.split(), 0
    known = sorted({tuple(term.split()) for term in terms}, key=len, reverse=True)
    table: dict[str, dict[int, set[tuple[str, ...]]]] = {}
    for term in known:
        table.setdefault(term[0], {}).setdefault(len(term), set()).add(term)
    position = 0
    while position < len(split):
        hit = next((t for t in known if tuple(split[position : position + len(t)]) == t), None)
        oracle, position = oracle + (hit is not None), position + (len(hit) if hit else 1)
    assert _found(split, table)[0] == oracle


@pytest.mark.parametrize("content", [b"", b"\n \n", b"caf\xe9\n"])
def test_a_list_that_is_none_is_said_with_its_path(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "terms.txt").write_bytes(content)
    with pytest.raises(UserError) as caught:
        Words(file=str(tmp_path / "terms.txt"), min_count=1).reason(seen("a text"))
    assert caught.value.where == str(tmp_path / "terms.txt")


def test_quality_comes_first_then_the_filters_in_their_order(tmp_path: Path) -> None:
    """Each document is counted once, under the first reason."""
    warc = archive(tmp_path, page("tag/a"), page("tag/b", "<main><p>too short</p></main>"), page("c"), page("d"))
    listed = words(tmp_path, "parser", min_count=1)
    tag = Url(patterns=("/tag/", "/d$"))

    def dropped(*filters: object) -> dict[str, int]:
        options = ExtractOptions(filters=filters, min_language_score=0, languages=())  # type: ignore[arg-type]
        table, ledger = extract_shard({"warc": warc}, options)
        balance = ledger.units["documents"]
        assert balance.kept == table.num_rows == balance.read - sum(balance.dropped.values())
        return dict(balance.dropped)

    assert dropped() == {"too_short": 1}
    assert dropped(tag) == {"too_short": 1, "url": 2}
    assert dropped(tag, listed) == {"too_short": 1, "url": 2, "words": 1}
    assert dropped(listed, tag) == {"too_short": 1, "words": 3}


def test_a_list_is_its_content_and_no_list_changes_nothing(tmp_path: Path) -> None:
    """Without filters the options are those of before there were any, so nothing is extracted again."""
    assert "filters" not in ExtractOptions().result()
    (tmp_path / "other").mkdir()
    one = ExtractOptions(filters=(words(tmp_path, "bad\n", min_count=1),))
    before = one.result()
    assert before == ExtractOptions(filters=(words(tmp_path / "other", "bad\n", min_count=1),)).result()
    assert before != ExtractOptions(filters=(words(tmp_path / "other", "bad\n", min_count=2),)).result()
    words(tmp_path, "bad\nworse\n", min_count=1)
    assert before != one.result()
    assert len(_terms(str(tmp_path / "terms.txt"), 0, 0)) == 2
    (tmp_path / "terms.txt").unlink()
    with pytest.raises(UserError, match="cannot be read"):
        one.result()


def test_a_new_filter_is_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put into the folder it is a choice, told apart by `kind`, typed, and counted by its reason."""
    (tmp_path / "no_title.py").write_text(SHORT)
    monkeypatch.setattr(cpt_ray.web.filters, "__path__", [*cpt_ray.web.filters.__path__, str(tmp_path)])
    assert set(kinds("cpt_ray.web.filters")) == {"classifier", "no_title", "pii", "url", "ut1", "words"}

    class Chosen(ExtractOptions):
        filters: tuple[one_of("cpt_ray.web.filters"), ...] = ()  # type: ignore[valid-type]

    chosen = config.validate(Chosen, {"filters": [{"kind": "no_title", "least": 100}]})
    _, ledger = extract_shard({"warc": archive(tmp_path, page("a"))}, chosen)
    assert dict(ledger.units["documents"].dropped) == {"no_title": 1}


def test_help_lists_the_filters_with_their_keys(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["text-pairs", "--help"]) == 0
    shown = capsys.readouterr().out
    assert all(f"kind: {kind}" in shown for kind in kinds("cpt_ray.web.filters"))
    assert "min_share" in shown


MASKED = {
    "write to jane.doe+news@mail.example.org.": "write to <email>.",
    "(o'neil@example.co.uk)": "(<email>)",
    "müller@bücher.example, you": "<email>, you",
    "a@b and x@@y.de and @handle and user@localhost": "a@b and x@@y.de and @handle and user@localhost",
    "call +1 (555) 123-4567 now": "call <phone> now",
    "Tel. +49 30 1234567, Fax +49-30-1234568": "Tel. <phone>, Fax <phone>",
    "call (555) 234-5678 or 555-234-5678 or 555.234.5678": "call <phone> or <phone> or <phone>",
    "ISBN 978-3-16-148410-0, 2026-11-27, 1234567890, +3.14159265, 555-234-56789": "ISBN 978-3-16-148410-0, 2026-11-27, 1234567890, +3.14159265, 555-234-56789",
    "C++11223344 and 1+23456789": "C++11223344 and 1+23456789",
    "from 8.8.8.8 and 2001:4860:4860::8888": "from <ip> and <ip>",
    "127.0.0.1, 10.1.2.3, ::1, 12:30:45, 1.2.3, 1.2.3.4.5, 999.1.1.1": "127.0.0.1, 10.1.2.3, ::1, 12:30:45, 1.2.3, 1.2.3.4.5, 999.1.1.1",
}


@pytest.mark.parametrize("text", MASKED)
def test_pii_is_masked_and_what_looks_like_it_is_not(text: str) -> None:
    assert Pii().changed(seen(text)).text == MASKED[text]
    assert Pii().changed(Document("http://h/", text, "", "en")).title == MASKED[text]


@given(st.text(alphabet="+(1-5).@a:- ", max_size=300))
def test_masking_is_done_once_and_for_all(text: str) -> None:
    """What is masked has nothing left to mask, and a part of the kinds masks a part."""
    once = Pii().changed(seen(text)).text
    assert Pii(mask=("email",)).changed(seen(once)).text == once
    assert Pii(mask=("ip",)).changed(seen("a@b.example " + text)).text.startswith("a@b.example")


def test_masked_documents_have_ids_of_their_own(tmp_path: Path) -> None:
    """The text that is hashed, judged by later filters and published is the masked one."""
    body = f"<html><body><main><p>Write to jane@example.org. {'The reader goes on with the next line. ' * 12}</p></main></body></html>"
    plain = extract_shard({"warc": archive(tmp_path, page("a", body))}, ExtractOptions())[0].to_pylist()[0]
    later = words(tmp_path, "jane", min_count=1)
    options = ExtractOptions(filters=(Pii(), later))
    masked, ledger = extract_shard({"warc": str(tmp_path / "crawl-00000.warc.gz")}, options)
    (row,) = masked.to_pylist()
    assert ledger.units["documents"].kept == 1
    assert row["text"] == plain["text"].replace("jane@example.org", "<email>")
    assert row["doc_id"] != plain["doc_id"]


def ut1(folder: Path, **lists: str) -> Ut1:
    for name, lines in lists.items():
        category, _, kind = name.partition("_")
        (folder / category).mkdir(parents=True, exist_ok=True)
        (folder / category / kind).write_text(lines)
    return Ut1(folder=str(folder), categories=tuple(dict.fromkeys(name.partition("_")[0] for name in lists)))


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://bad.example/", "listed_adult"),
        ("https://www.bad.example/page?x=1", "listed_adult"),
        ("http://a.b.bad.example:8080/x", "listed_adult"),
        ("http://notbad.example/", None),
        ("http://bad.example.org/", None),
        ("http://example/", None),
        ("http://10.0.0.7/", "listed_adult"),
        ("http://110.0.0.7/", None),
        ("http://0.7/", None),
        ("http://www.host.example/~joe", "listed_spam"),
        ("http://host.example/~joe/pictures/1.html", "listed_spam"),
        ("http://host.example/~joey", None),
        ("http://host.example/", None),
        ("http://host.example/shop?id=7", "listed_spam"),
        ("http://host.example/shop?id=71", None),
        ("http://sub.host.example/~joe", None),
    ],
)
def test_listed_domains_and_addresses(tmp_path: Path, url: str, reason: str | None) -> None:
    """A domain stands for the hosts below it, an address for the paths below it, and no other that looks like it."""
    chosen = ut1(
        tmp_path,
        adult_domains="BAD.example\r\n\n10.0.0.7\n",
        spam_domains="other.example\n",
        spam_urls="host.example/~joe/\nhost.example/shop?id=7\n",
    )
    assert chosen.reason(seen(url=url)) == reason


def test_lists_are_their_content_and_one_that_is_not_there_is_said(tmp_path: Path) -> None:
    one = ExtractOptions(filters=(ut1(tmp_path / "a", adult_domains="bad.example\n"),))
    same = ExtractOptions(filters=(ut1(tmp_path / "b", adult_domains="bad.example\n"),))
    assert one.result() == same.result()
    assert one.result() != ExtractOptions(filters=(ut1(tmp_path / "c", adult_domains="worse.example\n"),)).result()
    ut1(tmp_path / "a", adult_domains="")
    assert one.filters[0].reason(seen(url="http://bad.example/")) is None
    with pytest.raises(UserError, match="malware"):
        Ut1(folder=str(tmp_path / "a"), categories=("malware",)).files()
    with pytest.raises(ValidationError):
        Ut1(folder=str(tmp_path), categories=("../a",))


def test_files_of_filters_are_looked_for_before_anything_starts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list that is gone, a folder in its place, a category that is not there."""
    (tmp_path / "list").write_text("term\n")
    filters.check([Words(file=str(tmp_path / "list"), min_count=1)])
    for wrong in (Words(file=str(tmp_path / "none"), min_count=1), Words(file=str(tmp_path), min_count=1)):
        with pytest.raises(UserError, match="cannot be read") as caught:
            filters.check([wrong])
        assert caught.value.where == wrong.file
    words = f"extract.filters=[{{kind: ut1, folder: {tmp_path}, categories: [adult]}}]"
    assert cli.main(["text-pairs", f"archive={tmp_path}", words, f"cluster.outputs={tmp_path / 'out'}"]) == 2
    assert "no list 'adult'" in capsys.readouterr().err
