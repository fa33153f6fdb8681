"""Removals of near duplicates nearest the threshold, each beside what was kept for it, to be judged by a person.

Where a threshold errs, it errs there first. The page counts what is marked and gives the share of wrong removals with
its 95% interval (Wilson's); the marks stay in the page and are sent nowhere.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import heapq
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from cpt_ray import __version__
from cpt_ray.artifacts import read_manifest
from cpt_ray.artifacts.places import locate, write
from cpt_ray.dedup.explain import check_clusters
from cpt_ray.errors import UserError
from cpt_ray.inspect.lineage import lineage
from cpt_ray.inspect.page import template, texts_of
from cpt_ray.inspect.rows import batches
from cpt_ray.inspect.survey import order_of

LONGEST = 4000
"""Characters of a text that are shown."""


class Piece(NamedTuple):
    """Some words of a text, and whether the other text has them there too."""

    text: str
    same: bool


class Removal(NamedTuple):
    """A document that was removed, and the one that it was removed for."""

    removed: str
    kept: str
    similarity: float
    left: list[Piece]
    right: list[Piece]


def write_audit(clusters: str, to: str, count: int) -> int:
    """Write the page about `count` removals of a clusters artifact into the file `to`; returns how many there are."""
    found = removals(clusters, count)
    manifest = read_manifest(clusters)
    script = Path(__file__).with_name("audit.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = template("audit.html.j2").render(
        clusters=clusters,
        removals=found,
        measure=manifest.params.get("measure", "similarity"),
        threshold=manifest.params.get("threshold", 0.0),
        near=manifest.balance.dropped.get("near_duplicate", 0),
        script=script,
        digest=digest,
        version=__version__,
    )
    fs, target = locate(to)
    write(fs, target, text.encode("utf-8", "replace"))
    return len(found)


def removals(clusters: str, count: int) -> list[Removal]:
    """The removals of the near layer with the lowest similarity; of equal ones the first by the hash of their ids."""
    check_clusters(clusters)
    chosen = heapq.nsmallest(count, _near(clusters))
    texts = texts_of(lineage(clusters), {name for _, _, *ids in chosen for name in ids})
    if chosen and not texts:
        raise UserError(
            "the documents of these clusters are not beside them", where=clusters, fix="put them back there"
        )
    return [
        Removal(removed, kept, similarity, *side_by_side(texts.get(removed, ""), texts.get(kept, "")))
        for similarity, _, removed, kept in chosen
    ]


def _near(clusters: str) -> Iterator[tuple[float, int, str, str]]:
    for batch in batches(clusters, ["doc_id", "kept", "matched_id", "similarity", "layer"]):
        for row in batch.to_pylist():
            if not row["kept"] and row["layer"] == "near":
                yield row["similarity"], order_of(row["doc_id"]), row["doc_id"], row["matched_id"]


def side_by_side(left: str, right: str) -> tuple[list[Piece], list[Piece]]:
    """Both texts in pieces, as far as they are shown, with what only one of them has told apart; blanks do not count."""
    a, b = (re.findall(r"\s*\S+", text[:LONGEST]) for text in (left, right))
    matcher = difflib.SequenceMatcher(None, [word.strip() for word in a], [word.strip() for word in b], autojunk=False)
    sides: tuple[list[Piece], list[Piece]] = ([], [])
    for tag, a_start, a_end, b_start, b_end in matcher.get_opcodes():
        for pieces, words in ((sides[0], a[a_start:a_end]), (sides[1], b[b_start:b_end])):
            if words:
                pieces.append(Piece("".join(words), tag == "equal"))
    return sides
