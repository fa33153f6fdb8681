"""The crawler: from seeds to WARC segments, politely, and resumable at any moment.

1. robots.txt of every host is fetched first; a host whose rules cannot be read is left alone.
2. Sitemaps are read (they are not pages and count for no limit); their pages join the seeds as level 0.
3. Each level of the link graph is fetched with all hosts in parallel and written to the archive as it arrives; the
   links found are the next level.

Which pages end up in the archive depends on the site alone, not on timing: see `frontier`. What a killed crawl has
written is read again instead of fetched again: see `warc`.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field

import fsspec
from aiohttp.resolver import ThreadedResolver
from fsspec.implementations.local import LocalFileSystem

from cpt_ray import __version__
from cpt_ray.artifacts import Ledger, Manifest, Stage, Work
from cpt_ray.errors import UserError
from cpt_ray.progress import Bar, progress
from cpt_ray.web.addresses import GuardedResolver, Permission
from cpt_ray.web.content import BodyError, charset, decode, trap, unpack
from cpt_ray.web.fetch import Fetcher, Limits, session
from cpt_ray.web.frontier import Frontier
from cpt_ray.web.links import page_links, sitemap_links
from cpt_ray.web.options import CrawlOptions
from cpt_ray.web.robots import Robots, robots
from cpt_ray.web.url import Origin, Scope, join, normalise, origin
from cpt_ray.web.warc import Committed, Exchange, SegmentWriter, read_exchange

AGENT = "cpt-ray"
"""The product token that robots.txt rules are matched with."""

_ROBOTS_REDIRECTS = 5


def crawl(options: CrawlOptions, work: Work, *, resolve: Mapping[str, str] | None = None) -> Manifest:
    """Crawl into the artifact under way and publish it; what `work.path` already holds is not fetched again.

    `resolve` maps host names to "address:port" in place of DNS. It says where a site is to be found this time and is no
    part of what is crawled; the address needs permission like any other. The ledger's unit is "urls": every distinct
    URL seen is kept (a page in the archive) or dropped with a reason. Raises UserError for options that cannot work.
    """
    seeds = _seeds(options)
    permission = Permission(options.allow_private)
    fs, folder = fsspec.core.url_to_fs(work.path)
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
    outcomes = run.outcomes
    ledger = Ledger.of(
        "urls", read=run.frontier.seen, kept=outcomes.pop("fetched", 0), dropped=outcomes + run.frontier.dropped
    )
    extra = {
        "hosts": run.host_states(),
        "sitemaps": run.sitemaps_read,
        "sitemaps_left_out": run.sitemaps_left_out,
        "requests": run.requests,
        "resumed_urls": run.resumed,
    }
    return work.publish(ledger, rows=ledger.kept, extra=extra)


@dataclass
class _Host:
    """One origin: its rules and its pace."""

    robots: Robots
    delay: float
    slots: asyncio.Semaphore
    next_start: float = 0.0

    async def turn(self) -> None:
        """Wait until this host may be asked again."""
        if not self.delay:
            return
        now = time.monotonic()
        start = max(now, self.next_start)
        self.next_start = start + self.delay
        await asyncio.sleep(start - now)


@dataclass
class _Crawl:
    options: CrawlOptions
    seeds: tuple[str, ...]
    permission: Permission
    writer: SegmentWriter
    resolve: dict[str, str]
    bar: Bar
    outcomes: Counter[str] = field(default_factory=Counter)
    sitemaps_read: int = 0
    sitemaps_left_out: int = 0
    requests: int = 0
    resumed: int = 0

    def __post_init__(self) -> None:
        o = self.options
        self.scope = Scope(o.scope, self.seeds)
        self.frontier = Frontier(
            self.scope, max_pages=o.max_pages, max_depth=o.max_depth, max_redirects=o.max_redirects
        )
        self.hosts: dict[Origin, _Host] = {}
        self.recorded: dict[str, Committed] = {group.url: group for group in self.writer.recover()}
        self.agent = f"{AGENT}/{__version__}" + (f" (+{o.contact})" if o.contact else "")

    def host_states(self) -> dict[str, int]:
        """Hosts by what their robots.txt allowed: how many are reachable, unreachable, too slow."""
        return dict(sorted(Counter(self._refusal(host) or "crawled" for host in self.hosts.values()).items()))

    async def run(self) -> None:
        o = self.options
        limits = Limits(o.timeout, o.max_bytes, o.retries, o.backoff, o.max_wait)
        resolver = GuardedResolver(self.permission, self.resolve, ThreadedResolver())
        self.slots = asyncio.Semaphore(o.concurrency)
        async with session(resolver, limits, self.agent, o.concurrency) as client:
            self.fetcher = Fetcher(client, self.permission, limits)
            self.frontier.add(self.seeds)
            if o.sitemaps:
                self.frontier.add(await self._read_sitemaps())
            while level := self.frontier.level():
                await self._level(level)

    async def _level(self, level: dict[str, int]) -> None:
        """Fetch the allowed URLs of a level and put what they link to on the frontier."""
        await self._greet(level)
        allowed = []
        for url in level:
            host = self.hosts[origin(url)]
            reason = self._refusal(host) or (None if host.robots.allows(url) else "robots")
            if reason is None:
                allowed.append(url)
            else:
                self.outcomes[reason] += 1

        async def visit(url: str) -> None:
            exchange = await self._visit(url, "page")
            self.outcomes[exchange.outcome] += 1
            self.bar.advance(1, dropped=int(exchange.outcome not in ("fetched", "redirect")))
            if exchange.outcome == "redirect":
                if target := join(url, exchange.header("location")):
                    self.frontier.add_redirect(target, level[url])
            elif exchange.outcome == "fetched":
                self.frontier.add(_links(exchange, self.options.max_bytes))

        await self._each_by_host(self.frontier.afford(allowed), visit)

    async def _read_sitemaps(self) -> set[str]:
        """The pages that the sitemaps of the seeds' hosts name."""
        await self._greet(self.seeds)
        level: set[str] = set()
        for where, host in self.hosts.items():
            named = {link for sitemap in host.robots.sitemaps if (link := normalise(sitemap))}
            level |= named or {f"{where}/sitemap.xml"}
        seen: set[str] = set()
        pages: set[str] = set()
        while level:
            await self._greet(level)
            todo = [url for url in sorted(level - seen) if url in self.scope and self._may_fetch(url)]
            seen |= level
            room = self.options.max_sitemaps - self.sitemaps_read
            self.sitemaps_left_out += len(todo[room:])
            todo = todo[:room]
            self.sitemaps_read += len(todo)
            level = set()

            async def visit(url: str, into: set[str] = level) -> None:
                exchange = await self._visit(url, "sitemap")
                if exchange.outcome == "fetched":
                    inner, found = sitemap_links(
                        _unpacked(exchange, self.options.max_bytes), url, 10 * self.options.max_bytes
                    )
                    into |= inner
                    pages.update(found)
                elif exchange.outcome == "redirect" and (target := join(url, exchange.header("location"))):
                    into.add(target)

            await self._each_by_host(todo, visit)
        return pages

    async def _greet(self, urls: Iterable[str]) -> None:
        """Fetch the robots.txt of the hosts of these URLs that are new."""
        new = sorted({origin(url) for url in urls} - self.hosts.keys())

        async def one(where: Origin) -> None:
            rules = await self._robots(f"{where}/robots.txt")
            delay = self.options.delay if rules.crawl_delay is None else rules.crawl_delay
            self.hosts[where] = _Host(rules, delay, asyncio.Semaphore(self.options.per_host))

        await asyncio.gather(*(one(where) for where in new))
        # Arrival order must not show in the order of the dictionary.
        self.hosts = dict(sorted(self.hosts.items()))

    async def _robots(self, url: str) -> Robots:
        """Always asked anew, on resume too: a permission may have been withdrawn. Five redirects (RFC 9309 2.3.1.2)."""
        at: str | None = url
        for _ in range(_ROBOTS_REDIRECTS + 1):
            if at is None:
                break
            async with self.slots:
                exchange = await self.fetcher.fetch(at, "robots")
            self.requests += 1
            if exchange.url not in self.recorded:
                self.recorded[exchange.url] = self.writer.write(exchange)
            if exchange.outcome != "redirect":
                status = exchange.status or None
                return robots(status, _unpacked(exchange, self.options.max_bytes), AGENT)
            at = join(at, exchange.header("location"))
        return robots(None, b"", AGENT)

    def _refusal(self, host: _Host) -> str | None:
        """Why nothing of a host is fetched, None if it may be."""
        if not host.robots.reachable:
            return "robots_unreachable"
        return "crawl_delay_too_long" if host.delay > self.options.max_delay else None

    def _may_fetch(self, url: str) -> bool:
        host = self.hosts[origin(url)]
        return self._refusal(host) is None and host.robots.allows(url)

    async def _each_by_host(self, urls: list[str], visit: Callable[[str], Awaitable[None]]) -> None:
        """Visit all URLs, each host's in order with its own workers, so that a slow host holds up no other."""
        queues: dict[Origin, list[str]] = {}
        for url in reversed(urls):
            queues.setdefault(origin(url), []).append(url)

        async def worker(queue: list[str]) -> None:
            while queue:
                await visit(queue.pop())

        async with asyncio.TaskGroup() as group:
            for queue in queues.values():
                for _ in range(min(self.options.per_host, len(queue))):
                    group.create_task(worker(queue))

    async def _visit(self, url: str, kind: str) -> Exchange:
        """The exchange for an allowed URL, from the archive if it is there, else fetched and archived."""
        if url in self.recorded:
            self.resumed += 1
            return read_exchange(self.recorded[url])
        host = self.hosts[origin(url)]
        async with host.slots:
            await host.turn()
            async with self.slots:
                exchange = await self.fetcher.fetch(url, kind)
        self.requests += 1
        self.recorded[url] = self.writer.write(exchange)
        return exchange


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


def _unpacked(exchange: Exchange, max_bytes: int) -> bytes:
    try:
        return unpack(exchange.body, exchange.header("content-encoding"), max_bytes)
    except BodyError:
        return b""


def _links(exchange: Exchange, max_bytes: int) -> set[str]:
    html = decode(_unpacked(exchange, max_bytes), charset(exchange.header("content-type")))
    return page_links(html, exchange.url) if html and trap(html) is None else set()


CRAWL = Stage("crawl", version=1, unit="urls")
