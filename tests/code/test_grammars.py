"""Every language of the table: documented functions are found, and an upgrade that loses them is noticed."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest
from tree_sitter import Language, Node, Parser

from cpt_ray.code.functions import Origin, Source, mine
from cpt_ray.code.grammar import Grammar
from cpt_ray.code.grammars import GRAMMARS
from cpt_ray.code.options import MineOptions
from cpt_ray.code.syntax import TooSlow, definitions, parse, parser_of, self_test
from cpt_ray.errors import UserError

EVERYTHING = MineOptions(languages=tuple(GRAMMARS), min_code_lines=1)

SOURCES = {
    "java": (
        "Dates.java",
        """\
package a;
/** Not a method's. */
class Dates {
  private int x;
  /**
   * Parses a {@link Date} from <b>the</b> text.
   * It may fail.
   *
   * @param text what to parse
   */
  @Override
  public Date parse(String text) { return new Date(text); }

  /** Apart by a blank line from what follows. */

  void nothing() { }
  // A plain comment documents nothing here.
  void none() { }
  static class Inner {
    /** Builds the inner thing. */
    Inner() { super(); }
  }
}
""",
        [
            ("Dates.parse", "Parses a Date from the text. It may fail."),
            ("Dates.nothing", "Apart by a blank line from what follows."),
            ("Dates.Inner.Inner", "Builds the inner thing."),
        ],
    ),
    "go": (
        "dates.go",
        """\
package a

// Detached from what follows.

// Parse reads a date
// from the text.
func Parse(text string) (Date, error) {
	return Date{}, nil
}

/* String writes the date out. */
func (d *Date) String() string { return "" }

func none() {}
""",
        [("Parse", "Parse reads a date from the text."), ("Date.String", "String writes the date out.")],
    ),
    "javascript": (
        "dates.js",
        """\
/**
 * Parses a date from the text.
 * @param {string} text what to parse
 */
export default async function parse(text) { return new Date(text) }

/** Formats a date as text. */
module.exports.format = function (date) { return '' + date }

/** Adds days to a date. */
const add = async (date, days) => date + days;

class Span {
  /** Says how long it is. */
  get length() { return 1 }
  /** Says whether it is empty. */
  empty = () => false;
  none() { }
}
/* Not a documentation comment. */
function none() { }
""",
        [
            ("parse", "Parses a date from the text."),
            ("module.exports.format", "Formats a date as text."),
            ("add", "Adds days to a date."),
            ("Span.length", "Says how long it is."),
            ("Span.empty", "Says whether it is empty."),
        ],
    ),
    "php": (
        "dates.php",
        """\
<?php
namespace A;
/** Parses a date from the text. */
function parse($text) { return new Date($text); }
abstract class Span {
    /**
     * Says how long it is.
     *
     * @return int
     */
    public function length(): int { return 1; }
    public function none() { }
}
""",
        [("parse", "Parses a date from the text."), ("Span.length", "Says how long it is.")],
    ),
    "ruby": (
        "dates.rb",
        """\
module A
  # A span of days.
  class Span
    # Says how long
    # it is in days.
    def length
      1
    end

    # Builds one from a text.
    def self.parse(text)
      new
    end

    def none; end
  end
