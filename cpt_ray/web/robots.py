"""robots.txt (RFC 9309), failing closed: a site whose rules are not known is not crawled.

What is known:
- 2xx with a body that is text: its rules. Of a long one the first 500 KiB (section 2.5), whole lines. A text without
  rules, such as an HTML page where there is no robots.txt, forbids nothing; rules that stand in it hold (2.3.1.1).
- 4xx: there are no rules, all is allowed (2.3.1.3).

What is not known, and therefore closed:
- no answer at all: no such host, connection refused or lost, TLS failure, timeout, a response that is no HTTP, headers
  without end, a body shorter than its Content-Length or its last chunk;
- an address that may not be contacted, asked for directly or by a redirect;
- 5xx and every status outside 200 to 499; 3xx without a usable Location; more redirects than five, or a loop (2.3.1.4);
- 429, 408 and 425: "not now" is no permission; 206: a part is not the rules;
- a Content-Encoding that is unknown, broken, cut off, or unpacks to more than can be held;
- a body that is no text: control characters, as in an image, in gzip that does not say so, in UTF-16 without its mark.

All of it is tried again later in the same run (`crawl`), and asked anew when a crawl goes on.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from cpt_ray.web.content import BodyError, unpack
from cpt_ray.web.url import escaped, path_and_query

AGENT = "cpt-ray"
"""The product token that a site's wishes are matched with."""

LONGEST = 500 * 1024
"""Bytes of a robots.txt that are read (RFC 9309 section 2.5)."""

_UNPACKED = 10 * LONGEST
_LINE = re.compile(r"\r\n|\r|\n")
_TOKEN = re.compile(r"[A-Za-z0-9_.-]+|\*(?![\w-])")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)?|[.,]\d+")
_BINARY = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_SPACES = " \t\f\v\ufeff"
_KEYS = {"user-agent": "agent", "useragent": "agent", "user agent": "agent", "allow": "allow", "sitemap": "sitemap"}
_KEYS |= dict.fromkeys(("site-map", "site map"), "sitemap") | {"crawl-delay": "delay", "crawldelay": "delay"}
# Spellings that are common enough for others to honour them; whoever mistypes "disallow" means it.
_KEYS |= dict.fromkeys(("disallow", "dissallow", "dissalow", "disalow", "diasllow", "disallaw"), "disallow")


class _Rules:
    """Which paths of an origin are allowed: the longest pattern that matches decides, and among equals Allow."""

    def __init__(self, rules: list[tuple[str, bool]]) -> None:
        self._plain: dict[str, bool] = {}
        wild: dict[str, bool] = {}
        for pattern, allow in rules:
            kind = wild if "*" in pattern or pattern.endswith("$") else self._plain
            kind[pattern] = kind.get(pattern, False) or allow
        self._lengths = sorted({len(pattern) for pattern in self._plain}, reverse=True)
        self._wild = sorted(wild.items(), key=lambda rule: (-len(rule[0]), not rule[1]))

    def allow(self, path: str) -> bool:
        length, allowed = 0, True
        for size in self._lengths:
            if size <= len(path) and path[:size] in self._plain:
                length, allowed = size, self._plain[path[:size]]
                break
        for pattern, allow in self._wild:
            if len(pattern) < length or (len(pattern) == length and allowed):
                break
            if _matches(pattern, path):
                return allow
        return allowed


@dataclass
class _Group:
    """Agents that one record is for (lower-case product tokens or "*"), and what it says."""

    agents: set[str] = field(default_factory=set)
    rules: list[tuple[str, bool]] = field(default_factory=list)
    delays: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Robots:
    """The rules of one origin for our product token; `sitemaps` as they are written, `crawl_delay` in seconds."""

    reachable: bool
    crawl_delay: float | None = None
    sitemaps: tuple[str, ...] = ()
    _rules: _Rules | None = None

    def allows(self, url: str) -> bool:
        """Whether a normalised URL may be fetched."""
        if not self.reachable:
            return False
        path = path_and_query(url)
        return self._rules is None or path == "/robots.txt" or self._rules.allow(_path(path))


CLOSED = Robots(False)


