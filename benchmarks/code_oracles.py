"""Who is documented, and with what text: our reading beside that of each language's own tool, on real sources.

    python benchmarks/code_oracles.py [FOLDER ...]

takes up to MOST_BYTES of every language from the folders, or from the packages of benchmarks/code.py, and asks those
tools that are on PATH: javac (DocTrees), go (go/ast), php with php-parser, ruby with YARD, jsdoc (`jsdoc -X`), doxygen, cargo
(syn), node with scalameta-parsers or typescript on NODE_PATH, and java with PMD (Swift, Kotlin) at PMD_HOME.
A documented function of a file counts once, by its name; only implemented ones are compared, before any filter of ours.
`text` is the share of the functions that both find documented whose first words are the same. Where the tool lists all
functions, `functions` are how many both find, we alone and it alone. Files that it cannot read are left out (`unread`).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from code import packages, sources  # benchmarks/code.py, beside this file
from collections import Counter
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from cpt_ray.code import documentation as doc
from cpt_ray.code.damage import reread
from cpt_ray.code.functions import to_utf8
from cpt_ray.code.grammars import GRAMMARS
from cpt_ray.code.syntax import TooSlow, definitions, documentation, has_body, parse, parser_of

HERE = Path(__file__).parent / "code_oracles"
RESULT = Path(__file__).parent / "results" / "code_oracles.json"
MOST_BYTES = 4_000_000
WORDS = 3
Found = dict[tuple[str, str], str]


class Heard(NamedTuple):
    """What a tool says: the documented functions (None: it does not tell), the files and lines in which any function is
    named where it lists those too, and the files that it could not read."""

    documented: Found | None
    functions: Counter[tuple[str, int]] | None = None
    unread: frozenset[str] = frozenset()


def _asked(*command: str, folder: Path) -> Iterator[dict[str, Any]]:
    done = subprocess.run([*command, str(folder)], capture_output=True, text=True, errors="replace", check=False)
    for line in done.stdout.splitlines():
        if line.startswith("{"):
            yield json.loads(line)


def _lines(*command: str) -> Callable[[Path], Heard]:
    return lambda folder: Heard({(one["file"], one["name"]): one["doc"] for one in _asked(*command, folder=folder)})


def _all(*command: str) -> Callable[[Path], Heard]:
    """Of a tool that lists all functions, `doc` null where there is none."""

    def ask(folder: Path) -> Heard:
        lines = list(_asked(*command, folder=folder))
        found = [one for one in lines if "name" in one]
        return Heard(
            {(one["file"], one["name"]): one["doc"] for one in found if one["doc"] is not None},
            Counter((one["file"], one["line"]) for one in found),
            frozenset(one["file"] for one in lines if one.get("unread")),
        )

    return ask


def _jsdoc(folder: Path) -> Heard:
    """A file at a time: one that it cannot read ends it."""
    found: Found = {}
    for file in sorted(folder.iterdir()):
        done = subprocess.run(["jsdoc", "-X", str(file)], capture_output=True, text=True, errors="replace", check=False)
        try:
            doclets = json.loads(done.stdout)
        except ValueError:
            continue
        for one in doclets:
            code = one.get("meta", {}).get("code", {})
            functions = ("FunctionDeclaration", "FunctionExpression", "ArrowFunctionExpression", "MethodDefinition")
            if one.get("comment") and code.get("type") in functions and one.get("kind") != "class":
                text = one.get("description") or one.get("classdesc") or one.get("summary") or ""
                found[file.name, re.split(r"[.#~/]", code.get("name") or one["name"])[-1]] = text
    return Heard(found)


def _doxygen(folder: Path) -> Heard:
    found: Found = {}
    with tempfile.TemporaryDirectory() as out:
        settings = (
            f"INPUT={folder}\nOUTPUT_DIRECTORY={out}\nGENERATE_XML=YES\nGENERATE_HTML=NO\nGENERATE_LATEX=NO\nQUIET=YES\n"
            "WARNINGS=NO\nEXTRACT_ALL=YES\nEXTRACT_PRIVATE=YES\nEXTRACT_STATIC=YES\nENABLE_PREPROCESSING=NO\nXML_PROGRAMLISTING=NO\n"
            "EXTRACT_ANON_NSPACES=YES\nEXTRACT_LOCAL_CLASSES=YES\nEXTRACT_PRIV_VIRTUAL=YES\n"
        )
        subprocess.run(["doxygen", "-"], input=settings, capture_output=True, text=True, check=False)
        for file in Path(out, "xml").glob("*.xml"):
            for member in ET.parse(file).iter("memberdef"):
                at = member.find("location")
                if member.get("kind") != "function" or at is None or at.get("bodystart", "-1") == "-1":
                    continue
                parts = [member.find(name) for name in ("briefdescription", "detaileddescription")]
                text = " ".join(" ".join(part.itertext()) for part in parts if part is not None)
                if text.strip() and at.get("bodyfile") == at.get("file"):
                    name = "".join((member.findtext("name") or "").split())
                    name = name if name.startswith("operator") else name.partition("<")[0]  # Get<T> of C#
                    found[Path(at.get("file", "")).name, name] = text
    return Heard(found)


def _syn(folder: Path) -> Heard:
    """The crate syn, built in a folder of its own."""
    with tempfile.TemporaryDirectory() as target:
        manifest = str(HERE / "rust" / "Cargo.toml")
        return _lines("cargo", "run", "-q", "--target-dir", target, "--manifest-path", manifest, "--")(folder)


def _lizard(folder: Path) -> Heard:
    """Functions of Swift, which it lists with accessors and subscripts."""
    import lizard

    found: Counter[tuple[str, int]] = Counter()
    for file in sorted(folder.iterdir()):
        text = file.read_text()
        lines = text.split("\n")
        for one in lizard.analyze_file.analyze_source_code(str(file), text).function_list:
            if one.name in ("init", "deinit") or re.search(r"\bfunc\b", lines[one.start_line - 1]):
                found[file.name, one.start_line] += 1
    return Heard(None, found)


def _has(*names: str) -> bool:
    return all(shutil.which(name) for name in names)


def _pmd(language: str) -> Callable[[Path], Heard]:
    jars = os.path.join(os.environ.get("PMD_HOME", ""), "lib", "*")
    return _all("java", "-Xss64m", "-cp", jars, str(HERE / "Functions.java"), language)


def _node(package: str) -> bool:
    return any(Path(folder, package).is_dir() for folder in os.environ.get("NODE_PATH", "").split(os.pathsep))


_TYPESCRIPT = _all("node", str(HERE / "functions.js"))
ORACLES: list[tuple[str, str, Callable[[], bool], Callable[[Path], Heard]]] = [
    ("java", "javac DocTrees", lambda: _has("java", "javac"), _lines("java", str(HERE / "Docs.java"))),
    ("go", "go/ast", lambda: _has("go"), _lines("go", "run", str(HERE / "docs.go"))),
    ("php", "php-parser", lambda: _has("php"), _lines("php", str(HERE / "docs.php"))),
    ("ruby", "YARD", lambda: _has("ruby", "yard"), _lines("ruby", str(HERE / "docs.rb"))),
    ("javascript", "jsdoc -X", lambda: _has("jsdoc"), _jsdoc),
    ("c", "doxygen", lambda: _has("doxygen"), _doxygen),
    ("cpp", "doxygen", lambda: _has("doxygen"), _doxygen),
    ("csharp", "doxygen", lambda: _has("doxygen"), _doxygen),
    ("scala", "scalameta", lambda: _has("node") and _node("scalameta-parsers"), _lines("node", str(HERE / "docs.js"))),
    ("rust", "syn", lambda: _has("cargo"), _syn),
    ("typescript", "typescript", lambda: _has("node") and _node("typescript"), _TYPESCRIPT),
    ("tsx", "typescript", lambda: _has("node") and _node("typescript"), _TYPESCRIPT),
    ("kotlin", "PMD", lambda: _has("java") and "PMD_HOME" in os.environ, _pmd("kotlin")),
    ("swift", "PMD", lambda: _has("java") and "PMD_HOME" in os.environ, _pmd("swift")),
    ("swift", "lizard", lambda: find_spec("lizard") is not None, _lizard),
]


def ours(
    language: str, folder: Path, unread: frozenset[str]
) -> tuple[Found, Counter[tuple[str, str]], Counter[tuple[str, int]]]:
    """What we find documented, how often a name is a function of its file at all, and in which lines functions are named."""
    grammar, found = GRAMMARS[language], Found()
    functions, lines = Counter[tuple[str, str]](), Counter[tuple[str, int]]()
    for file in sorted(folder.iterdir()):
        data = file.read_bytes()
        try:
            tree = parse(parser_of(language), data)
        except TooSlow:
            continue
        if file.name in unread:
            continue
        there = definitions(tree, data, grammar)
        lost = [False] * len(there)
        if tree.root_node.has_error:
            there, lost = reread(there, tree, data, grammar, parser_of(language))
        for one, gone in zip(there, lost, strict=True):
            name = one.qualname if language == "go" else one.name.rpartition(".")[2]
            if not has_body(one.node, grammar):
                continue
            lines[file.name, (one.node.child_by_field_name("name") or one.node).start_point.row + 1] += 1
            if not one.name or gone:
                continue
            if name == "constructor" and language == "javascript":  # a class, to jsdoc
                continue
            functions[file.name, name] += 1
            where = None if one.nested and not grammar.inner else documentation(one, data, grammar)
            text = where.text(data, grammar) if where else None
            if text is not None and text.strip():
                found[file.name, name] = doc.clean(text)
    return found, functions, lines


_MARKUP = (
    re.compile(r"\A\s*/\*\*"),
    re.compile(r"\A\s*(?:Public|Internal|Private|Deprecated): "),  # TomDoc
    re.compile(r"\A\s*:?call-seq:(?:[^\n]*\n)(?:[ \t]+[^\n]*\n|[ \t]*\n)*"),
    re.compile(r"\A\s*\w+(?:\(\))?\s+-{1,2}\s"),  # kernel-doc's name
    re.compile(r"\{@\w+|</?\w[^<>]*>|&\w+;|[@\\](?:brief|short|returns?)\b"),
)


def _words(text: str) -> list[str]:
    """The first words of what is said, without what only one of both takes for markup."""
    for markup in _MARKUP:
        text = markup.sub(" ", text)
    return re.findall(r"[a-z0-9]+", text.lower())[:WORDS]


def compare(language: str, oracle: str, ask: Callable[[Path], Heard], folder: Path) -> dict[str, object]:
    heard = ask(folder)
    mine, functions, lines = ours(language, folder, heard.unread)
    row: dict[str, object] = {"language": language, "oracle": oracle, "unread": len(heard.unread)}
    if heard.functions is not None:
        alone = lines - heard.functions, heard.functions - lines
        row["functions"] = [(lines & heard.functions).total(), *(one.total() for one in alone)]
        row["examples functions"] = [sorted(one) for one in alone]
    if heard.documented is None:
        return row
    theirs = heard.documented
    both = mine.keys() & theirs.keys()
    # A name that a file has several times cannot be told apart, and what has no prose has no text to compare.
    once = [key for key in both if functions[key] == 1 and _words(theirs[key])]
    same = [key for key in once if _words(mine[key])[: len(_words(theirs[key]))] == _words(theirs[key])]
    return {
        **row,
        "both": len(both),
        "only ours": len(mine.keys() - theirs.keys()),
        "only theirs": len(theirs.keys() - mine.keys()),
        "text": round(len(same) / max(1, len(once)), 4),
        "examples only ours": [" ".join(key) for key in sorted(mine.keys() - theirs.keys())[:400]],
        "examples only theirs": [" ".join(key) for key in sorted(theirs.keys() - mine.keys())[:400]],
        "other text": [[*key, mine[key][:80], theirs[key][:80]] for key in sorted(set(once) - set(same))[:400]],
    }


def run(folders: list[Path]) -> list[dict[str, object]]:
    rows = []
    found = sources(folders)
    for language, name, there, ask in ORACLES:
        if not there():
            print(f"{language}: {name} is not on PATH", file=sys.stderr)
            continue
        with tempfile.TemporaryDirectory() as temporary:
            size = 0
            for i, source in enumerate(found.get(language, [])):
                data = to_utf8(source.data or b"", language)
                if data is not None and size < MOST_BYTES:
                    size += len(data)
                    Path(temporary, f"f{i:05}{os.path.splitext(source.path)[1]}").write_bytes(data)
            rows.append({"MB": round(size / 1e6, 1), **compare(language, name, ask, Path(temporary))})
    return rows


def main() -> None:
    with tempfile.TemporaryDirectory() as temporary:
        rows = run([Path(folder) for folder in sys.argv[1:]] or packages(Path(temporary)))
    names = ("language", "oracle", "MB", "both", "only ours", "only theirs", "text", "functions", "unread")
    shown = Table(*names)
    for row in rows:
        shown.add_row(*(str(row.get(name, "")) for name in names))
    Console().print(shown)
    kept = [{name: value for name, value in row.items() if not name.startswith(("examples", "other"))} for row in rows]
    RESULT.write_text(json.dumps(kept, indent=1) + "\n")
    if os.environ.get("DETAILS"):
        Path(os.environ["DETAILS"]).write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
