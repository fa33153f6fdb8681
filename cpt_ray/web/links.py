"""Links: of a page, of a sitemap or feed, of a redirect."""

from __future__ import annotations

import codecs
import re
import zlib
from collections import Counter
from collections.abc import Iterable
from html import unescape
from typing import Any

from resiliparse.parse.html import HTMLTree

from cpt_ray.web.content import codec_of
from cpt_ray.web.robots import AGENT
from cpt_ray.web.url import LONGEST, join, without_session

MAX_LINKS = 50_000
"""Links of one page that are followed, from its top; more are a trap, not a page."""

_ELEMENTS = "a[href], area[href], iframe[src], frame[src], link[href], base[href], meta[content]"
_VALUED = ("max-snippet", "max-image-preview", "max-video-preview", "unavailable_after")
_NAME = re.compile(r"[\w.*/-]+")
_REFRESH = re.compile(r"\s*[\d.]+\s*[;,]\s*(?:url\s*=\s*)?['\"]?([^'\"]+)", re.I)
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.S)
_ROOT = re.compile(r"<(?:([\w.-]+):)?(urlset|sitemapindex|rss|feed|RDF)(?=[\s>/])")
_TEXT = r"(?:\s[^<>]*)?(?<!/)>\s*(?:<!\[CDATA\[([^<]*?)\]\]>|([^<]*))"
_ENTRY = re.compile(r"<(?:[\w.-]+:)?(?:item|entry)(?=[\s>])")
_RSS_LINK = re.compile(rf"<link{_TEXT}")
_ATOM_LINK = re.compile(r"<(?:[\w.-]+:)?link\s([^<>]{1,4096})>")
_ATTRIBUTE = re.compile(r"([\w:-]+)\s*=\s*(?:\"([^\"]*)\"|'([^']*)')")
_ENCODING = re.compile(rb"^\s*<\?xml[^>]*\bencoding\s*=\s*[\"']([\w.:-]+)")


def page_links(html: str, url: str, *, charset: str = "utf-8", left_out: Counter[str] | None = None) -> set[str]:
    """Normalised URLs a page leads to, without session ids: anchors, areas, frames, its canonical address, a refresh.

    None where the page asks robots not to follow. `charset` is the page's (a Python codec): queries of links are escaped
    in it. `left_out` counts the links not followed: "nofollow", "too_many_links", and "no_page" for what is no http(s)
    URL or too long a one.
    """
    left_out = Counter() if left_out is None else left_out
    hrefs: dict[str, bool] = {}
    base, wishes = url, []
    # The tree must outlive the nodes taken from it.
    tree = HTMLTree.parse(html)
    for node in _select(tree, _ELEMENTS):
        match node.tag:
            case "a" | "area":
                href, rel = _attribute(node, "href"), _attribute(node, "rel").lower().split()
                hrefs[href] = hrefs.get(href, False) or "nofollow" not in rel
            case "iframe" | "frame":
                hrefs[_attribute(node, "src")] = True
            case "link":
                if "canonical" in _attribute(node, "rel").lower().split():
                    hrefs[_attribute(node, "href")] = True
            case "base":
                base = (join(url, _attribute(node, "href")) or url) if base == url else base
            case "meta" if _attribute(node, "name").lower() in ("robots", AGENT):
                wishes.append(_attribute(node, "content"))
            case "meta" if _attribute(node, "http-equiv").lower() == "refresh":
                if target := _REFRESH.match(_attribute(node, "content")[:LONGEST]):
                    hrefs[target[1]] = True
    if nofollow(wishes):
        left_out["nofollow"] += len(hrefs)
        return set()
    left_out["nofollow"] += sum(not follow for follow in hrefs.values())
    found = [join(base, href, charset) for href, follow in hrefs.items() if follow]
    left_out["no_page"] += found.count(None)
    links = dict.fromkeys(without_session(link) for link in found if link is not None)
    left_out["too_many_links"] += max(0, len(links) - MAX_LINKS)
    return set(list(links)[:MAX_LINKS])


def nofollow(values: Iterable[str]) -> bool:
    """Whether X-Robots-Tag headers, or the contents of robots meta elements, ask us not to follow links.

    Directives are separated by commas; "name: ..." in front of one is a directive with a value ("max-image-preview:
    none" forbids nothing) or else the product token of the crawler that this and the following ones are for.
    """
    for value in values:
        ours = True
        for part in value.lower().split(","):
            name, colon, rest = (word.strip() for word in part.partition(":"))
            if name.split(" ")[0] in _VALUED:
                continue
            if colon and _NAME.fullmatch(name):
                ours, part = name.partition("/")[0] in (AGENT, "*"), rest
            if ours and {"nofollow", "none"} & set(part.split()):
                return True
    return False


