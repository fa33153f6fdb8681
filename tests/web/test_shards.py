"""A crawl whose hosts are divided among shards: the pages, the counts and the politeness of one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cpt_ray.addresses import Permission
from cpt_ray.cluster import ClusterOptions, Gone, connect
from cpt_ray.errors import UserError
from cpt_ray.progress import Bar
from cpt_ray.web import crawl, warc
from cpt_ray.web.archive import read_archive
from cpt_ray.web.crawl import Shard, Site, Told, together, walked
from cpt_ray.web.options import CrawlOptions
from cpt_ray.web.rounds import shard_of
from cpt_ray.web.warc import OPEN, SegmentWriter, complete_segments, segments
from pipelines.crawl import make
from tests.ray_nodes import Driver, Nodes
from tests.web.conftest import Asked, RawSite, ok, serve_raw, status
from tests.web.test_crawl import links
from tests.web.test_warc import page

CRAWL_KILLS = int(os.environ.get("CRAWL_KILLS", "10"))
HOSTS = [f"h{i}.example" for i in range(8)]
NONE = status(404)


def pages(folder: Path) -> dict[str, bytes]:
    """By URL the body of every page in an archive, whole segments or not; none is there twice."""
    found = {}
    for segment in segments(str(folder)):
        for record in read_archive(segment):
            assert record.reason is None
            if record.kind == "response":
                assert (record.url, record.status) not in found
                found[f"{record.status} {record.url}"] = record.body or b""
    return {url: body for url, body in found.items() if not url.endswith("/robots.txt")}


def here(folder: Path, site: RawSite, of: int, hosts: Sequence[str] = HOSTS, **changes: Any) -> Told:
    """Crawl by so many shards in this process."""
    values: dict[str, Any] = {
        "seeds": tuple(f"http://{host}/" for host in hosts[:5]),
        "allow_private": ("127.0.0.1/32",),
        "delay": 0.0,
        "backoff": 0.01,
        "scope": "any",
        "shards": of,
    }
    options = CrawlOptions(**values | changes)
    chosen = Site(options, options.seeds, Permission(options.allow_private), dict.fromkeys(hosts, site.address))
    (folder / "locks").mkdir(parents=True, exist_ok=True)
    complete_segments(str(folder), str(folder / "locks"), of)
    shards = [Shard(chosen, str(folder), str(folder / "locks"), number, of, False) for number in range(of)]
    return together(asyncio.run(walked(shards, options, Bar("crawl", None, "pages", None, None))))


def web(asked: Asked) -> bytes:
    """Hosts that link to each other, name each other's sitemaps, move, forbid, are sick, and hide behind each other."""
    number = HOSTS.index(asked.host)
    other, path = HOSTS[(number * 3 + 1) % 8], asked.path
    if path == "/robots.txt":
        if number == 6:
            return status(302, f"Location: http://{other}/rules.txt")
        lines = "User-agent: *\nDisallow: /private\n" + (f"Sitemap: http://{other}/map.xml\n" if number % 2 else "")
        return ok(lines, "Content-Type: text/plain") if number != 4 else NONE
    if path == "/rules.txt":
        return ok("User-agent: *\nDisallow: /2\n", "Content-Type: text/plain")
    if path == "/map.xml":
        return ok(f"<urlset><url><loc>http://{other}/mapped</loc></url></urlset>", "Content-Type: text/xml")
    if number == 2 and path == "/":
        return status(301, f"Location: http://{other}/home")
    if number == 3 and path in ("/1", "/5") and asked.before == 0:
        return status(503, "Retry-After: 0")
    if path == "/4":
        return status(302, f"Location: http://{HOSTS[(number + 5) % 8]}/moved")
    name = path.strip("/")
    deeper = [] if len(name) > 2 else [f"/{name}{i}" for i in range(3)] if name.isdigit() else ["/1", "/2", "/4", "/5"]
    return ok(links(*deeper, "/private/x", f"http://{other}/{len(path)}", f"http://{other}{path}"))


@pytest.mark.parametrize("changes", [{}, {"max_pages": 60}, {"max_pages": 3}, {"max_sitemaps": 2}, {"scope": "host"}])
def test_the_number_of_shards_does_not_show(tmp_path: Path, changes: dict[str, Any]) -> None:
    """The same pages with the same bytes and the same counts, whatever the budget cuts off."""
    told, found = {}, {}
    for of in (1, 2, 4):
        with serve_raw(web) as site:
            told[of] = here(tmp_path / str(of), site, of, **changes)
        found[of] = pages(tmp_path / str(of))
    assert len(found[1]) > 2
    for of in (2, 4):
        assert found[of] == found[1]
        assert told[of].ledger == told[1].ledger
        assert (told[of].hosts, told[of].left_out) == (told[1].hosts, told[1].left_out)


def test_shards_have_hosts_of_their_own(tmp_path: Path) -> None:
    """No host's pages are in two shards' segments, and more than one shard has some."""
    with serve_raw(web) as site:
        here(tmp_path, site, 3)
    of: dict[str, set[str]] = defaultdict(set)
    for segment in segments(str(tmp_path)):
        for group in warc.committed(segment):
            of[group.url.split("/")[2]].add(os.path.basename(segment).split("-")[1])
    assert of.keys() == set(HOSTS)
    assert all(len(names) == 1 for names in of.values())
    assert len(set.union(*of.values())) > 1


