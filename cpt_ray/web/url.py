"""URLs: one spelling for each, and which of them belong to a crawl."""

from __future__ import annotations

import re
import socket
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import quote, unquote, urljoin, urlsplit

import idna

LONGEST = 2000
"""Characters; longer ones are traps far more often than pages."""

_DEFAULT_PORTS = {"http": 80, "https": 443}
_SEGMENT = r"[A-Za-z0-9_~-][A-Za-z0-9._~-]*"
_PATH_END = re.compile("([?#])")
_ABSOLUTE = re.compile(r"https?://[^\s\\/?#]", re.I)
_PLAIN_PATH = re.compile(rf"/(?:{_SEGMENT}(?:/{_SEGMENT})*/?)?")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]+")
# What tells visits and campaigns apart, not pages: session ids in the path or the query, and tracking parameters.
_SESSION = re.compile(
    r"(?:;jsessionid=[^/?#;]*)|(?<=[?&])(?:(?:jsessionid|phpsessid|sessionid|session_id|aspsessionid\w*|cfid|cftoken"
    r"|utm_\w+|gclid|fbclid|msclkid|yclid|mc_cid|mc_eid|_ga)=[^&#]*&?)",
    re.I,
)
_NUMERIC = re.compile(r"(?:^|\.)(?:\d+|0x[0-9a-f]*)$")
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

    Lower-case scheme and host (internationalised names by UTS 46, as browsers look them up), no default port, no dot
    segments, percent escapes in upper case and only where needed. URLs with user information are refused: they are
    credentials, not pages.
    """
    try:
        parts = urlsplit(url.strip())
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return None
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not host or "@" in parts.netloc:
        return None
    if not host.isascii() or "%" in host:
        try:
            host = _ascii_host(unquote(host, errors="strict"))
        except (idna.IDNAError, UnicodeError):
            return None
    host = f"[{host}]" if ":" in host else host.rstrip(".")
    if _NUMERIC.search(host):
        try:
            host = socket.inet_ntoa(socket.inet_aton(host))  # 0x7f.1 and 2130706433 are addresses (WHATWG URL, 4.3)
        except OSError:
            return None
    if not _HOST.fullmatch(host) or not all(0 < len(label) < 64 for label in host.split(".")):
        return None
    # Dots may be escaped: what is below a folder that robots.txt allows must not lead out of it.
    path = _without_dots(escaped(_bytes(parts.path or "/"), safe="/:@!$&'()*+,;=~"))
    query = "?" + escaped(_bytes(parts.query), safe="/:@!$&'()*+,;=~?") if parts.query else ""
    where = "" if port is None or port == _DEFAULT_PORTS[scheme] else f":{port}"
    found = f"{scheme}://{host}{where}{path}{query}"
    return found if len(found) <= LONGEST else None


def join(base: str, link: str, charset: str = "utf-8") -> str | None:
    """The normalised URL a link on the page `base` leads to, or None if it leads to no page.

    `charset` (a Python codec) is the page's own, in which browsers send the query of its links (WHATWG URL, section 5).
    """
    link = link.strip()
    if not link or link.startswith(("#", "javascript:", "mailto:", "data:", "tel:")):
        return None
    if link.startswith("/") and _PLAIN_PATH.fullmatch(link) and len(link) < LONGEST:
        return f"{origin(base)}{link}"  # nine links of ten, twenty times cheaper
    if "\\" in link:  # a slash, as browsers take it (WHATWG URL, 4.4)
        path, mark, rest = _PATH_END.split(link, maxsplit=1) if _PATH_END.search(link) else (link, "", "")
        link = path.replace("\\", "/") + mark + rest
    if charset != "utf-8" and "?" in link and not link.isascii():
        link = _query_in(link, charset)
    if _ABSOLUTE.match(link) and len(link) < LONGEST:
        return _absolute(base.partition(":")[0], link)
    return _joined(base, link)


@lru_cache(maxsize=65_536)
def _absolute(scheme: str, link: str) -> str | None:
    """Where a link with a host leads, from any page of the scheme: menus name the same pages on every page."""
    return _joined(f"{scheme}://h/", link)


def _joined(base: str, link: str) -> str | None:
    try:
        return normalise(urljoin(base, link))
    except ValueError:
        return None


def without_session(url: str) -> str:
    """A normalised URL without session ids and tracking parameters, which lead to the same page under endless names."""
    if "?" not in url and ";" not in url:
        return url
    shorter = _SESSION.sub("", url)
    return url if shorter == url else shorter.rstrip("?&")


def site(host: str) -> str:
    """A host without "www.": the two names of nearly every site."""
    return host.removeprefix("www.")


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
    """Which URLs a crawl may visit: `host` those on a seed's host, `prefix` those below a seed's folder, `any` all.

    Scheme and "www." make no other site: the commonest seed of all redirects from one to the other.
    """

    def __init__(self, kind: str, seeds: tuple[str, ...]) -> None:
        self._kind = kind
        self._hosts: set[str] = set()
        self._prefixes: tuple[str, ...] = ()
        for seed in seeds:
            self.add(seed)

    def add(self, seed: str) -> None:
        """Take in one more seed: one that is given, or where it has moved to for good."""
        self._hosts.add(site(origin(seed).host))
        self._prefixes = (*self._prefixes, _place(seed.split("?", 1)[0].rpartition("/")[0] + "/"))

    def __contains__(self, url: object) -> bool:
        if not isinstance(url, str):
            return False
        if self._kind == "any":
            return True
        return site(origin(url).host) in self._hosts if self._kind == "host" else _place(url).startswith(self._prefixes)


def _place(url: str) -> str:
    """A normalised URL without its scheme and "www."."""
    where = origin(url)
    port = "" if where.port in _DEFAULT_PORTS.values() else f":{where.port}"
    return site(where.host) + port + path_and_query(url)


def _ascii_host(host: str) -> str:
    """A host name by UTS 46 as browsers apply it: mapped, not transitional, and any label that has a Punycode form.

    Raises IDNAError or UnicodeError for names that have none.
    """
    labels = idna.uts46_remap(host, std3_rules=False).split(".")
    return ".".join(label if label.isascii() else "xn--" + label.encode("punycode").decode() for label in labels)


def _query_in(link: str, charset: str) -> str:
    """A link whose query is escaped in the page's charset; characters it lacks become numeric references, escaped."""

    def one(match: re.Match[str]) -> str:
        return quote(match[0].encode(charset, "xmlcharrefreplace"), safe="")

    head, mark, fragment = link.partition("#")
    path, question, query = head.partition("?")
    return path + question + _NOT_ASCII.sub(one, query) + mark + fragment


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


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "replace")


def escaped(raw: bytes, safe: str) -> str:
    """One spelling of a path or query (RFC 3986 section 6.2.2): unreserved and `safe` characters plain, all else escaped."""

    def one(match: re.Match[str]) -> str:
        character = chr(int(match[1], 16))
        return character if character in _UNRESERVED else f"%{match[1].upper()}"

    # A "%" that starts no escape is escaped itself, so that normalising twice changes nothing.
    text = re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", raw.decode("latin-1"))
    return quote(_PERCENT.sub(one, text), safe=safe + "%", encoding="latin-1")
