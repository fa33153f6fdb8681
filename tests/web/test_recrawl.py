"""A site is crawled again: what has not changed is not sent again, and is found by what the archive refers to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from warcio.archiveiterator import ArchiveIterator

from cpt_ray.artifacts import Manifest
from cpt_ray.web.archive import read_archive
from cpt_ray.web.options import CrawlOptions
from cpt_ray.web.warc import NOT_MODIFIED, captures
from pipelines import crawl as pipeline
from tests.web.conftest import Answer, serve
from tests.web.test_crawl import fetched, links
from tests.web.test_shards import here

Crawl = Callable[..., Manifest]
DAY = "Wed, 21 Oct 2026 07:28:00 GMT"


class Pages:
    """A site whose pages have versions; `sent` are those that went out whole, `asked` the conditions."""

    def __init__(self) -> None:
        self.version = dict.fromkeys(("", "tagged", "dated", "plain", "deep"), 1)
        self.sent: list[str] = []
        self.asked: dict[str, dict[str, str]] = {}

    def answers(self) -> dict[str, Answer]:
        return {"/robots.txt": "", **{f"/{name}": self._answer(name) for name in self.version}}

    def _answer(self, name: str) -> Callable[[web.BaseRequest], Any]:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            version = self.version[name]
            tag, date = f'"{name}-{version}"', DAY.replace("21", f"{20 + version}")
            headers = {"Content-Type": "text/html", "X-Version": str(version)}
            headers |= {"ETag": tag} if name in ("tagged", "", "deep") else {}
            headers |= {"Last-Modified": date} if name in ("dated", "") else {}
            given = {k: v for k, v in request.headers.items() if k in ("If-None-Match", "If-Modified-Since")}
            self.asked[name] = given
            if given.get("If-None-Match") == tag or ("ETag" not in headers and given.get("If-Modified-Since") == date):
                return web.Response(status=304, headers=headers)
            self.sent.append(name)
            to = {"": ("/tagged", "/dated", "/plain"), "tagged": ("/deep",)}.get(name, ())
            return web.Response(text=f"<p>version {version}</p>" + links(*to), headers=headers)

        return answer


def recrawl(run_crawl: Crawl, pages: Pages, name: str, *previous: Path) -> Manifest:
    pages.sent.clear()
    with serve(pages.answers()) as site:
        return run_crawl(site, name, sitemaps=False, previous=tuple(map(str, previous)))


def test_what_has_not_changed_is_not_sent_again(run_crawl: Crawl, tmp_path: Path) -> None:
    """Neither with a tag nor with a date; what lies behind it is crawled all the same; a changed page is fetched."""
    pages, first, second, third = Pages(), *(tmp_path / name for name in ("first", "second", "third"))
    recrawl(run_crawl, pages, "first")
    assert sorted(pages.sent) == ["", "dated", "deep", "plain", "tagged"]
    assert all(not given for given in pages.asked.values())
    pages.version["deep"] = 2
    manifest = recrawl(run_crawl, pages, "second", first)
    assert sorted(pages.sent) == ["deep", "plain"]  # changed, and without a version
    assert pages.asked[""] == {"If-None-Match": '"-1"', "If-Modified-Since": DAY}
    assert pages.asked["dated"] == {"If-Modified-Since": DAY}
    assert pages.asked["plain"] == {}
    count = manifest.balance.units["urls"]
    assert (count.read, count.kept, dict(count.dropped)) == (5, 2, {"not_modified": 3})
    assert fetched(str(second)) == ["http://site.example/deep", "http://site.example/plain"]
    # Of several captures the latest one is asked about; what was not sent the second time is known from the first.
    pages.version["tagged"] = 2
    recrawl(run_crawl, pages, "third", second, first)
    assert sorted(pages.sent) == ["plain", "tagged"]
    assert pages.asked["deep"] == {"If-None-Match": '"deep-2"'}
    assert fetched(str(third)) == ["http://site.example/plain", "http://site.example/tagged"]


def test_a_revisit_record_refers_to_the_capture(run_crawl: Crawl, tmp_path: Path) -> None:
    """As warcio reads it: the profile, the record's id and date, the answer's head; and our reader names it."""
    pages = Pages()
    recrawl(run_crawl, pages, "first")
    recrawl(run_crawl, pages, "second", tmp_path / "first")
    known = {one.group.url: one for one in captures(str(tmp_path / "first"))}
    found = []
    with open(tmp_path / "second" / "crawl-00000.warc.gz", "rb") as source:
        for record in ArchiveIterator(source):
            if record.rec_type == "revisit":
                name = record.rec_headers.get_header
                earlier = known[name("WARC-Target-URI")]
                assert name("WARC-Profile") == NOT_MODIFIED
                assert name("WARC-Refers-To") == earlier.record
                assert name("WARC-Refers-To-Date") == earlier.date
                assert record.http_headers.get_statuscode() == "304"
                found.append(name("WARC-Target-URI"))
    assert sorted(found) == [f"http://site.example/{name}" for name in ("", "dated", "deep", "tagged")]
    with open(tmp_path / "first" / "crawl-00000.warc.gz", "rb") as source:
        ids = {r.rec_headers.get_header("WARC-Record-ID") for r in ArchiveIterator(source) if r.rec_type == "response"}
    assert {one.record for one in known.values()} <= ids
    kinds = [r.kind for r in read_archive(str(tmp_path / "second" / "crawl-00000.warc.gz"))]
    assert kinds.count("revisit") == 4


@pytest.mark.parametrize(("first", "second"), [(1, 3), (3, 1), (2, 4)])
def test_the_number_of_shards_may_change(tmp_path: Path, first: int, second: int) -> None:
    """What other shards have of a host is known to the shard that has it now, and to those that go on with its crawl."""
    pages, given = Pages(), {"sitemaps": False, "previous": (str(tmp_path / "a"),)}
    with serve(pages.answers()) as site:
        here(tmp_path / "a", site, first, sitemaps=False)
        assert len(pages.sent) == 5 * 5  # of five hosts
        pages.sent.clear()
        pages.version["deep"] = 2
        told = here(tmp_path / "b", site, second, **given)
        assert sorted(pages.sent) == ["deep"] * 5 + ["plain"] * 5
        count = told.ledger.units["urls"]
        assert (count.read, count.kept, dict(count.dropped)) == (25, 10, {"not_modified": 15})
        pages.sent.clear()
        again = here(tmp_path / "b", site, first, **given)
        assert (again.ledger, pages.sent, again.resumed) == (told.ledger, [], 25)
    assert len(list(captures(str(tmp_path / "a")))) == 4 * 5  # all but those without a version


def test_a_304_that_nobody_asked_for_is_no_page(run_crawl: Crawl) -> None:
    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        return web.Response(status=304)

    with serve({"/robots.txt": "", "/": answer}) as site:
        manifest = run_crawl(site, sitemaps=False)
    assert dict(manifest.balance.units["urls"].dropped) == {"status_304": 1}


def test_what_was_crawled_before_is_part_of_what_is_crawled(tmp_path: Path) -> None:
    """By content, not by path: the manifests of the earlier crawls are inputs."""
    pages = Pages()
    options = {"seeds": ["http://site.example/"], "allow_private": ["127.0.0.0/8"], "delay": 0, "sitemaps": False}
    made = []
    with serve(pages.answers()) as site:
        for name, previous in (("a", []), ("b", [str(tmp_path / "a")])):
            given = CrawlOptions.model_validate({**options, "previous": previous})
            made.append(pipeline.make(str(tmp_path / name), given, resolve={"site.example": site.address}))
    assert made[1].inputs["previous 0"] == made[0].digest
    assert CrawlOptions(previous=("x",)).result() == CrawlOptions().result()
