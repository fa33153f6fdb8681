"""The crawler: from seeds to WARC segments, politely, and resumable at any moment.

1. robots.txt of every host is fetched first; a host whose rules are not known is left alone (`robots`).
2. Sitemaps are read (they are not pages and count for no limit); their pages join the seeds as level 0.
3. Each level of the link graph is fetched with all hosts in parallel and written to the archive as it arrives; the
   links found are the next level.
4. A host that had to be asked twice for anything is *sick*: nobody waits for it. What is asked of it goes on beside the
   levels of the others, what it would add to them is put off, and when the others have nothing left it is taken up
   again, its robots.txt included.

Which pages end up in the archive depends on the site alone, not on timing: see `frontier`. What a killed crawl has
written is read again instead of fetched again: see `warc`. When which host is asked: see `pace`.
"""

from __future__ import annotations

import asyncio
import codecs
import logging
import re
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from aiohttp.resolver import ThreadedResolver
from fsspec.implementations.local import LocalFileSystem
from resiliparse.parse.encoding import detect_encoding

from cpt_ray import __version__
from cpt_ray.addresses import Permission
from cpt_ray.artifacts import Ledger, Manifest, Stage, Work
from cpt_ray.artifacts.places import locate
from cpt_ray.errors import UserError
from cpt_ray.progress import Bar, progress
from cpt_ray.web.addresses import GuardedResolver
from cpt_ray.web.content import BodyError, charset, decode, trap, unpack
from cpt_ray.web.fetch import STALE, Fetcher, Limits, session
from cpt_ray.web.frontier import Found, Frontier
from cpt_ray.web.links import nofollow, page_links, redirect_target, sitemap_links
from cpt_ray.web.options import CrawlOptions
from cpt_ray.web.pace import TRY_AGAIN, Pace
from cpt_ray.web.robots import AGENT, CLOSED, Robots, robots
from cpt_ray.web.url import Origin, Scope, join, normalise, origin
from cpt_ray.web.warc import Committed, Exchange, SegmentWriter, read_exchange

log = logging.getLogger("cpt_ray")

_ROBOTS_REDIRECTS = 5
_FOREIGN_QUERY = re.compile(r"\?[^\"'\s<>]*[^\x00-\x7f]")


def crawl(options: CrawlOptions, work: Work, *, resolve: Mapping[str, str] | None = None) -> Manifest:
    """Crawl into the artifact under way and publish it; what `work.path` already holds is not fetched again.

    `resolve` maps host names to "address:port" in place of DNS. It says where a site is to be found this time and is no
    part of what is crawled; the address needs permission like any other. The ledger's units are "sitemaps" and "urls":
    every distinct URL seen is kept (a page in the archive) or dropped with a reason. Raises UserError for options that
    cannot work.
    """
    seeds = _seeds(options)
    permission = Permission(options.allow_private)
    fs, folder = locate(work.path)
    if not isinstance(fs, LocalFileSystem):
        raise UserError(
            "a crawl appends to its files, which object stores cannot",
            where=work.path,
            fix="write it to a local or shared file system",
        )
    writer = SegmentWriter(
        folder, software=f"{AGENT}/{__version__}", max_records=options.segment_records, max_bytes=options.segment_bytes
    )
    with progress("crawl", unit="pages") as bar:
        run = _Crawl(options, seeds, permission, writer, dict(resolve or {}), bar)
        try:
            asyncio.run(run.run())
        finally:
            writer.close()
    ledger = run.ledger()
    if not ledger.kept:
        log.warning("%s: not one page: %s", work.target, dict(ledger.units["urls"].dropped))
    extra = {
        "hosts": run.host_states(),
        "links_left_out": {reason: count for reason, count in sorted(run.left_out.items()) if count},
        "requests": run.requests,
        "resumed_urls": run.resumed,
    }
    return work.publish(ledger, rows=ledger.kept, extra=extra)


class _Result(NamedTuple):
    """What a URL leads to: where it redirects (for good or for now), the links of a page, what a sitemap names."""

    target: str | None = None
    for_good: bool = False
    links: Set[str] = frozenset()
    sitemaps: Set[str] = frozenset()


