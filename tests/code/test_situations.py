"""Situations in which miners lose or misread documentation, each as small as it gets: what the language's tool says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpt_ray.code import filters
from cpt_ray.code.functions import MineOptions, Origin, Source, mine
from cpt_ray.code.grammars import GRAMMARS

OPTIONS = MineOptions(languages=tuple(GRAMMARS), min_code_lines=1, min_words=1)
CASES = Path(__file__).parents[3] / "shared" / "cases" / "code.jsonl"


def mined(path: str, source: str | bytes, options: MineOptions = OPTIONS) -> tuple[dict[str, str], dict]:
    """Summaries by qualified name, and the ledger."""
    data = source if isinstance(source, bytes) else source.encode()
    table, ledger = mine([Source(path, data)], Origin("g", "1", "MIT"), options)
    counts = ledger.check(path).to_dict()
    return dict(zip(table["qualname"].to_pylist(), table["summary"].to_pylist(), strict=True)), counts


@pytest.mark.skipif(not CASES.is_file(), reason="the shared cases are not beside this repository")
def test_the_shared_cases() -> None:
    for line in CASES.read_text().splitlines():
        case = json.loads(line)
        table, _ = mine([Source(case["path"], case["source"].encode())], Origin("g", "1", "MIT"), OPTIONS)
        found = dict(zip(table["qualname"].to_pylist(), table["docstring"].to_pylist(), strict=True))
        assert found == {one["qualname"]: one["docstring"] for one in case["expect"]}, case["id"]


JS = "function f(n) {\n  return n;\n}\n"
JAVA = "class A {{\n  /** {} */\n  int f() {{ return 1; }}\n}}\n"
GO = "package a\n\n"

SITUATIONS: dict[str, tuple[str, str, dict[str, str]]] = {
    # line ends
    "CRLF go": (
        "a.go",
        GO + "// F adds one to the\r\n// given number.\r\nfunc F() {}\r\n",
        {"F": "F adds one to the given number."},
    ),
    "CRLF ruby": (
        "a.rb",
        "# Adds one to the\r\n# given number.\r\ndef f\r\n  1\r\nend\r\n",
        {"f": "Adds one to the given number."},
    ),
    "CRLF rust": (
        "a.rs",
        "/// Adds one to the\r\n/// given number.\r\nfn f() {}\r\n",
        {"f": "Adds one to the given number."},
    ),
    "CRLF csharp": (
        "a.cs",
        "class A {\r\n  /// <summary>Adds one to the\r\n  /// given number.</summary>\r\n  void F() {}\r\n}\r\n",
        {"A.F": "Adds one to the given number."},
    ),
    "CR python": ("a.py", "def f(x):\r    '''Adds one.'''\r    y = x\r    return y\r", {"f": "Adds one."}),
    "CR javascript": ("a.js", "/** Adds one. */\r" + JS.replace("\n", "\r"), {"f": "Adds one."}),
    # wrappers
    "IIFE": (
        "a.js",
        "(function(r){ /** Adds one to it. */ function inc(n){ return n } })(this);",
        {"inc": "Adds one to it."},
    ),
    "UMD": (
        "a.js",
        "(function (root, factory) { factory(root) })(this, function (e) {\n/** Adds one. */\nfunction inc(n) {}\n});",
        {"inc": "Adds one."},
    ),
    "IIFE with bang": (
        "a.js",
        "!function(){ /** Adds one to it. */ function inc(n){ return n } }();",
        {"inc": "Adds one to it."},
    ),
    "arrow IIFE": ("a.js", "(() => {\n  /** Adds one. */\n  const inc = (n) => n + 1;\n})();", {"inc": "Adds one."}),
    "AMD": ("a.js", "define(['a'], function(a){ /** Adds one. */ function inc(n){} });", {"inc": "Adds one."}),
    "named wrapper": (
        "a.js",
        ";(function() {\n  var run = (function run(c) {\n    /** Adds one. */\n    function inc() {}\n  });\n}.call(this));",
        {"run.inc": "Adds one."},
    ),
    "closure": (
        "a.js",
        "function make() {\n  /** Adds one. */\n  return function inc() {};\n}",
        {"make.inc": "Adds one."},
    ),
    # blank lines
    "blank javascript": ("a.js", "/** Adds one. */\n\n" + JS, {"f": "Adds one."}),
    "blank java": ("A.java", "class A {\n  /** Adds one. */\n\n\n  int f() { return 1; }\n}", {"A.f": "Adds one."}),
    "blank php": ("a.php", "<?php\n/** Adds one. */\n\nfunction f() {}\n", {"f": "Adds one."}),
    "blank go": ("a.go", GO + "// Adds one.\n\nfunc F() {}\n", {}),
    "blank ruby": ("a.rb", "# Adds one.\n\ndef f\n  1\nend\n", {"f": "Adds one."}),
    "two blank ruby": ("a.rb", "# Adds one.\n\n\ndef f\n  1\nend\n", {}),
    # comments between
    "phpcs": ("a.php", "<?php\n/** Adds one. */\n// phpcs:ignore\nfunction f() {}\n", {"f": "Adds one."}),
    "eslint": ("a.js", "/** Adds one. */\n// eslint-disable-next-line\n" + JS, {"f": "Adds one."}),
    "istanbul": ("a.js", "/** Adds one. */\n/* istanbul ignore next */\n" + JS, {"f": "Adds one."}),
    "formatter": (
        "A.java",
        "class A {\n  /** Adds one. */\n  // @formatter:off\n  int f() { return 1; }\n}",
        {"A.f": "Adds one."},
    ),
    "package": ("A.java", "class A {\n  /** Adds one. */ /* package */ int f() { return 1; }\n}", {"A.f": "Adds one."}),
    "code between": ("a.js", "/** Of x. */\nlet x = 1;\n" + JS, {}),
    "nearest of two": ("a.js", "/** Of the file. */\n\n/** Adds one. */\n" + JS, {"f": "Adds one."}),
    # the line before
    "trailing go": (
        "a.go",
        GO + "var limit = 10 // most rows\n// Rows returns rows.\nfunc Rows() {}\n",
        {"Rows": "Rows returns rows."},
    ),
    "trailing go alone": ("a.go", GO + "var limit = 10 // most rows that a page has\nfunc Rows() {}\n", {}),
    "trailing ruby class": ("a.rb", "class A # :nodoc: all of it\n  def go\n    1\n  end\nend\n", {}),
    "trailing ruby": ("a.rb", "class A\n  attr_reader :x # last x seen here\n  def reset\n    1\n  end\nend\n", {}),
    # what binds
    "default function": (
        "a.js",
        "/** Adds one. */\nexport default function (n) { return n }",
        {"default": "Adds one."},
    ),
    "default arrow": ("a.js", "/** Adds one. */\nexport default (n) => { return n }", {"default": "Adds one."}),
    "chain": ("a.js", "/** Sets it. */\nres.set = res.header = function header(n) { };", {"res.set": "Sets it."}),
    "chain of const": ("a.js", "/** Sets it. */\nvar a = exports.a = function () { };", {"a": "Sets it."}),
    "memo": ("a.js", "/** Shows a row. */\nconst R = React.memo((p) => { });", {"R": "Shows a row."}),
    "debounce": ("a.js", "/** Saves it. */\nconst save = debounce(async () => { });", {"save": "Saves it."}),
    "a call that runs": ("a.js", "/** All of the names. */\nconst names = list.map((x) => x.name);", {}),
    "a call of itself": ("a.js", "/** The one store. */\nconst store = (function () { return 1 })();", {}),
    "class expression": ("a.js", "module.exports = class C { /** Opens it. */ open() {} }", {"C.open": "Opens it."}),
    "nameless class": ("a.js", "export default class extends E { /** Runs it. */ run() {} }", {"run": "Runs it."}),
    "bound class": ("a.js", "const C = class { /** Opens it. */ open() {} };", {"C.open": "Opens it."}),
    "in if": ("a.js", "if (x) { /** Counts it. */ exports.c = function () {} }", {"exports.c": "Counts it."}),
    "in try": ("a.js", "try { /** Counts it. */ exports.c = function () {} } catch {}", {"exports.c": "Counts it."}),
    "constructor": ("a.js", "class A { constructor(){ /** Goes on. */ this.go = (n) => {}; } }", {"A.go": "Goes on."}),
    "constructor function": (
        "a.js",
        "function A() { /** Goes on. */ this.go = function () {}; }",
        {"A.go": "Goes on."},
    ),
    "prototype": ("a.js", "A.prototype = {\n /** Goes on. */\n go: function () {} };", {"A.prototype.go": "Goes on."}),
    "second of a list": (
        "a.js",
        "/** The first. */\nexport const first = () => 1, second = () => 2;",
        {"first": "The first."},
    ),
    "before the value": ("a.js", "exports.f = /** Adds one. */ function (n) { return n };", {"exports.f": "Adds one."}),
    # PHP
    "function_exists": (
        "a.php",
        "<?php\nif (!function_exists('h')) { /** Helps now. */ function h($n) {} }",
        {"h": "Helps now."},
    ),
    "anonymous class": (
        "a.php",
        "<?php\nreturn new class extends M { /** Runs it. */ public function up() {} };",
        {"up": "Runs it."},
    ),
    "after the attribute": (
        "a.php",
        "<?php\n#[Route('/x')]\n/** Shows it. */\nfunction page() {}",
        {"page": "Shows it."},
    ),
    "method after the attribute": (
        "a.php",
        "<?php\nclass A {\n  #[Route('/x')]\n  /** Shows it. */\n  public function page() {}\n}",
        {"A.page": "Shows it."},
    ),
    # Ruby
    "sig": (
        "a.rb",
        "# Doubles it.\nsig { params(x: Integer).returns(Integer) }\ndef f(x)\n  x\nend\n",
        {"f": "Doubles it."},
    ),
    "Struct.new": (
        "a.rb",
        "Foo = Struct.new(:a) do\n  # Adds both.\n  def sum\n    1\n  end\nend\n",
        {"Foo.sum": "Adds both."},
    ),
    "class_methods": (
        "a.rb",
        "module A\n  class_methods do\n    # Adds both.\n    def sum\n      1\n    end\n  end\nend\n",
        {"A.sum": "Adds both."},
    ),
    "if in ruby": ("a.rb", "if RUBY_VERSION\n  # Adds both.\n  def sum\n    1\n  end\nend\n", {"sum": "Adds both."}),
    "hidden": (
        "a.rb",
        "#--\n# Internal notice only.\n#++\n# Reads the file.\ndef f\n  1\nend\n",
        {"f": "Reads the file."},
    ),
    "call-seq": (
        "a.rb",
        "# :call-seq:\n#   close(x) -> y\n#\n#  Closes the file.\ndef f\n  1\nend\n",
        {"f": "Closes the file."},
    ),
    "tag first": ("a.rb", "# @api private\n# Used to add plugins.\ndef f\n  1\nend\n", {"f": "Used to add plugins."}),
    "note first": (
        "a.rb",
        "# @note Not thread safe\n#\n# Adds two to it.\ndef f\n  1\nend\n",
        {"f": "Adds two to it."},
    ),
    "TomDoc": (
        "a.rb",
        "# Public: Duplicates the text.\n#\n# x - more\ndef f\n  1\nend\n",
        {"f": "Duplicates the text."},
    ),
    "RDoc words": (
        "a.rb",
        "# Takes a +List+ of {Foo#bar} and {B the b}.\ndef f\n  1\nend\n",
        {"f": "Takes a List of Foo#bar and the b."},
    ),
    "magic": ("a.rb", "# frozen_string_literal: true\n# Adds one.\ndef f\n  1\nend\n", {"f": "Adds one."}),
    "shebang": ("a.rb", "#!/usr/bin/env ruby\n# encoding: utf-8\ndef f\n  1\nend\n", {}),
    "copyright": ("a.rb", "# Copyright 2020 the authors\ndef f\n  1\nend\n", {}),
    "doubled hashes": ("a.rb", "##\n# Adds one.\ndef f\n  1\nend\n", {"f": "Adds one."}),
    # tags
    "description": ("a.js", "/** @description Adds one to it. */\n" + JS, {"f": "Adds one to it."}),
    "desc after tags": (
        "a.js",
        "/**\n * @function inc\n * @memberof Foo\n * @desc Adds one.\n */\n" + JS,
        {"f": "Adds one."},
    ),
    "summary": ("a.js", "/** @summary Adds one to it.\n * @param {n} n */\n" + JS, {"f": "Adds one to it."}),
    "any tag": ("a.js", "/**\n * Adds one.\n * @async\n * @override\n */\n" + JS, {"f": "Adds one."}),
    "tags alone": ("a.php", "<?php\n/** @phpstan-param list<int> $x */\nfunction f($x) {}\n", {}),
    "psalm": ("a.php", "<?php\n/**\n * Adds one.\n * @psalm-pure\n */\nfunction f($x) {}\n", {"f": "Adds one."}),
    "apiNote": ("A.java", JAVA.format("Adds one.\n   * @apiNote why"), {"A.f": "Adds one."}),
    # inline markup
    "link": (
        "A.java",
        JAVA.format("Gives {@link R#read(int, long) the read} of {@link #g()}."),
        {"A.f": "Gives the read of g()."},
    ),
    "link alone": ("A.java", JAVA.format("Gives {@linkplain R#read(int, long)}."), {"A.f": "Gives R.read(int, long)."}),
    "code": ("A.java", JAVA.format("Gives {@code {x}} of {@code Map<A, B>}."), {"A.f": "Gives {x} of Map<A, B>."}),
    "entities": ("A.java", JAVA.format("Gives &lt;T&gt; &amp; more."), {"A.f": "Gives <T> & more."}),
    "generics": ("A.java", JAVA.format("Compares <A> and <B> here."), {"A.f": "Compares <A> and <B> here."}),
    "list": ("A.java", JAVA.format("Gives <li>one</li><li>two</li>"), {"A.f": "Gives one two"}),
    "paragraph": ("A.java", JAVA.format("First text.\n   * <p>Second"), {"A.f": "First text."}),
    "pre": ("A.java", JAVA.format("First text: <pre>x = 1</pre>"), {"A.f": "First text:"}),
    "inherited": (
        "A.java",
        JAVA.format("{@inheritDoc} This implementation looks into the given map first."),
        {"A.f": "This implementation looks into the given map first."},
    ),
    "jsdoc link": (
        "a.js",
        "/** Like [map]{@link module:a.map} of {@link B#c|the c}. */\n" + JS,
        {"f": "Like map of the c."},
    ),
    "html in go": (
        "a.go",
        GO + '// F returns the <a href="x"> element.\nfunc F() {}\n',
        {"F": 'F returns the <a href="x"> element.'},
    ),
    # what is no documentation of a function
    "licence": ("a.js", "/** @license Copyright 2020 me and others */\n" + JS, {}),
    "file": ("a.js", "/** @fileoverview Helpers for everything here. */\n" + JS, {}),
    "part of": ("a.php", "<?php\n/** This file is part of X, see LICENSE for all. */\nfunction f() {}\n", {}),
    "commented code": ("a.go", GO + "// func old(x int) int {\n// return x }\nfunc newer() {}\n", {}),
    "nosec": ("a.go", GO + "// #nosec G104 -- it cannot fail here\nfunc f() {}\n", {}),
    "title": ("a.go", GO + "// -------\n// Helpers of this file\n// -------\nfunc f() {}\n", {}),
    # references
    "refers": ("a.py", "def f(x):\n    '''See the base class for this.'''\n    y = x\n    return y\n", {}),
    "override of": (
        "a.rb",
        "# Override of method_missing to check in @data for the key.\ndef f\n  1\nend\n",
        {"f": "Override of method_missing to check in @data for the key."},
    ),
    "same as": (
        "a.rb",
        "# Same as calling `set :option, true` for each of the given options.\ndef f\n  1\nend\n",
        {"f": "Same as calling `set :option, true` for each of the given options."},
    ),
    "a long link": (
        "a.js",
        "/** Runs [it](https://example.org/a/very/long/address/with/4711-and-more.html?x=1&y=2#z). */\n" + JS,
        {"f": "Runs [it](https://example.org/a/very/long/address/with/4711-and-more.html?x=1&y=2#z)."},
    ),
    # damage
    "rust around damage": (
        "a.rs",
        "/// Adds one.\nfn f() {}\nfn (;\n/// Adds two.\nfn g() { 1; }\n",
        {"f": "Adds one.", "g": "Adds two."},
    ),
    # a block that ends by its indentation
    "scala below an indented body": (
        "a.scala",
        "object O {\n  /** Opens it. */\n  def open(): Int =\n    val a = 1\n    a\n\n  /** Closes it. */\n  def close() = 2\n}\n",
        {"O.open": "Opens it.", "O.close": "Closes it."},
    ),
    "scala below an object without braces": (
        "a.scala",
        "object O:\n  /** Opens a. */\n  def a =\n    if x then\n      1\n    else\n      2\n\n/** Opens b. */\ndef b =\n  1\n  // of b\n\n// plain\ndef c = 1\n",
        {"O.a": "Opens a.", "b": "Opens b."},
    ),
    "encodings": ("A.java", JAVA.format("Gives the menu of the café."), {"A.f": "Gives the menu of the café."}),
    # what stands between a documentation and its function
    "overloads of a class": (
        "a.ts",
        "class A {\n  /** Adds one to it. */\n  f(x: string): void;\n  f(x: number): void\n  f(x: any) {\n    x;\n  }\n}\n",
        {"A.f": "Adds one to it."},
    ),
    "a statement of nothing is no overload": ("a.js", "/** Adds one to it. */;\n" + JS, {}),
    "region and pragma": (
        "a.cs",
        "class A {\n  /// <summary>Adds one to it.</summary>\n  #region B\n#pragma warning disable C\n  void F() {}\n  #endregion\n"
        "  void G() {}\n}\n",
        {"A.F": "Adds one to it."},
    ),
    "a condition": (
        "a.cs",
        "class A {\n  /// <summary>Adds one to it.</summary>\n#if B\n  void F() {}\n#endif\n}\n",
        {"A.F": "Adds one to it."},
    ),
    "pragma": ("a.c", "/** Adds one to it. */\n#pragma B\nint f(void) { return 1; }\n", {"f": "Adds one to it."}),
    # who is documented
    "a friend": (
        "a.cpp",
        "struct A {\n  /// Adds one to it.\n  friend A f(A a) { return a; }\n};\n",
        {"A.f": "Adds one to it."},
    ),
    "a conversion": (
        "a.cpp",
        "struct A {\n  /// Adds one to it.\n  operator std::function<int(int)>() const { return b; }\n};\n"
        "/// Adds two to it.\nA::B::operator C *() { return 0; }\n",
        {"A.operator std::function<int(int)>": "Adds one to it.", "A.B.operator C *": "Adds two to it."},
    ),
    "a function that gives one": (
        "a.c",
        "/** Adds one to it. */\nint (*f(int x))(int) { return 0; }\n",
        {"f": "Adds one to it."},
    ),
    # markup
    "groups": (
        "a.c",
        "/** @{ */\nint f(void) { return 1; }\n/*! \\} */\nint g(void) { return 1; }\n"
        "/** @ingroup a\n * Adds one to it.\n * @{\n */\nint h(void) { return 1; }\n",
        {"h": "Adds one to it."},
    ),
    "GTK-Doc": (
        "a.c",
        "/**\n * g_f: (skip)\n * @x: (nullable): what is\n *   added\n *\n * Adds one to it.\n *\n * Returns: more\n */\n"
        "int g_f(int x) { return x; }\n",
        {"g_f": "Adds one to it."},
    ),
    "documentation that stands elsewhere": (
        "a.rs",
        '#[doc = include_str!("a.md")]\nfn f() {}\n/// Adds one to it.\n#[doc = concat!("a", "b")]\nfn g() {}\n',
        {"g": "Adds one to it."},
    ),
    "a label": (
        "a.cs",
        'class A {\n  /// <summary>Adds <see href="b">one</see> to <see cref="T:C"/>.</summary>\n  void F() {}\n}\n',
        {"A.F": "Adds one to C."},
    ),
    # who is it that is documented
    "the second of a list": (
        "a.js",
        "/** The first of both. */\nlet a, b = function () {};\n/** The third of all. */\nlet c = () => 1, d = () => 2;\n",
        {"c": "The third of all."},
    ),
    "a choice of functions": (
        "a.js",
        "/** Trims the text. */\nvar trim = native || function (s) {};\n/** Adds one. */\nexports.f = exports.f ?? ((x) => x);\n"
        "/** Adds two. */\nconst g = native ? (x) => native(x) : (x) => x + 2;\n/** The sum of it. */\nconst s = 1 + (() => 1);\n",
        {"trim": "Trims the text.", "exports.f": "Adds one.", "g": "Adds two."},
    ),
    "an assertion of a type": ("a.ts", "/** Adds one. */\nexport const f = <F>function (x) {};\n", {"f": "Adds one."}),
    "a value of several": (
        "a.go",
        GO + "// Adds one.\nvar a, b = 1, func() { return }\n",
        {"b": "Adds one."},
    ),
    "members of an array": (
        "a.php",
        "<?php\n$a = [\n  /** Adds one. */\n  'f' => function ($x) { return $x; },\n  /** Adds two. */\n  B::class => fn($x) => $x,\n"
        "  function ($x) { return $x; },\n];\n",
        {"$a.f": "Adds one.", "$a.B::class": "Adds two."},
    ),
    "a singleton's method": (
        "a.rb",
        "# Doubles it.\ndefine_singleton_method(:twice) { |x| x }\n# Halves it.\na.define_singleton_method(:half) { |x| x }\n",
        {"twice": "Doubles it.", "half": "Halves it."},
    ),
    "macros in a body": (
        "a.c",
        "/** Adds one. */\nint f(void) {\n  list_for_each(x, &y) {\n    g(x);\n  }\n  for_all(z)\n    g(z);\n"
        "  return g(container_of(x, struct a, b), sizeof_of(const struct a *));\n}\n"
        "/** Adds two. */\nint g(int x) {\n  int y = = x;\n  return y;\n}\n/** Adds three. */\nint h(int x) { return g((x); }\n",
        {"f": "Adds one."},
    ),
    "a method without a name": (
        "a.rb",
        "# Adds one.\ndefine_method() { |x| x }\n# Adds two.\ndef g(x) = x\n",
        {"g": "Adds two."},
    ),
    "behind a macro without a semicolon": (
        "a.cpp",
        "class A {\n  NO_COPY(A)\n\n  /** Adds one. */\n  template <class E>\n  A(E& e) : a(e) {\n  }\n"
        "  NO_MOVE(A)\n  /// Adds two.\n  /// More.\n  int g() { return 1; }\n};\nFOR_ALL(A)\n/** Adds three. */\nint h() { return 1; }\n",
        {"A.A": "Adds one.", "A.g": "Adds two. More.", "h": "Adds three."},
    ),
    "linkage": (
        "a.cpp",
        'extern "C" {\n}\n/** Adds one. */\nextern "C" int f(int x) { return x; }\n',
        {"f": "Adds one."},
    ),
    "namespaces in one": (
        "a.cpp",
        "namespace a::inline b {\n/// Adds one.\nint f() { return 1; }\nclass c::d { /** Adds two. */ int g() { return 2; } };\n}\n",
        {"a.b.f": "Adds one.", "a.b.c.d.g": "Adds two."},
    ),
    "a namespace of a file": (
        "a.cs",
        "using B;\nnamespace N.M;\n\nclass A {\n  /// <summary>Adds one.</summary>\n  void F() { G(); }\n}\n",
        {"N.M.A.F": "Adds one."},
    ),
    "conversions and signs": (
        "a.cs",
        "class A {\n  /// <summary>Gives a number.</summary>\n  public static explicit operator int(A a) { return 1; }\n"
        "  /// <summary>Says whether.</summary>\n  public static bool operator true(A a) => true;\n}\n",
        {"A.operator int": "Gives a number.", "A.operator true": "Says whether."},
    ),
    "a context": ("a.kt", "/** Adds one. */\ncontext(A, B)\nfun f() { x() }\n", {"f": "Adds one."}),
    "an object on a line": (
        "a.kt",
        "/** Adds one. */\nfun f() = object : X { override fun g() { x() } }\n",
        {"f": "Adds one."},
    ),
    "fields in small letters": (
        "a.swift",
        "/// Adds one.\n/// - parameter x: what\n/// - returns: more\nfunc f() { g() }\n/// Adds two.\n/// - Note: why\nfunc g() { h() }\n",
        {"f": "Adds one.", "g": "Adds two."},
    ),
    "what it gives, on the next line": (
        "a.c",
        "/**\n * f() - adds one\n * Return: more\n */\nint f(int x) { return 1; }\n/** Returns: more */\nint g(int x) { return 1; }\n",
        {"f": "adds one", "g": "Returns: more"},
    ),
    "how it is called": (
        "a.py",
        'def f(x):\n    """f(x) -> int\n\n    Adds one.\n    """\n    return x + 1\ndef g(x):\n    """Calls f(x)\n\n    More.\n    """\n    return f(x)\n',
        {"f": "Adds one.", "g": "Calls f(x)"},
    ),
    # prose that looks like code
    "prose and an example": (
        "a.rs",
        "/// Adds one to it\n/// ```\n/// let a = f(1);\n/// let b = f(2);\n/// g(a, b);\n/// ```\nfn f() {}\n"
        "// let a = f(1);\n/// let a = f(1);\n/// g(a);\nfn g() {}\n",
        {"f": "Adds one to it"},
    ),
    "prose and an indented example": (
        "a.rb",
        "# Adds one to it\n#\n#   a = f(1)\n#   b = f(a)\ndef f\n  1\nend\n# return true if this is no error\ndef g\n  1\nend\n"
        "# return true if x\ndef h\n  1\nend\n# Loads plugins from {arguments}\ndef i\n  1\nend\n# x += 1\ndef j\n  1\nend\n",
        {"f": "Adds one to it", "g": "return true if this is no error", "i": "Loads plugins from {arguments}"},
    ),
    "a type in braces": (
        "a.go",
        GO
        + "// F gives its type as interface{}\nfunc F() { return }\n\n// func old() interface{} {}\nfunc G() { return }\n",
        {"F": "F gives its type as interface{}"},
    ),
    "overrides what": (
        "a.rb",
        "# Overrides the separator to be '.'\ndef f\n  1\nend\n# Overrides the parent method\ndef g\n  1\nend\n",
        {"f": "Overrides the separator to be '.'"},
    ),
    "a name of its own": (
        "a.js",
        "/**\n * @name f\n * @summary Adds one.\n */\nfunction f_(x) { return x; }\n",
        {"f_": "Adds one."},
    ),
    "kernel-doc's name": (
        "a.c",
        "/**\n * add - adds one to it\n * @x: what\n */\nint add(int x) { return 1; }\n"
        "/**\n * add_two: adds two to it\n */\nint add_two(int x) { return 2; }\n",
        {"add": "adds one to it", "add_two": "adds two to it"},
    ),
    "a declaration of several lines": (
        "a.cpp",
        "/// \\fn f ( int x,\n///          int y )\n/// \\return the sum of both\nint f(int x, int y) { return x + y; }\n",
        {"f": "Returns the sum of both"},
    ),
    # documentation inside
    "inside": (
        "a.rs",
        'fn f(x: i32) -> i32 {\n    //! Adds one to\n    //! the number.\n    x + 1\n}\nfn g() {\n    #![doc = "Adds two."]\n    1;\n}\n'
        "fn h() { /*! Adds three. */ 1; }\nmod m {\n    //! Of the module.\n    fn z() { 1; }\n}\n",
        {"f": "Adds one to the number.", "g": "Adds two.", "h": "Adds three."},
    ),
    # markup
    "no space before a summary": (
        "a.cs",
        "class A {\n  ///<summary>Adds one.</summary>\n  void F() {}\n}\n",
        {"A.F": "Adds one."},
    ),
    "a heading above": (
        "a.rs",
        "/// # Safety\n///\n/// It must be valid.\nunsafe fn f() {}\n/// Adds one.\n/// # Panics\n/// Never.\nfn g() {}\n"
        "/// Adds two:\n/// ```\n/// h();\n/// ```\nfn h() {}\n",
        {"f": "It must be valid.", "g": "Adds one.", "h": "Adds two:"},
    ),
    "a title above": (
        "a.rb",
        "# = Adding\n#\n# Adds one.\ndef f\n  1\nend\n# ==Adding\n# Adds two.\ndef g; 2; end\n",
        {"f": "Adds one.", "g": "Adds two."},
    ),
    "directives": (
        "a.rb",
        "# @!visibility private\n# Adds one.\ndef f\n  1\nend\n# @!attribute [r] g\n#   @return [String] not of g\ndef g\n  1\nend\n",
        {"f": "Adds one."},
    ),
    "types": (
        "a.rb",
        "# Adds one.\n#: (Integer) -> Integer\ndef f(x) = x\n#: (Integer) -> Integer\ndef g(x) = x\n",
        {"f": "Adds one."},
    ),
    "links": (
        "a.rs",
        "/// Adds [`a`][b] and [c d](e) and [f][g] to [struct@H], [`i`] and `&[u8]`, not x[1].\n///\n/// [b]: crate::b\nfn f() {}\n",
        {"f": "Adds `a` and c d and f to H, `i` and `&[u8]`, not x[1]."},
    ),
    "targets": (
        "a.go",
        GO + "// F adds as [RFC 1] has it.\n//\n// [RFC 1]: https://example.org/1\nfunc F() { return }\n",
        {"F": "F adds as RFC 1 has it."},
    ),
}


@pytest.mark.parametrize("name", list(SITUATIONS))
def test_situation(name: str) -> None:
    path, source, expected = SITUATIONS[name]
    found, ledger = mined(path, source)
    assert found == expected
    assert ledger["functions"]["read"] >= max(1, len(expected))


@pytest.mark.parametrize(
    ("path", "source", "docstring"),
    [
        (
            "a.rs",
            "/// Adds one.\n///\n/// ```\n/// # use a::b;\n/// #[test]\n/// b([c](d));\n/// ```\n///\n/// ```sh\n/// # shown\n/// ```\nfn f() {}\n",
            "Adds one.\n\n```\n#[test]\nb([c](d));\n```\n\n```sh\n# shown\n```",
        ),
        (
            "A.java",
            'class A {\n  /**\n   * Adds one:\n   * {@snippet lang="java" :\n   *   f();\n   * }\n   */\n  void f() {}\n}\n',
            "Adds one:\nf();",
        ),
        (
            "a.cs",
            "class A {\n  /// <summary>Adds<list><item>one</item><item>two</item></list><![CDATA[x < y]]></summary>\n  void F() {}\n}\n",
            "Adds\n\none\n\ntwo\n\nx < y",
        ),
        (
            "a.cs",
            "class A {\n  /// <summary>Adds one.</summary>\n  /// <param name='x'>what</param>\n  void F() {}\n}\n",
            "Adds one.\n\n@param x what",
        ),
        ("a.go", GO + "// F adds [A b].\n//\n// [A b]: https://example.org/1\nfunc F() { return }\n", "F adds A b."),
    ],
)
def test_the_whole_documentation(path: str, source: str, docstring: str) -> None:
    table, _ = mine([Source(path, source.encode())], Origin("g", "1", "MIT"), OPTIONS)
    assert table["docstring"].to_pylist() == [docstring]


def test_code_ends_before_what_documents_the_next() -> None:
    """Where a block holds the comments below it, they are no part of the function above; deeper ones are."""
    _, source, _ = SITUATIONS["scala below an object without braces"]
    table, _ = mine([Source("a.scala", source.encode())], Origin("g", "1", "MIT"), OPTIONS)
    last = {row["qualname"]: row["code"].rstrip().splitlines()[-1].strip() for row in table.to_pylist()}
    assert last == {"O.a": "2", "b": "// of b"}


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16", "utf-8-sig"])
def test_other_encodings_are_converted_by_a_stated_rule(encoding: str) -> None:
    source = JAVA.format("Gives the menu of the café.")
    assert mined("A.java", source.encode(encoding))[0] == {"A.f": "Gives the menu of the café."}


def test_lines_inside_strings_are_not_moved() -> None:
    """A heredoc, a %q or a quoted string of several lines stays as it is, wherever its method stands."""
    method = '  # Adds one.\n  def f\n    x = %q(\n  a\n    b)\n    y = <<-EOS\n  c\n    EOS\n    z = "d\n  e"\n  end\n'
    table, _ = mine([Source("a.rb", f"class A\n{method}end\n".encode())], Origin("g", "1", "MIT"), OPTIONS)
    assert table["code"].to_pylist() == [
        'def f\n  x = %q(\n  a\n    b)\n  y = <<-EOS\n  c\n    EOS\n  z = "d\n  e"\nend'
    ]
    method = "  /** Adds one. */\n  function f() {\n    $x = <<<EOT\n  a\nEOT;\n    $y = 'b\n  c';\n  }\n"
    table, _ = mine([Source("a.php", f"<?php\nclass A {{\n{method}}}\n".encode())], Origin("g", "1", "MIT"), OPTIONS)
    assert table["code"].to_pylist() == ["function f() {\n  $x = <<<EOT\n  a\nEOT;\n  $y = 'b\n  c';\n}"]


def test_what_documents_is_not_in_the_code() -> None:
    table, _ = mine(
        [Source("a.php", b"<?php\n#[R('/x')]\n/** Shows it. */\nfunction page() {\n  return 1;\n}\n")],
        Origin("g", "1", "MIT"),
        OPTIONS,
    )
    assert table["code"].to_pylist() == ["#[R('/x')]\nfunction page() {\n  return 1;\n}"]


@pytest.mark.parametrize(
    "path",
    [
        "spec/models/user_spec.rb",
        "spec/support/helper.rb",
        "lib/a_spec.rb",
        "Tests/Fixtures/B.php",
        "app/src/androidTest/a/B.kt",
        "src/integrationTest/java/B.java",
        "src/testFixtures/java/B.java",
        "TestFoo.java",
        "a/FooIT.java",
        "a/FooTests.cs",
        "src/__mocks__/a.js",
        "pkg/testdata/a.go",
        "pkg/a_test.go",
        "e2e/a.ts",
        "cypress/a.js",
        "features/step_definitions/a.rb",
        "t/a.rb",
        "src/a.spec.ts",
        "a.cy.js",
        "pkg/tests.py",
        "tests/conftest.py",
    ],
)
def test_paths_of_tests(path: str) -> None:
    assert filters.is_test_path(path)


@pytest.mark.parametrize(
    "path",
    [
        "org/junit/Test.java",
        "lib/minitest/test.rb",
        "src/features/login/form.tsx",
        "src/main/java/a/spec/Key.java",
        "pkg/spec/types.go",
        "lib/latest.rb",
        "src/Iterator.java",
        "src/AUDIT.java",
        "src/t/a.py",
        "numpy/testing/_utils.py",
        "contest/protest.py",
        "src/Contest.java",
        "src/Attestation.java",
        "src/Limit.java",
    ],
)
def test_paths_that_merely_sound_like_tests(path: str) -> None:
    assert not filters.is_test_path(path)


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("setUpdatedAt", "java"),
        ("setUploadLimit", "java"),
        ("setUpperBound", "python"),
        ("setUpToClass", "java"),
        ("tearDownstream", "java"),
        ("test", "java"),
        ("test", "javascript"),
        ("testConnection", "php"),
        ("testURL", "javascript"),
    ],
)
def test_names_that_merely_sound_like_tests(name: str, language: str) -> None:
    assert not filters.is_test_name(name, language)


def test_names_of_tests() -> None:
    assert filters.is_test_name("test_parse", "python")
    assert filters.is_test_name("setUp", "python")
    assert filters.is_test_name("tearDownClass", "python")


@pytest.mark.parametrize(
    "header",
    [
        "// Code generated by protoc-gen-go. DO NOT EDIT.",
        "# Generated by the protocol buffer compiler.  DO NOT EDIT!",
        "/* Generated by Cython 3.0 */",
        " * This file was automatically generated by the tool.",
        "# This file is auto-generated from the current state of the database.",
        "// <auto-generated>\n// This code was generated by a tool.",
        "# AUTOGENERATED FILE",
        "# This is a machine-generated parser",
        "/** @generated */",
        '"""Generated by Django 4.2 on 2023-01-01 10:00"""',
        "# Do not edit this file by hand.",
        "// WARNING: Do not modify! This file is written by a script.",
        "# autogenerated by tool.py",
    ],
)
def test_headers_of_generated_files(header: str) -> None:
    assert filters.generated_reason(f"{header}\nx\n".encode(), "python") == "generated"


@pytest.mark.parametrize(
    "header",
    [
        "# a copy is generated from the original",
        "// Do not modify the returned slice.",
        'const head = "// Code generated by x. DO NOT EDIT."',
        "# Checks that the code generated by the formatter is valid.",
        "# The URL is generated from the template of the page.",
        "// GenTree writes one file for each command, with names generated from them.",
        "# Do not change the order of the keys here, they are read in turn.",
        "# Parses the report generated by coverage.",
    ],
)
def test_sentences_about_what_is_generated(header: str) -> None:
    assert filters.generated_reason(f"{header}\nx\n".encode(), "python") is None


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("venv/lib/python3.7/site-packages/d/e.py", "vendored"),
        ("node_modules/a/b.js", "vendored"),
        ("web/vendor/jquery.js", "vendored"),
        ("vendor/github.com/a/b.go", "vendored"),
        ("pip/_vendor/x.py", "vendored"),
        ("dist/a.js", "generated"),
        ("a.min.js", "generated"),
        ("a_pb2.py", "generated"),
        ("src/main/java/a/vendor/Vendor.java", None),
        ("src/dist/a.py", None),
        ("lib/admin.js", None),
    ],
)
def test_paths_of_copies(path: str, reason: str | None) -> None:
    assert filters.path_reason(path, MineOptions()) == reason


def test_minified_code_is_left_out() -> None:
    _, ledger = mined("a.js", "/** Adds one. */" + "function f(n){return n+1}" * 50)
    assert ledger["files"]["dropped"] == {"minified": 1}


def test_a_damaged_place_costs_itself_alone_and_is_counted() -> None:
    source = "def good(x):\n    '''Doubles it.'''\n    return x\n\ndef bad(:\n    pass\n\ndef good2(x):\n    '''Adds.'''\n    return x\n"
    found, ledger = mined("a.py", source)
    assert set(found) == {"good", "good2"}
    assert ledger["functions"] == {"read": 3, "kept": 2, "dropped": {"syntax_error": 1}}
    assert 0 < ledger["bytes"]["dropped"]["syntax_error"] < 30
    assert ledger["bytes"]["read"] == len(source)


def test_flow_is_read_by_the_grammar_that_knows_types_and_stays_javascript() -> None:
    """To JavaScript's grammar an annotation is an error, and the functions around it are lost."""
    source = (
        "/**\n * @flow strict-local\n */\nimport type {A} from 'a';\n\n/** Adds one to the number given. */\n"
        "export function inc(n: number, a?: A): number {\n  const b: Array<number> = [n];\n  return b[0] + 1;\n}\n"
    )
    options = MineOptions(languages=("javascript",))
    table, ledger = mine([Source("a.js", source.encode())], Origin("g", "", ""), options)
    assert table.select(["language", "qualname", "summary"]).to_pylist() == [
        {"language": "javascript", "qualname": "inc", "summary": "Adds one to the number given."}
    ]
    assert "bytes" not in ledger.units


