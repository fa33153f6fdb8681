"""One unreadable place costs itself alone, in every language and whatever it is."""

from __future__ import annotations

import sys

import pytest

from cpt_ray.code.damage import pieces
from cpt_ray.code.functions import MineOptions, Origin, Source, mine
from cpt_ray.code.grammars import GRAMMARS
from cpt_ray.code.syntax import DEEPEST, definitions, parse, parser_of

OPTIONS = MineOptions(languages=tuple(GRAMMARS), min_code_lines=1)
BRACES = {
    "no end of its parameters": "{head}bad( {\n  return 1;\n}\n",
    "no end of its body": "{head}bad() {\n  if (x) {\n  return 1;\n}\n",
    "an end too many": "{head}bad() {\n  return 1;\n}}\n",
    "no end of a string": '{head}bad() {\n  y = "abc;\n  return y;\n}\n',
    "no end of a call": "{head}bad() {\n  foo((x);\n  return 1;\n}\n",
    "no expression": "{head}bad() {\n  y = = 2;\n  return y;\n}\n",
    "what no language has": "@@@ ??? $$$\n",
}
WORDS = {
    "no end of its parameters": "def bad(\n  1\nend\n",
    "no end of its body": "def bad\n  if x\n  1\nend\n",
    "no end of a string": 'def bad\n  y = "abc\n  y\nend\n',
    "what no language has": "@@@ ??? $$$\n",
}
INDENTED = {
    "no end of its parameters": "def bad(:\n    pass\n",
    "no end of a string": 'def bad():\n    y = "abc\n    return y\n',
    "no expression": "def bad():\n    y = = 2\n    return y\n",
    "what no language has": "@@@ ??? $$$\n",
}
PYTHON = 'def NAME(x):\n    """Adds NAME to the number."""\n    return x\n'
JS = "/** Adds NAME to the number. */\nfunction NAME(x) {\n  return x;\n}\n"
METHOD = "/** Adds NAME to the number. */\nint NAME(int x) {\n  return x;\n}\n"
# Extension, function, the head of one that is damaged, what is above, what is below, the name of what is around.
LANGUAGES: dict[str, tuple[str, str, str, str, str, str]] = {
    "python": (".py", PYTHON, "", "", "", ""),
    "python in a class": (".py", PYTHON, "", "class A:\n", "", "A."),
    "java": (".java", METHOD, "int ", "class A {\n", "}\n", "A."),
    "go": (".go", "// NAME adds NAME to it.\nfunc NAME(x int) int {\n\treturn x\n}\n", "func ", "package a\n", "", ""),
    "javascript": (".js", JS, "function ", "", "", ""),
    "javascript in a class": (".js", JS.replace("function ", ""), "", "class A {\n", "}\n", "A."),
    "typescript": (".ts", JS.replace("(x)", "(x: number)"), "function ", "", "", ""),
    "typescript in a class": (".ts", JS.replace("function ", "async "), "", "export class A {\n", "}\n", "A."),
    "php": (".php", JS.replace("x", "$x"), "function ", "<?php\n", "", ""),
    "php in a class": (".php", JS.replace("x", "$x"), "function ", "<?php\nclass A\n{\n", "}\n", "A."),
    "ruby": (".rb", "# Adds NAME to the number.\ndef NAME(x)\n  x\nend\n", "", "", "", ""),
    "ruby in a class": (
        ".rb",
        "# Adds NAME to the number.\ndef NAME(x)\n  x\nend\n",
        "",
        "class A < B\n",
        "end\n",
        "A.",
    ),
    "c": (".c", METHOD, "int ", "#include <a.h>\n", "", ""),
    "cpp in a class": (".cpp", METHOD, "int ", "namespace a {\nclass A : B {\npublic:\n", "};\n}\n", "a.A."),
    "csharp": (".cs", METHOD, "int ", "namespace N;\nclass A\n{\n", "}\n", "N.A."),
    "rust": (".rs", "/// Adds NAME to the number.\nfn NAME(x: u8) -> u8 {\n  x\n}\n", "fn ", "", "", ""),
    "rust in a type": (
        ".rs",
        "/// Adds NAME to the number.\nfn NAME(self) {\n  x\n}\n",
        "fn ",
        "impl A {\n",
        "}\n",
        "A.",
    ),
    "kotlin": (".kt", "/** Adds NAME to the number. */\nfun NAME(x: Int): Int {\n  return x\n}\n", "fun ", "", "", ""),
    "kotlin in a class": (
        ".kt",
        "/** Adds NAME to the number. */\nfun NAME(x: Int) {\n  y(x)\n}\n",
        "fun ",
        "class A(\n  val x: Int,\n) : B() {\n",
        "}\n",
        "A.",
    ),
    "scala": (
        ".scala",
        "/** Adds NAME to the number. */\ndef NAME(x: Int) = {\n  x\n}\n",
        "def ",
        "object A {\n",
        "}\n",
        "A.",
    ),
    "swift": (
        ".swift",
        "/// Adds NAME to the number.\nfunc NAME(x: Int) -> Int {\n  return x\n}\n",
        "func ",
        "",
        "",
        "",
    ),
    "swift in a type": (
        ".swift",
        "/// Adds NAME to the number.\nfunc NAME(x: Int) {\n  y(x)\n}\n",
        "func ",
        "extension A {\n",
        "}\n",
        "A.",
    ),
}


