"""Mining against Python's own `ast` as the oracle, on the standard library and on sources made to be awkward."""

from __future__ import annotations

import ast
import json
import os
import random
import subprocess
import sys
import sysconfig
import textwrap
from pathlib import Path

import pyarrow as pa
import pytest

from cpt_ray.code.documentation import clean, summary
from cpt_ray.code.functions import FUNCTIONS, Origin, Source, code_without, mine, mine_shard
from cpt_ray.code.grammars import GRAMMARS
from cpt_ray.code.options import MineOptions
from cpt_ray.code.syntax import definitions, documentation, parse, parser_of
from cpt_ray.words import text_hash

PYTHON = GRAMMARS["python"]
ORIGIN = Origin("group", "1.0", "MIT")
EVERYTHING = MineOptions(min_code_lines=1, min_words=1, skip_tests=False, skip_generated=False)


def by_ast(text: str) -> dict[tuple[str, int], tuple[str | None, ast.AST]]:
    """(qualname, first line) -> (docstring, function) of each function of the module's and its classes' scopes."""
    found: dict[tuple[str, int], tuple[str | None, ast.AST]] = {}

    def visit(node: ast.AST, scope: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
                first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                found[".".join((*scope, child.name)), first] = (ast.get_docstring(child), child)
            elif isinstance(child, ast.ClassDef):
                visit(child, (*scope, child.name))
            elif not isinstance(child, ast.expr | ast.Lambda):
                visit(child, scope)

    visit(ast.parse(text), ())
    return found


def by_us(data: bytes) -> dict[tuple[str, int], tuple[str | None, str | None]]:
    """The same keys -> (docstring, code without it)."""
    found: dict[tuple[str, int], tuple[str | None, str | None]] = {}
    for definition in definitions(parse(parser_of("python"), data), data, PYTHON):
        if definition.nested:
            continue
        key = (definition.qualname, definition.first.start_point.row + 1)
        doc = documentation(definition, data, PYTHON)
        if doc is None:
            found[key] = (None, None)
        else:
            text = doc.text(data, PYTHON)
            assert text is not None
            found[key] = (clean(text), code_without(definition, doc, data))
    return found


def without_docstring(function: ast.AST) -> str:
    assert isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef)
    copy = type(function)(**{name: getattr(function, name) for name in function._fields})
    copy.body = function.body[1:]
    return ast.dump(copy)


def agree(data: bytes) -> int:
    """Assert that both see the same functions, docstrings and remaining code; the number of documented functions."""
    text = data.decode("utf-8-sig")
    expected, ours = by_ast(text), by_us(data)
    assert set(expected) == set(ours)
    documented = 0
    for key, (docstring, function) in expected.items():
        got, code = ours[key]
        if docstring is None:
            assert got is None, key
            continue
        documented += 1
        assert got == docstring.strip(), key
        if len(function.body) > 1:  # type: ignore[attr-defined]
            assert code is not None
            parsed = ast.parse(code).body
            assert len(parsed) == 1, key
            assert ast.dump(parsed[0]) == without_docstring(function), key
            assert not code[0].isspace(), key
    return documented


@pytest.mark.parametrize("package", ["json", "asyncio", "email"])
def test_the_standard_library_is_mined_as_ast_reads_it(package: str) -> None:
    """Same documented functions, same docstrings, and the remaining code parses to the same tree."""
    folder = Path(sysconfig.get_paths()["stdlib"]) / package
    total = sum(agree(file.read_bytes()) for file in sorted(folder.rglob("*.py")))
    assert total > 10


