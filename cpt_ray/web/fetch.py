"""Fetching one URL politely: bounded in time and size, retried where the server asks for patience."""

from __future__ import annotations

import asyncio
import email.utils
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus

import aiohttp
from yarl import URL

from cpt_ray.web.addresses import Permission, PrivateAddressError, is_address
from cpt_ray.web.url import origin, path_and_query
from cpt_ray.web.warc import Exchange

REDIRECTS = (301, 302, 303, 307, 308)
_TRY_LATER = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE)
_PAGES = ("text/html", "application/xhtml+xml")
_SITEMAPS = ("xml", "text/plain", "gzip", "octet-stream")


@dataclass(frozen=True)
class Limits:
    """`timeout` in seconds for a whole exchange, `max_bytes` of a body as sent, `retries` after the first attempt."""

    timeout: float
    max_bytes: int
    retries: int
    backoff: float
    max_wait: float


class Fetcher:
    """GETs URLs with one session; never raises for what a server or the network does."""

    def __init__(self, session: aiohttp.ClientSession, permission: Permission, limits: Limits) -> None:
        self._session, self._permission, self._limits = session, permission, limits

    async def fetch(self, url: str, kind: str = "page") -> Exchange:
        """The exchange for a normalised URL; `kind` ("page", "sitemap", "robots") says which media types are wanted.

        429 and 503 are retried after Retry-After (at most `max_wait`), lost connections and timeouts after a growing
        pause; what is left after the last attempt is the outcome.
        """
        for attempt in range(self._limits.retries + 1):
            exchange = await self._once(url, kind)
            wait = self._wait(exchange, attempt)
            if wait is None or attempt == self._limits.retries:
                return exchange
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    def _wait(self, exchange: Exchange, attempt: int) -> float | None:
        """Seconds until the next attempt, None when there is nothing to gain from one."""
        pause = self._limits.backoff * 2**attempt
        if exchange.status in _TRY_LATER:
            return min(max(_retry_after(exchange.header("retry-after")), pause), self._limits.max_wait)
        return min(pause, self._limits.max_wait) if exchange.outcome in ("timeout", "connection_failed") else None

    async def _once(self, url: str, kind: str) -> Exchange:
        started = datetime.now(UTC)
        host = origin(url).host
        if is_address(host) and not self._permission.allows(host):
            return Exchange(url, "private_address", started)
        try:
            async with self._session.get(URL(url, encoded=True), allow_redirects=False) as response:
                return await self._read(response, url, kind, started)
        except TimeoutError:
            return Exchange(url, "timeout", started)
        except aiohttp.ClientConnectorDNSError as error:
            private = isinstance(error.os_error, PrivateAddressError)
            return Exchange(url, "private_address" if private else "unknown_host", started)
        except aiohttp.ClientSSLError:
            return Exchange(url, "tls_failed", started)
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL, ValueError):
            # ValueError: header values that no parser accepts
            return Exchange(url, "malformed_response", started)
        except (aiohttp.ClientError, OSError):
            return Exchange(url, "connection_failed", started)

    async def _read(self, response: aiohttp.ClientResponse, url: str, kind: str, started: datetime) -> Exchange:
        headers = tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in response.raw_headers)
        address = _peer(response)
        outcome = self._outcome(response, kind)
        if outcome in ("content_type", "too_large"):
            response.close()
            return Exchange(url, outcome, started)
        body = bytearray()
        async for block in response.content.iter_chunked(65_536):
            body += block
            if len(body) > self._limits.max_bytes:
                response.close()
                return Exchange(url, "too_large", started)
        request = (
            f"GET {path_and_query(url)} HTTP/1.1\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in response.request_info.headers.items())
            + "\r\n"
        ).encode("latin-1", "replace")
        return Exchange(
            url, outcome, started, response.status, response.reason or "", headers, bytes(body), request, address
        )

    def _outcome(self, response: aiohttp.ClientResponse, kind: str) -> str:
        if response.status in REDIRECTS:
            return "redirect"
        if not 200 <= response.status < 300:
            return f"status_{response.status}"
        if (response.content_length or 0) > self._limits.max_bytes:
            return "too_large"
        wanted = {"page": _PAGES, "sitemap": _SITEMAPS, "robots": ("",)}[kind]
        # content_type is application/octet-stream where the server names none
        return "fetched" if any(part in response.content_type for part in wanted) else "content_type"


def session(
    resolver: aiohttp.abc.AbstractResolver, limits: Limits, agent: str, concurrency: int
) -> aiohttp.ClientSession:
    """A client that keeps connections, no cookies, no proxy of the environment, and bodies as they were sent."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=resolver, limit=concurrency, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=limits.timeout),
        auto_decompress=False,
        headers={
            "User-Agent": agent,
            "Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1",
            "Accept-Encoding": "gzip, deflate",
        },
        trust_env=False,
    )


def _peer(response: aiohttp.ClientResponse) -> str:
    transport = response.connection.transport if response.connection is not None else None
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if peer else ""


def _retry_after(value: str) -> float:
    """Seconds from a Retry-After header (RFC 9110 section 10.2.3): a number or a date; 0 when there is none."""
    value = value.strip()
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time()) if value else 0.0
    except ValueError:
        return 0.0
