"""From archived pages to documents."""

from __future__ import annotations

import gzip
import json
import re
import tracemalloc
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
import xxhash
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from cpt_ray.installed import docstrings
from cpt_ray.installed.distributions import Distribution
from cpt_ray.installed.site import render
from cpt_ray.web.content import decode
from cpt_ray.web.extract import DOCUMENTS, document, extract_shard
from cpt_ray.web.options import ExtractOptions
from cpt_ray.web.page import read_page
from cpt_ray.web.record import Record
from cpt_ray.web.warc import Exchange, SegmentWriter

SHARED = Path(__file__).parents[3] / "shared" / "data" / "web"
PROSE = (
    "The parser reads one line at a time and keeps the rest for later. It is not meant for large files, but it has "
    "served us well for many years. When a line cannot be read, the reader says so and goes on with the next one. "
)
PAGE = f"""<html><head><title> A  title </title></head><body><nav><a href="/">Home</a> <a href="/x">All packages</a></nav>
<main><h1>Heading</h1><p>{PROSE}</p><p>Second paragraph. {PROSE}</p></main><footer>Copyright, cookies, imprint</footer></body></html>"""
DAY = datetime(2026, 1, 2, tzinfo=UTC)


def extract(html: str) -> tuple[str, str]:
    """(title, main text) of a page."""
    page = read_page(html)
    return page.title, page.text


def archive(folder: Path, *exchanges: Exchange) -> str:
    writer = SegmentWriter(str(folder), software="test/1", max_records=1000, max_bytes=10**9)
    for exchange in exchanges:
        writer.write(exchange)
    writer.close()
    return str(folder / "crawl-00000.warc.gz")


def page(
    path: str, body: str = PAGE, *, status: int = 200, kind: str = "text/html; charset=utf-8", day: int = 2
) -> Exchange:
    outcome = "fetched" if status == 200 else f"status_{status}"
    started = DAY.replace(day=day)
    return Exchange(
        f"http://h/{path}",
        outcome,
        started,
        status,
        "",
        (("Content-Type", kind),),
        body.encode(),
        b"GET / HTTP/1.1\r\n\r\n",
    )


def test_documents_of_an_archive(tmp_path: Path) -> None:
    """One row per page in the table's schema, sorted by URL, with identities that can be recomputed; all is accounted for."""
    warc = archive(
        tmp_path, page("p/b"), page("p/a"), page("gone", status=404), page("i.png", kind="image/png"),
        page("de", f"<main><p>{'Das ist ein deutscher Satz, der lang genug ist, um erkannt zu werden. ' * 5}</p></main>"),
        page("short", "<main><p>Just a few words.</p></main>"), page("none", "<html></html>"), page("deep", "<div>" * 5000),
    )  # fmt: skip
    table, ledger = extract_shard({"warc": warc}, ExtractOptions(group_pattern=r"//h/(\w)/"))
    ledger.check("extract")
    assert table.schema == DOCUMENTS
    assert table["url"].to_pylist() == ["http://h/p/a", "http://h/p/b"]
    row = table.to_pylist()[0]
    assert row["doc_id"] == xxhash.xxh3_128_hexdigest(f"{row['url']}\n{row['text']}".encode())
    assert row["content_hash"] == table["content_hash"][1].as_py()
    assert (row["group"], row["host"], row["title"], row["language"], row["status"]) == ("p", "h", "A title", "en", 200)
    assert (row["fetched_at"], row["warc_file"], row["content_type"]) == (DAY, "crawl-00000.warc.gz", "text/html")
    records, documents = ledger.units["records"], ledger.units["documents"]
    assert (records.kept, documents.kept) == (6, 2)
    assert {
        "status_404": 1,
        "not_html": 1,
        "record_request": 8,
        "record_metadata": 8,
    }.items() <= records.dropped.items()
    assert documents.dropped == {"language": 1, "too_short": 1, "no_text": 1, "nested_too_deep": 1}


def test_the_offset_leads_back_to_the_page(tmp_path: Path) -> None:
    """Every document can be traced to its bytes."""
    warc = archive(tmp_path, page("a"), page("b", PAGE.replace("Heading", "Another")))
    table, _ = extract_shard({"warc": warc}, ExtractOptions())
    for row in table.to_pylist():
        with open(tmp_path / row["warc_file"], "rb") as source:
            source.seek(row["warc_offset"])
            assert f"WARC-Target-URI: {row['url']}".encode() in gzip.decompress(source.read())