def test_a_robots_txt_on_the_host_of_another_shard_is_asked_for_in_its_pace(tmp_path: Path) -> None:
    """Hosts of both shards whose rules have all moved to one host: it is asked at its distance, by its own shard."""
    hosts = [f"r{i}.example" for i in range(6)]
    assert {shard_of(host, 2) for host in hosts} == {0, 1}

    def answer(asked: Asked) -> bytes:
        if asked.path == "/robots.txt" and asked.host != hosts[0]:
            return status(301, f"Location: http://{hosts[0]}/rules-of-{asked.host}")
        if asked.path.startswith("/rules"):
            return ok("User-agent: *\nDisallow: /x\n", "Content-Type: text/plain")
        return NONE if asked.path == "/robots.txt" else ok(links("/x", "/y"))

    with serve_raw(answer) as site:
        told = here(
            tmp_path, site, 2, hosts, seeds=tuple(f"http://{host}/" for host in hosts), delay=0.1, sitemaps=False
        )
    assert told.ledger.units["urls"].dropped == {"robots": 5}
    assert min(site.distances(hosts[0])) >= 0.1
    assert len(site.paths(hosts[0])) == 5 + len(["/robots.txt", "/", "/x", "/y"])


def test_a_crawl_goes_on_with_another_number_of_shards(tmp_path: Path) -> None:
    """What 3 have written 1, 2 and 5 do not ask for again, an interrupted segment's whole groups included."""
    with serve_raw(web) as site:
        here(tmp_path / "whole", site, 3)
        here(tmp_path / "cut", site, 3, segment_records=7)
        expected = pages(tmp_path / "whole")
        last = segments(str(tmp_path / "cut"))[-1]
        os.truncate(last, os.path.getsize(last) - 10)
        os.rename(last, last + OPEN)
        asked = len(site.asked)
        for of in (1, 5, 2):
            told = here(tmp_path / "cut", site, of, segment_records=7)
            assert pages(tmp_path / "cut") == expected
            assert len([one for one in site.asked[asked:] if not one.path.endswith(".txt")]) <= 1
            assert told.resumed >= len(expected)


def test_a_crawl_that_goes_on_keeps_its_distance_to_what_it_asked_before(tmp_path: Path) -> None:
    """Nobody knows when the killed one asked last: nothing is asked before `delay` is over."""
    with serve_raw(lambda asked: NONE if asked.path == "/robots.txt" else ok()) as site:
        options = CrawlOptions(
            seeds=(f"http://{HOSTS[0]}/",), allow_private=("127.0.0.1/32",), delay=0.3, sitemaps=False
        )
        chosen = Site(options, options.seeds, Permission(options.allow_private), {HOSTS[0]: site.address})
        for resumed in (False, True):
            began, before = time.monotonic(), len(site.asked)
            shard = Shard(chosen, str(tmp_path), str(tmp_path), 0, 1, resumed)
            asyncio.run(walked([shard], options, Bar("crawl", None, "pages", None, None)))
        assert site.asked[before].at - began >= 0.3  # of the second; when the first one asks is the machine's matter


