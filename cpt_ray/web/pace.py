"""Pace: when which host may be asked. All waiting of a crawl is done here.

- The next request to a host begins `delay` seconds after the last one was answered, so the distance holds in the host's
  own log, however long either was on its way. A retry, robots.txt and a redirect's target are requests like any other.
- At most `per_host` requests to a host and `concurrency` in all are under way. A slot is held by requests, never by
  waiting: a host that asks for patience costs the others nothing.
- 429 and 503 slow the host as a whole, and so does one that cannot be reached: all its requests wait for its Retry-After
  (RFC 9110 section 10.2.3), or a pause that doubles each time, until it answers again.
"""

from __future__ import annotations

import asyncio
import email.utils
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from cpt_ray.web.warc import Exchange

UNWELL = ("status_429", "status_503", "timeout", "connection_failed")
"""Outcomes that say something about the host, not about the page."""

TRY_AGAIN = (
    *UNWELL,
    "incomplete_body",
    *(f"status_{status}" for status in (408, 425, 500, 502, 504, 520, 521, 522, 523, 524)),
)
"""Outcomes that may be others a moment later."""

GIVE_UP = 5
"""URLs in a row that failed for good by an outcome that says something about the host: it is then left alone."""


@dataclass
class _Host:
    delay: float
    slots: asyncio.Semaphore
    gate: asyncio.Lock = field(default_factory=asyncio.Lock)
    answered_at: float = -math.inf
    paused_until: float = -math.inf
    paused_at: float = -math.inf
    pauses: int = 0
    failures: int = 0

    def next_start(self) -> float:
        return max(self.answered_at + self.delay, self.paused_until)


@dataclass
class Turn:
    """One request to a host: call `answered` as soon as the host has begun to answer."""

    host: _Host
    started: float = 0.0
    _holds_gate: bool = True

    def answered(self) -> None:
        self.host.answered_at = time.monotonic()
        self.open_gate()

    def open_gate(self) -> None:
        """Let the next request to the host begin."""
        if self._holds_gate:
            self._holds_gate = False
            self.host.gate.release()


class Pace:
    """The pace of all hosts, by name: what runs on other ports or schemes of a host is the same machine.

    `delay`, `backoff` (the first pause) and `max_wait` (the longest) are in seconds. `since` is when a crawl that goes on
    was taken up: the one before it may have asked any host until then.
    """

    def __init__(
        self,
        *,
        delay: float,
        per_host: int,
        concurrency: int,
        backoff: float,
        max_wait: float,
        since: float = -math.inf,
    ) -> None:
        self._delay, self._per_host, self._backoff, self._max_wait = delay, per_host, backoff, max_wait
        self._since = since
        self._slots = asyncio.Semaphore(concurrency)
        self._hosts: dict[str, _Host] = {}
        self._asked_to_slow: set[str] = set()

    def _host(self, name: str) -> _Host:
        if name not in self._hosts:
            self._hosts[name] = _Host(self._delay, asyncio.Semaphore(self._per_host), answered_at=self._since)
        return self._hosts[name]

    def crawl_delay(self, name: str, seconds: float) -> None:
        """What a robots.txt of the host asks for takes the place of `delay`; of several the longest holds."""
        host = self._host(name)
        host.delay = max(host.delay, seconds) if name in self._asked_to_slow else seconds
        self._asked_to_slow.add(name)

    def gave_up(self, name: str) -> bool:
        """Whether a host has failed so often that nothing more is asked of it."""
        return self._host(name).failures >= GIVE_UP

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Turn]:
        """Wait until the host may be asked; inside, one request is made."""
        host = self._host(name)
        async with host.slots:
            await host.gate.acquire()
            turn = Turn(host)
            try:
                await self._slot(host)
                turn.started = time.monotonic()
                try:
                    if not host.delay:
                        turn.open_gate()  # there is no distance to keep
                    yield turn
                finally:
                    turn.answered()
                    self._slots.release()
            finally:
                turn.open_gate()

    async def _slot(self, host: _Host) -> None:
        """Take a slot at a moment when the host may be asked: while waiting for one it may have asked for a pause."""
        while True:
            while (wait := host.next_start() - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            await self._slots.acquire()
            if host.next_start() <= time.monotonic():
                return
            self._slots.release()

    def heard(self, turn: Turn, exchange: Exchange, attempt: int) -> float | None:
        """Take note of an outcome. Seconds to wait with this URL before it is asked for again, None if that is no use.

        A host that asks for a longer pause than `max_wait` is not asked earlier: it is given up.
        """
        host = turn.host
        asked = retry_after(exchange.header("retry-after")) if exchange.status >= 400 else 0.0
        if exchange.outcome in UNWELL:
            if turn.started >= host.paused_at:  # of several requests under way together the first counts
                host.pauses, host.paused_at = host.pauses + 1, time.monotonic()
            host.paused_until = max(host.paused_until, time.monotonic() + max(asked, self._pause(host.pauses)))
            if asked > self._max_wait:
                host.failures = GIVE_UP
            return None if asked > self._max_wait else 0.0
        host.pauses = host.failures = 0
        if exchange.outcome not in TRY_AGAIN or asked > self._max_wait:
            return None
        return max(asked, self._pause(attempt))

    def _pause(self, count: int) -> float:
        return min(self._backoff * 2 ** min(count - 1, 30), self._max_wait)

    def failed(self, name: str, exchange: Exchange) -> None:
        """Take note that a URL will not be asked for again."""
        if exchange.outcome in UNWELL:
            self._host(name).failures += 1


def retry_after(value: str) -> float:
    """Seconds from a Retry-After header: a number or a date; 0 when there is none."""
    value = value.strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time()) if value else 0.0
    except (ValueError, OverflowError):
        return 0.0