def robots(status: int | None, body: bytes, agent: str, *, coding: str = "") -> Robots:
    """The rules from the final answer to GET /robots.txt; `status` None when there was no answer.

    `body` may be cut behind `LONGEST` bytes; `coding` is its Content-Encoding.
    """
    if status is None or not 200 <= status < 500 or 300 <= status < 400 or status in (206, 408, 425, 429):
        return CLOSED
    if status >= 400:
        return Robots(True)
    text = _text(body, coding)
    return CLOSED if text is None else _parse(text, agent.lower())


def _text(body: bytes, coding: str) -> str | None:
    """The first 500 KiB of a robots.txt, None if they cannot be read. Bytes that are no UTF-8 are kept as surrogates."""
    try:
        plain = unpack(body, coding, _UNPACKED)
    except BodyError:
        return None
    if plain[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        try:
            text = plain[: LONGEST - LONGEST % 2].decode("utf-16")
        except UnicodeDecodeError:
            return None
    else:
        text = plain[:LONGEST].removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")
    if _BINARY.search(text):
        return None
    if len(plain) <= LONGEST:
        return text
    lines = _LINE.split(text)
    return "\n".join(lines[:-1])  # half a line may be half an Allow, which is a wider one


def _parse(text: str, agent: str) -> Robots:
    groups: list[_Group] = []
    sitemaps: set[str] = set()
    named = False  # whether the last rule or agent line was an agent's: other lines do not interfere (section 2.2.1)
    for key, value in _lines(text):
        if key == "sitemap":
            sitemaps |= {value} if value else set()
        elif key == "agent":
            if not named:
                groups.append(_Group())
            named = True
            groups[-1].agents.add(_agent(value))
        elif groups and key == "delay":
            if number := _NUMBER.match(value):
                groups[-1].delays.append(float(number[0].replace(",", ".")))
        elif groups:
            named = False
            if value.startswith(("/", "*")):
                groups[-1].rules.append((_pattern(value), key == "allow"))
    ours = [group for group in groups if agent in group.agents] or [group for group in groups if "*" in group.agents]
    delays = [delay for group in ours for delay in group.delays]
    rules = [rule for group in ours for rule in group.rules]
    return Robots(True, max(delays, default=None), tuple(sorted(sitemaps)), _Rules(rules))


def _lines(text: str) -> Iterator[tuple[str, str]]:
    """(key, value) of the lines that say something; a forgotten colon is forgiven where a space stands for it."""
    for line in _LINE.split(text):
        written = line.partition("#")[0].strip(_SPACES)
        key, _, value = written.partition(":")
        known = _KEYS.get(" ".join(key.lower().split()))
        if known is None and len(words := written.split()) == 2:
            known, value = _KEYS.get(words[0].lower()), words[1]
        if known is not None:
            yield known, value.strip(_SPACES)


def _agent(value: str) -> str:
    """The product token an agent line names, lower-case: what follows it, such as a version, is no part of it."""
    token = _TOKEN.match(value)
    return token[0].lower() if token else ""


def _pattern(value: str) -> str:
    """A rule's path as it is compared: `*` any characters, `$` at the end the end, all else escaped as `_path` does."""
    end = "$" if value.endswith("$") else ""
    parts = value.removesuffix("$").split("*")
    # Stars in a row, and one at the end, say no more than one or none; but they count for the pattern's length.
    return "*".join(_path(part) for part in parts) + end


def _path(text: str) -> str:
    """One spelling of a path and query (section 2.2.2): unreserved characters plain, `*` and `$` and the rest escaped.

    In a query ":" and "/" are the same as their escapes, as the RFC's own example has it.
    """
    spelled = escaped(text.encode("utf-8", "surrogateescape"), safe="/:@!&'()+,;=~?")
    path, mark, query = spelled.partition("?")
    return path + mark + query.replace("%3A", ":").replace("%2F", "/")


def _matches(pattern: str, path: str) -> bool:
    """Whether a pattern matches from the start of a path. Each part is sought where it comes first: linear in practice."""
    last = pattern.endswith("$")
    first, *rest = pattern.removesuffix("$").split("*")
    if not path.startswith(first):
        return False
    at = len(first)
    if not rest:
        return not last or at == len(path)
    for part in rest[:-1] if last else rest:
        found = path.find(part, at)
        if found < 0:
            return False
        at = found + len(part)
    return not last or (path.endswith(rest[-1]) and len(path) - len(rest[-1]) >= at)