def redirect_target(url: str, location: str) -> str | None:
    """Where a redirect leads: `location` as HTTP clients hand it on, a Latin-1 reading of bytes that may be anything.

    UTF-8 is read as such; other bytes are escaped as they are, as browsers do.
    """
    raw = location.encode("latin-1", "replace")
    try:
        return join(url, raw.decode("utf-8"))
    except UnicodeDecodeError:
        return join(url, "".join(chr(byte) if byte < 0x80 else f"%{byte:02X}" for byte in raw))


def _select(tree: HTMLTree, selector: str) -> list[Any]:
    # A slice: stepping through a collection with its iterator takes time quadratic in its length.
    return list(tree.document.query_selector_all(selector)[:]) if tree.document is not None else []


def _attribute(node: Any, name: str) -> str:
    return node.getattr(name) or ""


def sitemap_links(
    body: bytes, url: str, max_bytes: int, *, left_out: Counter[str] | None = None
) -> tuple[set[str], set[str]]:
    """(sitemaps, pages) a sitemap names, plain or gzipped, at most `max_bytes` of it when unpacked (sitemaps.org 0.9).

    XML, a feed (RSS, Atom) or a text file with a URL a line. Read with patterns, not an XML parser: half the sitemaps of
    the web are not well-formed, and a pattern expands no entities. Of the elements called loc only the sitemap's own
    count, not those of images and videos in it. `left_out` counts what names nothing ("no_sitemap"), or not all that it
    should because it is cut off ("truncated"), and what it names that is no URL ("no_page").
    """
    left_out = Counter() if left_out is None else left_out
    whole = len(body) <= max_bytes
    if body.startswith(b"\x1f\x8b"):
        body, whole = _inflate(body, max_bytes)
    text = _COMMENT.sub("", _decoded(body[:max_bytes]))
    root = _ROOT.search(text[:8192])
    if root is None:
        named = _lines(text)
    elif root[2] in ("urlset", "sitemapindex"):
        prefix = f"(?:{re.escape(root[1])}:)?" if root[1] else ""
        named = [cdata or plain for cdata, plain in re.findall(rf"<{prefix}loc{_TEXT}", text)]
    else:
        named = _feed(text)
    left_out["truncated"] += not whole
    left_out["no_sitemap"] += whole and root is None and not named
    found = [join(url, unescape(place.strip())) for place in named]
    left_out["no_page"] += found.count(None)
    links = {link for link in found if link is not None}
    return (links, set()) if root is not None and root[2] == "sitemapindex" else (set(), links)


def _inflate(packed: bytes, max_bytes: int) -> tuple[bytes, bool]:
    """What can be unpacked of a gzip file, `max_bytes` at most, and whether that is all. In blocks, so that what stands
    before a damage is not lost."""
    plain = bytearray()
    member = zlib.decompressobj(zlib.MAX_WBITS | 16)
    for at in range(0, len(packed), 4096):
        block = packed[at : at + 4096]
        while block:
            if member.eof:
                member = zlib.decompressobj(zlib.MAX_WBITS | 16)
            try:
                plain += member.decompress(block, max_bytes + 1 - len(plain))
            except zlib.error:
                return bytes(plain), False
            if len(plain) > max_bytes:
                return bytes(plain[:max_bytes]), False
            block = member.unused_data
    return bytes(plain), member.eof


def _decoded(body: bytes) -> str:
    if body[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return body.decode("utf-16", "replace")
    declared = _ENCODING.match(body.removeprefix(codecs.BOM_UTF8)[:200])
    # One that browsers know: of Python's others there are some that take hours for a megabyte.
    known = codec_of(declared[1].decode()) if declared else None
    return body.decode(known or "utf-8-sig", "replace").removeprefix("\ufeff")


def _lines(text: str) -> list[str]:
    """The URLs of a text sitemap; none if its first line that is not empty is no URL."""
    lines = [line for line in (line.strip() for line in text.splitlines()) if line]
    return lines if lines and re.match(r"https?://\S+$", lines[0], re.I) else []


def _feed(text: str) -> list[str]:
    found = []
    for entry in _ENTRY.split(text)[1:]:
        found += [cdata or plain for cdata, plain in _RSS_LINK.findall(entry) if cdata or plain.strip()]
        for attributes in _ATOM_LINK.findall(entry):
            named = {key.lower(): double or single for key, double, single in _ATTRIBUTE.findall(attributes)}
            if named.get("rel", "alternate") == "alternate" and "href" in named:
                found.append(named["href"])
    return found
