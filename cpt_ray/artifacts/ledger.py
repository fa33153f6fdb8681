"""The ledger: rows read = rows kept + rows dropped, by named reason. A step that cannot balance it stops the run."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


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


@dataclass(frozen=True)
class Ledger:
    """Counts by unit, in the order the units appear along the step (files before the functions found in them)."""

    units: Mapping[str, Count] = field(default_factory=dict)

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
        seen = Counter(reasons)
        kept = seen.pop(None, 0)
        dropped = {str(reason): n for reason, n in sorted(seen.items(), key=lambda item: str(item[0]))}
        return Ledger({unit: Count(kept + sum(dropped.values()), kept, dropped)})

    def __add__(self, other: Ledger) -> Ledger:
        order, theirs = list(self.units), list(other.units)
        for at, unit in enumerate(theirs):
            if unit not in order:  # a unit that the first had nothing of comes before what it comes before in the other
                after = next((order.index(later) for later in theirs[at + 1 :] if later in order), len(order))
                order.insert(after, unit)
        nothing = Count(0, 0)
        return Ledger({unit: self.units.get(unit, nothing) + other.units.get(unit, nothing) for unit in order})

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
        """Rows dropped by reason, all units together."""
        reasons: Counter[str] = Counter()
        for count in self.units.values():
            reasons.update(count.dropped)
        return dict(sorted(reasons.items()))

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
