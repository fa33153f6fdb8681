"""The levels of a crawl, walked by several shards together, so that it takes the pages that one would take.

1. Each shard finishes its part of a level and gives `News`: what it found of hosts that are another's, or its own.
2. The letters go to the shards of their hosts. Where seeds have moved to is told to all first, so that what is of the crawl
   is the same for all when they open their letters.
3. While anybody has sitemaps they are read, then the next level of pages; when nobody has either, sick hosts are taken up.
4. What a level may cost is settled over all shards: of what they propose the first by URL, as if it were one list.

Nothing here knows where a shard is: its methods are awaited, and may run in this process or another.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol

import xxhash

from cpt_ray.web.frontier import Found

log = logging.getLogger("cpt_ray")
Kind = Literal["sitemaps", "pages"]
Letter = tuple[Kind, Found, set[str]]
"""URLs of the reader's hosts, all found in the same way."""
LOOK = 0.5
"""Seconds between two looks at how far the shards are."""


class Ready(NamedTuple):
    """What a shard has to do."""

    sitemaps: bool
    pages: bool
    sick: bool


@dataclass
class News:
    """What a round found: where seeds have moved to for good, and letters by the number of the shard they go to."""

    moved: dict[str, str] = field(default_factory=dict)
    letters: dict[int, list[Letter]] = field(default_factory=dict)


class Walker(Protocol):
    """What a shard does; see `crawl.Shard`."""

    async def begin(self) -> News: ...
    async def read(self, moved: list[str], letters: list[Letter]) -> Ready: ...
    async def propose(self, kind: Kind) -> int: ...
    async def proposed(self) -> list[str]: ...
    async def visit(self, kind: Kind, share: int) -> News: ...
    async def take_up_the_sick(self) -> News: ...
    async def done(self) -> tuple[int, int]: ...


def shard_of(host: str, of: int) -> int:
    """Whose a host is, of so many shards: a function of its name."""
    return xxhash.xxh3_64_intdigest(host.encode()) % of if of > 1 else 0


async def walk(shards: Sequence[Walker], *, max_sitemaps: int, max_pages: int, advance: Callable[..., None]) -> None:
    """Crawl to the end. `advance` is told of pages, and how many of them were `dropped`, now and then."""
    before = [0, 0]

    async def look() -> None:
        nonlocal before
        now = [sum(counts) for counts in zip(*await _all(shard.done() for shard in shards), strict=True)]
        advance(now[0] - before[0], dropped=now[1] - before[1])
        before = now

    async def look_again_and_again() -> None:
        while True:
            await asyncio.sleep(LOOK)
            await look()

    looking = asyncio.create_task(look_again_and_again())
    try:
        await _walk(shards, {"sitemaps": max_sitemaps, "pages": max_pages})
    finally:
        looking.cancel()
    await look()


async def _walk(shards: Sequence[Walker], left: dict[Kind, int]) -> None:
    news = await _all(shard.begin() for shard in shards)
    while True:
        ready = await _deliver(shards, news)
        kind: Kind | None = next((kind for kind in left if any(getattr(one, kind) for one in ready)), None)
        if kind is not None:
            shares = await _shares(shards, kind, left[kind])
            left[kind] -= sum(shares)
            news = await _all(shard.visit(kind, share) for shard, share in zip(shards, shares, strict=True))
        elif any(one.sick for one in ready):
            news = await _all(shard.take_up_the_sick() for shard in shards)
        else:
            return


async def _deliver(shards: Sequence[Walker], news: Sequence[News]) -> list[Ready]:
    moved = {url: target for one in news for url, target in sorted(one.moved.items())}
    for url, target in moved.items():
        log.warning("%s has moved to %s, which is crawled in its place", url, target)
    return await _all(
        shard.read([*moved.values()], [letter for one in news for letter in one.letters.get(number, ())])
        for number, shard in enumerate(shards)
    )


async def _shares(shards: Sequence[Walker], kind: Kind, left: int) -> list[int]:
    """How many of the URLs that it proposes, which are sorted, each shard may ask for."""
    counts = await _all(shard.propose(kind) for shard in shards)
    if sum(counts) <= left or not left:
        return [min(count, left) for count in counts]
    lists = await _all(shard.proposed() for shard in shards)
    merged = heapq.merge(*([(url, number) for url in urls] for number, urls in enumerate(lists)))
    first = Counter(number for _, number in itertools.islice(merged, left))
    return [first[number] for number in range(len(shards))]


async def _all(calls: Iterable[Any]) -> list[Any]:
    """What all give; when one fails, at once that."""
    return list(await asyncio.gather(*calls))