def test_each_url_once_its_latest_capture(tmp_path: Path) -> None:
    """Within an archive, in any order."""
    old, new = page("a", PAGE.replace("Heading", "Old")), page("a", PAGE.replace("Heading", "New"), day=9)
    for i, order in enumerate(((old, new), (new, old))):
        (tmp_path / str(i)).mkdir()
        table, ledger = extract_shard({"warc": archive(tmp_path / str(i), *order)}, ExtractOptions())
        assert ledger.units["records"].dropped["older_capture"] == 1
        assert table.num_rows == 1
        assert "New" in table["text"][0].as_py()


def test_blocks_are_separated_by_an_empty_line() -> None:
    """Headings and paragraphs are blocks; boilerplate is gone."""
    title, text = extract(PAGE)
    assert title == "A title"
    assert text.split("\n\n") == ["Heading", PROSE.strip(), f"Second paragraph. {PROSE.strip()}"]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.sampled_from(["alpha", "beta gamma", "delta < epsilon", "zeta & eta", "θ ι κ"]), min_size=1, max_size=8)
)
def test_docstrings_survive_the_way_through_the_site(words: list[str]) -> None:
    """Oracle: what stands in docstrings is in the document, what the site adds around them is not."""
    paragraphs = [f"Paragraph {i} says {word} and then some more words to fill a line." for i, word in enumerate(words)]
    entries = [
        docstrings.Entry("module", "pkg.mod", "\n\n".join(paragraphs)),
        docstrings.Entry("function", "act", PROSE),
    ]
    distribution = Distribution("pkg", "1", "MIT", "Summary.", (), "/nowhere", ())
    pages = {path: html for path, _, html in render(distribution, {"pkg.mod": entries}, frozenset({"pkg"}))}
    _, text = extract(pages["/pkg/pkg.mod.html"])
    assert text.split("\n\n") == ["pkg.mod", *paragraphs, "act", PROSE.strip()]
    for boilerplate in ("All packages", "Standard library", "cookies", "Build information", "In this package", "Home"):
        assert boilerplate in pages["/pkg/pkg.mod.html"]
        assert boilerplate not in text


def test_bytes_do_not_depend_on_the_order_of_records(tmp_path: Path) -> None:
    """The same pages in another order give the same rows but for where they stand."""
    (tmp_path / "x").mkdir()
    one, _ = extract_shard({"warc": archive(tmp_path, page("a"), page("b"))}, ExtractOptions())
    two, _ = extract_shard({"warc": archive(tmp_path / "x", page("b"), page("a"))}, ExtractOptions())
    assert one.drop_columns(["warc_offset"]).equals(two.drop_columns(["warc_offset"]))


@given(st.binary(max_size=300))
def test_any_body_is_a_document_or_has_a_reason(body: bytes) -> None:
    """Whatever bytes a server calls HTML."""
    row, reason, _ = document(
        Record("f", 0, "response", "http://h/", 200, {"content-type": "text/html"}, body), "http://h/", ExtractOptions()
    )
    assert (row is None) == (reason is not None)


@pytest.mark.parametrize("pattern", ["(", "no group", "(two)(groups)"])
def test_group_pattern_is_checked_before_anything_starts(pattern: str) -> None:
    """A pattern that cannot work is refused with its key."""
    with pytest.raises(ValidationError, match="group_pattern"):
        ExtractOptions(group_pattern=pattern)


@pytest.mark.skipif(
    not (SHARED / "article-extraction").is_dir(), reason="../shared/data/web/article-extraction is absent"
)
def test_f1_on_news_pages() -> None:
    """F1 over shingles of four words on 181 news pages, near to how the benchmark counts it: 0.957 measured."""
    truth = json.loads((SHARED / "article-extraction" / "ground-truth.json").read_text())
    precision, recall = 0.0, 0.0
    for name, entry in truth.items():
        with gzip.open(SHARED / "article-extraction" / "html" / f"{name}.html.gz") as source:
            found = shingles(extract(decode(source.read(), None))[1])
        wanted = shingles(entry["articleBody"])
        common = sum((found & wanted).values())
        precision += common / max(1, sum(found.values())) / len(truth)
        recall += common / max(1, sum(wanted.values())) / len(truth)
    assert 2 * precision * recall / (precision + recall) >= 0.95


