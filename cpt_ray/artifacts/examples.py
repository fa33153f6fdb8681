"""A few of what a step dropped, for eyes: of each unit and reason, those whose keys' hashes are the smallest.

Which they are follows from the keys alone. Adding two collections gives what one over all would have given, so neither
the cut into shards nor the number of workers shows.
"""

from __future__ import annotations

import bisect
import json
import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import xxhash

from cpt_ray.artifacts import places
from cpt_ray.artifacts.places import locate

MOST = 20
"""Examples of one reason."""
LONGEST = 1000
"""Characters of one text of an example."""
LAST = 2**64 - 1
"""The end of the order."""
FILE = "dropped.jsonl"
"""Beside the parts of an artifact, a line an example."""


class Example(NamedTuple):
    """One that was dropped. `key` tells it from others (an id, a place), `shown` is what is there to look at."""

    order: int
    key: str
    shown: str

    @property
    def texts(self) -> dict[str, str]:
        """What is there to look at, by name."""
        found: dict[str, str] = json.loads(self.shown)
        return found


Examples = Mapping[tuple[str, str], tuple[Example, ...]]
"""By (unit, reason), in order; and by (unit, `having`), whatever the reason."""


def having(column: str, value: str) -> str:
    """What stands in the place of the reason for those with this value of a column."""
    return f"{column}={value}"


class Sampler:
    """Collects examples while a step counts."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], list[Example]] = {}

    def wants(self, unit: str, reason: str, key: str, parts: Sequence[str] = (), /) -> bool:
        """Whether `add` would keep it: to be asked where what is to be shown is dear to make."""
        return order_of(key) <= self.limit(unit, reason, parts)

    def limit(self, unit: str, reason: str, parts: Sequence[str] = (), /) -> int:
        """The largest `order_of` a key that `add` would still keep. It only falls: of many keys it may be asked once."""
        return max(self._limit((unit, name)) for name in (reason, *parts))

    def add(self, unit: str, reason: str, key: str, parts: Sequence[str] = (), /, **shown: str) -> None:
        """One more of what was dropped for `reason`; kept if it is among the first of the order, of this reason or of one of
        its `parts` (each a `having`)."""
        self._hold((unit, reason), key, shown)
        for part in parts:
            self._hold((unit, part), key, {"reason": reason, **shown})

    def _limit(self, place: tuple[str, str]) -> int:
        held = self._of.get(place)
        return LAST if held is None or len(held) < MOST else held[-1].order

    def _hold(self, place: tuple[str, str], key: str, shown: Mapping[str, str]) -> None:
        order = order_of(key)
        if order > self._limit(place):
            return
        held = self._of.setdefault(place, [])
        cut = {name: text[:LONGEST] for name, text in shown.items() if text}
        one = Example(order, key, json.dumps(cut, ensure_ascii=False))
        if one not in held:
            bisect.insort(held, one)
            del held[MOST:]

    @property
    def examples(self) -> Examples:
        return {place: tuple(held) for place, held in self._of.items()}


def order_of(key: str) -> int:
    """Where a key stands among all: its hash, 0 to LAST."""
    return xxhash.xxh3_64_intdigest(key.encode("utf-8", "surrogatepass"))


def together(first: Examples, second: Examples) -> Examples:
    """What one collection over both would hold."""
    if not first or not second:
        return first or second
    places = sorted({*first, *second})
    return {at: tuple(sorted({*first.get(at, ()), *second.get(at, ())})[:MOST]) for at in places}


def to_rows(examples: Examples) -> list[dict[str, Any]]:
    """The lines of FILE, as JSON-able values."""
    return [
        {"unit": unit, "reason": reason, "key": one.key, "shown": one.texts}
        for (unit, reason), held in sorted(examples.items())
        for one in held
    ]


def from_rows(rows: Iterable[Mapping[str, Any]]) -> Examples:
    """The examples that `to_rows` wrote."""
    found = Sampler()
    for row in rows:
        found.add(row["unit"], row["reason"], row["key"], **row["shown"])
    return found.examples


def lines(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """FILE's content: what `to_rows` gives, and what the ledger counts by value."""
    return b"".join(json.dumps(row, ensure_ascii=False).encode("utf-8", "replace") + b"\n" for row in rows)


def read(artifact: str) -> Examples:
    """The examples beside the parts of an artifact; none where it has none."""
    return from_rows(row for row in rows_of(artifact) if "shown" in row)


def rows_of(artifact: str) -> list[dict[str, Any]]:
    """The lines of an artifact's FILE; none where it has none."""
    fs, target = locate(artifact)
    told = places.read(fs, posixpath.join(target, "manifest.json"))
    files = json.loads(told[0])["files"] if told else []
    at = next((file.get("at") or FILE for file in files if file["path"] == FILE), None)
    found = places.read(fs, posixpath.join(target, at)) if at else None
    return [json.loads(line) for line in found[0].splitlines()] if found else []
