"""Files of labelled data line by line, as others write them: with or without an end of line at the end, a byte-order mark,
carriage returns, blank lines, or compressed."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO, cast

from cpt_ray.errors import UserError


def either(path: Path) -> Path:
    """`path`, or `<path>.gz` where only that is there."""
    packed = path.with_name(f"{path.name}.gz")
    return packed if packed.is_file() and not path.is_file() else path


@contextmanager
def opened(path: str | Path, encoding: str = "utf-8-sig", newline: str = "\n") -> Iterator[TextIO]:
    """A text, compressed or not. UserError, also of what reads it, for what is no such text."""
    try:
        with (gzip.open if Path(path).suffix == ".gz" else open)(
            path, "rt", encoding=encoding, newline=newline
        ) as source:
            yield cast(TextIO, source)
    except UnicodeDecodeError as error:
        raise UserError("not UTF-8", where=str(path), fix="convert the file") from error
    except (gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UserError(f"not gzip's: {error}", where=str(path), fix="fetch the file again") from error


def lines(path: str | Path, encoding: str = "utf-8-sig", *, blank: bool = False) -> Iterator[tuple[str, str]]:
    """(`<path>:<number>`, line) of each line that is not blank, or of all, without its end. An end is that of a file: a text
    may hold other characters that `splitlines` takes for one. UserError for what is no such text."""
    number = 0
    with opened(path, encoding) as source:
        try:
            for number, line in enumerate(source, start=1):
                text = line.removesuffix("\n").removesuffix("\r")
                if blank or text.strip(" "):
                    yield f"{path}:{number}", text
        except UnicodeDecodeError as error:
            raise UserError("not UTF-8", where=f"{path}, after line {number}", fix="convert the file") from error


def fields(path: str | Path) -> Iterator[tuple[str, list[str]]]:
    """The same as tab-separated fields; a quote is a character like any other."""
    for where, line in lines(path):
        yield where, line.split("\t")


def objects(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same as JSON objects."""
    for where, line in lines(path):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise UserError("not a JSON object", where=where, fix="expected one in each line")
        yield where, row