class _Job(NamedTuple):
    """What is asked of one host in a round, and what is done with the results."""

    host: str
    task: asyncio.Task[dict[str, _Result]]
    settle: Callable[[Mapping[str, _Result], Mapping[str, Found]], None]
    found: Mapping[str, Found]


@dataclass
class _Crawl:
    options: CrawlOptions
    seeds: tuple[str, ...]
    permission: Permission
    writer: SegmentWriter
    resolve: dict[str, str]
    bar: Bar
    outcomes: Counter[str] = field(default_factory=Counter)
    sitemaps: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    requests: int = 0
    resumed: int = 0

    def __post_init__(self) -> None:
        o = self.options
        self.scope = Scope(o.scope, self.seeds)
        self.frontier = Frontier(
            self.scope,
            max_pages=o.max_pages,
            max_depth=o.max_depth,
            max_redirects=o.max_redirects,
            max_queries=o.max_queries,
        )
        self.recorded: dict[str, Committed] = {group.url: group for group in self.writer.recover()}
        self.agent = f"{AGENT}/{__version__}" + (f" (+{o.contact})" if o.contact else "")
        self.rules: dict[Origin, Robots] = {}
        self.refusals: dict[Origin, str] = {}  # why nothing of an origin is fetched
        self.sitemap_queue: dict[str, Found] = {}
        self.sitemaps_seen: set[str] = set()
        self.sitemaps_asked = 0
        self.without_sitemaps = {origin(seed) for seed in self.seeds} if o.sitemaps else set()
        # Hosts that had to be asked twice, and what waits for them:
        self.sick: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.late: list[_Job] = []
        self.greetings: dict[Origin, asyncio.Task[None]] = {}
        self.ask_again: set[Origin] = set()
        self.pages_put_off: dict[str, Found] = {}
        self.sitemaps_put_off: dict[str, Found] = {}

    def ledger(self) -> Ledger:
        pages, sitemaps = Counter(self.outcomes), Counter(self.sitemaps)
        kept, read = pages.pop("fetched", 0), sitemaps.pop("fetched", 0)
        urls = Ledger.of("urls", read=self.frontier.seen, kept=kept, dropped=pages + self.frontier.dropped)
        return Ledger.of("sitemaps", read=len(self.sitemaps_seen), kept=read, dropped=sitemaps) + urls

    def host_states(self) -> dict[str, int]:
        """Origins by what became of them: how many were crawled, of unknown rules, too slow."""
        return dict(sorted(Counter(self.refusals.get(where, "crawled") for where in self.rules).items()))

    async def run(self) -> None:
        o = self.options
        limits = Limits(o.timeout, o.max_bytes)
        resolver = GuardedResolver(self.permission, self.resolve, ThreadedResolver())
        self.pace = Pace(
            delay=o.delay, per_host=o.per_host, concurrency=o.concurrency, backoff=o.backoff, max_wait=o.max_wait
        )
        async with session(resolver, limits, self.agent, o.concurrency) as client:
            self.fetcher = Fetcher(client, self.permission, limits)
            self.frontier.add(self.seeds, Found(linked=False))
            await self._greet(self.seeds)
            while True:
                self._name_sitemaps()
                if self.sitemap_queue:
                    await self._read_sitemaps()
                elif level := self.frontier.level():
                    await self._level(level)
                elif self.sick or self.ask_again:
                    await self._take_up_the_sick()
                else:
                    return

    # Levels

    async def _level(self, level: Mapping[str, Found]) -> None:
        """Fetch the allowed URLs of a level and put what they link to on the frontier."""
        await self._greet(level)
        allowed = []
        for url, found in level.items():
            if self._is_sick(origin(url).host):
                self.pages_put_off[url] = found
            elif reason := self._reason(url):
                self.outcomes[reason] += 1
            else:
                allowed.append(url)
        await self._round({url: level[url] for url in self.frontier.afford(allowed)}, self._page, self._add_links)

    async def _page(self, url: str) -> _Result:
        exchange = await self._exchange(url, "page")
        self.outcomes[exchange.outcome] += 1
        self.bar.advance(1, dropped=int(exchange.outcome not in ("fetched", "redirect")))
        if exchange.outcome == "redirect":
            return _redirect(exchange)
        return _Result(links=self._links(exchange)) if exchange.outcome == "fetched" else _Result()

    def _links(self, exchange: Exchange) -> set[str]:
        if nofollow(exchange.all_headers("x-robots-tag")):
            self.left_out["of_nofollow_pages"] += 1
            return set()
        body = _unpacked(exchange, self.options.max_bytes)
        declared = charset(exchange.header("content-type"))
        html = decode(body, declared)
        if not html or trap(html) is not None:
            return set()
        name = (
            _codec(declared or detect_encoding(body, from_html_meta=True) or "utf-8")
            if _FOREIGN_QUERY.search(html)
            else "utf-8"
        )
        return page_links(html, exchange.url, charset=name, left_out=self.left_out)

    def _add_links(self, results: Mapping[str, _Result], found: Mapping[str, Found]) -> None:
        """Redirects first: where a seed has moved to for good belongs to the crawl, and so do links to it."""
        for url, result in sorted(results.items()):
            depth, hops, linked = found[url]
            if result.target is None:
                continue
            moved = result.for_good and not linked
            if moved and result.target not in self.scope:
                log.warning("%s has moved to %s, which is crawled in its place", url, result.target)
                self.scope.add(result.target)
            self.frontier.add([result.target], Found(depth, hops + 1, linked=not moved))
        for url, result in results.items():
            self.frontier.add(result.links, Found(found[url].depth + 1))

    # Sitemaps

    def _name_sitemaps(self) -> None:
        """Put the sitemaps of the seeds' hosts on the queue, as soon as robots.txt has been read."""
        known = {where for where in self.without_sitemaps if where in self.rules and not self._is_sick(where.host)}
        self.without_sitemaps -= known
        for where in known:
            if where not in self.refusals:
                named = {link for line in self.rules[where].sitemaps if (link := join(f"{where}/robots.txt", line))}
                self._queue_sitemaps(named or {f"{where}/sitemap.xml"}, Found())

    def _queue_sitemaps(self, urls: Iterable[str], found: Found) -> None:
        new = set(urls) - self.sitemaps_seen
        self.sitemaps_seen |= new
        self.sitemap_queue |= dict.fromkeys(new, found)

    async def _read_sitemaps(self) -> None:
        """Read the sitemaps on the queue, on whichever host: robots.txt or another sitemap has named them."""
        queue, self.sitemap_queue = dict(sorted(self.sitemap_queue.items())), {}
        await self._greet(queue)
        todo = {}
        for url, found in queue.items():
            if self._is_sick(origin(url).host):
                self.sitemaps_put_off[url] = found
            elif reason := self._reason(url):
                self.sitemaps[reason] += 1
            elif found.hops > self.options.max_redirects:
                self.sitemaps["too_many_redirects"] += 1
            elif self.sitemaps_asked >= self.options.max_sitemaps:
                self.sitemaps["max_sitemaps"] += 1
            else:
                self.sitemaps_asked += 1
                todo[url] = found
        await self._round(todo, self._sitemap, self._add_named)

    async def _sitemap(self, url: str) -> _Result:
        exchange = await self._exchange(url, "sitemap")
        result, outcome = _Result(), exchange.outcome
        if outcome == "redirect":
            result = _redirect(exchange)
        elif outcome == "fetched":
            most = 10 * self.options.max_bytes
            left_out: Counter[str] = Counter()
            inner, pages = sitemap_links(_unpacked(exchange, most), url, most, left_out=left_out)
            result = _Result(links=pages, sitemaps=inner)
            outcome = "no_sitemap" if left_out.pop("no_sitemap") else outcome
            self.left_out["of_truncated_sitemaps"] += left_out.pop("truncated")
            self.left_out += left_out
        self.sitemaps[outcome] += 1
        return result

    def _add_named(self, results: Mapping[str, _Result], found: Mapping[str, Found]) -> None:
        for url, result in sorted(results.items()):
            self._queue_sitemaps(result.sitemaps, Found())
            if result.target is not None:
                self._queue_sitemaps([result.target], Found(hops=found[url].hops + 1))
            self.frontier.add(result.links, Found())

    # Rounds, and the hosts that nobody waits for

    async def _round(
        self,
        urls: Mapping[str, Found],
        visit: Callable[[str], Awaitable[_Result]],
        settle: Callable[[Mapping[str, _Result], Mapping[str, Found]], None],
    ) -> None:
        """Visit all URLs, every host's in order with workers of its own, and settle what comes of it.

        Returns when every host is done or sick. The results of a sick host come later, even if it has recovered in the
        meantime: how quickly it does must not show.
        """
        queues: defaultdict[str, dict[str, Found]] = defaultdict(dict)
        for url, found in urls.items():
            queues[origin(url).host][url] = found
        jobs = [
            _Job(host, asyncio.create_task(self._visit_all(list(queue), visit)), settle, queue)
            for host, queue in queues.items()
        ]
        await asyncio.gather(*(self._done_or_sick(job.host, job.task) for job in jobs))
        results: dict[str, _Result] = {}
        for job in jobs:
            if self._is_sick(job.host):
                self.late.append(job)
            else:
                results |= job.task.result()
        settle(results, urls)

    async def _visit_all(self, urls: list[str], visit: Callable[[str], Awaitable[_Result]]) -> dict[str, _Result]:
        results: dict[str, _Result] = {}
        queue = urls[::-1]

        async def worker() -> None:
            while queue:
                url = queue.pop()
                results[url] = await visit(url)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.options.per_host, len(urls))):
                group.create_task(worker())
        return results

    async def _done_or_sick(self, host: str, task: asyncio.Task[Any]) -> None:
        is_sick = asyncio.create_task(self.sick[host].wait())
        await asyncio.wait({task, is_sick}, return_when=asyncio.FIRST_COMPLETED)
        is_sick.cancel()
        if task.done():
            task.result()

    def _is_sick(self, host: str) -> bool:
        return host in self.sick and self.sick[host].is_set()

    async def _take_up_the_sick(self) -> None:
        """The others have nothing left: wait for the sick hosts, ask for unknown rules once more, and go on with them."""
        late, self.late = self.late, []
        await asyncio.gather(*(job.task for job in late), *self.greetings.values())
        self.greetings.clear()
        again, self.ask_again = self.ask_again, set()
        await asyncio.gather(*(self._learn(where, last=True) for where in again))
        self.sick.clear()
        for job in late:
            job.settle(job.task.result(), job.found)
        self.frontier.put_back(self.pages_put_off)
        self.sitemap_queue |= self.sitemaps_put_off
        self.pages_put_off, self.sitemaps_put_off = {}, {}

    # Hosts and their rules

    async def _greet(self, urls: Iterable[str]) -> None:
        """Fetch the robots.txt of the origins of these URLs that are new, except where the host is sick."""
        new = sorted({origin(url) for url in urls} - self.rules.keys() - self.greetings.keys())
        new = [where for where in new if not self._is_sick(where.host)]
        self.greetings |= {where: asyncio.create_task(self._learn(where)) for where in new}
        await asyncio.gather(*(self._done_or_sick(where.host, self.greetings[where]) for where in new))
        for where in new:
            if not self._is_sick(where.host):
                del self.greetings[where]

    async def _learn(self, where: Origin, *, last: bool = False) -> None:
        """Ask for the rules of an origin; if the answer may be another later, and this is not the `last` time, again."""
        rules, outcome = await self._robots(where, last)
        self.rules[where] = rules
        self.refusals.pop(where, None)
        if not rules.reachable:
            named = outcome in ("private_address", "unknown_host")
            self.refusals[where] = outcome if named else "robots_unreachable"
            if outcome in TRY_AGAIN and not last:
                self.ask_again.add(where)
        elif rules.crawl_delay is not None and rules.crawl_delay > self.options.max_delay:
            self.refusals[where] = "crawl_delay_too_long"
        elif rules.crawl_delay is not None:
            self.pace.crawl_delay(where.host, rules.crawl_delay)

    async def _robots(self, where: Origin, last: bool) -> tuple[Robots, str]:
        """Always asked anew, on resume too: a permission may have been withdrawn. Five redirects (RFC 9309 2.3.1.2)."""
        at: str | None = f"{where}/robots.txt"
        for _ in range(_ROBOTS_REDIRECTS + 1):
            if at is None:
                break
            exchange = await self._ask(at, "robots", where.host, 1 if last else self.options.retries + 1)
            if at == f"{where}/robots.txt" and at not in self.recorded and (last or exchange.outcome not in TRY_AGAIN):
                outcome = "robots_txt" if exchange.outcome == "fetched" else exchange.outcome
                self.recorded[at] = self.writer.write(replace(exchange, outcome=outcome))
            if exchange.outcome != "redirect":
                coding = exchange.header("content-encoding")
                return robots(exchange.status or None, exchange.body, AGENT, coding=coding), exchange.outcome
            at = redirect_target(at, exchange.header("location"))
        return CLOSED, "redirect"

    def _reason(self, url: str) -> str | None:
        """Why a URL is not fetched, None if it may be."""
        where = origin(url)
        return self.refusals.get(where) or (None if self.rules[where].allows(url) else "robots")

    # Requests

    async def _exchange(self, url: str, kind: str) -> Exchange:
        """The exchange for an allowed URL, from the archive if it is there, else fetched and archived."""
        host = origin(url).host
        if url in self.recorded:
            self.resumed += 1
            exchange = read_exchange(self.recorded[url])
        else:
            exchange = await self._ask(url, kind, host, self.options.retries + 1)
            if kind == "page" and exchange.outcome == "fetched" and _is_bomb(exchange, self.options.max_bytes):
                exchange = Exchange(url, "too_large", exchange.started, attempts=exchange.attempts)
            self.recorded[url] = self.writer.write(exchange)
        if exchange.attempts > 1:
            self.sick[host].set()  # in a resumed crawl too, which is to go the way of the first
        return exchange

    async def _ask(self, url: str, kind: str, on_behalf_of: str, attempts: int) -> Exchange:
        """Ask for a URL, several times if that may help, in the pace of the host that is asked."""
        host = origin(url).host
        attempt = 1
        while True:
            given_up = Exchange(url, "host_given_up", datetime.now(UTC), attempts=attempt)
            if self.pace.gave_up(host):
                return given_up
            async with self.pace.turn(host) as turn:
                if self.pace.gave_up(host):
                    return given_up
                exchange = await self.fetcher.fetch(url, kind, turn.answered)
                wait = self.pace.heard(turn, exchange, attempt)
            self.requests += 1
            if exchange.outcome == STALE:
                continue  # every time one kept connection fewer
            if wait is None:
                break
            if attempt == attempts:
                self.pace.failed(host, exchange)
                break
            attempt += 1
            self.sick[on_behalf_of].set()
            await asyncio.sleep(wait)
        return replace(exchange, attempts=attempt)


