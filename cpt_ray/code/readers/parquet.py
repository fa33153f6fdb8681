"""Parquet in the layout of The Stack: a file's text, path, repository and licences a row; many repositories in one."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.code.functions import Origin
from cpt_ray.code.tree import PART_BYTES, Entry, Wanted, digest_of, safe_path
from cpt_ray.errors import UserError
from cpt_ray.licences import UNKNOWN

ENDINGS = (".parquet",)
COLUMNS = {
    "content": ("content",),
    "path": ("max_stars_repo_path", "path"),
    "group": ("max_stars_repo_name", "repo_name", "repository_name"),
    "version": ("max_stars_repo_head_hexsha", "revision_id"),
    "licence": ("max_stars_repo_licenses", "detected_licenses", "licenses", "license"),
    "stars": ("max_stars_count", "star_events_count"),
}
"""What is read, by the names it has in The Stack 1, its samples and StarCoder's data; the last three may be absent."""
_ROWS = 256
_BROKEN = (OSError, ValueError, pa.ArrowException)
"""What pyarrow raises for damage: of pages and their packing OSError, of values ArrowInvalid, or UnicodeDecodeError where one
becomes text, and others of its own for encodings that it does not know."""


def holds(path: str) -> bool:
    return path.lower().endswith(ENDINGS) and os.path.isfile(path)


@contextmanager
def opened(path: str, *_: object) -> Iterator[Parquet]:
    try:
        file = pq.ParquetFile(path)
    except _BROKEN as error:
        raise _unreadable(path, error) from error
    with file:
        yield Parquet(path, file)


class Parquet:
    def __init__(self, path: str, file: pq.ParquetFile) -> None:
        self.path, self.file = path, file
        there = file.schema_arrow.names
        self.columns = {what: next((n for n in names if n in there), None) for what, names in COLUMNS.items()}
        missing = [COLUMNS[what][0] for what in ("content", "path", "group") if self.columns[what] is None]
        if missing:
            raise UserError(
                f"not in the layout of The Stack: no column {', '.join(missing)}",
                where=path,
                fix="give files with the text in them; of The Stack 2, join its contents first",
            )

    def version(self) -> str:
        return digest_of(self.path)

    def entries(self) -> list[Entry]:
        about = {what: name for what, name in self.columns.items() if name is not None and what != "content"}
        found = []
        for group in range(self.file.num_row_groups):
            try:
                rows = self.file.read_row_group(group, columns=list(about.values()))
                values = {what: rows[name].to_pylist() for what, name in about.items()}
            except _BROKEN as error:
                raise _unreadable(self.path, error) from error
            for i in range(rows.num_rows):
                row = {what: column[i] for what, column in values.items()}
                path = safe_path(row["path"] or "")
                origin = Origin(
                    str(row["group"] or ""),
                    str(row.get("version") or ""),
                    _licence(row.get("licence")),
                    _count(row.get("stars")),
                )
                reason = "unsafe_path" if path is None else None if origin.group else "no_repository"
                found.append(Entry(path or "", (group, i), 0, reason, origin, group))
        return found

    def parts(self, wanted: Wanted) -> int:
        groups = [self.file.metadata.row_group(i).total_byte_size for i in range(self.file.num_row_groups)]
        return max(1, min(len(groups), round(sum(groups) / PART_BYTES)))

    def contents(self, wanted: Sequence[Entry], most: int) -> Iterator[tuple[Entry, bytes | str]]:
        of_group: dict[int, dict[int, Entry]] = defaultdict(dict)
        for entry in wanted:
            of_group[entry.key[0]][entry.key[1]] = entry
        for group, entries in sorted(of_group.items()):
            at = 0
            with suppress(*_BROKEN):
                # A few rows at once: a group may be a gigabyte of text.
                for batch in self.file.iter_batches(_ROWS, row_groups=[group], columns=[str(self.columns["content"])]):
                    for i in range(batch.num_rows):
                        if at + i in entries:
                            yield entries.pop(at + i), _bytes(batch.column(0)[i])
                    at += batch.num_rows
            for entry in entries.values():  # what stands behind a damage
                yield entry, "unreadable"


def _unreadable(path: str, error: Exception) -> UserError:
    return UserError(f"this is no Parquet that can be read: {error}", where=path, fix="fetch it again")


def _bytes(scalar: pa.Scalar) -> bytes | str:
    try:
        value = scalar.as_py()
    except UnicodeDecodeError:
        return "not_utf8"
    if value is None:
        return "missing_blob"
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


def _count(value: Any) -> int | None:
    """The Stack 1 has counts as floats, and none where there are no stars."""
    return int(value) if isinstance(value, int | float) and value == value else None


def _licence(value: Any) -> str:
    """Several licences hold together, as in a repository with several licence files."""
    names = sorted({str(name) for name in ([value] if isinstance(value, str) else value or []) if name})
    return " AND ".join(names) or UNKNOWN
