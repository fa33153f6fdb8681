"""The ledger: rows read = rows kept + rows dropped, by named reason. A step that cannot balance it stops the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from cpt_ray.artifacts import examples as dropped_examples
from cpt_ray.artifacts.examples import Examples, Sampler


class LedgerError(AssertionError):
    """Rows were lost or invented: a defect of the program, never of the input."""


@dataclass(frozen=True)
class Count:
    """What became of the rows of one unit (files, pages, functions ...)."""

    read: int
    kept: int
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __add__(self, other: Count) -> Count:
        dropped = Counter(self.dropped)
        dropped.update(other.dropped)
        return Count(self.read + other.read, self.kept + other.kept, dict(sorted(dropped.items())))


def counted(reasons: Iterable[str | None]) -> Count:
    """One entry per row: None where it was kept, else the reason it was dropped."""
    seen = Counter(reasons)
    kept = seen.pop(None, 0)
    dropped = {str(reason): n for reason, n in sorted(seen.items(), key=lambda item: str(item[0]))}
    return Count(kept + sum(dropped.values()), kept, dropped)


Parts = Mapping[tuple[str, str, str], Count]


@dataclass(frozen=True)
class Ledger:
    """Counts by unit, in the order the units appear along the step (files before the functions found in them).

    `examples` are a few of what was dropped, `parts` the counts of a unit's rows by the values of some column of theirs:
    (unit, column, value); they are no part of the balance.
    """

    units: Mapping[str, Count] = field(default_factory=dict)
    examples: Examples = field(default_factory=dict, compare=False)
    parts: Parts = field(default_factory=dict, compare=False)

    @staticmethod
    def empty() -> Ledger:
        return Ledger({})

    @staticmethod
    def of(unit: str, *, read: int, kept: int, dropped: Mapping[str, int] | None = None) -> Ledger:
        reasons = {reason: n for reason, n in sorted((dropped or {}).items()) if n}
        return Ledger({unit: Count(read, kept, reasons)})

    @staticmethod
    def count(unit: str, reasons: Iterable[str | None]) -> Ledger:
        """One entry per row: None where it was kept, else the reason it was dropped."""
        return Ledger({unit: counted(reasons)})

    def __add__(self, other: Ledger) -> Ledger:
        order, theirs = list(self.units), list(other.units)
        for at, unit in enumerate(theirs):
            if unit not in order:  # a unit that the first had nothing of comes before what it comes before in the other
                after = next((order.index(later) for later in theirs[at + 1 :] if later in order), len(order))
                order.insert(after, unit)
        nothing = Count(0, 0)
        units = {unit: self.units.get(unit, nothing) + other.units.get(unit, nothing) for unit in order}
        places = sorted({*self.parts, *other.parts})
        parts = {at: self.parts.get(at, nothing) + other.parts.get(at, nothing) for at in places}
        return Ledger(units, dropped_examples.together(self.examples, other.examples), parts)

    def showing(self, sampler: Sampler) -> Ledger:
        """The same, with the examples that were collected while it was counted."""
        return replace(self, examples=dropped_examples.together(self.examples, sampler.examples))

    def renamed(self, unit: str) -> Ledger:
        """The ledger of a step of one unit under another name, so that it does not add to the step before."""
        (count,) = self.units.values()
        shown = {(unit, reason): held for (_, reason), held in self.examples.items()}
        return Ledger({unit: count}, shown, {(unit, of, value): one for (_, of, value), one in self.parts.items()})

    def check(self, where: str) -> Ledger:
        """Return self, or raise LedgerError naming the unit that does not balance."""
        for unit, count in self.units.items():
            dropped = sum(count.dropped.values())
            if count.read != count.kept + dropped or min(count.read, count.kept, *count.dropped.values(), 0) < 0:
                raise LedgerError(
                    f"{where}: the ledger of {unit} does not balance: read {count.read}, kept {count.kept},"
                    f" dropped {dropped} {dict(count.dropped)}"
                )
        return self

    @property
    def rows_in(self) -> int:
        """Rows read of the first unit: what went into the step."""
        return next((count.read for count in self.units.values()), 0)

    @property
    def kept(self) -> int:
        """Rows kept of the last unit: what came out of it."""
        return next((count.kept for count in reversed(list(self.units.values()))), 0)

    @property
    def dropped(self) -> dict[str, int]:
        """Rows dropped by reason, all units together; bytes are no rows."""
        reasons: Counter[str] = Counter()
        for unit, count in self.units.items():
            if unit != "bytes":
                reasons.update(count.dropped)
        return dict(sorted(reasons.items()))

    def whole(self) -> dict[str, object]:
        """As JSON with the examples and the parts; `to_dict` is the counts alone."""
        return {
            "units": self.to_dict(),
            "examples": dropped_examples.to_rows(self.examples),
            "parts": parts_to_rows(self.parts),
        }

    @staticmethod
    def of_whole(value: Mapping[str, Any]) -> Ledger:
        if "units" not in value:  # counts alone, as a build begun before there were examples has them
            return Ledger.from_dict(value)
        shown = dropped_examples.from_rows(value["examples"])
        return replace(Ledger.from_dict(value["units"]), examples=shown, parts=parts_of_rows(value.get("parts", ())))

    def to_dict(self) -> dict[str, dict[str, object]]:
        return {
            unit: {"read": count.read, "kept": count.kept, "dropped": dict(count.dropped)}
            for unit, count in self.units.items()
        }

    @staticmethod
    def from_dict(value: Mapping[str, Mapping[str, object]]) -> Ledger:
        return Ledger(
            {
                unit: Count(int(c["read"]), int(c["kept"]), dict(c["dropped"]))  # type: ignore[call-overload]
                for unit, c in value.items()
            }
        )


def parts_to_rows(parts: Parts) -> list[dict[str, Any]]:
    """As JSON-able rows, which stand beside the examples of an artifact."""
    return [
        {"unit": unit, "of": of, "value": value, "read": one.read, "kept": one.kept, "dropped": dict(one.dropped)}
        for (unit, of, value), one in sorted(parts.items())
    ]


def parts_of_rows(rows: Iterable[Mapping[str, Any]]) -> Parts:
    """The parts that `parts_to_rows` wrote; other rows are passed over."""
    return {
        (row["unit"], row["of"], row["value"]): Count(row["read"], row["kept"], row["dropped"])
        for row in rows
        if "of" in row
    }