def _seeds(options: CrawlOptions) -> tuple[str, ...]:
    found = {seed: normalise(seed) for seed in options.seeds}
    for seed, url in found.items():
        if url is None:
            raise UserError(
                f"not an http(s) URL: {seed!r}", where="seeds", fix='write it out, as in "https://docs.example.org/"'
            )
    if not found:
        raise UserError("nothing to crawl", where="seeds", fix="name at least one URL")
    if not options.contact and not options.allow_private:
        raise UserError(
            "no contact given, and sites have a right to know who is asking",
            where="contact",
            fix='give an e-mail address or a URL, such as "me@example.org"',
        )
    return tuple(sorted(url for url in found.values() if url))


def _redirect(exchange: Exchange) -> _Result:
    target = redirect_target(exchange.url, exchange.header("location"))
    return _Result(target, exchange.status in (HTTPStatus.MOVED_PERMANENTLY, HTTPStatus.PERMANENT_REDIRECT))


def _unpacked(exchange: Exchange, max_bytes: int) -> bytes:
    try:
        return unpack(exchange.body, exchange.header("content-encoding"), max_bytes)
    except BodyError:
        return b""


def _is_bomb(exchange: Exchange, max_bytes: int) -> bool:
    """Whether a body is small as it was sent and too large when unpacked."""
    try:
        unpack(exchange.body, exchange.header("content-encoding"), max_bytes)
    except BodyError as error:
        return error.reason == "too_large"
    return False


def _codec(name: str) -> str:
    """The codec in which the queries of a page's links are escaped: its own, but UTF-8 for UTF-16 (WHATWG Encoding)."""
    try:
        found = codecs.lookup(name).name
    except LookupError:
        return "utf-8"
    return "utf-8" if found.startswith("utf") else found


CRAWL = Stage("crawl", version=2, unit="sitemaps")