AWKWARD = {
    "nested functions are left out": 'def f():\n    """Outer doc."""\n    def g():\n        """Inner doc."""\n    return g\n',
    "async and decorators": '@a\n@b(1)\nasync def f():\n    """Doc."""\n    await x\n',
    "a comment between decorators": "@a\n# why\n@b\ndef f():\n    'doc'\n    return 1\n",
    "tabs": 'class A:\n\tdef f(self):\n\t\t"""Doc.\n\n\t\tMore.\n\t\t"""\n\t\treturn 1\n',
    "CRLF": 'class A:\r\n    def f(self):\r\n        """Doc.\r\n\r\n        More.\r\n        """\r\n        return 1\r\n',
    "one line": 'def f(): "doc"; return 1\n',
    "one line, nothing after": 'def f(): "doc"\n',
    "semicolon after": 'def f():\n    """Doc.""";\n    return 1\n',
    "semicolon and more": 'def f():\n    """Doc."""; x = 1; return x\n',
    "comment after": 'def f():\n    """Doc."""  # noqa: D100\n\n    return 1\n',
    "comment before": 'def f():  # why\n    # and why\n    """Doc."""\n    # then\n    return 1\n',
    "conditional definitions": "if x:\n    def f():\n        'One.'\n        return 1\nelse:\n    def f():\n        'Two.'\n        return 2\n",
    "in try, with, for, while, match": "try:\n    def f():\n        'A.'\n        return 1\nexcept E:\n    def f():\n        'B.'\n        return 2\nfinally:\n    for i in y:\n        def g():\n            'C.'\n            return 3\nwith z:\n    while 1:\n        def h():\n            'D.'\n            return 4\nmatch q:\n    case 1:\n        def k():\n            'E.'\n            return 5\n",
    "a conditional docstring is none": "def f():\n    if x:\n        'no doc'\n    return 1\n",
    "concatenation": 'def f():\n    "one " "two " \'three\'\n    return 1\n',
    "concatenation by backslash": 'def f():\n    "one " \\\n    "two"\n    return 1\n',
    "parentheses": 'def f():\n    ("one "  # a\n     "two")\n    return 1\n',
    "double parentheses": 'def f():\n    (("one"))\n    return 1\n',
    "tuple is none": 'def f():\n    "one", "two"\n    return 1\n',
    "tuple of one is none": 'def f():\n    "one",\n    return 1\n',
    "tuple in parentheses is none": 'def f():\n    ("one",)\n    return 1\n',
    "f-string is none": 'def f():\n    f"""Doc {x}."""\n    return 1\n',
    "f-string in a concatenation is none": 'def f():\n    "a" f"b"\n    return 1\n',
    "bytes are none": 'def f():\n    b"""Doc."""\n    return 1\n',
    "raw bytes are none": 'def f():\n    Rb"""Doc."""\n    return 1\n',
    "raw": 'def f():\n    r"""Doc \\d \\n."""\n    return 1\n',
    "raw, upper case": 'def f():\n    R"""Doc \\d \\n."""\n    return 1\n',
    "unicode prefix": 'def f():\n    U"Doc."\n    return 1\n',
    "escapes": 'def f():\n    "Tab\\tand \\x41 \\u00e9 \\N{BULLET} \\\n    joined."\n    return 1\n',
    "expression is none": 'def f():\n    "doc" % 3\n    return 1\n',
    "method call is none": 'def f():\n    "doc".strip()\n    return 1\n',
    "return of a string is none": "def f():\n    return 'x'\n",
    "non-ASCII before and within": 'é = "ünïcödé 🎉"\nclass Ä:\n    def größe(self, ß="ß"):\n        """Größe 日本語 🎉."""\n        return "日本" + ß\n',
    "byte order mark": '\ufeffdef f():\n    """Doc."""\n    return 1\n',
    "strings of several lines stay": 'class A:\n    def f(self):\n        """Doc."""\n        x = """\n        a\n    b\n        """\n        return x\n',
    "f-strings of several lines stay": "class A:\n    def f(self):\n        'Doc.'\n        x = f'''\n        a {self}\n    b'''\n        return x, '''\n        c'''\n",
    "backslash in a string stays": "class A:\n    def f(self):\n        'Doc.'\n        x = 'a\\\n        b'\n        return x\n",
    "brackets beyond the margin": 'class A:\n    def f(self):\n        """Doc."""\n        return [\n 1,\n2,\n    3]\n',
    "comment beyond the margin": 'class A:\n    def f(self):\n        """Doc."""\n# left\n        return 1\n',
    "a class in a function": 'def f():\n    """Doc."""\n    class A:\n        def g(self):\n            """Not ours."""\n    return A\n',
    "classes in classes": 'class A:\n    class B:\n        def f(self):\n            """Doc."""\n            return 1\n',
    "no line end at the end": 'def f():\n    """Doc."""\n    return 1',
    "form feed": '\x0cdef f():\n    """Doc."""\n    return 1\n\x0c\nclass A:\n    \x0c\n    def g(self):\n        """Doc."""\n        return 2\n',
    "docstring first, pass later": 'def f():\n    """Doc."""\n\n\n    pass\n\n\ndef g(): pass\n',
    "overlapping quotes": "def f():\n    '''It's \"quoted\".'''\n    return 1\n",
    "empty docstring": 'def f():\n    ""\n    return 1\n',
    "lambda defaults": 'def f(x=lambda: "no", *, y: "int" = 3) -> "str":\n    """Doc."""\n    return x\n',
}


