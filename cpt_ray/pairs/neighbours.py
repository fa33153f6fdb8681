"""Text pairs: neighbouring pieces of one document are positives of each other (arXiv 2201.10005, section 2).

1. Lines that repeat over the documents of a group (navigation, licences, footers) are none of a document's own text:
   pieces end before them and begin after them.
2. What lies between is cut into an even number of pieces of about equal length, where a paragraph ends if one ends
   near, else where a sentence or a line does. They are to have SHARE of what they may have at most: if they were to have
   all of it, there would be one place for each cut, and it would mostly lie within a word.
3. Pieces 0 and 1, 2 and 3, ... are the pairs: each piece is used once, so that no text is a positive twice.

A pair whose sides say the same, or one of which is hardly words, teaches nothing and is dropped.
"""

from __future__ import annotations

import bisect
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

import pyarrow as pa
import xxhash

from cpt_ray.artifacts.examples import Sampler
from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.pairs.options import NeighbourOptions
from cpt_ray.pairs.schema import Claimed, Cluster, Pair, pairs_table, survivors
from cpt_ray.words import CLOSERS, OTHER_STOPS, STOPS, is_plain, letters, text_hash, words

# A sentence's end with the space after it, which other scripts than ours do without; it takes the closing quotes along, and
# what follows a Japanese quotation (と, って) belongs to its sentence. Or the end of a line; two are a paragraph's end.
# A row of dots or blanks is looked at from its beginning alone: from each of its places, that is the square of its length.
_ENDED = frozenset(STOPS + OTHER_STOPS + ":：")
_BOUNDARY = re.compile(
    rf"(?<![{STOPS}])[{STOPS}]++[{re.escape(CLOSERS)}]*+[ \t]++(?=\S)"
    rf"|(?<![{OTHER_STOPS}])[{OTHER_STOPS}]++(?:[{re.escape(CLOSERS)}]++(?!と|って))?[ \t]*+(?![{re.escape(CLOSERS)}])"
    r"|(?:(?<![ \t])[ \t]++)?\n\s*"
)


SHARE = 0.8


class Span(NamedTuple):
    """Characters start..end-1 of a document."""

    start: int
    end: int


def text_pairs(documents: pa.Table, clusters: pa.Table | None, options: NeighbourOptions) -> tuple[pa.Table, Ledger]:
    """Pairs (PAIRS) of documents (columns doc_id, group, text); a group's documents must all be in the table.

    Ledger, of `documents`: `duplicate` (its cluster keeps another), `too_short` (no two pieces, or no text at all). Of
    `pairs`: `near_identical`, `not_letters`, `same_text` (x and y equal those of another pair).
    """
    documents = documents.select(["doc_id", "group", "text"]).sort_by("doc_id")
    known = survivors(documents["doc_id"], clusters)
    rows = [
        (row["doc_id"], row["group"], row["text"], (cluster_id, size))
        for row, cluster_id, kept, size in zip(documents.to_pylist(), *known, strict=True)
        if kept
    ]
    counts = line_counts(((group, text) for _, group, text, _ in rows), options)
    repeated: dict[str, set[int]] = defaultdict(set)
    for (group, line), documents_with in counts.items():
        if documents_with >= options.boilerplate_documents:
            repeated[group].add(line)
    return cut_documents(rows, documents.num_rows - len(rows), repeated, options)


def cut_documents(
    rows: Iterable[tuple[str, str, str | None, Cluster]],
    duplicates: int,
    repeated: Mapping[str, Collection[int]],
    options: NeighbourOptions,
) -> tuple[pa.Table, Ledger]:
    """Pairs (PAIRS) of (doc_id, group, text, cluster), first come by doc_id; `repeated` lines by group.

    `duplicates` were left out before, and only counted.
    """
    of_documents: Counter[str | None] = Counter({"duplicate": duplicates})
    of_pairs: Counter[str | None] = Counter()
    claimed = Claimed()
    pairs: list[Pair] = []
    dropped = Sampler()
    for doc_id, group, given, (cluster_id, cluster_size) in rows:
        text, found = given or "", False
        for run in _runs(text, repeated.get(group, frozenset()), options):
            pieces = cut(text, run, options)
            step = 1 if options.overlapping else 2
            for x, y in zip(pieces[:-1:step], pieces[1::step], strict=True):
                found = True
                pair = Pair(
                    kind="text",
                    source=options.source,
                    group=group,
                    x=text[x.start : x.end],
                    y=text[y.start : y.end],
                    cluster_id=cluster_id,
                    cluster_size=cluster_size,
                    x_doc=doc_id,
                    y_doc=doc_id,
                    x_span=x,
                    y_span=y,
                )
                reason = _reason(pair, claimed, options)
                of_pairs[reason] += 1
                if reason is None:
                    pairs.append(pair)
                else:
                    dropped.add("pairs", reason, pair.pair_id, group=group, x=pair.x, y=pair.y)
        of_documents[None if found else "too_short"] += 1
        if not found:
            dropped.add("documents", "too_short", doc_id, group=group, text=text)
    ledger = Ledger.count("documents", of_documents.elements()) + Ledger.count("pairs", of_pairs.elements())
    return pairs_table(pairs), ledger.showing(dropped)