def shingles(text: str, n: int = 4) -> Counter[tuple[str, ...]]:
    words = re.findall(r"\w+", text)
    return Counter(tuple(words[at : at + n]) for at in range(max(1, len(words) - n + 1)))


# --- archives of others -----------------------------------------------------------------------------------------------


def raw(block: bytes, url: str = "http://h/a", kind: str = "response", date: str = "2026-05-01T00:00:00Z") -> bytes:
    mime = "text/plain" if kind == "conversion" else "application/http; msgtype=response"
    return (
        (
            f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: {date}\r\nContent-Type: {mime}\r\n"
            f"Content-Length: {len(block)}\r\n\r\n"
        ).encode()
        + block
        + b"\r\n\r\n"
    )


def http(body: bytes, headers: str = "Content-Type: text/html; charset=utf-8") -> bytes:
    return f"HTTP/1.1 200 OK\r\n{headers}\r\n\r\n".encode() + body


def shard(folder: Path, data: bytes, name: str = "t.warc", **options: object) -> tuple[list[dict], dict[str, dict]]:
    (folder / name).write_bytes(data)
    table, ledger = extract_shard({"warc": str(folder / name)}, ExtractOptions(**options))  # type: ignore[arg-type]
    return table.to_pylist(), {unit: dict(count.dropped) for unit, count in ledger.check("extract").units.items()}


def test_wet_is_text_already(tmp_path: Path) -> None:
    """A conversion record becomes a document by the same rules, without extraction; `<` stays what it is."""
    text = f"Title line\n{PROSE}if a < b and c > d then\n{PROSE}"
    rows, dropped = shard(
        tmp_path,
        raw(text.encode(), kind="conversion")
        + raw(b"Just a few words here.", "http://h/b", "conversion")
        + raw(b"", kind="warcinfo"),
    )
    assert rows[0]["text"] == "\n".join(line.strip() for line in text.split("\n")).strip()
    assert (rows[0]["title"], rows[0]["status"], rows[0]["content_type"]) == ("", 200, "text/plain")
    assert dropped == {"records": {"record_warcinfo": 1}, "documents": {"too_short": 1}}


def test_a_worse_capture_costs_no_page(tmp_path: Path) -> None:
    """Captures are judged before the latest is chosen, whatever their order and number of files."""
    good, bad = (
        raw(http(PAGE.encode())),
        raw(http(b"<main><p>Checking your browser.</p></main>"), date="2026-05-03T00:00:00Z"),
    )
    for data in (good + bad, bad + good):
        rows, dropped = shard(tmp_path, data)
        assert len(rows) == 1
        assert dropped == {"records": {}, "documents": {"too_short": 1}}


@pytest.mark.parametrize("kind", ["application/xml", "text/xml; charset=utf-8", ""])
def test_xml_whose_root_is_a_page_is_one(tmp_path: Path, kind: str) -> None:
    """As browsers have it; a feed that quotes a page is none."""
    xml, xhtml = '<?xml version="1.0"?>', '<html lang="en" xmlns="http://www.w3.org/1999/xhtml">'
    headers = f"Content-Type: {kind}" if kind else "Server: x"
    page = PAGE[PAGE.index("<html>") + len("<html>") :] if "<html>" in PAGE else PAGE
    assert len(shard(tmp_path, raw(http((xml + xhtml + page).encode(), headers)))[0]) == 1
    for other in ("<rss><channel/></rss>", '<html xmlns="http://elsewhere.example/">', "<feed><!-- <html> --></feed>"):
        rows, dropped = shard(tmp_path, raw(http((xml + other + page).encode(), headers)))
        assert (rows, dropped["records"]) == ([], {"not_html": 1})


