"""A page as a reader sees it: its main text in blocks, its title, and what its head says; from one parse.

The tree is walked once. That gives the text in blocks (paragraphs, headings, items, rows) and the containers around them,
each a range of blocks; everything else is arithmetic over the ranges:

1. Furniture is left out: navigation, footers, forms, notices, shares, comments, by element, role and the words of class
   and id; not if it holds a good part of the page's prose, because then its name means something else.
2. The main container is found from the body downwards, as long as one child holds nearly all prose of its parent.
3. Of what is left, lists, tables and runs of blocks that are hardly more than links go.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from operator import mul

from selectolax.lexbor import LexborHTMLParser, LexborNode

_DROPPED = frozenset(
    """
    script style template iframe svg canvas object embed applet audio video map head select input textarea
    datalist option optgroup meter progress dialog nav menu
    """.split()  # noqa: SIM905
)
_INLINE = frozenset(
    """
    a abbr acronym b bdi bdo big cite code data del dfn em font i ins kbd label mark nobr output picture q rp rt ruby
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
    r"popup|modal|overlay|lightbox|pagination|pager|page-?nav|tags|tag-?(?:list|cloud)|post-?tags|"
    r"author-?(?:bio|box|info|card)|about-?author|copyright|skip-?(?:link|to-content)|toolbar|login|"
    r"sr-only|visually-?hidden|screen-reader-text|noprint|no-print|metadata|byline|dateline|"
    r"reviews-?list|carousel|slider|gallery|slideshow|post-?(?:meta|nav|navigation)|entry-?(?:meta|footer)"
    r")(?:[\s_-]|$)"
)
_SETTING = re.compile(r"^(?:has|no|not|with|without)[_-]|[_-](?:enabled|disabled|open|closed|on|off)$")
"""Names that say how something is set, not what the box is: `has-sidebar`, `comments-open`."""
_POST = re.compile(r"(?:^|\s)h-?entry(?:\s|$)")
"""A post (microformats), whose further names are those of its tags: `hentry tag-social`."""
_MARKS = frozenset("¶ # § ^ ↑ ↩ ↩\ufe0e ⇧ 🔗".split())  # noqa: SIM905
"""What a link says that leads to where it stands, or back to there."""
_HIDDEN = re.compile(r"display\s*:\s*none|visibility\s*:\s*hidden", re.I)
_EMPTY_LINES = re.compile(r"\n{3,}")
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
    if title is not None and _drawn(title):
        title = next((one for one in tree.css("title") if not _drawn(one)), None)
    language = tree.root.attributes.get("lang") if tree.root is not None else None
    canonical, asked = "", False
    node = head.child if head is not None else None
    while node is not None:
        if node.tag == "meta":
            known = node.attributes
            if (known.get("name") or "").lower() == "robots":
                asked = asked or noindex(known.get("content") or "")
        elif node.tag == "link" and not canonical:
            known = node.attributes
            if "canonical" in (known.get("rel") or "").lower().split():
                canonical = (known.get("href") or "").strip()
        node = node.next
    body = tree.body
    return Page(
        title=" ".join(tidy(title.text()).split()) if title is not None else "",
        text=main_text(body) if body is not None else "",
        language=(language or "").strip(),
        canonical=canonical,
        noindex=asked,
    )


def _drawn(title: LexborNode) -> bool:
    """Whether a title is that of a drawing in the page."""
    above = title.parent
    while above is not None and above.tag != "svg":
        above = above.parent
    return above is not None


def noindex(directives: str) -> bool:
    """Whether robots directives (meta robots, X-Robots-Tag) ask everybody's robot not to index.

    A directive behind a robot's name ("examplebot: noindex") is for that robot.
    """
    return any(directive.strip() in ("noindex", "none") for directive in directives.lower().split(","))


def tidy(text: str) -> str:
    """Without the invisible characters that tear words apart; no-break spaces are spaces."""
    return _visible(text).replace("\u00a0", " ").replace("\r\n", "\n").replace("\r", "\n").replace("\0", "")


def _visible(text: str) -> str:
    """Without what no reader sees. Of a text in blocks before they are made: what is nothing else makes none."""
    return text if text.isascii() else _GONE.sub("", text)