@pytest.mark.parametrize("case", list(AWKWARD))
def test_awkward_sources_are_mined_as_ast_reads_them(case: str) -> None:
    agree(AWKWARD[case].encode())


def test_the_awkward_cases_find_documentation_at_all() -> None:
    """The comparison above would hold for a miner that finds nothing in a language without docstrings."""
    found = {name: agree(text.encode()) for name, text in AWKWARD.items()}
    assert [name for name, n in found.items() if n == 0] == [name for name in found if name.endswith("none")]


def one(text: str | bytes, path: str = "pkg/mod.py", options: MineOptions = EVERYTHING) -> tuple[list[dict], dict]:
    data = text if isinstance(text, bytes) else text.encode()
    table, ledger = mine([Source(path, data)], ORIGIN, options)
    ledger.check(path)
    assert table.schema == FUNCTIONS
    return table.to_pylist(), ledger.to_dict()


def test_a_row_can_be_traced_to_bytes_and_lines() -> None:
    source = "é = 1\n\nclass A:\n    @property\n    def f(self):\n        '''Says é twice.'''\n        return 'éé'\n"
    [row], ledger = one(source)
    span = source.encode()[row["start_byte"] : row["end_byte"]].decode()
    assert span.startswith("@property")
    assert span.endswith("return 'éé'")
    assert (row["start_line"], row["end_line"]) == (4, 7)
    assert span == "\n".join(source.split("\n")[3:7]).strip()
    assert row["code"] == "@property\ndef f(self):\n    return 'éé'"
    assert (row["qualname"], row["name"], row["language"]) == ("A.f", "f", "python")
    assert (row["group"], row["version"], row["licence"], row["path"]) == ("group", "1.0", "MIT", "pkg/mod.py")
    assert row["content_hash"] == text_hash("@property def f(self): return 'éé'")
    assert ledger == {
        "files": {"read": 1, "kept": 1, "dropped": {}},
        "functions": {"read": 1, "kept": 1, "dropped": {}},
    }


BODY = '"""Parses a date from the text."""\n    y = x\n    return y\n'


@pytest.mark.parametrize(
    ("reason", "source"),
    [
        ("no_docstring", "def f(x):\n    return x\n"),
        ("dunder", "def __add__(x):\n    " + BODY),
        ("test", "def test_parse(x):\n    " + BODY),
        ("docstring_too_short", 'def f(x):\n    """Parses dates."""\n    y = x\n    return y\n'),
        ("docstring_too_long", f'def f(x):\n    """{"Parse a date. " * 2000}"""\n    y = x\n    return y\n'),
        ("no_summary", 'def f(x):\n    """\n    :param x: the text to parse\n    """\n    y = x\n    return y\n'),
        ("no_summary", 'def f(x):\n    """>>> f(1) is a date here"""\n    y = x\n    return y\n'),
        (
            "no_summary",
            'def f(x):\n    """x (`int` of shape `(a, b)`): the number of things"""\n    y = x\n    return y\n',
        ),
        ("docstring_refers", 'def f(x):\n    """See the base class for this."""\n    y = x\n    return y\n'),
        ("not_letters", 'def f(x):\n    """a + b -> c ==== [[1, 2], [3, 4]] %%%"""\n    y = x\n    return y\n'),
        ("not_english", 'def f(x):\n    """日本語の文字列を 日付に 変換する 関数です"""\n    y = x\n    return y\n'),
        (
            "not_english",
            'def f(x):\n    """Liefert das Datum aus dem Text zurück oder eben nichts wenn keins da war."""\n'
            "    y = x\n    return y\n",
        ),
        ("trivial_body", 'def f(x):\n    """Parses a date from the text."""\n'),
        ("trivial_body", 'def f(x):\n    """Parses a date from the text."""\n    # later\n    pass\n'),
        ("trivial_body", 'def f(x):\n    """Parses a date from the text."""\n    raise NotImplementedError("f")\n'),
        ("trivial_body", 'def f(x):\n    """Parses a date from the text."""\n    ...\n'),
        ("code_too_short", 'def f(x):\n    """Parses a date from the text."""\n    return x\n'),
        ("code_too_long", 'def f(x):\n    """Parses a date from the text."""\n' + "    x += 1\n" * 9000),
        ("invalid_docstring", 'def f(x):\n    """Parses a date\\xZZ from the text."""\n    y = x\n    return y\n'),
    ],
)
def test_each_rule_drops_its_function_by_name(reason: str, source: str) -> None:
    rows, ledger = one(source, options=MineOptions())
    assert rows == []
    assert ledger["functions"] == {"read": 1, "kept": 0, "dropped": {reason: 1}}


