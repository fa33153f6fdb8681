"""The crawler: from seeds to WARC segments, politely, and resumable at any moment.

1. robots.txt of every host is fetched first; a host whose rules are not known is left alone (`robots`).
2. Sitemaps are read (they are not pages and count for no limit); their pages join the seeds as level 0.
3. Each level of the link graph is fetched with all hosts in parallel and written to the archive as it arrives; the
   links found are the next level.
4. A host that had to be asked twice for anything is *sick*: nobody waits for it. What is asked of it goes on beside the
   levels of the others, what it would add to them is put off, and when the others have nothing left it is taken up
   again, its robots.txt included.

Hosts are divided among *shards*, each with a frontier, a pace and segments of its own: one in this process, or several
as Ray actors, which walk the levels together and write to each other (`rounds`). A host is one shard's alone, so that its
pace holds over the whole crawl; for a robots.txt that has moved to another's host, that one asks.

Which pages end up in the archive depends on the site alone, neither on timing nor on the number of shards: see `frontier`.
What a killed crawl has written is read again instead of fetched again: see `warc`. When which host is asked: see `pace`.
"""

from __future__ import annotations

import asyncio
import codecs
import itertools
import logging
import math
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, NamedTuple

from aiohttp import ClientSession
from aiohttp.resolver import ThreadedResolver
from fsspec.implementations.local import LocalFileSystem

from cpt_ray import __version__
from cpt_ray.addresses import Permission
from cpt_ray.artifacts import Ledger, Manifest, Stage, Work
from cpt_ray.artifacts.places import locate
from cpt_ray.cluster import Gone, actors
from cpt_ray.errors import UserError
from cpt_ray.progress import Bar, progress
from cpt_ray.web.addresses import GuardedResolver
from cpt_ray.web.content import BodyError, charset, decode, encoding, trap, unpack
from cpt_ray.web.fetch import STALE, Fetcher, Limits, session
from cpt_ray.web.frontier import Found, Frontier
from cpt_ray.web.links import nofollow, page_links, redirect_target, sitemap_links
from cpt_ray.web.options import CrawlOptions
from cpt_ray.web.pace import TRY_AGAIN, Pace
from cpt_ray.web.robots import AGENT, CLOSED, Robots, robots
from cpt_ray.web.rounds import Kind, Letter, News, Ready, shard_of, walk
from cpt_ray.web.url import Origin, Scope, join, normalise, origin
from cpt_ray.web.warc import Exchange, SegmentWriter, captures, complete_segments, read_exchange, segments

log = logging.getLogger("cpt_ray")

UNCHANGED = "not_modified"
"""The outcome of a page that an earlier crawl has, and of which the server says that it is the same."""
UNREACHED = frozenset({"unknown_host", "private_address", "connection_failed", "robots_unreachable", "timeout"})
"""Why nothing is known of a page: where it is so of all, nothing was crawled."""
_ROBOTS_REDIRECTS = 5
_IN_VAIN = 6
"""Deaths of actors in a row between which nothing is fetched. After each the pause is doubled, to a minute in all: new actors
may be put on a node that is dead until Ray finds out."""
_REACHES = re.compile(r"\S@\S|https?://\S")
_FOREIGN_QUERY = re.compile(r"\?[^\"'\s<>]*[^\x00-\x7f]")