@pytest.mark.parametrize(
    ("head", "meta", "reason"),
    [
        ("", '<meta name="robots" content="noindex">', "noindex"),
        ("", '<meta name="ROBOTS" content="NOARCHIVE, NoIndex">', "noindex"),
        ("", "<meta name=robots content=none>", "noindex"),
        ("X-Robots-Tag: noindex", "", "noindex"),
        ("X-Robots-Tag: noarchive\r\nX-Robots-Tag: noindex", "", "noindex"),
        ("X-Robots-Tag: examplebot: noindex", "", None),
        ("", '<meta name="robots" content="index, max-image-preview:none">', None),
        ("", '<meta name="description" content="noindex">', None),
    ],
)
def test_noindex_by_option(tmp_path: Path, head: str, meta: str, reason: str | None) -> None:
    """What robots are asked is obeyed where the option says so, and only then."""
    headers = "Content-Type: text/html" + (f"\r\n{head}" if head else "")
    data = raw(http(PAGE.replace("<head>", f"<head>{meta}").encode(), headers))
    assert len(shard(tmp_path, data)[0]) == 1
    rows, dropped = shard(tmp_path, data, obey_noindex=True)
    assert dropped["documents"] == ({reason: 1} if reason else {})
    assert len(rows) == (reason is None)


def test_memory_holds_no_bodies(tmp_path: Path) -> None:
    """What is held is what becomes of pages: their bodies are gone when the next is read."""
    padding = "<!-- " + "x" * 500_000 + " -->"
    data = b"".join(gzip.compress(raw(http((PAGE + padding).encode()), f"http://h/{i}")) for i in range(40))
    (tmp_path / "t.warc.gz").write_bytes(data)
    shape = {"warc": str(tmp_path / "t.warc.gz")}
    extract_shard(shape, ExtractOptions())
    tracemalloc.start()
    try:
        table, _ = extract_shard(shape, ExtractOptions())
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert table.num_rows == 40
    assert peak < 40 * 500_000 / 2


# --- the main text ----------------------------------------------------------------------------------------------------

CASES = SHARED.parents[1] / "cases" / "extract.jsonl"


@pytest.mark.skipif(not CASES.is_file(), reason="../shared/cases/extract.jsonl is absent")
def test_cases() -> None:
    """The pages that were seen to fail."""
    for line in CASES.read_text().splitlines():
        case = json.loads(line)
        text = extract(case["html"])[1]
        assert [s for s in case["contains"] if s not in text] == [], case["id"]
        assert [s for s in case["lacks"] if s in text] == [], case["id"]


S = "This is a sentence about the weather, the sea and the boats that go out on it in the morning. " * 3