def test_the_rules_keep_an_ordinary_function() -> None:
    """The test above would pass if everything were dropped."""
    rows, _ = one("def f(x):\n    " + BODY, options=MineOptions())
    assert [row["summary"] for row in rows] == ["Parses a date from the text."]


@pytest.mark.parametrize(
    ("reason", "path", "data"),
    [
        ("test", "pkg/tests/util.py", b"def f(): pass\n"),
        ("test", "pkg/test_util.py", b"def f(): pass\n"),
        ("test", "conftest.py", b"def f(): pass\n"),
        ("generated", "pkg/a_pb2.py", b"# Generated by the protocol buffer compiler.  DO NOT EDIT!\ndef f(): pass\n"),
        ("not_utf8", "a.py", b"def f():\n    '\xff\xfe'\n"),
        ("syntax_error", "a.py", b"def f(:\n    '''Doc of f.'''\n"),
        ("no_functions", "a.py", b"x = 1\n"),
        ("too_large", "a.py", b"def f(): pass\n" + b"#" * 1_000_000),
        ("other_language", "a.java", b"class A {}\n"),
    ],
)
def test_each_rule_drops_its_file_by_name(reason: str, path: str, data: bytes) -> None:
    rows, ledger = one(data, path, MineOptions())
    assert rows == []
    assert ledger["files"] == {"read": 1, "kept": 0, "dropped": {reason: 1}}


def test_folders_that_merely_sound_like_tests_are_mined() -> None:
    for path in ("numpy/testing/_utils.py", "latest.py", "attestation/api.py", "contest/protest.py"):
        rows, _ = one("def f(x):\n    " + BODY, path, MineOptions())
        assert len(rows) == 1, path


def test_encoding_cookies_are_honoured() -> None:
    """PEP 263: a Latin-1 file is read as such, and a cookie cannot name a codec that is no encoding of text."""
    text = "# -*- coding: latin-1 -*-\ndef f(x):\n    '''Returns the menu of the café.'''\n    return x\n"
    [row], _ = one(text.encode("latin-1"))
    assert row["docstring"] == "Returns the menu of the café."
    _, ledger = one(b"# coding: zlib\ndef f(x):\n    '\xff'\n    return x\n")
    assert ledger["files"]["dropped"] == {"not_utf8": 1}


def test_surrogates_and_nul_in_a_docstring_become_valid_text() -> None:
    [row], _ = one("def f(x):\n    'A lone \\ud800 and a \\0 here.'\n    return x\n")
    assert row["docstring"] == "A lone ? and a \0 here."


def test_hostile_nesting_ends_in_a_reason_and_not_in_a_crash() -> None:
    """Deep nesting must neither overflow a stack nor take long: each case is dropped by name or mined."""
    deep = [
        b"f(" * 50_000,
        b"x = " + b"[" * 50_000 + b"]" * 50_000 + b"\n",
        b'"""' * 33_333,
        b"(" * 90_000,
        bytes(range(256)) * 300,
    ]
    deep.append(b"".join(b" " * i + b"class A:\n" for i in range(400)) + b" " * 400 + b"def f(): pass\n")
    for source in deep:
        rows, ledger = one(source + b"\ndef f(x): pass\n")
        assert rows == []
        assert ledger["files"]["read"] == 1