def crawl(options: CrawlOptions, work: Work, *, resolve: Mapping[str, str] | None = None) -> Manifest:
    """Crawl into the artifact under way and publish it; what `work.path` already holds is not fetched again.

    `resolve` maps host names to "address:port" in place of DNS. It says where a site is to be found this time and is no
    part of what is crawled; the address needs permission like any other. The ledger's units are "sitemaps" and "urls":
    every distinct URL seen is kept (a page in the archive) or dropped with a reason. Raises UserError for options that
    cannot work. More than one shard needs a Ray session. What `options.previous` names are `inputs` of the work.
    """
    site = Site(options, seeds_of(options), Permission(options.allow_private), dict(resolve or {}))
    fs, folder = locate(work.path)
    if not isinstance(fs, LocalFileSystem):
        raise UserError(
            "a crawl appends to its files, which object stores cannot",
            where=work.path,
            fix="write it to a local or shared file system",
        )
    with progress("crawl", unit="pages") as bar:
        total = together(_crawled(site, folder, locate(work.scratch)[1], work.resumed, bar))
    if not total.ledger.kept:
        log.warning("%s: not one page", work.target)
    extra = {
        "hosts": dict(sorted(total.hosts.items())),
        "links_left_out": {reason: count for reason, count in sorted(total.left_out.items()) if count},
        "requests": total.requests,
        "resumed_urls": total.resumed,
    }
    return work.publish(total.ledger, rows=total.ledger.kept, extra=extra)


def _crawled(site: Site, folder: str, locks: str, resumed: bool, bar: Bar) -> list[Told]:
    """Crawl, and what the shards tell of it. When an actor dies, or its node, new ones go on from the archive."""
    of, before, in_vain = site.options.shards, -1, 0
    while True:
        complete_segments(folder, locks, of)
        shards = [(site, folder, locks, number, of, resumed) for number in range(of)]
        if of == 1:
            return asyncio.run(walked([Shard(*shards[0])], site.options, bar))
        try:
            with actors(Shard, shards) as away:
                return asyncio.run(walked(away, site.options, bar))
        except Gone as error:
            archived = sum(os.path.getsize(path) for path in segments(folder, unfinished=True))
            in_vain = in_vain + 1 if archived == before else 0
            if in_vain == _IN_VAIN:
                raise UserError(
                    f"processes of the crawl die again and again before they have fetched anything: {error}",
                    where=folder,
                    fix="see why in Ray's logs; the same command goes on",
                ) from error
            log.warning("a process of the crawl died; others go on from what is in the archive")
            before, resumed = archived, True
            time.sleep(2.0**in_vain)


async def walked(shards: Sequence[Any], options: CrawlOptions, bar: Bar) -> list[Told]:
    """What the shards have counted when they have walked to the end, here or away."""
    try:
        await asyncio.gather(*(shard.meet(list(shards)) for shard in shards))
        await walk(shards, max_sitemaps=options.max_sitemaps, max_pages=options.max_pages, advance=bar.advance)
        return list(await asyncio.gather(*(shard.told() for shard in shards)))
    finally:
        await asyncio.gather(*(shard.close() for shard in shards), return_exceptions=True)


def together(told: Sequence[Told]) -> Told:
    """What all shards have counted."""
    ledgers, hosts, left_out, requests, resumed = zip(*told, strict=True)
    return Told(
        sum(ledgers, Ledger.empty()), sum(hosts, Counter()), sum(left_out, Counter()), sum(requests), sum(resumed)
    )


@dataclass(frozen=True)
class Site:
    """What is crawled: the options, the normalised seeds, which addresses may be contacted, and where names are found."""

    options: CrawlOptions
    seeds: tuple[str, ...]
    permission: Permission
    resolve: dict[str, str]


class Told(NamedTuple):
    """What a shard has counted: `hosts` are origins by what became of them."""

    ledger: Ledger
    hosts: Counter[str]
    left_out: Counter[str]
    requests: int
    resumed: int


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


