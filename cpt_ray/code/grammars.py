"""Languages as rows of a table: the tree-sitter grammar, which nodes are functions, where documentation stands.

A new language is a new row; `cpt_ray.code.syntax` reads the rows and holds each to its own sample.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache


@dataclass(frozen=True)
class Grammar:
    """One language. Sets of names are tree-sitter node types of the pinned grammar wheel.

    `functions` are definitions; `scopes` give their name to what is defined inside (classes, modules); `through` are
    entered without giving a name (blocks, `if`); `wrappers` begin before their definition and belong to it (decorators,
    `export`); `bindings` map an assignment to its (name, value) fields, a definition where the value is in `values`.
    `comments` is None where documentation is the first string of the body, else what a documenting comment begins with.
    `sample` is source in which `expected` names every documented function.
    """

    language: str
    extensions: tuple[str, ...]
    module: str
    functions: frozenset[str]
    scopes: frozenset[str]
    through: frozenset[str]
    sample: str
    expected: tuple[str, ...]
    wrappers: frozenset[str] = frozenset()
    bindings: dict[str, tuple[str, str]] = field(default_factory=dict)
    values: frozenset[str] = frozenset()
    comments: tuple[str, ...] | None = None
    entry: str = "language"

    @property
    def keyword(self) -> bytes | None:
        """What every source with a function must contain; a file without it is not parsed."""
        return b"def" if self.language in ("python", "ruby") else None


def _kinds(names: str) -> frozenset[str]:
    return frozenset(names.split())


GRAMMARS = {
    grammar.language: grammar
    for grammar in (
        Grammar(
            language="python",
            extensions=(".py",),
            module="tree_sitter_python",
            functions=_kinds("function_definition"),
            scopes=_kinds("class_definition"),
            through=_kinds(
                "block if_statement elif_clause else_clause try_statement except_clause except_group_clause"
                " finally_clause with_statement for_statement while_statement match_statement case_clause"
            ),
            wrappers=_kinds("decorated_definition"),
            sample='class A:\n    @b\n    async def f(self):\n        "Doc of f."\n        return 1\n\n'
            'def g():\n    """Doc of g."""\n\ndef h():\n    return "not a docstring"\n',
            expected=("A.f", "g"),
        ),
        Grammar(
            language="java",
            extensions=(".java",),
            module="tree_sitter_java",
            functions=_kinds("method_declaration constructor_declaration"),
            scopes=_kinds("class_declaration interface_declaration enum_declaration record_declaration"),
            through=_kinds("class_body interface_body enum_body enum_body_declarations"),
            comments=("/**",),
            sample="class A {\n  /** Doc of f. */\n  @Override int f() { return 1; }\n}\n",
            expected=("A.f",),
        ),
        Grammar(
            language="go",
            extensions=(".go",),
            module="tree_sitter_go",
            functions=_kinds("function_declaration method_declaration"),
            scopes=frozenset(),
            through=frozenset(),
            comments=("//", "/*"),
            sample="package a\n\n// F does.\n// More.\nfunc F() {}\n\n// G does.\nfunc (a *A) G() {}\n",
            expected=("F", "A.G"),
        ),
        Grammar(
            language="javascript",
            extensions=(".js", ".mjs", ".cjs", ".jsx"),
            module="tree_sitter_javascript",
            functions=_kinds("function_declaration generator_function_declaration method_definition"),
            scopes=_kinds("class_declaration"),
            through=_kinds("class_body"),
            wrappers=_kinds("export_statement expression_statement lexical_declaration variable_declaration"),
            bindings={
                "variable_declarator": ("name", "value"),
                "assignment_expression": ("left", "right"),
                "field_definition": ("property", "value"),
            },
            values=_kinds("arrow_function function_expression generator_function"),
            comments=("/**",),
            sample="/** Doc of f. */\nexport function f() {}\n/** Doc of g. */\nA.g = function () {};\n"
            "/** Doc of h. */\nconst h = () => 1;\n"
            "class B {\n  /** Doc of m. */\n  m() {}\n  /** Doc of n. */\n  n = () => 2;\n}\n",
            expected=("f", "A.g", "h", "B.m", "B.n"),
        ),
        Grammar(
            language="php",
            extensions=(".php",),
            module="tree_sitter_php",
            entry="language_php",
            functions=_kinds("function_definition method_declaration"),
            scopes=_kinds("class_declaration interface_declaration trait_declaration enum_declaration"),
            through=_kinds("namespace_definition compound_statement declaration_list enum_declaration_list"),
            comments=("/**",),
            sample="<?php\n/** Doc of f. */\nfunction f() {}\n"
            "class A {\n  /** Doc of g. */\n  public function g() {}\n}\n",
            expected=("f", "A.g"),
        ),
        Grammar(
            language="ruby",
            extensions=(".rb",),
            module="tree_sitter_ruby",
            functions=_kinds("method singleton_method"),
            scopes=_kinds("module class"),
            through=_kinds("body_statement singleton_class"),
            comments=("#",),
            sample="module A\n  class B\n    # Doc of f.\n    # More.\n    def f\n      1\n    end\n  end\nend\n",
            expected=("A.B.f",),
        ),
    )
}


@cache
def language_of(extension: str) -> str | None:
    """The language of a file name's extension (".py"), or None where no grammar reads it."""
    return next((grammar.language for grammar in GRAMMARS.values() if extension in grammar.extensions), None)