def cut(text: str, run: Span, options: NeighbourOptions) -> list[Span]:
    """An even number of pieces of `run`, each of min_chars..max_chars before its edges are stripped; [] if too short.

    The lengths are as equal as the ends of paragraphs, sentences and lines allow: a greedy filling would leave a
    useless rest at the end of every document.
    """
    run = _strip(text, *run)
    length = run.end - run.start
    if length < 2 * options.min_chars:
        return []
    wanted = 2 * -(-length // (2 * int(SHARE * options.max_chars)))
    count = min(wanted, length // (2 * options.min_chars) * 2)
    boundaries = list(_BOUNDARY.finditer(text, run.start, run.end))
    ends = [boundary.end() for boundary in boundaries]

    def cost(at: int, ideal: int) -> tuple[int, int]:
        """Of cutting at a boundary: how unequal the pieces get, and what it tears, in characters."""
        boundary, end = boundaries[at], ends[at]
        if boundary[0].count("\n") > 1:
            return abs(end - ideal), end
        before = text[max(run.start, boundary.start() - 4) : boundary.start()]
        sentence = boundary[0][0] in _ENDED or before.rstrip(CLOSERS)[-1:] in _ENDED
        return abs(end - ideal) + length // count // (4 if sentence else 2), end

    pieces = []
    at = run.start
    for left in range(count - 1, 0, -1):
        # Whatever is chosen, what remains must fit into the pieces that are left.
        low = max(at + options.min_chars, run.end - left * options.max_chars)
        high = min(at + options.max_chars, run.end - left * options.min_chars)
        ideal = at + (run.end - at) // (left + 1)
        first, last = bisect.bisect_left(ends, low), bisect.bisect_right(ends, high)
        if first < last:
            # What is farther from the ideal than the nearest one costs is no better, whatever it tears.
            nearest = min(max(bisect.bisect_left(ends, ideal), first), last - 1)
            most = cost(nearest, ideal)[0]
            first = max(first, bisect.bisect_left(ends, ideal - most))
            last = min(last, bisect.bisect_right(ends, ideal + most))
            end = min(cost(at_boundary, ideal) for at_boundary in range(first, last))[1]
        else:
            blanks = text.rfind(" ", low, ideal + 1), text.find(" ", ideal, high)
            blank = min((at for at in blanks if at >= 0), key=lambda at: abs(at - ideal), default=None)
            end = _between_characters(text, ideal, high) if blank is None else blank
        pieces.append(_strip(text, at, end))
        at = end
    pieces.append(_strip(text, at, run.end))
    return pieces


def _between_characters(text: str, at: int, high: int) -> int:
    """`at`, or the first place behind it where no mark and no closing quote or stop would begin the next piece."""
    end = at
    while end < high and (text[end] in CLOSERS or text[end] in _ENDED or unicodedata.category(text[end])[0] == "M"):
        end += 1
    return end


def _strip(text: str, start: int, end: int) -> Span:
    piece = text[start:end]
    return (
        Span(start + len(piece) - len(piece.lstrip()), start + len(piece.rstrip()))
        if piece.strip()
        else Span(start, start)
    )


def _reason(pair: Pair, claimed: Claimed, options: NeighbourOptions) -> str | None:
    """Why a pair is left out; those that are not have claimed their texts."""
    for side in (pair.x, pair.y):
        visible = "".join(side.split())
        if letters(visible) <= options.min_letters * len(visible):
            return "not_letters"
    x, y = map(_vocabulary, (pair.x, pair.y))
    if len(x & y) > options.max_similarity * len(x | y):
        return "near_identical"
    return claimed.refused(text_hash(pair.x), text_hash(pair.y))


def _vocabulary(text: str) -> set[str]:
    """The words of a text in lower case; of a plain one it is the same to lower all of it at once."""
    return set(words(text.lower())) if is_plain(text) else {word.lower() for word in words(text)}


def _lines(text: str, options: NeighbourOptions) -> Iterator[tuple[Span, int]]:
    """Lines long enough to be boilerplate, each with the hash of its words."""
    least = options.boilerplate_chars
    for line in _long_lines(least).finditer(text):
        words = " ".join(line[0].split())
        if len(words) >= least:
            yield Span(*line.span()), xxhash.xxh3_64_intdigest(words.encode())


@lru_cache(maxsize=8)
def _long_lines(least: int) -> re.Pattern[str]:
    return re.compile(rf"[^\n]{{{least},}}")


def line_counts(texts: Iterable[tuple[str, str | None]], options: NeighbourOptions) -> Counter[tuple[str, int]]:
    """Of (group, text) rows: in how many of a group's documents a line (its hash) stands."""
    counts: Counter[tuple[str, int]] = Counter()
    for group, text in texts:
        counts.update({(group, line) for _, line in _lines(text or "", options)})
    return counts


def _runs(text: str, repeated: Collection[int], options: NeighbourOptions) -> Iterator[Span]:
    """What of a document lies between its boilerplate lines."""
    start = 0
    if repeated:
        for span, line in _lines(text, options):
            if line in repeated:
                yield Span(start, span.start)
                start = span.end
    yield Span(start, len(text))
