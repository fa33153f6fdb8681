"""Every language of the table: documented functions are found, and an upgrade that loses them is noticed."""

from __future__ import annotations

import dataclasses

import pytest
from tree_sitter import Language, Parser

from cpt_ray.code.functions import Origin, Source, mine
from cpt_ray.code.grammars import GRAMMARS
from cpt_ray.code.options import MineOptions
from cpt_ray.code.syntax import TooSlow, parse, parser_of, self_test
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

  /** Detached by a blank line from what follows. */

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


def test_every_language_of_the_table_has_a_test_here() -> None:
    assert {*SOURCES, "python"} == set(GRAMMARS)


@pytest.mark.parametrize("language", list(GRAMMARS))
def test_a_grammar_that_loses_its_docstrings_is_noticed(language: str) -> None:
    """Rename the node types, as an upgrade might: the self-test must fail, and it passes with the true ones."""
    grammar = GRAMMARS[language]
    parser = parser_of(language)
    self_test(parser, grammar)
    renamed = dataclasses.replace(grammar, functions=frozenset({"function_renamed"}), values=frozenset())
    with pytest.raises(UserError, match="documented in its sample"):
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