LICENCE = "Copyright 2031 The People of Elsewhere. Licensed under the Apache License, Version 2.0."


@pytest.mark.parametrize(
    ("path", "source", "documented"),
    [
        ("a.java", "class A {\n/** Adds one to it. */\n/* %s */\nint f(int x) { return x + 1; }\n}\n", True),
        ("b.java", "class A {\n/** Adds one to it. */\n\n// %s\n\n@Override int f(int x) { return x + 1; }\n}\n", True),
        ("a.js", "/** Adds one to it. */\n/* %s */\nfunction f(x) { return x + 1; }\n", True),
        ("b.js", "/** Adds one to it. */\n/*! %s */\n\nexport const f = (x) => x + 1;\n", True),
        (
            "c.js",
            "/** Adds one to it. */\n/** @license %s */\nfunction f(x) { return x + 1; }\n",
            False,
        ),  # the nearest counts
        ("a.ts", "/** Adds one to it. */\n// %s\nexport function f(x: number) { return x + 1; }\n", True),
        ("a.php", "<?php\n/** Adds one to it. */\n/* %s */\nfunction f($x) { return $x + 1; }\n", True),
        ("a.c", "/** Adds one to it. */\n/* %s */\nint f(int x) { return x + 1; }\n", True),
        ("a.hpp", "/// Adds one to it.\n// %s\n\nint f(int x) { return x + 1; }\n", True),
        ("a.cs", "class A {\n/// <summary>Adds one to it.</summary>\n// %s\nint f(int x) { return x + 1; }\n}\n", True),
        ("a.rs", "/// Adds one to it.\n// %s\nfn f(x: i32) -> i32 { x + 1 }\n", True),
        ("a.kt", "/** Adds one to it. */\n/* %s */\nfun f(x: Int): Int { return x + 1 }\n", True),
        ("a.scala", "object A {\n/** Adds one to it. */\n/* %s */\ndef f(x: Int): Int = { x + 1 }\n}\n", True),
        ("a.swift", "/// Adds one to it.\n// %s\nfunc f(x: Int) -> Int { return x + 1 }\n", True),
        (
            "a.go",
            "package a\n\n// F adds one to it.\n\n// %s\nfunc F(x int) int { return x + 1 }\n",
            False,
        ),  # no blank line
        ("a.rb", "# Adds one to it.\n\n# %s\ndef f(x)\n  x + 1\nend\n", False),
        ("b.rb", "# %s\n\n# Adds one to it.\ndef f(x)\n  x + 1\nend\n", True),
        ("a.py", '# %s\ndef f(x):\n    # %s\n    """Adds one to it."""\n    return x + 1\n', True),
    ],
)
def test_a_licence_between_the_comment_and_its_function_is_neither(path: str, source: str, documented: bool) -> None:
    """It documents nothing, and hides what is documented only where the language's own tool looks no further."""
    options = MineOptions(languages=tuple(GRAMMARS), min_code_lines=1)
    table, ledger = mine([Source(path, source.replace("%s", LICENCE).encode())], Origin("g", "", ""), options)
    assert table["summary"].to_pylist() == ["Adds one to it."] * documented
    assert documented or ledger.units["functions"].dropped == {"not_of_function": 1}
    assert not any(LICENCE in code for code in table["code"].to_pylist()) or path == "a.py"