def damages(language: str) -> dict[str, str]:
    return {"python": INDENTED, "ruby": WORDS}.get(language.split()[0], BRACES)


@pytest.mark.parametrize(
    ("language", "damage"), [(language, damage) for language in LANGUAGES for damage in damages(language)]
)
def test_damage_costs_itself_alone(language: str, damage: str) -> None:
    extension, function, head, above, below, around = LANGUAGES[language]
    bad = damages(language)[damage].replace("{head}", head)
    parts = [function.replace("NAME", "one"), function.replace("NAME", "two"), bad]
    parts += [function.replace("NAME", name) for name in ("three", "four", "five")]
    margin = "    " if around else ""
    inside = "\n".join("".join(f"{margin}{line}\n" for line in part.splitlines()) for part in parts)
    source = f"{above}{inside}{below}".encode()
    table, ledger = mine([Source(f"a{extension}", source)], Origin("g", "", ""), OPTIONS)
    ledger.check("a")
    assert table["qualname"].to_pylist() == [f"{around}{name}" for name in ("one", "two", "three", "four", "five")]
    for row in table.to_pylist():
        span = source[row["start_byte"] : row["end_byte"]].decode().splitlines()
        assert [line.strip() for line in span if "Adds" not in line] == [
            line.strip() for line in row["code"].splitlines() if line.strip()
        ]
        assert source[: row["start_byte"]].count(b"\n") + 1 == row["start_line"]


def test_what_is_newer_than_the_grammar_costs_itself_alone() -> None:
    source = (
        "/** Adds one to it. */\nfun a(x: Int) = x + 1\n\n/** Tells what it is. */\nfun bad(x: Any) = when (x) {\n"
        "  is Int if x > 1 -> 1\n  else -> 2\n}\n\n/** Adds two to it. */\nfun b(x: Int) = x + 2\n"
    )
    table, ledger = mine([Source("a.kt", source.encode())], Origin("g", "", ""), OPTIONS)
    assert table["qualname"].to_pylist() == ["a", "b"]
    assert ledger.check("a").units["bytes"].dropped["syntax_error"] > 0


def test_a_function_that_swallowed_the_next_is_lost() -> None:
    """Its end was not found, so that its code would be another's too."""
    source = (
        "class A {\n  /** Adds one to it. */\n  fun bad(x: Int) {\n    if (x) {\n  }\n\n  /** Adds two to it. */\n"
        "  fun b(x: Int) {\n    x + 2\n  }\n}\n"
    )
    table, ledger = mine([Source("a.kt", source.encode())], Origin("g", "", ""), OPTIONS)
    assert table["qualname"].to_pylist() == ["A.b"]
    assert ledger.check("a").units["functions"].dropped == {"syntax_error": 1}


def test_pieces_of_deep_nesting_are_found_in_one_pass() -> None:
    depth = 2_000
    source = "".join(" " * i + "{\n" + " " * (i + 1) + "/** A. */\n" for i in range(depth)).encode()
    found = list(pieces(source, GRAMMARS["java"]))
    assert len(found) == depth
    assert max(len(piece.heads) for piece in found) == DEEPEST


@pytest.mark.parametrize(
    "source",
    [
        "<?php\nif (x) {\n  namespace A;\n  /** Adds one to it. */\n  function f( {\n  }\n",
        "<?php\nnamespace A\n{\nnamespace B;\n)\n/** Adds one to it. */\nfunction f( {\n}\n",
        "<?php\n  namespace A;\n)\n  /** Adds one to it. */\n  function f( {\n  }\n",
    ],
)
def test_heads_in_an_odd_order_are_no_matter(source: str) -> None:
    _, ledger = mine([Source("a.php", source.encode())], Origin("g", "", ""), OPTIONS)
    ledger.check("a")


def test_hostile_nesting_makes_no_endless_names() -> None:
    source = "fn f() {\n" * 2_000
    parser = parser_of("rust")
    found = definitions(parse(parser, source.encode()), source.encode(), GRAMMARS["rust"])
    assert found == [] or max(one.qualname.count(".") for one in found) <= DEEPEST


def test_what_was_parsed_is_let_go_of() -> None:
    """The parser keeps what it is given by a function for ever (findings/tree-sitter-keeps-what-it-reads.sh)."""
    source = b"fn f() {}\n" * 10_000
    before = sys.getrefcount(source)
    for _ in range(3):
        parse(parser_of("rust"), source)
    assert sys.getrefcount(source) == before