class Shard:
    """The hosts that are number `number` of `of`: what is found, asked and archived of them.

    `locks` is the folder in which a shard, if it is one of several, keeps the others of its number away from its segments.
    """

    def __init__(self, site: Site, folder: str, locks: str, number: int, of: int, resumed: bool) -> None:
        self.site, self.options, self.number, self.of = site, site.options, number, of
        self.resumed_run = resumed
        o = self.options
        self.writer = SegmentWriter(
            folder,
            software=f"{AGENT}/{__version__}",
            max_records=o.segment_records,
            max_bytes=o.segment_bytes,
            shard=(number, of),
            locks=locks,
        )
        self.peers: Sequence[Any] = [self]
        self.client: ClientSession | None = None
        self.outcomes: Counter[str] = Counter()
        self.sitemaps: Counter[str] = Counter()
        self.left_out: Counter[str] = Counter()
        self.requests = self.resumed = 0
        self.pages = self.failed_pages = 0
        self.scope = Scope(o.scope, site.seeds)
        self.frontier = Frontier(
            self.scope, max_depth=o.max_depth, max_redirects=o.max_redirects, max_queries=o.max_queries
        )
        self.rules: dict[Origin, Robots] = {}
        self.refusals: dict[Origin, str] = {}  # why nothing of an origin is fetched
        self.sitemap_queue: dict[str, Found] = {}
        self.sitemaps_seen: set[str] = set()
        self.proposals: dict[str, Found] = {}
        self.moved: dict[str, str] = {}
        self.mail: defaultdict[tuple[Kind, Found], set[str]] = defaultdict(set)
        # Hosts that had to be asked twice, and what waits for them:
        self.sick: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self.late: list[_Job] = []
        self.greetings: dict[Origin, asyncio.Task[None]] = {}
        self.ask_again: set[Origin] = set()
        self.pages_put_off: dict[str, Found] = {}
        self.sitemaps_put_off: dict[str, Found] = {}

    async def meet(self, shards: Sequence[Any]) -> None:
        """All shards, by their numbers."""
        self.peers = [self if number == self.number else shard for number, shard in enumerate(shards)]

    async def told(self) -> Told:
        """What has been counted."""
        pages, sitemaps = Counter(self.outcomes), Counter(self.sitemaps)
        kept, read = pages.pop("fetched", 0), sitemaps.pop("fetched", 0)
        urls = Ledger.of("urls", read=self.frontier.seen, kept=kept, dropped=pages + self.frontier.dropped)
        ledger = Ledger.of("sitemaps", read=len(self.sitemaps_seen), kept=read, dropped=sitemaps) + urls
        hosts = Counter(self.refusals.get(where, "crawled") for where in self.rules)
        return Told(ledger, hosts, self.left_out, self.requests, self.resumed)

    async def close(self) -> None:
        """Close connections and segments."""
        if self.client is not None:
            await self.client.close()
        self.writer.close()
        self.writer.let_go()

    # Rounds; see `rounds`

    async def begin(self) -> News:
        """Read the archive, and greet the hosts of the seeds."""
        o = self.options
        self.recorded = {group.url: group for group in self.writer.recover() if self._is_mine(group.url)}
        # Of several captures of a page the latest counts.
        known = (one for folder in o.previous for one in captures(locate(folder)[1]) if self._is_mine(one.group.url))
        self.earlier = {one.group.url: one for one in sorted(known, key=lambda one: one.date)}
        limits = Limits(o.timeout, o.max_bytes)
        resolver = GuardedResolver(self.site.permission, self.site.resolve, ThreadedResolver())
        concurrency = -(-o.concurrency // self.of)
        self.pace = Pace(
            delay=o.delay,
            per_host=o.per_host,
            concurrency=concurrency,
            backoff=o.backoff,
            max_wait=o.max_wait,
            since=time.monotonic() if self.resumed_run else -math.inf,
        )
        self.agent = f"{AGENT}/{__version__}" + (f" (+{o.contact})" if o.contact else "")
        self.client = session(resolver, limits, self.agent, concurrency)
        self.fetcher = Fetcher(self.client, self.site.permission, limits)
        seeds = [seed for seed in self.site.seeds if self._is_mine(seed)]
        self.without_sitemaps = {origin(seed) for seed in seeds} if o.sitemaps else set()
        self.frontier.add(seeds, Found(linked=False))
        await self._greet(seeds)
        return self._news()

    async def read(self, moved: Iterable[str], letters: Iterable[Letter]) -> Ready:
        """Take in what was found of this shard's hosts, after where seeds have moved to, and say what there is to do."""
        for target in moved:
            self.scope.add(target)
        for kind, found, urls in sorted(letters, key=lambda letter: letter[:2]):  # the nearest way first
            if kind == "pages":
                self.frontier.add(urls, found)
            else:
                new = urls - self.sitemaps_seen
                self.sitemaps_seen |= new
                self.sitemap_queue |= dict.fromkeys(new, found)
        return Ready(bool(self.sitemap_queue), self.frontier.waits, bool(self.sick or self.ask_again))

    async def propose(self, kind: Kind) -> int:
        """Close a level, or the queue of sitemaps; how many of its URLs may be asked for. Sick hosts' are put off."""
        if kind == "pages":
            level, put_off, refused = self.frontier.level(), self.pages_put_off, self.outcomes
        else:
            level, put_off, refused = dict(sorted(self.sitemap_queue.items())), self.sitemaps_put_off, self.sitemaps
            self.sitemap_queue = {}
        await self._greet(level)
        self.proposals = {}
        for url, found in level.items():
            if self._is_sick(origin(url).host):
                put_off[url] = found
            elif reason := self._reason(url):
                refused[reason] += 1
            elif kind == "sitemaps" and found.hops > self.options.max_redirects:
                refused["too_many_redirects"] += 1
            else:
                self.proposals[url] = found
        return len(self.proposals)

    async def proposed(self) -> list[str]:
        """The URLs that may be asked for, sorted."""
        return list(self.proposals)

    async def visit(self, kind: Kind, share: int) -> News:
        """Ask for the first `share` of them; the crawl has no room for the others."""
        taken = dict(itertools.islice(self.proposals.items(), share))
        if beyond := len(self.proposals) - len(taken):
            (self.outcomes if kind == "pages" else self.sitemaps)[f"max_{kind}"] += beyond
        if kind == "pages":
            await self._round(taken, self._page, self._add_links)
        else:
            await self._round(taken, self._sitemap, self._add_named)
        return self._news()

    async def done(self) -> tuple[int, int]:
        """Pages asked for so far, and how many of them failed."""
        return self.pages, self.failed_pages

    def _is_mine(self, url: str) -> bool:
        return shard_of(origin(url).host, self.of) == self.number

    def _tell(self, kind: Kind, urls: Iterable[str], found: Found) -> None:
        """URLs found in one way go to the shards of their hosts."""
        self.mail[kind, found].update(urls)

    def _news(self) -> News:
        """What there is to tell, the sitemaps of hosts whose robots.txt has been read since included."""
        self._name_sitemaps()
        moved, self.moved, mail, self.mail = self.moved, {}, self.mail, defaultdict(set)
        if self.of == 1:
            return News(moved, {0: [(kind, found, urls) for (kind, found), urls in mail.items()]})
        letters: defaultdict[int, list[Letter]] = defaultdict(list)
        for (kind, found), urls in mail.items():
            parted: defaultdict[int, set[str]] = defaultdict(set)
            for url in urls:
                parted[shard_of(origin(url).host, self.of)].add(url)
            for number, theirs in parted.items():
                letters[number].append((kind, found, theirs))
        return News(moved, dict(letters))

    # Pages

    async def _page(self, url: str) -> _Result:
        exchange = await self._exchange(url, "page")
        self.outcomes[exchange.outcome] += 1
        self.pages += 1
        self.failed_pages += exchange.outcome not in ("fetched", "redirect", UNCHANGED)
        if exchange.outcome == "redirect":
            return _redirect(exchange)
        if exchange.outcome == UNCHANGED:
            exchange = read_exchange(self.earlier[url].group)
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
        name = _codec(encoding(body, declared)) if _FOREIGN_QUERY.search(html) else "utf-8"
        return page_links(html, exchange.url, charset=name, left_out=self.left_out)

    def _add_links(self, results: Mapping[str, _Result], found: Mapping[str, Found]) -> None:
        """Where a seed has moved to for good belongs to the crawl, and so do links to it."""
        for url, result in results.items():
            depth, hops, linked = found[url]
            if result.target is not None:
                moved = result.for_good and not linked
                if moved and result.target not in self.scope:
                    self.moved[url] = result.target
                self._tell("pages", [result.target], Found(depth, hops + 1, linked=not moved))
            self._tell("pages", result.links, Found(depth + 1))

    # Sitemaps

    def _name_sitemaps(self) -> None:
        """The sitemaps of the seeds' hosts, as soon as robots.txt has been read."""
        known = {where for where in self.without_sitemaps if where in self.rules and not self._is_sick(where.host)}
        self.without_sitemaps -= known
        for where in known:
            if where not in self.refusals:
                named = {link for line in self.rules[where].sitemaps if (link := join(f"{where}/robots.txt", line))}
                self._tell("sitemaps", named or {f"{where}/sitemap.xml"}, Found())

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
        for url, result in results.items():
            self._tell("sitemaps", result.sitemaps, Found())
            if result.target is not None:
                self._tell("sitemaps", [result.target], Found(hops=found[url].hops + 1))
            self._tell("pages", result.links, Found())

    # Hosts in parallel, and those that nobody waits for

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

    async def take_up_the_sick(self) -> News:
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
        return self._news()

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
        """Ask for a URL, several times if that may help."""
        asker = self.peers[shard_of(origin(url).host, self.of)]
        attempt = 1
        while True:
            exchange, wait = await asker.ask_once(url, kind, attempt, attempts)
            if wait is None or attempt == attempts:
                return replace(exchange, attempts=attempt)
            attempt += 1
            self.sick[on_behalf_of].set()
            await asyncio.sleep(wait)

    async def ask_once(self, url: str, kind: str, attempt: int, attempts: int) -> tuple[Exchange, float | None]:
        """Attempt so many of so many for a URL, in the pace of its host, which is this shard's; seconds after which
        another may help, None if none does."""
        host = origin(url).host
        while True:
            given_up = Exchange(url, "host_given_up", datetime.now(UTC))
            if self.pace.gave_up(host):
                return given_up, None
            async with self.pace.turn(host) as turn:
                if self.pace.gave_up(host):
                    return given_up, None
                earlier = self.earlier.get(url) if kind == "page" else None
                exchange = await self.fetcher.fetch(url, kind, turn.answered, earlier and earlier.conditions)
                if earlier is not None and exchange.status == HTTPStatus.NOT_MODIFIED:
                    exchange = replace(exchange, outcome=UNCHANGED, earlier=earlier)
                wait = self.pace.heard(turn, exchange, attempt)
            self.requests += 1
            if exchange.outcome != STALE:  # every time one kept connection fewer
                break
        if wait is not None and attempt == attempts:
            self.pace.failed(host, exchange)
        return exchange, wait


def seeds_of(options: CrawlOptions) -> tuple[str, ...]:
    """The URLs to start from, normalised. UserError where there is none, one is no URL, or nobody could be reached."""
    found = {seed: normalise(seed) for seed in options.seeds}
    for seed, url in found.items():
        if url is None:
            raise UserError(
                f"not an http(s) URL: {seed!r}", where="seeds", fix='write it out, as in "https://docs.example.org/"'
            )
    if not found:
        raise UserError("nothing to crawl", where="seeds", fix="name at least one URL")
    if not _REACHES.search(options.contact) and not options.allow_private:
        says = f"{options.contact!r} is neither an e-mail address nor a URL" if options.contact else "no contact given"
        raise UserError(
            f"{says}, and sites have a right to know who is asking",
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


CRAWL = Stage("crawl", version=3, unit="sitemaps")