def test_a_writer_that_lives_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An actor of a killed crawl holds its lock until it dies; who finds it held for too long says so, and touches nothing."""
    (tmp_path / "locks").mkdir()

    def writer() -> SegmentWriter:
        return SegmentWriter(
            str(tmp_path), software="test", max_records=9, max_bytes=10**9, shard=(1, 2), locks=str(tmp_path / "locks")
        )

    monkeypatch.setattr(warc, "PATIENCE", 0.3)
    first = writer()
    first.recover()
    first.write(page(1))
    for touch in (writer().recover, lambda: complete_segments(str(tmp_path), str(tmp_path / "locks"), 1)):
        with pytest.raises(UserError, match="still writes"):
            touch()
    assert first.write(page(2)).url == "http://h/2"
    first.let_go()
    assert [group.url for group in writer().recover()] == ["http://h/1", "http://h/2"]


@pytest.mark.parametrize("deaths", [2, 99])
def test_actors_that_die_are_replaced(
    tmp_path: Path, run_crawl: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, deaths: int
) -> None:
    """Twice before anything is fetched, as on a node whose death Ray has not noticed: the pages of one; for ever: an error."""
    died = 0

    class Dying:
        """A shard that is away."""

        def __init__(self, shard: Shard) -> None:
            self.shard = shard

        def __getattr__(self, name: str) -> Any:
            return self.visit if name == "visit" else getattr(self.shard, name)

        async def visit(self, kind: Any, share: int) -> Any:
            nonlocal died
            if died < deaths:
                died += 1
                raise Gone("its node has died")
            return await self.shard.visit(kind, share)

    @contextlib.contextmanager
    def actors(kind: Any, given: Sequence[tuple[Any, ...]]) -> Iterator[list[Dying]]:
        yield [Dying(kind(*arguments)) for arguments in given]

    monkeypatch.setattr(crawl, "actors", actors)
    monkeypatch.setattr(crawl, "time", SimpleNamespace(sleep=lambda seconds: None, monotonic=time.monotonic))
    with serve_raw(web) as site:
        many: dict[str, Any] = {"seeds": tuple(f"http://{host}/" for host in HOSTS[:5]), "scope": "any", "shards": 2}
        many["resolve"] = dict.fromkeys(HOSTS, site.address)
        if deaths == 99:
            with pytest.raises(UserError, match="again and again"):
                run_crawl(site, **many)
            return
        run_crawl(site, **many)
        here(tmp_path / "one", site, 1)
    assert {url.split("?")[0] for url in pages(tmp_path / "crawl")} == set(pages(tmp_path / "one"))


DELAY, PER_HOST = 0.1, 2
BUSY = [f"site{i}.example" for i in range(20)]


def busy(asked: Asked) -> bytes:
    """50 pages of each of 20 hosts, with links to the next one, and one folder that is forbidden."""
    if asked.path == "/robots.txt":
        return ok("User-agent: *\nDisallow: /private\n", "Content-Type: text/plain")
    number = int(asked.path.strip("/") or 0)
    other = BUSY[(BUSY.index(asked.host) + 1) % len(BUSY)]
    below = [f"/{child}" for child in range(number * 3 + 1, min(number * 3 + 4, 50))]
    return ok(links(*below, "/private/x", f"http://{other}/{number or ''}") + f"<p>{asked.host}{asked.path}</p>")


def violations(site: RawSite) -> list[str]:
    """Of the delay, of requests at once and of robots.txt, by the server's log."""
    found = [f"{host}: {distance:.3f} s" for host in BUSY for distance in site.distances(host) if distance < DELAY]
    found += [f"{host}: {most} at once" for host, most in site.most_at_once.items() if most > PER_HOST]
    return found + [path for path in site.paths() if path.startswith("/private")]


def drive(folder: str, address: str, cluster: str, shards: int, joined: Any) -> None:
    """The driver: join the cluster and crawl."""
    options = CrawlOptions(
        seeds=tuple(f"http://{host}/" for host in BUSY[:10]),
        allow_private=("127.0.0.1/32",),
        delay=DELAY,
        per_host=PER_HOST,
        scope="any",
        sitemaps=False,
        shards=shards,
    )
    with connect(ClusterOptions(address=cluster)):
        joined.set()
        make(folder, options, resolve=dict.fromkeys(BUSY, address))


@pytest.fixture(scope="module")
def nodes() -> Iterator[Nodes]:
    started = Nodes()
    yield started
    started.kill_all()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, nodes: Nodes) -> dict[str, bytes]:
    """20 hosts, 1,000 pages, by one process alone."""
    folder = tmp_path_factory.mktemp("undisturbed")
    with serve_raw(busy) as site:
        assert Driver(drive, f"{folder}/crawl", site.address, nodes.address, 1).ends(600) == 0
    assert violations(site) == []
    found = pages(folder / "crawl")
    assert len(found) == 1000
    return found


@pytest.mark.slow
@pytest.mark.parametrize("shards", [2, 4])
def test_actors_are_polite_together(tmp_path: Path, nodes: Nodes, undisturbed: dict[str, bytes], shards: int) -> None:
    """20 hosts, 1,000 pages, 0.1 s: no violation in the server's log, and the pages of one process."""
    with serve_raw(busy) as site:
        assert Driver(drive, f"{tmp_path}/crawl", site.address, nodes.address, shards).ends(600) == 0
    assert violations(site) == []
    assert pages(tmp_path / "crawl") == undisturbed
    assert len(site.asked) == 1020


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_crawls_are_killed(tmp_path: Path, nodes: Nodes, undisturbed: dict[str, bytes]) -> None:
    """The driver, an actor and a node in turn, at random moments, with 2 to 4 shards: the same pages, each once, politely."""
    rng, kills = random.Random(17), Counter[str]()
    while sum(kills.values()) < CRAWL_KILLS:
        folder = tmp_path / str(sum(kills.values()))
        with serve_raw(busy) as site:
            driver = Driver(drive, f"{folder}/crawl", site.address, nodes.address, rng.randrange(2, 5))
            for moment in sorted(rng.sample(range(20, 1000), 3)):
                while len(site.asked) < moment and driver.ends(0.01) is None:
                    pass
                what = ("driver", "actor", "node")[sum(kills.values()) % 3]
                if what == "driver" and driver.kill():
                    kills[what] += 1
                    driver = Driver(drive, f"{folder}/crawl", site.address, nodes.address, rng.randrange(2, 5))
                elif what == "actor":
                    kills[what] += nodes.kill_worker(rng, "ray::Shard")
                elif what == "node":
                    nodes.kill(rng)
                    kills[what] += 1
            assert driver.ends(600) == 0
        assert violations(site) == [], kills
        assert pages(folder / "crawl") == undisturbed
        assert len(site.asked) <= 1020 + 12 * (20 + 4 * PER_HOST)
    print(f"killed: {dict(kills)}")
