"""URLs: one spelling for each, and which of them belong to a crawl."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, urljoin, urlsplit

LONGEST = 2000
"""Characters; longer ones are traps far more often than pages."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SEGMENT = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
_PLAIN_PATH = re.compile(rf"/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?\.?|\[[0-9a-f:.]+\]")


class Origin(NamedTuple):
    """Scheme, host and port: what robots.txt and politeness are about (RFC 9309, RFC 6454)."""

    scheme: str
    host: str
    port: int

    def __str__(self) -> str:
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}"


def normalise(url: str) -> str | None:
    """The one spelling of an absolute http(s) URL (RFC 3986 section 6.2), without fragment; None if it is none.

    Lower-case scheme and host (internationalised names as IDNA), no default port, no dot segments, percent escapes in
    upper case and only where needed. URLs with user information are refused: they are credentials, not pages.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").lower(), parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not host or "@" in parts.netloc:
        return None
    if not host.isascii():
        try:
            host = host.encode("idna").decode("ascii")
        except UnicodeError:
            return None
    host = f"[{host}]" if ":" in host else host.rstrip(".")
    if not _HOST.fullmatch(host):
        return None
    path = _escaped(_without_dots(parts.path or "/"), safe="/:@!$&'()*+,;=~")
    query = "?" + _escaped(parts.query, safe="/:@!$&'()*+,;=~?") if parts.query else ""
    where = "" if port is None or port == _DEFAULT_PORTS[scheme] else f":{port}"
    found = f"{scheme}://{host}{where}{path}{query}"
    return found if len(found) <= LONGEST else None


def join(base: str, link: str) -> str | None:
    """The normalised URL a link on the page `base` leads to, or None if it leads to no page."""
    link = link.strip()
    if not link or link.startswith(("#", "javascript:", "mailto:", "data:", "tel:")):
        return None
    if link.startswith("/") and _PLAIN_PATH.fullmatch(link) and len(link) < LONGEST:
        return f"{origin(base)}{link}"  # nine links of ten, twenty times cheaper
    try:
        return normalise(urljoin(base, link))
    except ValueError:
        return None


@lru_cache(maxsize=65_536)
def origin(url: str) -> Origin:
    """The origin of a normalised URL."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    return Origin(parts.scheme, f"[{host}]" if ":" in host else host, parts.port or _DEFAULT_PORTS[parts.scheme])


def path_and_query(url: str) -> str:
    """What follows the origin of a normalised URL."""
    return url[len(str(origin(url))) :]


class Scope:
    """Which URLs a crawl may visit: `host` those on a seed's host, `prefix` those below a seed's folder, `any` all."""

    def __init__(self, kind: str, seeds: tuple[str, ...]) -> None:
        self._kind = kind
        self._hosts = {origin(seed).host for seed in seeds}
        self._prefixes = tuple(seed.split("?", 1)[0].rpartition("/")[0] + "/" for seed in seeds)

    def __contains__(self, url: object) -> bool:
        if not isinstance(url, str):
            return False
        if self._kind == "any":
            return True
        return origin(url).host in self._hosts if self._kind == "host" else url.startswith(self._prefixes)


def _without_dots(path: str) -> str:
    """RFC 3986 section 5.2.4."""
    if "/." not in path:
        return path
    kept: list[str] = []
    segments = path.split("/")
    for segment in segments:
        if segment == "..":
            if len(kept) > 1:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
    if segments[-1] in (".", ".."):
        kept.append("")
    return "/".join(kept) or "/"


def _escaped(text: str, safe: str) -> str:
    def one(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else f"%{match[1].upper()}"

    # A "%" that starts no escape is escaped itself, so that normalising twice changes nothing.
    text = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", text.encode("utf-8", "replace").decode("utf-8"))
    return quote(_PERCENT.sub(one, text), safe=safe + "%")