@pytest.mark.parametrize(
    "path",
    ["a.rb", "a.go", "A.java", "a.ts"],
)
def test_hostile_comments_take_time_in_proportion(path: str) -> None:
    """Many lines before a definition, tags and braces that never close: read at once, or dropped by name."""
    many = "\n".join("#" if path == "a.rb" else "//" for _ in range(30_000))
    tail = {
        "a.rb": "def f; end",
        "a.go": "func f() {}",
        "A.java": "class A { void f() {} }",
        "a.ts": "function f() {}",
    }[path]
    head = "package a\n" if path == "a.go" else ""
    hostile = [
        many,
        *(f"/** {text} */" for text in ("<a " * 4000, "{@code" + " " * 15_000, "{@a " * 4000, "_" * 15_000)),
    ]
    for comment in hostile if path != "a.rb" else hostile[:1]:
        _, ledger = one(f"{head}{comment}\n{tail}\n", path, MineOptions(languages=tuple(GRAMMARS)))
        assert ledger["functions"]["read"] == 1


MANY = 10_000


@pytest.mark.parametrize(
    ("path", "source", "functions"),
    [
        ("a.js", "const a = p" + "\n.then(function (v) { return v; })" * MANY, MANY),
        ("a.go", "package p\nfunc m() { p" + ".Then(func(v int) int { return v })" * MANY + " }", MANY + 1),
        ("a.go", "package p\nvar a" + ", b" * (MANY - 1) + " = f" + ", func() {}" * (MANY - 1), MANY - 1),
        ("a.php", "<?php\n$a" + "->then(function ($v) { return $v; })" * MANY + ";", MANY),
        ("a.rb", "a" + ".map do |x| define_method(:f) { 1 } end" * MANY, MANY),
        ("a.ts", "export function f(a: string): void;\n" * MANY, MANY),
        ("a.ts", "interface A {" + "/** Doc. */ f(): void;\n" * MANY + "}", MANY),
    ],
)
def test_long_chains_and_lists_take_time_in_proportion(path: str, source: str, functions: int) -> None:
    """Each of these functions stands in or behind all before it: seconds, where looking through those would be minutes."""
    _, ledger = one(source, path, MineOptions(languages=tuple(GRAMMARS)))
    assert ledger["functions"]["read"] == functions


def test_an_overload_is_documented_by_its_own_signatures() -> None:
    source = """
/** Says what the first one does. */
export function first(a: string): void;
function second(a: any) {
  return a + a;
}
class A {
  /** Says what the third one does. */
  third?(a: string): void;
  fourth(a: any) { return a + a; }
  /** Says what the fifth one does. */
  fifth(a: string): void;
  fifth(a: number): void;
  fifth(a: any) {
    return a + a;
  }
}
"""
    rows, ledger = one(source, "a.ts", MineOptions(languages=("typescript",)))
    assert [row["qualname"] for row in rows] == ["A.fifth"]
    assert rows[0]["code"].startswith("fifth(a: string): void;")
    assert ledger["functions"]["dropped"] == {"no_body": 4, "no_docstring": 2}


@pytest.mark.parametrize(
    ("docstring", "expected"),
    [
        ("One line.", "One line."),
        ("Two\nlines.\n\nMore.", "Two lines."),
        ("Text.\n:param x: y\n:return: z", "Text."),
        ("Text.\nArgs:\n    x: y", "Text."),
        ("Text here.\n----------\nMore.", "Text here."),
        ("Parameters\n----------\nx : int", ""),
        ("Text\n>>> f()\n1", "Text"),
        (":param x: y", ""),
        ("Return the value at x.", "Return the value at x."),
        ("Note: this is prose.", "Note: this is prose."),
        ("", ""),
    ],
)
def test_the_summary_is_the_first_paragraph_of_prose(docstring: str, expected: str) -> None:
    assert summary(docstring) == expected


def shard_of(folder: Path, count: int = 40) -> dict:
    files = sorted((Path(sysconfig.get_paths()["stdlib"]) / "email").glob("*.py"))[:count]
    return {
        "group": "python",
        "version": "3",
        "licence": "Python-2.0",
        "files": [[str(file), f"email/{file.name}"] for file in files] + [[str(folder / "absent.py"), "absent.py"]],
    }