end
""",
        [("A.Span.length", "Says how long it is in days."), ("A.Span.parse", "Builds one from a text.")],
    ),
}


@pytest.mark.parametrize("language", list(SOURCES))
def test_comments_document_the_function_that_follows(language: str) -> None:
    path, source, expected = SOURCES[language]
    table, ledger = mine([Source(path, source.encode())], Origin("g", "1", "MIT"), EVERYTHING)
    assert ledger.check(language).units["files"].kept == 1
    assert list(zip(table["qualname"].to_pylist(), table["summary"].to_pylist(), strict=True)) == expected
    assert set(table["language"].to_pylist()) == {language}
    for row in table.to_pylist():
        span = source.encode()[row["start_byte"] : row["end_byte"]].decode()
        assert [line.strip() for line in span.split("\n")] == [line.strip() for line in row["code"].split("\n")]
        assert row["summary"].split()[0] not in row["code"].split()


def test_every_language_of_the_table_has_examples_that_hold_it() -> None:
    for grammar in GRAMMARS.values():
        assert sum(len(example.documented) for example in grammar.examples) >= 2, grammar.language
        assert grammar.docstring is not None or any(
            "none" in example.source.lower() or "Plain." in example.source for example in grammar.examples
        )
    extensions = [extension for grammar in GRAMMARS.values() for extension in grammar.extensions]
    assert len(extensions) == len(set(extensions))


def walked(node: Node, grammar: Grammar) -> int:
    """Functions by a plain walk over every node."""
    count, todo = 0, [node]
    while todo:
        node = todo.pop()
        count += node.type in grammar.functions | grammar.values
        if node.type == "call" and grammar.language == "ruby":
            method = node.child_by_field_name("method")
            count += method is not None and method.text == b"define_method"
        todo += node.children
    return count


@pytest.mark.parametrize("language", list(GRAMMARS))
def test_every_function_is_in_the_ledger(language: str) -> None:
    """Kept or dropped by name: nested ones, callbacks, declarations and all, as a second way of counting has it."""
    grammar = GRAMMARS[language]
    nested = {
        "python": "def f():\n    def g():\n        class A:\n            def h(self): pass\n    return lambda: 1\n",
        "javascript": "f(() => { function g() { return class { m() { return function () {} } } } }, async x => x);\n",
        "typescript": "f(() => { function g(x: any) { return class { m() { return function () {} } } } });\n",
        "java": "class Z { void f() { new R() { public void run() { class L { void g() {} } } }; } }\n",
        "go": "func z() { f := func() { func() {}() }; f() }\nvar y = []func(){func() {}}\n",
        "php": "<?php function f() { return function () { return fn() => 1; }; }\n",
        "ruby": "def f\n  def g; end\n  define_method(:h) { |x| x }\nend\n",
        "csharp": "class Z { void F() { int L() { return 1; } } }\n",
        "rust": "fn f() { fn g() {} impl A { fn h() {} } }\n",
    }.get(language, "")
    for source in [example.source for example in grammar.examples] + [nested]:
        data = source.encode()
        path = f"a{grammar.extensions[0]}"
        _, ledger = mine([Source(path, data)], Origin("g", "1", "MIT"), EVERYTHING)
        read = ledger.check(language).units["functions"].read
        assert read == walked(parse(parser_of(language), data).root_node, grammar), source


def _ctags_writes_json() -> bool:
    ctags = shutil.which("ctags")
    features = subprocess.run([ctags, "--list-features"], capture_output=True, text=True).stdout if ctags else ""
    return any(line.split()[:1] == ["json"] for line in features.splitlines())


@pytest.mark.skipif(not _ctags_writes_json(), reason="no ctags that writes JSON is on PATH")
@pytest.mark.parametrize(
    ("language", "only_ours"),
    [
        ("python", ""),
        ("java", "run"),  # of an anonymous class
        ("go", "H"),  # a variable to ctags
        ("php", "$d"),  # `d` to ctags
        ("ruby", "i"),  # define_method
        ("rust", ""),
        ("c", ""),
        ("cpp", "A"),  # a constructor behind a macro
        ("csharp", ""),
        ("kotlin", "constructor"),
        ("javascript", None),  # it reads neither arrow functions nor fields
        ("typescript", None),
    ],
)
def test_named_functions_are_those_that_ctags_finds(language: str, only_ours: str | None, tmp_path: Path) -> None:
    """A second, independent count: all that it finds is found, and where it reads the whole language, no more."""
    grammar = GRAMMARS[language]
    ours, theirs = Counter[str](), Counter[str]()
    for i, example in enumerate(grammar.examples):
        file = tmp_path / f"{i}{grammar.extensions[0]}"
        file.write_text(example.source)
        command = ["ctags", "--output-format=json", "--kinds-all=*", "-o", "-", str(file)]
        tags = [
            json.loads(line) for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
        ]
        wanted = {"function", "method", "func", "constructor", "singletonMethod", "generator", "getter", "setter"}
        wanted |= {"member"} if language == "python" else set()
        names = [tag["name"].rpartition("\\")[2].replace(" ", "") for tag in tags if tag["kind"] in wanted]
        assert names
        own = {"php": {"d"}, "typescript": {"e"}}.get(language, set())  # `r.d = r.e = function e`, and a closure
        theirs.update(name for name in names if name not in own and not name.startswith("AnonymousFunction"))
        data = example.source.encode()
        ours.update(
            d.name.replace(" ", "") for d in definitions(parse(parser_of(language), data), data, grammar) if d.name
        )
    assert theirs - ours == Counter()
    assert only_ours is None or ours - theirs == Counter(only_ours.split())


@pytest.mark.parametrize("language", list(GRAMMARS))
def test_a_grammar_that_loses_its_docstrings_is_noticed(language: str) -> None:
    """Rename the node types, as an upgrade might: the self-test must fail, and it passes with the true ones."""
    grammar = GRAMMARS[language]
    parser = parser_of(language)
    self_test(parser, grammar)
    renamed = dataclasses.replace(grammar, functions=frozenset({"function_renamed"}), values=frozenset())
    with pytest.raises(UserError, match="documented in its example"):
        self_test(parser, renamed)


def test_parsing_has_a_budget_and_the_parser_survives_its_end() -> None:
    """Giving up on one file must not leave the parser in the middle of it."""
    parser = parser_of("python")
    with pytest.raises(TooSlow):
        parse(parser, b"x = (" * 2_000, reports_per_byte=0)
    assert not parse(parser, b"def f():\n    return 1\n").root_node.has_error


def test_unknown_languages_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="cobol"):
        MineOptions(languages=("python", "cobol"))
    with pytest.raises(UserError, match="no grammar for 'cobol'"):
        parser_of("cobol")


def test_the_grammars_installed_are_those_of_the_table() -> None:
    for language in GRAMMARS:
        assert isinstance(parser_of(language), Parser)
        assert isinstance(parser_of(language).language, Language)
