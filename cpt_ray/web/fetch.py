"""Fetching one URL once: bounded in time and size."""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aiohttp
from yarl import URL

from cpt_ray.addresses import Permission, PrivateAddressError, is_address
from cpt_ray.compat.aiohttp import ask_once
from cpt_ray.web.content import HTML, XML, BodyError, is_html, media_type, sniff, unpack
from cpt_ray.web.record import declared_type
from cpt_ray.web.robots import LONGEST
from cpt_ray.web.url import origin, path_and_query
from cpt_ray.web.warc import Exchange

REDIRECTS = (301, 302, 303, 307, 308)
STALE = "stale_connection"
"""A kept connection turned out to be closed before a word of the answer: nobody's fault (RFC 9112 section 9.3.1)."""

MAX_HEADER = 64 * 1024
"""Bytes of one header line; MAX_HEADERS of them. Content-Security-Policy and cookies pass the usual 8 KiB."""
MAX_HEADERS = 256
_LONG = re.compile(r"Got more than \d+ bytes when reading|Too many headers")  # aiohttp has no type for it
_SITEMAPS = ("xml", "text/plain", "gzip", "octet-stream")


@dataclass(frozen=True)
class Limits:
    """`timeout` in seconds for a whole exchange, `max_bytes` of a body as sent."""

    timeout: float
    max_bytes: int


@dataclass
class _Kept:
    """Whether a request went over a connection that an earlier one had opened."""

    connection: bool = False


class Fetcher:
    """GETs URLs with one session; never raises for what a server or the network does."""

    def __init__(self, session: aiohttp.ClientSession, permission: Permission, limits: Limits) -> None:
        self._session, self._permission, self._limits = session, permission, limits

    async def fetch(
        self, url: str, kind: str, answered: Callable[[], None], conditions: Mapping[str, str] | None = None
    ) -> Exchange:
        """The exchange for a normalised URL; `kind` ("page", "sitemap", "robots") says which media types are wanted.

        Of a robots.txt the first `LONGEST` bytes are read; a page of more than `max_bytes` is "too_large", a sitemap of
        ten times as many. `answered` is called when a good answer begins. `conditions` are headers more of the request.
        """
        started = datetime.now(UTC)
        host = origin(url).host
        if is_address(host) and not self._permission.allows(host):
            return Exchange(url, "private_address", started)
        kept = _Kept()
        try:
            async with self._session.get(
                URL(url, encoded=True), allow_redirects=False, trace_request_ctx=kept, headers=conditions
            ) as response:
                if response.status < 400:
                    answered()  # else the host may ask for patience, and is not asked before that is known
                return await self._read(response, url, kind, started)
        except TimeoutError:
            return Exchange(url, "timeout", started)
        except aiohttp.ClientConnectorDNSError as error:
            return Exchange(url, _unresolved(error.os_error), started)
        except aiohttp.ClientSSLError:
            return Exchange(url, "tls_failed", started)
        except aiohttp.ClientPayloadError:
            return Exchange(url, "incomplete_body", started)
        except (aiohttp.ClientResponseError, aiohttp.InvalidURL, ValueError) as error:
            # ValueError: header values that no parser accepts
            return Exchange(url, "headers_too_long" if _LONG.search(str(error)) else "malformed_response", started)
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            return Exchange(url, STALE if kept.connection else "connection_failed", started)
        except (aiohttp.ClientError, OSError):
            return Exchange(url, "connection_failed", started)

    async def _read(self, response: aiohttp.ClientResponse, url: str, kind: str, started: datetime) -> Exchange:
        # Latin-1 is a spelling of bytes here: the archive gets them as they came.
        headers = tuple((k.decode("latin-1"), v.decode("latin-1")) for k, v in response.raw_headers)
        address = _peer(response)
        version = f"HTTP/{response.version.major}.{response.version.minor}" if response.version else "HTTP/1.1"
        most = {"robots": LONGEST, "sitemap": 10 * self._limits.max_bytes}.get(kind, self._limits.max_bytes)
        declared = declared_type(response.headers.getall("Content-Type", ()))
        outcome = self._outcome(response, kind, declared, most)
        if outcome in ("content_type", "too_large"):
            response.close()
            return Exchange(url, outcome, started)
        try:
            body = await self._body(response, most)
        except (aiohttp.ClientError, OSError):
            if outcome == "fetched":
                raise
            body = b""  # what a redirect or an error says besides is nobody's page
        if len(body) > most and kind != "robots":
            body, outcome = b"", "too_large" if outcome == "fetched" else outcome
        if outcome == "fetched" and kind == "page" and not _is_page(response, declared, body, most):
            outcome = "content_type"
        if outcome in ("content_type", "too_large"):
            return Exchange(url, outcome, started)
        request = (
            f"GET {path_and_query(url)} HTTP/1.1\r\n"
            + "".join(f"{name}: {value}\r\n" for name, value in response.request_info.headers.items())
            + "\r\n"
        ).encode("latin-1", "replace")
        return Exchange(
            url, outcome, started, response.status, response.reason or "", headers, body, request, address, version
        )

    async def _body(self, response: aiohttp.ClientResponse, most: int) -> bytes:
        """The body, or a little more than `most` bytes of it."""
        body = bytearray()
        async for block in response.content.iter_chunked(65_536):
            body += block
            if len(body) > most:
                response.close()
                break
        return bytes(body)

    def _outcome(self, response: aiohttp.ClientResponse, kind: str, declared: str, most: int) -> str:
        if response.status in REDIRECTS:
            return "redirect"
        if not 200 <= response.status < 300:
            return f"status_{response.status}"
        if (response.content_length or 0) > most and kind != "robots":
            return "too_large"
        wanted = {"page": (*HTML, *XML), "sitemap": _SITEMAPS, "robots": ("",)}[kind]
        return "fetched" if not declared or any(part in media_type(declared) for part in wanted) else "content_type"


