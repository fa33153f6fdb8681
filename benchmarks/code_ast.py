"""Every Python function and its docstring, as mining reads them beside the compiler's own `ast`.

    python benchmarks/code_ast.py [FOLDER ...]

reads all of the folders, or of the standard library and site-packages here. `functions` are those of a file, wherever they
stand; `documented` those whose docstring is the same, before any filter, and the others are counted by kind:
`only ours`, `only ast`, `text`. A span is that of the bytes from the first decorator to the end; what differs there is
`comments` where all that one has and the other not are comments and blank lines, else `span`.
"""

from __future__ import annotations

import ast
import json
import sys
import sysconfig
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from cpt_ray.code.documentation import clean
from cpt_ray.code.grammars import GRAMMARS
from cpt_ray.code.sources import to_utf8
from cpt_ray.code.syntax import TooSlow, definitions, documentation, parse, parser_of

RESULT = Path(__file__).parent / "results" / "code_ast.json"
PYTHON = GRAMMARS["python"]
SHOWN = 20
NEWLINE = b"\n"


class Found(NamedTuple):
    """A function: its bytes, the end excluded, and its docstring."""

    start: int
    end: int
    docstring: str | None


def by_ast(data: bytes) -> dict[tuple[str, int], Found]:
    """The functions of UTF-8 source by name and the first byte of their `def`; SyntaxError and others of `ast`."""
    mark = 3 if data.startswith(b"\xef\xbb\xbf") else 0
    lines = [0]
    for line in data.splitlines(keepends=True):  # bytes: at \n, \r and \r\n alone, as the compiler does
        lines.append(lines[-1] + len(line))

    def byte(line: int, column: int) -> int:
        return lines[line - 1] + column + (mark if line == 1 else 0)

    found = {}
    for node in ast.walk(ast.parse(data)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            start = own = byte(node.lineno, node.col_offset)
            if node.decorator_list:
                first = min(byte(one.lineno, one.col_offset) for one in node.decorator_list)
                start = data.rindex(b"@", 0, first)
            assert node.end_lineno is not None
            assert node.end_col_offset is not None
            docstring = ast.get_docstring(node)
            # The same bytes in any file: what UTF-8 cannot hold is a question mark.
            text = None if docstring is None else docstring.encode("utf-8", "replace").decode().strip()
            found[node.name, own] = Found(start, byte(node.end_lineno, node.end_col_offset), text)
    return found


def by_us(data: bytes) -> dict[tuple[str, int], Found]:
    found = {}
    for one in definitions(parse(parser_of("python"), data), data, PYTHON):
        where = documentation(one, data, PYTHON)
        text = where.text(data, PYTHON) if where else None
        docstring = None if text is None else clean(text)
        found[one.name, one.node.start_byte] = Found(one.first.start_byte, one.last.end_byte, docstring)
    return found


def differences(path: str) -> Iterator[tuple[str, str]]:
    """What is seen in a file, by kind, with the place where it is a difference."""
    raw = Path(path).read_bytes()
    data = to_utf8(raw)
    yield "files", path
    if data is None:
        yield "not utf8", path
        return
    try:
        theirs = by_ast(data if data == raw else data.decode("utf-8-sig").encode())
    except (SyntaxError, ValueError, RecursionError) as error:
        yield f"ast refuses ({type(error).__name__})", path
        return
    try:
        ours = by_us(data)
    except TooSlow:
        yield "too slow", path
        return
    for name, at in theirs.keys() | ours.keys():
        here = f"{path}:{data.count(NEWLINE, 0, at) + 1} {name}"
        one, other = ours.get((name, at)), theirs.get((name, at))
        yield "functions", here
        if one is None or other is None:
            yield "function only ours" if one else "function only ast's", here
            continue
        if (one.start, one.end) != (other.start, other.end):
            more = data[min(one.start, other.start) : max(one.start, other.start)]
            more += b"\n" + data[min(one.end, other.end) : max(one.end, other.end)]
            rest = [line.strip() for line in more.split(b"\n")]
            yield ("comments" if all(not line or line.startswith(b"#") for line in rest) else "span"), here
        else:
            yield "same span", here
        if one.docstring == other.docstring:
            yield "documented" if one.docstring is not None else "undocumented", here
        else:
            yield ("text" if one.docstring and other.docstring else "only ours" if one.docstring else "only ast"), here


COUNTED = ("files", "functions", "documented", "undocumented", "same span")


def _part(paths: list[str]) -> tuple[Counter[str], dict[str, list[str]]]:
    warnings.simplefilter("ignore")
    counts, places = Counter[str](), defaultdict[str, list[str]](list)
    for path in paths:
        for kind, place in differences(path):
            counts[kind] += 1
            if kind not in COUNTED:
                places[kind].append(place)
    return counts, dict(places)


def run(folders: list[Path], workers: int) -> dict[str, object]:
    paths = sorted({str(path) for folder in folders for path in folder.rglob("*.py") if path.is_file()})
    counts, places = Counter[str](), defaultdict[str, list[str]](list)
    with ProcessPoolExecutor(workers) as pool:
        for some, where in pool.map(_part, [paths[i : i + 200] for i in range(0, len(paths), 200)]):
            counts += some
            for kind, found in where.items():
                places[kind] += found
    size = sum(Path(path).stat().st_size for path in paths)
    return {"MB": round(size / 1e6, 1), **counts, "places": {kind: found[:SHOWN] for kind, found in places.items()}}


def main() -> None:
    here = [Path(sysconfig.get_paths()[name]) for name in ("stdlib", "purelib")]
    found = run([Path(folder) for folder in sys.argv[1:]] or here, workers=1)
    print(json.dumps(found, indent=1))
    places = found.pop("places")
    assert isinstance(places, dict)
    RESULT.write_text(json.dumps({**found, "differences": sorted(places)}, indent=1) + "\n")


if __name__ == "__main__":
    main()