def test_rows_do_not_depend_on_the_order_of_the_files(tmp_path: Path) -> None:
    shard = shard_of(tmp_path)
    table, ledger = mine_shard(shard, MineOptions())
    random.Random(0).shuffle(shard["files"])
    again, ledger_again = mine_shard(shard, MineOptions())
    assert table.equals(again)
    assert ledger == ledger_again
    assert ledger.units["files"].dropped["unreadable"] == 1
    order = list(zip(table["path"].to_pylist(), table["start_byte"].to_pylist(), strict=True))
    assert order == sorted(order)
    assert len(set(table["function_id"].to_pylist())) == table.num_rows > 50


def test_shards_of_any_size_give_the_same_rows(tmp_path: Path) -> None:
    """What a function is does not depend on which files are mined with it."""
    shard = shard_of(tmp_path)
    whole, ledger = mine_shard(shard, MineOptions())
    files = sorted(shard["files"], key=lambda file: file[1])
    shards = [{**shard, "files": files[i : i + 7]} for i in range(0, len(files), 7)]
    parts = [mine_shard(json.loads(json.dumps(part)), MineOptions()) for part in shards]
    assert pa.concat_tables([table for table, _ in parts]).combine_chunks().equals(whole.combine_chunks())
    assert sum((part for _, part in parts[1:]), parts[0][1]).to_dict() == ledger.to_dict()


def test_rows_do_not_depend_on_hash_randomisation(tmp_path: Path) -> None:
    """Two processes with different string hashes write the same rows and the same ledger."""
    program = textwrap.dedent(
        """
        import json, sys
        from cpt_ray.code.functions import MineOptions, mine_shard
        table, ledger = mine_shard(json.load(sys.stdin), MineOptions())
        print(json.dumps([table.to_pylist(), ledger.to_dict()]))
        """
    )
    outputs = [
        subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(shard_of(tmp_path, 6)).encode(),
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    assert outputs[0] == outputs[1]


def test_licence_headers_override_the_distribution() -> None:
    header = "# SPDX-License-Identifier: (GPL-2.0-only OR MIT)  \n"
    [row], _ = one(header + "def f(x):\n    'Parses a date.'\n    return x\n")
    assert row["licence"] == "(GPL-2.0-only OR MIT)"
    [row], _ = one("# SPDX-License-Identifier:\n" + "def f(x):\n    'Parses a date.'\n    return x\n")
    assert row["licence"] == "MIT"
    table, _ = mine(
        [Source("a.py", b"def f(x):\n    'Parses a date.'\n    return x\n")], Origin("g", "", ""), EVERYTHING
    )
    assert table["licence"].to_pylist() == ["unknown"]


@pytest.mark.parametrize(
    ("header", "licence"),
    [
        ("# SPDX-License-Identifier: MIT or Apache-2.0", "MIT OR Apache-2.0"),
        ("# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: GPL-3.0-only", "MIT AND GPL-3.0-only"),
        ("# SPDX-License-Identifier: MIT OR ISC\n# SPDX-License-Identifier: Zlib", "(MIT OR ISC) AND Zlib"),
        ("# SPDX-License-Identifier: see LICENSE file", "unknown"),
        ("# SPDX-License-Identifier: Apache License 2.0", "unknown"),
        ("# SPDX-License-Identifier: Apache-2.0.", "Apache-2.0"),
        ("# SPDX-License-Identifier: mit", "MIT"),
        ("# /* SPDX-License-Identifier: ISC */", "ISC"),
        ("# no tag", "BSD-3-Clause"),
    ],
)
def test_forms_of_the_licence_tag(header: str, licence: str) -> None:
    source = f"{header}\ndef f(x):\n    'Parses a date.'\n    return x\n"
    table, _ = mine([Source("a.py", source.encode())], Origin("g", "", "BSD-3-Clause"), EVERYTHING)
    assert table["licence"].to_pylist() == [licence]


def test_nothing_mined_is_run(tmp_path: Path) -> None:
    """A source that would write a file when imported, decorated or evaluated leaves no trace."""
    trace = tmp_path / "trace"
    source = f"""
open({str(trace)!r}, 'w')
@open({str(trace)!r}, 'w')
def f(x=open({str(trace)!r}, 'w')):
    'Parses \\x41 date here.'
    return x
"""
    rows, _ = one(source)
    assert len(rows) == 1
    assert not trace.exists()