def _is_page(response: aiohttp.ClientResponse, declared: str, body: bytes, most: int) -> bool:
    """Whether a body is a page: its declared media type says so, or without one, or with XML's, the body itself."""
    if media_type(declared) in HTML:
        return True
    try:
        plain = unpack(body, ",".join(response.headers.getall("Content-Encoding", ())), most)
    except BodyError:  # what nobody can unpack is no page
        return False
    return is_html(media_type(declared) or sniff(plain), plain)


def session(
    resolver: aiohttp.abc.AbstractResolver, limits: Limits, agent: str, concurrency: int
) -> aiohttp.ClientSession:
    """A client that keeps connections, no cookies, no proxy of the environment, and bodies as they were sent."""

    async def reused(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceConnectionReuseconnParams) -> None:
        context.trace_request_ctx.connection = True

    trace = aiohttp.TraceConfig()
    trace.on_connection_reuseconn.append(reused)
    client = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=resolver, limit=concurrency, ttl_dns_cache=60),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=limits.timeout),
        auto_decompress=False,
        headers={
            "User-Agent": agent,
            "Accept": "text/html,application/xhtml+xml;q=0.9,*/*;q=0.1",
            "Accept-Encoding": "gzip, deflate",
        },
        trace_configs=[trace],
        max_line_size=MAX_HEADER,
        max_field_size=MAX_HEADER,
        max_headers=MAX_HEADERS,
        trust_env=False,
    )
    return ask_once(client)  # a host is asked as often, and at such distances, as its pace allows


def _peer(response: aiohttp.ClientResponse) -> str:
    transport = response.connection.transport if response.connection is not None else None
    peer = transport.get_extra_info("peername") if transport is not None else None
    return str(peer[0]) if peer else ""


def _unresolved(error: OSError) -> str:
    if isinstance(error, PrivateAddressError):
        return "private_address"
    return "connection_failed" if error.errno == socket.EAI_AGAIN else "unknown_host"
