"""A page as a reader sees it: its main text in blocks, its title, and what its head says; from one parse.

The tree is walked once. That gives the text in blocks (paragraphs, headings, items, rows) and the containers around them,
each a range of blocks; everything else is arithmetic over the ranges:

1. Furniture is left out: navigation, footers, forms, notices, shares, comments, by element, role and the words of class
   and id; not if it holds a good part of the page's prose, because then its name means something else.
2. The main container is found from the body downwards, as long as one child holds nearly all prose of its parent.
3. Of what is left, lists, tables and runs of blocks that are hardly more than links go.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser, LexborNode

_DROPPED = frozenset(
    """
    script style noscript template iframe svg canvas object embed applet audio video map head select input textarea
    datalist option optgroup meter progress dialog nav menu
    """.split()  # noqa: SIM905
)
_INLINE = frozenset(
    """
    a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark math nobr picture q rp rt ruby
    s samp small span strike strong sub sup time tt u var wbr img
    """.split()  # noqa: SIM905
)
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_SAYS_MORE = _HEADINGS | {"summary", "dt"}
_ROLES = frozenset(
    """
    navigation banner contentinfo search dialog alertdialog menu menubar toolbar complementary tablist
    """.split()  # noqa: SIM905
)
_FURNITURE = re.compile(
    r"(?:^|[\s_-])(?:"
    r"nav|navbar|navigation|menus?|submenu|breadcrumbs?|sidebar|side-?bar|rail|footer|foot|masthead|topbar|header-?bar|"
    r"cookies?|cookie-?(?:banner|notice|consent)|consent|onetrust|ot-sdk|gdpr|ccpa|newsletter|subscribe|subscription|"
    r"sign-?up|social|socials|share|shares|sharing|share-?(?:bar|buttons?|links?|tools?)|sharedaddy|addthis|addtoany|"
    r"comments?|comment-?(?:list|form|section)|disqus|respond|"
    r"related-?(?:posts?|articles?|stories|story|content|links?|news|topics?|products?|items?|videos?|reading)|"
    r"recommended|recommendations?|recirc|read-?(?:more|next)|more-?(?:stories|news|from|articles|posts)|"
    r"popular|most-?read|trending|latest-?(?:news|posts|stories)|promo|promos|promotion|advert|adverts|"
    r"advertisement|ads?|ad-?(?:slot|unit|container|wrapper)|sponsor|sponsored|taboola|outbrain|"
    r"popup|modal|overlay|lightbox|paywall|pagination|pager|page-?nav|tags|tag-?(?:list|cloud)|post-?tags|"
    r"author-?(?:bio|box|info|card)|about-?author|copyright|skip-?(?:link|to-content)|toolbar|login|"
    r"sr-only|visually-?hidden|screen-reader-text|noprint|no-print|metadata|byline|dateline|"
    r"reviews-?list|carousel|slider|post-?(?:meta|nav|navigation)|entry-?(?:meta|footer)|widget|widgets"
    r")(?:[\s_-]|$)"
)
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_SPACE = re.compile(r"\s+")
_GONE = re.compile("[\u00ad\u200b\u2060\ufeff]")


@dataclass(frozen=True)
class Page:
    """Title and main text (blocks separated by an empty line, items and rows by a line break), the declared language,
    the canonical URL as written, and whether robots are asked not to index it."""

    title: str = ""
    text: str = ""
    language: str = ""
    canonical: str = ""
    noindex: bool = False


@dataclass(slots=True)
class _Block:
    text: str
    links: int  # characters of it within links
    kind: str
    score: int  # characters that are prose


@dataclass(slots=True)
class _Box:
    """A container: blocks[first:last]."""

    tag: str
    names: str
    furniture: bool
    first: int
    last: int = 0
    children: list[_Box] = field(default_factory=list)


def read_page(html: str) -> Page:
    """Title, main text and head of a page. Never fails; a page without text has none."""
    tree = LexborHTMLParser(html)
    head = tree.head
    title = tree.css_first("title")
    language = tree.root.attributes.get("lang") if tree.root is not None else None
    canonical, asked = "", False
    for node in tree.css("meta[name], link[rel]") if head is not None else ():
        known = node.attributes
        if node.tag == "meta" and (known.get("name") or "").lower() == "robots":
            asked = asked or noindex(known.get("content") or "")
        elif node.tag == "link" and "canonical" in (known.get("rel") or "").lower().split():
            canonical = canonical or (known.get("href") or "").strip()
    body = tree.body
    return Page(
        title=" ".join(tidy(title.text()).split()) if title is not None else "",
        text=main_text(body) if body is not None else "",
        language=(language or "").strip(),
        canonical=canonical,
        noindex=asked,
    )


def noindex(directives: str) -> bool:
    """Whether robots directives (meta robots, X-Robots-Tag) ask everybody's robot not to index.

    A directive behind a robot's name ("examplebot: noindex") is for that robot.
    """
    return any(directive.strip() in ("noindex", "none") for directive in directives.lower().split(","))


def tidy(text: str) -> str:
    """Without the invisible characters that tear words apart; no-break spaces are spaces."""
    return _GONE.sub("", text).replace("\u00a0", " ").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def main_text(body: LexborNode) -> str:
    """The main text under `body`."""
    blocks, root = _walk(body)
    sums = [0]
    for block in blocks:
        sums.append(sums[-1] + block.score)
    if not blocks:
        return ""
    total = sums[-1]
    keep = bytearray(b"\1") * len(blocks)
    _drop_furniture(root, sums, max(1, total), keep)
    kept = [0]
    for block, here in zip(blocks, keep, strict=True):
        kept.append(kept[-1] + (block.score if here else 0))
    main = _main(root, kept)
    _drop_links(main, blocks, keep)
    chosen = [block for at, block in enumerate(blocks[main.first : main.last], main.first) if keep[at]]
    return _join(chosen)


# --- the walk ---------------------------------------------------------------------------------------------------------


def _walk(body: LexborNode) -> tuple[list[_Block], _Box]:
    blocks: list[_Block] = []
    root = _Box("body", "", False, 0)
    parts: list[str] = []
    links = 0
    stack: list[tuple[LexborNode | None, str, _Box, bool, bool, str]] = []
    box, in_link, pre, kind = root, False, False, "text"
    node = body.child

    def flush() -> None:
        nonlocal links
        if parts:
            text = "".join(parts)
            parts.clear()
            text = _lines(text) if pre else _flow(text)
            if text:
                blocks.append(_Block(text, min(links, len(text)), kind, _prose(text, links, kind)))
        links = 0

    while True:
        if node is None:
            if not stack:
                break
            node, tag, outer, was_link, was_pre, was_kind = stack.pop()
            if tag in _INLINE:
                in_link = was_link
                continue
            if tag in ("td", "th"):
                if parts:
                    parts.append(" | ")
                if box is not outer:
                    flush_last(box, blocks)
                box, kind = outer, was_kind
                continue
            flush()
            box.last = len(blocks)
            box, in_link, pre, kind = outer, was_link, was_pre, was_kind
            continue
        tag = node.tag or "-"
        following = node.next
        if tag == "-text":
            text = node.text_content or ""
            parts.append(text)
            if in_link:
                links += len(text.strip())
            node = following
            continue
        if tag == "br":
            parts.append("\n" if pre else "\v")
            node = following
            continue
        if tag in _DROPPED or tag[0] in "!-_":
            node = following
            continue
        if tag in _INLINE:
            if tag == "a" or node.child is not None:
                stack.append((following, tag, box, in_link, pre, kind))
                in_link = in_link or tag == "a"
                node = node.child
            else:
                node = following
            continue
        if tag == "button" and kind not in _SAYS_MORE:
            node = following
            continue
        if tag == "button":
            stack.append((following, "span", box, in_link, pre, kind))
            node = node.child
            continue
        known = node.attributes
        if known and _is_hidden(known):
            node = following
            continue
        if tag in ("td", "th"):
            stack.append((following, tag, box, in_link, pre, kind))
            node = node.child
            continue
        flush()
        names = f"{known.get('class') or ''} {known.get('id') or ''}".lower() if known else ""
        inner = _Box(tag, names, _is_furniture(tag, names, known), len(blocks))
        box.children.append(inner)
        stack.append((following, tag, box, in_link, pre, kind))
        box = inner
        if tag == "pre":
            pre = True
        kind = tag if tag in _KINDS else kind if kind in ("li", "dd", "blockquote", "tr") else "text"
        node = node.child
    flush()
    root.last = len(blocks)
    return blocks, root


def flush_last(box: _Box, blocks: list[_Block]) -> None:
    box.last = len(blocks)


_KINDS = _SAYS_MORE | {"p", "li", "dd", "pre", "blockquote", "tr", "figcaption", "caption"}


def _is_hidden(known: dict[str, str | None]) -> bool:
    return "hidden" in known or ((style := known.get("style")) is not None and _HIDDEN.search(style) is not None)


def _is_furniture(tag: str, names: str, known: dict[str, str | None]) -> bool:
    if tag == "footer" or tag in ("body", "html", "main", "article"):
        return tag == "footer"
    if known and (known.get("role") or "").lower() in _ROLES:
        return True
    return len(names) > 1 and _FURNITURE.search(names) is not None


def _flow(text: str) -> str:
    """Running text: blanks collapsed; a line break where the page has one."""
    lines = [" ".join(line.split()) for line in tidy(text).split("\v")]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    return text.strip(" |") if " | " in text or text.endswith("|") else text


def _lines(text: str) -> str:
    """Preformatted text: as it is."""
    return "\n".join(line.rstrip() for line in tidy(text).replace("\v", "\n").split("\n")).strip("\n")


def _prose(text: str, links: int, kind: str) -> int:
    n = len(text) - links
    if kind in _SAYS_MORE or n < 30:
        return 0
    if kind in ("p", "pre", "blockquote") or n >= 80:
        return n
    return n // 2


# --- choosing ---------------------------------------------------------------------------------------------------------


def _drop_furniture(box: _Box, sums: list[int], total: int, keep: bytearray) -> None:
    for child in box.children:
        if child.first == child.last:
            continue
        if child.furniture and sums[child.last] - sums[child.first] < 0.4 * total:
            keep[child.first : child.last] = bytes(child.last - child.first)
        else:
            _drop_furniture(child, sums, total, keep)


def _main(box: _Box, sums: list[int]) -> _Box:
    """From `box` downwards as long as one child holds nearly all prose."""
    while True:
        total = sums[box.last] - sums[box.first]
        best = max(box.children, key=lambda c: sums[c.last] - sums[c.first], default=None)
        if best is None or not total:
            return box
        share = (sums[best.last] - sums[best.first]) / total
        if share < (0.6 if best.tag in ("article", "main") else 0.8):
            return box
        if best.tag in _KINDS or best.tag in ("ul", "ol", "table", "tbody", "dl", "blockquote"):
            return box
        box = best


def _drop_links(box: _Box, blocks: list[_Block], keep: bytearray) -> None:
    """Drop lists and boxes of `box` that are hardly more than links."""
    for child in box.children:
        here = [at for at in range(child.first, child.last) if keep[at]]
        if not here:
            continue
        chars = sum(len(blocks[at].text) for at in here)
        links = sum(blocks[at].links for at in here)
        if links > 0.6 * chars and child.tag not in _HEADINGS and child.tag != "p":
            keep[child.first : child.last] = bytes(child.last - child.first)
        else:
            _drop_links(child, blocks, keep)


def _join(blocks: list[_Block]) -> str:
    """Blocks as text; items and rows in a row are lines of one block."""
    parts: list[str] = []
    before = ""
    for block in blocks:
        if parts:
            parts.append("\n" if block.kind == before and block.kind in ("li", "tr") else "\n\n")
        parts.append(block.text)
        before = block.kind
    return "".join(parts)