@pytest.mark.parametrize(
    ("html", "contains", "lacks"),
    [
        (f"<main><p>{S}</p><h3><button>When does the gate close?</button></h3><p>At high tide.</p><p>{S}</p></main>", ["When does the gate close?\n\nAt high tide."], []),
        (f"<main><p>{S}</p><dl><dt><button>Open?</button></dt><dd>At nine in the morning.</dd></dl><p>{S}</p></main>", ["Open?", "At nine"], []),
        (f"<main><p>{S}</p><div class=faq><summary>Loose question?</summary><p>Loose answer.</p></div><p>{S}</p></main>", ["Loose question?", "Loose answer."], []),
        (f"<article><p>{S}</p><aside><p>A note at the side: {S}</p></aside><p>{S}</p></article>", ["A note at the side"], []),
        (f"<article><p>{S}</p><figure><img src=a><figcaption>The wall in 1900.</figcaption></figure><p>{S}</p></article>", ["The wall in 1900."], []),
        (f"<article><p>{S}</p><section id=related-work><h2>Related work</h2><p>Others built walls. {S}</p></section></article>", ["Others built walls."], []),
        (f"<main><p>{S}</p></main><div id=onetrust-banner-sdk><p>We use cookies on this site. {S[:90]}</p></div>", [], ["We use cookies"]),
        (f"<main><p>{S}</p><div class='share-buttons'><a href=1>Facebook</a> <a href=2>Mail it</a></div><p>{S}</p></main>", [], ["Facebook", "Mail it"]),
        (f"<main><p>{S}</p><table><tr><th>Name</th><th>Age</th></tr><tr><td>Ann</td><td>7</td></tr></table><p>{S}</p></main>", ["Name | Age\nAnn | 7"], ["NameAge"]),
        (f"<main><p>{S}</p><pre><code>def f(x):\n    return x\n</code></pre><p>{S}</p></main>", ["def f(x):\n    return x"], []),
        (f"<main><p>{S}</p><ol><li>First<ul><li>Inner</li></ul></li><li>Second</li></ol><p>{S}</p></main>", ["First\nInner\nSecond"], ["FirstInner"]),
        (f"<main><p>{S}</p><p>one<br>two<br><br>three</p></main>", ["one\ntwo\n\nthree"], ["onetwo"]),
        (f"<main><p>{S}</p><p>H<sub>2</sub>O and <b>bo</b>ld x<sup>2</sup></p></main>", ["H2O and bold x2"], []),
        (f"<main><p>{S}</p><blockquote>Quoted words.<p>More of them.</p></blockquote></main>", ["Quoted words.\n\nMore of them."], []),
        (f"<nav><ul><li><a href=/>Home</a></li></ul></nav><main><p>{S}</p></main><footer><p>Imprint and more words</p></footer>", [], ["Home", "Imprint"]),
        (f"<body><div class='page has-sidebar no-comments'><div class=entry><p>{S}</p><p>{S}</p></div></div></body>", ["This is a sentence"], []),
        (f"<form id=aspnetForm><div><p>{S}</p><p>{S}</p><select><option>Pick one</option></select></div></form>", ["This is a sentence"], ["Pick one"]),
        (f"<main><p>{S}</p><details><summary>More</summary><ul><li>Kept item</li></ul></details></main>", ["More", "Kept item"], ["MoreKept"]),
        (f"<main><p>{S}</p><p>zero\u200bwidth\u2060joined \ufeffmark a&nbsp;b&shy;c</p></main>", ["zerowidthjoined mark a bc"], ["\u00ad"]),
        (f"<main><p>{S}</p><script>var x = 'code';</script><style>p {{}}</style><p>Last words here.</p></main>", ["Last words here."], ["var x"]),
        (f"<main><h1>Steps</h1><ul>{''.join(f'<li>Step {i}: turn the key and wait until the light is on.</li>' for i in range(6))}</ul></main>", ["Step 0", "Step 5"], []),
        (f"<article><p>{S}</p></article><section class=comments><p>A reader says: {S[:80]}</p></section>", [], ["A reader says"]),
        (f"<div class=comment><p>{S}</p></div><div class=comment><p>Second post. {S}</p></div>", ["This is a sentence", "Second post."], []),
        # what points to where it stands, and numbers beside lines
        (f"<main><h2>Install<a class=headerlink href='#i'>¶</a></h2><p>{S}</p><h2><a aria-hidden=true href='#u'>#</a>Use</h2><p>{S}</p></main>", ["Install\n\n", "\n\nUse"], ["¶", "#"]),
        (f"<article><p>{S}<sup><a href='#f'>1</a></sup></p><ol class=footnotes><li id=f>A note of the author. <a href='#r'>↩︎</a></li></ol></article>", ["A note of the author."], ["↩"]),
        (f"<main><p>{S}</p><p>In C<a href=/c>#</a>, and in <a href=/f>F#</a>.</p></main>", ["in F#."], []),
        (f"<main><p>{S}</p><table><tr><td><div><pre>9\n10\n11</pre></div></td><td><pre>def f():\n    return 1</pre></td></tr></table></main>", ["def f():\n    return 1"], ["10"]),
        (f"<main><p>{S}</p><table><tr><td class=gutter><pre><span>1</span><br><span>2</span></pre></td><td><pre>x = 1\ny = 2</pre></td></tr></table></main>", ["x = 1\ny = 2"], ["1\n2\n"]),
        (f"<main><p>{S}</p><pre>1\n2\n3</pre><p>{S}</p></main>", ["1\n2\n3"], []),
        (f"<main><p>{S}</p><table><tr><td>Primes</td><td><pre>2\n3\n5</pre></td></tr></table></main>", ["2\n3\n5"], []),
        (f"<main><p>{S}</p><pre>{'7' * 5000}</pre></main>", ["7777"], []),
        # formulas
        (f"<main><p>{S}</p><p>Let <math><mi>x</mi><mo>=</mo><mn>1</mn></math>, so.</p></main>", ["Let x = 1, so."], []),
        (f"<main><p>{S}</p><p>Let <span style='display:none'><math alttext='x^2'><mi>x</mi><mn>2</mn></math></span><img alt=x src=a> be.</p></main>", ["Let x^2 be."], []),
        (f"<main><p>{S}</p><p>Let <span><math><semantics><mi>x</mi><annotation encoding='application/x-tex'>\\frac12</annotation></semantics></math></span><span aria-hidden=true><b>12</b></span> be.</p></main>", ["Let \\frac12 be."], []),
        *((f"<main><p>{S}</p><p>Let <math><semantics><mi>x</mi><annotation encoding='{name}'>\\frac12</annotation></semantics></math> be.</p></main>", ["Let \\frac12 be."], []) for name in ("TeX", "LaTeX", "application/x-TeX", "application/x-latex")),
        *((f"<main><p>{S}</p><p>Let <math><semantics><mi>x</mi><{other}>y</{other.split()[0]}></semantics></math> be.</p></main>", ["Let x be."], ["y"]) for other in ("annotation encoding='StarMath 5.0'", "annotation encoding='text/plain'", "annotation", "annotation-xml encoding='MathML-Content'")),
        (f"<main><p>{S}</p><p>Let <math alttext=' '><semantics><mi>x</mi><annotation encoding=TeX> </annotation></semantics></math> be.</p></main>", ["Let x be."], []),
        (f"<main><p>{S}</p><p>Let <math><semantics><mi>x</mi><annotation encoding=StarMath>y</annotation><annotation encoding=TeX>\\chi</annotation></semantics></math> be.</p></main>", ["Let \\chi be."], ["y"]),
        # names that say how a box is set, and those of a post's tags
        (f"<div><div class=post><p>One. {S}</p></div><div class='hentry post tag-social category-promo'><p>Two. {S}</p></div><p>{S}</p></div>", ["One.", "Two."], []),
        (f"<div><div class=part><p>One. {S}</p></div><div class='part comments-open'><p>Two. {S}</p></div><div class='no-sidebar'><p>Three. {S}</p></div></div>", ["One.", "Two.", "Three."], []),
        (f"<div><div class='post-content social-share-enabled'><p>One. {S}</p></div><div><p>Two. {S}</p><p>{S}</p></div></div>", ["One.", "Two."], []),
        (f"<article class='hentry'><p>{S}</p><p>{S}</p><div class=tag-list><p>Boats and sea and boats again.</p></div></article>", [], ["Boats and"]),
        # markup that is hardly any
        (f"<main><p>{S}<p>Two, unclosed. {S[:90]}<ul><li>one<li>two</main>", ["Two, unclosed.", "one\ntwo"], []),
        (f"<font>{S}<br><br>Second part.<br>Third<!-- no --> part.</font>", ["Second part.\nThird part."], []),
        (f"<main><p>{S}</p><a href=/x><h2>A heading that is a link</h2></a><p>{S}</p></main>", ["A heading that is a link"], []),
        (f"<main><p>{S}</p><xmp><b>raw</b></xmp></main>", ["<b>raw</b>"], []),
        (f"<main><p>{S}</p><p><ruby>漢<rp>(</rp><rt>かん</rt><rp>)</rp></ruby>字 super<wbr>long</p></main>", ["漢(かん)字 superlong"], []),
        (f"<main><p>{S}</p><table><caption>Caption</caption><tr><th>A<tr><td>1<tfoot><tr><td>Sum</table></main>", ["Caption", "A\n1\nSum"], []),
        (f"<main><p>{S}</p><div><button>Copy</button><pre>pip install x</pre></div></main>", ["pip install x"], ["Copy"]),
        # questions that are buttons, outside of a heading's element
        (f"<main><p>{S}</p><div class=accordion><button aria-expanded=false>When does it close?</button><div>At high tide.</div></div><p>{S}</p></main>", ["close?\n\nAt high tide."], []),
        (f"<main><p>{S}</p><div role=heading aria-level=3><button>The <b>gate</b></button></div><div>It closes.</div><p>{S}</p></main>", ["The gate\n\nIt closes."], []),
        (f"<main><p>{S}</p><button>いつ閉まりますか？</button><p>{S}</p></main>", ["いつ閉まりますか？"], []),
        (f"<main><p>{S}</p><button aria-expanded=false>Show more</button><p>{S}</p></main>", [], ["Show more"]),
        (f"<main><p>{S}</p><p>Sum is <output>5</output> here.</p></main>", ["Sum is 5 here."], []),
    ],
)  # fmt: skip
def test_main_text(html: str, contains: list[str], lacks: list[str]) -> None:
    """What is text of the page stays, in blocks; what is furniture goes."""
    text = extract(html)[1]
    assert [s for s in contains if s not in text] == [], text
    assert [s for s in lacks if s in text] == [], text


