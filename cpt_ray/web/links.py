"""Links of a page and of a sitemap."""

from __future__ import annotations

import gzip
import io
import re
import zlib
from html import unescape
from typing import Any

from resiliparse.parse.html import HTMLTree

from cpt_ray.web.url import join

_LOC = re.compile(r"<(?:\w+:)?loc\b[^>]*>\s*(?:<!\[CDATA\[)?\s*(.*?)\s*(?:\]\]>)?\s*</", re.S)
_SITEMAP = re.compile(rb"<(?:\w+:)?(urlset|sitemapindex)\b")


def page_links(html: str, url: str) -> set[str]:
    """Normalised URLs a page links to; none where it asks robots not to follow (`nofollow`)."""
    # The tree must outlive the nodes taken from it.
    tree = HTMLTree.parse(html)
    metas = [_attribute(node, "content").lower() for node in _select(tree, 'meta[name="robots" i]')]
    if any("nofollow" in content or "none" in content for content in metas):
        return set()
    base = next((join(url, _attribute(node, "href")) for node in _select(tree, "base[href]")), None) or url
    anchors = _select(tree, "a[href], area[href]")
    hrefs = {_attribute(node, "href") for node in anchors if "nofollow" not in _attribute(node, "rel").lower()}
    found = {join(base, href) for href in hrefs}
    return {link for link in found if link is not None}


def _select(tree: HTMLTree, selector: str) -> list[Any]:
    # A slice: stepping through a collection with its iterator takes time quadratic in its length.
    return list(tree.document.query_selector_all(selector)[:]) if tree.document is not None else []


def _attribute(node: Any, name: str) -> str:
    return node.getattr(name) or ""


def sitemap_links(body: bytes, url: str, max_bytes: int) -> tuple[set[str], set[str]]:
    """(sitemaps, pages) a sitemap names (sitemaps.org 0.9), plain or gzipped, at most `max_bytes` when unpacked.

    Read with a pattern, not an XML parser: half the sitemaps of the web are not well-formed, and a pattern expands no
    entities. What is no sitemap names nothing.
    """
    if body.startswith(b"\x1f\x8b"):
        try:
            body = gzip.GzipFile(fileobj=io.BytesIO(body)).read(max_bytes)
        except (OSError, EOFError, zlib.error):
            return set(), set()
    kind = _SITEMAP.search(body[:4096])
    if kind is None:
        return set(), set()
    found = {join(url, unescape(loc)) for loc in _LOC.findall(body.decode("utf-8", "replace"))}
    links = {link for link in found if link is not None}
    return (links, set()) if kind[1] == b"sitemapindex" else (set(), links)