def main_text(body: LexborNode) -> str:
    """The main text under `body`."""
    blocks, boxes = _walk(body)
    if not blocks:
        return ""
    root = boxes[0]
    everything = _sums(blocks, None)
    keep = bytearray(b"\1") * len(blocks)
    _drop_furniture(root, everything, everything[-1] + 1, keep)
    sums = _sums(blocks, keep)
    if sums[-1] < ENOUGH and sums[-1] < everything[-1] // 2:
        keep = bytearray(b"\1") * len(blocks)
        _drop_furniture(root, everything, everything[-1] * 2 // 5, keep)
        sums = _sums(blocks, keep)
    main = _main(boxes, sums)
    linked = bytes(keep)
    if sums[main.last] - sums[main.first] >= ENOUGH:
        _cut_tail(main, blocks, keep, sums)
        _drop_promotions(main, blocks, keep)
    _drop_links(main, blocks, keep)
    if _chars(main, blocks, keep) < ENOUGH:
        wider = next(_outermost(boxes, _is_main), root)
        if _chars(wider, blocks, linked) > 4 * _chars(main, blocks, keep):
            main, keep = wider, bytearray(linked)
    chosen = [block for at, block in enumerate(blocks[main.first : main.last], main.first) if keep[at]]
    return tidy(_join(chosen)).strip()


ENOUGH = 400
"""Characters of prose below which the names of boxes and the share of links are believed less."""


def _sums(blocks: list[_Block], keep: bytearray | None) -> list[int]:
    """Prose before each block, of those kept."""
    scores = [block.score for block in blocks]
    return list(accumulate(scores if keep is None else map(mul, scores, keep), initial=0))


def _chars(box: _Box, blocks: list[_Block], keep: bytes | bytearray) -> int:
    return sum(len(blocks[at].text) for at in range(box.first, box.last) if keep[at])


# --- the walk ---------------------------------------------------------------------------------------------------------


def _walk(body: LexborNode) -> tuple[list[_Block], list[_Box]]:
    """The blocks, and the boxes that have any, in the order in which they begin; the body is the first."""
    blocks: list[_Block] = []
    root = _Box("body", "", False, 0)
    boxes = [root]
    parts: list[str] = []
    links = 0
    stack: list[tuple[LexborNode, str, _Box, bool, bool, str]] = []
    box, in_link, pre, kind = root, False, False, "text"
    node = body.child

    def flush() -> None:
        nonlocal links
        if parts:
            text = "".join(parts) if len(parts) > 1 else parts[0]
            parts.clear()
            text = _lines(text) if pre else _flow(text)
            if text and not (pre and _are_numbers(text) and any(above[1] == "td" for above in stack)):
                blocks.append(_Block(text, min(links, len(text)), kind, _prose(text, links, kind)))
        links = 0

    while True:
        if node is None:
            if not stack:
                break
            was, tag, outer, was_link, was_pre, was_kind = stack.pop()
            node = was.next
            if tag in _INLINE:
                in_link = was_link
            elif tag in ("td", "th"):
                if parts:
                    parts.append(" | ")
                box, kind = outer, was_kind
            else:
                if parts:
                    flush()
                if box.first < len(blocks):
                    box.last = len(blocks)
                    box.names, box.furniture = _named(tag, was.attributes)
                    outer.children.append(box)
                box, in_link, pre, kind = outer, was_link, was_pre, was_kind
            continue
        tag = node.tag or "-"
        if tag == "-text":
            text = _visible(node.text_content or "")
            if parts or pre or not text.isspace():
                parts.append(text)
                if in_link:
                    links += len(text.strip())
            node = node.next
            continue
        if tag == "math":
            parts.append(_formula(node))
            node = node.next
            continue
        if tag == "br":
            parts.append("\n" if pre else "\v")
            node = node.next
            continue
        if (
            tag in _DROPPED
            or tag[0] in "!-_"
            or (tag == "button" and kind not in _SAYS_MORE and not _asks(node, stack[-1][0] if stack else body))
        ):
            node = node.next
            continue
        inside = node.child
        if tag in _INLINE:
            if tag == "a" and inside is not None and _is_mark(inside):
                inside = None
            if inside is not None:
                stack.append((node, tag, box, in_link, pre, kind))
                in_link = in_link or tag == "a"
            node = inside or node.next
            continue
        if tag == "button" or len(stack) > _DEEPEST:
            parts.append(" " if tag == "button" else "\v")
            stack.append((node, "span", box, in_link, pre, kind))
        elif tag in ("td", "th"):
            stack.append((node, tag, box, in_link, pre, kind))
        else:
            if parts:
                flush()
            stack.append((node, tag, box, in_link, pre, kind))
            box = _Box(tag, "", False, len(blocks))
            boxes.append(box)
            pre = pre or tag == "pre"
            kind = tag if tag in _KINDS else kind if kind in ("li", "dd", "blockquote", "tr") else "text"
        node = inside
    flush()
    root.last = len(blocks)
    return blocks, [box for box in boxes if box.last]


def _asks(button: LexborNode, above: LexborNode) -> bool:
    """Whether a button outside of a heading's element heads what it unfolds: by its parent's role, or a question."""
    return (above.attributes.get("role") or "").lower() == "heading" or button.text().rstrip().endswith(_QUESTION)


_QUESTION = ("?", "？", "؟", "՞", "⁇")
_DEEPEST = 400
"""Levels below which a box is no box of its own: browsers stop at 512, and so few pages come near that none is lost."""
_KINDS = _SAYS_MORE | {"p", "li", "dd", "pre", "blockquote", "tr", "figcaption", "caption"}


def _named(tag: str, known: dict[str, str | None]) -> tuple[str, bool]:
    """(class, id and itemprop of a box, whether it is furniture)."""
    names = f"{known.get('class') or ''} {known.get('id') or ''} {known.get('itemprop') or ''}".lower() if known else ""
    return names, _is_furniture(tag, names, known)


def _is_hidden(known: dict[str, str | None]) -> bool:
    """Whether a reader never sees it: what a heading's button unfolds he does."""
    style = known.get("style")
    if "hidden" not in known and (style is None or _HIDDEN.search(style) is None):
        return False
    unfolds = known.get("role") in ("region", "tabpanel") or "aria-labelledby" in known
    return not unfolds and known.get("hidden") != "until-found"


def _is_furniture(tag: str, names: str, known: dict[str, str | None]) -> bool:
    if tag in ("footer", "noscript"):
        return True
    if not known:
        return False
    if _is_hidden(known):
        return True
    if tag in ("main", "article"):
        return False
    if (known.get("role") or "").lower() in _ROLES:
        return True
    return any(map(_is_name_of_furniture, names.split())) and not _POST.search(names)


@lru_cache(maxsize=1 << 14)
def _is_name_of_furniture(name: str) -> bool:
    return _FURNITURE.search(name) is not None and _SETTING.search(name) is None


def _flow(text: str) -> str:
    """Running text: blanks collapsed; a line break where the page has one."""
    if "\v" not in text:
        text = " ".join(text.split())
    else:
        lines = [" ".join(line.split()) for line in text.split("\v")]
        text = _EMPTY_LINES.sub("\n\n", "\n".join(lines)).strip("\n")
    return text.strip(" |\n") if text.endswith("|") else text


def _lines(text: str) -> str:
    """Preformatted text: as it is."""
    return "\n".join(line.rstrip() for line in text.replace("\v", "\n").splitlines()).strip("\n")


def _is_mark(inside: LexborNode) -> bool:
    return inside.tag == "-text" and (inside.text_content or "").strip() in _MARKS


def _are_numbers(text: str) -> bool:
    """Whether these are the numbers of the lines beside them."""
    said = text.split()
    return len(said[0]) < 9 and said[0].isdecimal() and said == [str(int(said[0]) + at) for at in range(len(said))]


def _formula(math: LexborNode) -> str:
    """A formula as its author wrote it, where the page says so, else its symbols; what KaTeX draws beside it goes."""
    beside = math.parent.next if math.parent is not None else None
    if beside is not None and beside.tag == "span" and beside.attributes.get("aria-hidden") == "true":
        beside.decompose()
    written = math.css_first("annotation[encoding$=tex i]")
    for said in (math.attributes.get("alttext"), written.text() if written is not None else None):
        if formula := " ".join(_visible(said or "").split()):
            return formula
    for other in math.css("annotation, annotation-xml"):  # the same once more, for another program
        other.decompose()
    return " ".join(_visible(math.text(separator=" ")).split())


def _prose(text: str, links: int, kind: str) -> int:
    """Characters that count as prose; one of Chinese says as much as two."""
    n = len(text) - links
    if not text.isascii():
        n += (len(text.encode("utf-8", "replace")) - len(text)) // 2
    if kind in _SAYS_MORE or n < 30:
        return 0
    if kind in ("p", "pre", "blockquote") or n >= 80:
        return n
    return n // 2


# --- choosing ---------------------------------------------------------------------------------------------------------


def _drop_furniture(box: _Box, sums: list[int], limit: int, keep: bytearray) -> None:
    """Drop what is named as furniture and has less prose than `limit`."""
    for child in box.children:
        if child.first == child.last:
            continue
        if child.furniture and sums[child.last] - sums[child.first] < limit:
            keep[child.first : child.last] = bytes(child.last - child.first)
        else:
            _drop_furniture(child, sums, limit, keep)


_TAIL = re.compile(
    r"related:?$|related (?:posts?|articles?|stories|content|links?|news|topics|products|items|videos|reading|coverage)|"
    r"recommended:?$|recommended (?:for|posts|articles|reading|stories|products|videos)|suggested (?:posts|articles|reading)|"
    r"more (?:stories|from|news|articles|posts|like)\b|you (?:may|might) (?:also|like)|read (?:more|next|also|this next)|"
    r"also (?:read|on)\b|what to read next|up next|next (?:article|post|up)$|previous (?:article|post)$|\d+ comments|"
    r"leave a (?:comment|reply)|join the (?:conversation|discussion)|share (?:this|on|your)\b|trending(?: now)?$|"
    r"(?:top|latest|popular|trending|featured|breaking) (?:stories|news|articles|posts|videos|products)|"
    r"most (?:read|popular|viewed)|about the author|sign up (?:for|to)|subscribe(?: (?:to|now|today))?$|newsletter|"
    r"get the latest|follow us|filed under|customers also|you may be interested|similar (?:items|articles|products)|"
    r"explore (?:more|related)",
    re.I,
)


def _cut_tail(box: _Box, blocks: list[_Block], keep: bytearray, sums: list[int]) -> None:
    """Drop what follows a heading such as "Related stories" in its box, behind most of the prose of `box`."""
    least = sums[box.first] + (sums[box.last] - sums[box.first]) * 2 // 3
    behind = range(bisect.bisect_left(sums, least, box.first, box.last), box.last)
    if not any(keep[at] and _TAIL.match(blocks[at].text) for at in behind):
        return

    def look(inner: _Box) -> None:
        at = inner.first
        for child in [*inner.children, None]:
            stop = child.first if child else inner.last
            for here in range(at, stop):
                block = blocks[here]
                if keep[here] and sums[here] >= least and len(block.text) < 60 and _TAIL.match(block.text):
                    end = inner.last
                    keep[here:end] = bytes(end - here)
                    return
            if child is None:
                return
            if child.tag in _HEADINGS or (child.last - child.first == 1 and len(blocks[child.first].text) < 60):
                here = child.first
                if child.first < child.last and keep[here] and sums[here] >= least and _TAIL.match(blocks[here].text):
                    keep[here : inner.last] = bytes(inner.last - here)
                    return
            look(child)
            at = child.last

    look(box)


_BODY = re.compile(r"articlebody|(?:article|post|entry|story|page|news)[-_]{0,2}(?:body|content|text|main)(?:[\s_-]|$)")


def _main(boxes: list[_Box], sums: list[int]) -> _Box:
    """From the body downwards as long as one child holds nearly all prose; less is enough where it says that it is it."""
    box = boxes[0]
    whole = sums[box.last] - sums[box.first]
    for says, share in ((_is_body, 0.25), (_is_article, 0.35)):
        found = list(_outermost(boxes, says))
        if len(found) == 1:
            prose = sums[found[0].last] - sums[found[0].first]
            if prose >= max(ENOUGH, share * whole):
                box = found[0]
                break
    while True:
        total = sums[box.last] - sums[box.first]
        best = max(box.children, key=lambda c: sums[c.last] - sums[c.first], default=None)
        if best is None or not total or best.tag in _KINDS or best.tag in _PARTS:
            return box
        share = (sums[best.last] - sums[best.first]) / total
        if _BODY.search(best.names) and not _in_a_row(best, box, sums):
            least = 0.5
        else:
            least = 0.6 if best.tag in ("article", "main") else 0.8
        if share < least:
            return box
        box = best


def _is_body(box: _Box) -> bool:
    return "articlebody" in box.names and "articlebody" in box.names.split()


def _is_main(box: _Box) -> bool:
    return box.tag == "main"


def _is_article(box: _Box) -> bool:
    return box.tag == "article"


def _outermost(boxes: list[_Box], says: Callable[[_Box], bool]) -> Iterator[_Box]:
    """The boxes that are what `says` asks, without those within others."""
    behind = 0
    for box in boxes:
        if box.first >= behind and says(box):
            behind = box.last
            yield box


def _in_a_row(box: _Box, outer: _Box, sums: list[int]) -> bool:
    """Whether others beside `box` are of its kind, as the posts of a forum are."""
    same = [one for one in outer.children if (one.tag, one.names.split()[:1]) == (box.tag, box.names.split()[:1])]
    return sum(sums[one.last] > sums[one.first] for one in same) > 1


_PARTS = ("ul", "ol", "table", "tbody", "dl", "blockquote", "figure")


_PROMOTION = re.compile(
    r"\W*(?:read (?:more|also)|also read|see more|watch(?: now)?:|listen:|(?:click|tap) here|sign up|subscribe|"
    r"follow (?:us|@|him|her)|"
    r"like this|related:|more:|share (?:this|it)|download our|join (?:our|us)|support (?:us|our))\b",
    re.I,
)
_NOISE = frozenset("advertisement advert ad sponsored caption close share print loading loading...".split())  # noqa: SIM905


def _drop_promotions(box: _Box, blocks: list[_Block], keep: bytearray) -> None:
    """Drop paragraphs among prose that are a link, or that ask to follow one, and what was said before."""
    seen: set[str] = set()
    for at in range(box.first, box.last):
        block = blocks[at]
        size = len(block.text)
        if not keep[at] or block.kind in _SAYS_MORE or block.kind in ("pre", "tr"):
            continue
        if size > 40 and block.text in seen:
            keep[at] = 0
        seen.add(block.text)
        if block.kind in ("p", "text") and size < 200:
            if size < 20 and block.text.lower().strip(" :") in _NOISE:
                keep[at] = 0
            share = block.links / size
            if share > 0.8 or (share > 0.15 and _PROMOTION.match(block.text)):
                keep[at] = 0


def _drop_links(box: _Box, blocks: list[_Block], keep: bytearray) -> None:
    """Drop lists and boxes of `box` that are hardly more than links."""
    chars = list(accumulate((len(b.text) if keep[at] else 0 for at, b in enumerate(blocks)), initial=0))
    links = list(accumulate((b.links if keep[at] else 0 for at, b in enumerate(blocks)), initial=0))

    def look(inner: _Box) -> None:
        at = inner.first
        for child in [*inner.children, None]:
            for here in range(at, child.first if child else inner.last):
                block = blocks[here]
                if block.kind == "text" and block.links > 0.8 * len(block.text):
                    keep[here] = 0
            if child is None:
                return
            at = child.last
            if child.tag in _HEADINGS or child.tag == "p":
                continue
            size = chars[child.last] - chars[child.first]
            if links[child.last] - links[child.first] > 0.6 * size:
                keep[child.first : child.last] = bytes(child.last - child.first)
            elif size:
                look(child)

    look(box)


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