@given(st.text(max_size=200) | st.text("0| \v\f\n\x1c\x85\u2028\xa0\xad\u200b\ufeff", max_size=9))
@example("0\v\xad")
@example("0\v|")
@example("<p>0<p>\u200b<p>0")
@example("<math alttext='\xad'></math>")
@example("<p>0<p>&shy;<p>&#0;<p>&#13;<p>0")
def test_any_markup_can_be_read(html: str) -> None:
    """No page fails, and what comes out is tidy."""
    for page in (html, f"<p>{html}</p>", f"<ul><li>{html}<table><td>{html}"):
        text = extract(page)[1]
        assert text == text.strip("\n")
        assert "\n\n\n" not in text or "<pre" in page


@pytest.mark.parametrize(
    ("html", "title"),
    [
        ("<body><svg><title>Menu</title></svg><p>x", ""),
        ("<body><svg><g><title>Menu</title></g></svg><title>Late</title><p>x", "Late"),
        ("<title>A &amp; B\n <b>c</title><svg><title>Menu</title></svg>", "A & B <b>c"),
    ],
)
def test_title(html: str, title: str) -> None:
    """The page's own, wherever it stands, and not that of a drawing."""
    assert extract(html)[0] == title


def test_head_of_a_page() -> None:
    """One parse gives title, language and canonical address too."""
    page = read_page("<html lang=de-AT><title>\n A &amp; B </title><link rel='x CANONICAL' href=' http://h/c '><p>x")
    assert (page.title, page.language, page.canonical, page.noindex, page.text) == (
        "A & B",
        "de-AT",
        "http://h/c",
        False,
        "x",
    )


@pytest.mark.parametrize("depth", [600, 2900])
def test_deep_nesting_costs_no_recursion(depth: int) -> None:
    """Pages too small for the trap may nest as deep as they like."""
    assert extract("<div>" * depth + f"<p>{S}</p>" + "</div>" * depth)[1] == S.strip()


@pytest.mark.parametrize(
    "heading", ["Related work", "See also", "Comments", "Tags", "Share and enjoy", "More on lists"]
)
def test_headings_of_documentation_end_nothing(heading: str) -> None:
    """Only what is a teaser's heading anywhere is one."""
    html = (
        f"<main><h1>Title</h1><p>{S}</p><p>{S[:200]} 2</p><h2>{heading}</h2><p>Last paragraph of the page.</p></main>"
    )
    assert "Last paragraph" in extract(html)[1]


@pytest.mark.parametrize("heading", ["Related articles", "You may also like", "Most read", "Leave a comment"])
def test_teasers_behind_the_text_go(heading: str) -> None:
    html = f"<main><h1>Title</h1><p>{S}</p><p>{S} 2</p><div><h2>{heading}</h2><p>Another story altogether.</p></div></main>"
    assert "Another story" not in extract(html)[1]


def test_pages_that_the_crawler_cut(tmp_path: Path) -> None:
    """Read by default; left out by option, and counted."""
    with gzip.open(archive(tmp_path, page("a"), page("b"))) as source:
        plain = source.read()
    name = tmp_path / "cut.warc.gz"
    name.write_bytes(
        gzip.compress(plain.replace(b"WARC-Type: response", b"WARC-Truncated: length\r\nWARC-Type: response", 1))
    )
    assert extract_shard({"warc": str(name)}, ExtractOptions())[0].num_rows == 2
    table, ledger = extract_shard({"warc": str(name)}, ExtractOptions(keep_truncated=False))
    assert table["url"].to_pylist() == ["http://h/b"]
    assert ledger.check("cut").units["records"].dropped["cut_by_crawler"] == 1
