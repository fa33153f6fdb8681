"""JavaScript and TypeScript: the nearest JSDoc comment before whatever holds the function."""

from __future__ import annotations

import dataclasses
import re

from cpt_ray.code.grammar import Example, Grammar, Node, Style, fields, kinds, text_of
from cpt_ray.code.markup import javadoc

_NO_WORD = re.compile(r"\W+")

# A call of these takes a function to run, not one to return in its place.
_RUNS = frozenset(
    [
        "map",
        "filter",
        "reduce",
        "reduceRight",
        "find",
        "findIndex",
        "findLast",
        "some",
        "every",
        "forEach",
        "sort",
        "flatMap",
        "then",
        "catch",
        "finally",
        "replace",
        "replaceAll",
        "from",
        "call",
        "apply",
        "it",
        "describe",
        "test",
        "on",
        "once",
        "addEventListener",
        "setTimeout",
        "setInterval",
    ]
)


def binds(node: Node, parent: Node, source: bytes) -> bool:
    """Whether what is bound outside of `node` names the function inside: `memo(() => ...)`, not a call of it.

    So does a choice of functions, `native || function () {}`.
    """
    if node.type == "binary_expression":
        operator = node.child_by_field_name("operator")
        return operator is not None and operator.type in ("||", "??")
    if node.type == "arguments":
        callee = parent.child_by_field_name("function")
        # Of a chain of calls each callee holds all before it, so that only its end may be looked at.
        end = b"" if callee is None else source[max(callee.start_byte, callee.end_byte - 40) : callee.end_byte]
        return _NO_WORD.split(end.decode("utf-8", "ignore"))[-1] not in _RUNS
    called = parent.child_by_field_name("function") if parent.type == "call_expression" else None
    return called is None or called.id != node.id


def names(node: Node, parent: Node, _source: bytes) -> tuple[str, ...]:
    """A default export without a name is called `default`, as ECMAScript's own `name` property has it."""
    exported = parent.type == "export_statement" and node.type in JAVASCRIPT.values
    return ("default",) if exported and node.child_by_field_name("name") is None else ()


def leads(node: Node, of: Node, source: bytes) -> bool:
    """Decorators, and the signatures of an overloaded function before its body."""
    if node.type == "decorator":
        return True
    signature = _declared(node)
    if signature is None or signature.type not in ("function_signature", "method_signature"):
        return False
    function = _declared(of)
    name = text_of(signature.child_by_field_name("name"), source)
    return function is not None and text_of(function.child_by_field_name("name"), source) == name


def _declared(node: Node) -> Node | None:
    return node.child_by_field_name("declaration") if node.type == "export_statement" else node


JAVASCRIPT = Grammar(
    language="javascript",
    extensions=(".js", ".mjs", ".cjs", ".jsx", ".es6"),
    module="tree_sitter_javascript",
    functions=kinds("function_declaration generator_function_declaration method_definition"),
    values=kinds("arrow_function function_expression generator_function"),
    scopes=fields("class_declaration=name class=name object=none"),
    bindings=fields(
        "variable_declarator=name assignment_expression=left augmented_assignment_expression=left"
        " field_definition=property pair=key"
    ),
    wrappers=kinds("export_statement expression_statement return_statement lexical_declaration variable_declaration"),
    carries=kinds("parenthesized_expression call_expression arguments binary_expression ternary_expression"),
    leads=leads,
    names=names,
    binds=binds,
    unnamed=frozenset({"module.exports", "exports"}),
    inner=True,
    dialect=(re.compile(rb"@flow\b"), "tsx"),  # Flow's types are nearly those of TypeScript
    style=Style(re.compile(rb"/\*\*(?![*/])"), javadoc),
    examples=(
        Example(
            "/** Doc of f. */\n\n// eslint-disable-next-line\nexport function f() {}\n/** Doc of g. */\nA.g = function () {};\n"
            "/** Doc of h. */\nconst h = () => 1, none = () => 2;\n/* Plain. */\nfunction plain() {}\n"
            "class B {\n  /** Doc of m. */\n  m() {}\n  /** Doc of n. */\n  n = () => 2;\n"
            "  constructor() {\n    /** Doc of o. */\n    this.o = () => 1;\n  }\n}\n",
            {
                "f": "Doc of f.",
                "A.g": "Doc of g.",
                "h": "Doc of h.",
                "B.m": "Doc of m.",
                "B.n": "Doc of n.",
                "B.o": "Doc of o.",
            },
        ),
        Example(
            "(function (r) {\n  /** Doc of a. */\n  function a() {}\n})(this);\n"
            "define(['x'], function (x) {\n  /** Doc of b. */\n  function b() {}\n});\n"
            "/** Doc of c. */\nconst c = memo((p) => p);\n/** Doc of d. */\nr.d = r.e = function e() {};\n"
            "module.exports = {\n  /** Doc of i. */\n  i() {},\n  /** Doc of j. */\n  j: function () {},\n};\n"
            "const api = {\n  /** Doc of k. */\n  k: () => 1,\n};\n"
            "module.exports = class C {\n  /** Doc of l. */\n  get l() {}\n};\n"
            "if (r) {\n  /** Doc of q. */\n  exports.q = function () {};\n}\n"
            "/** Doc of default. */\nexport default (n) => n;\n",
            {
                "a": "Doc of a.",
                "b": "Doc of b.",
                "c": "Doc of c.",
                "r.d": "Doc of d.",
                "i": "Doc of i.",
                "j": "Doc of j.",
                "api.k": "Doc of k.",
                "C.l": "Doc of l.",
                "exports.q": "Doc of q.",
                "default": "Doc of default.",
            },
        ),
    ),
)

TYPESCRIPT = dataclasses.replace(
    JAVASCRIPT,
    dialect=None,
    language="typescript",
    extensions=(".ts", ".mts", ".cts"),
    module="tree_sitter_typescript",
    entry="language_typescript",
    functions=JAVASCRIPT.functions | kinds("function_signature method_signature abstract_method_signature"),
    scopes={
        **JAVASCRIPT.scopes,
        **fields("abstract_class_declaration=name internal_module=name module=name interface_declaration=name"),
    },
    bindings={**JAVASCRIPT.bindings, **fields("public_field_definition=name")},
    carries=JAVASCRIPT.carries | kinds("as_expression satisfies_expression non_null_expression type_assertion"),
    examples=(
        *JAVASCRIPT.examples,
        Example(
            "/** Doc of f. */\nexport function f(x: string): string;\nexport function f(x: any) { return x; }\n"
            "export abstract class A<T> {\n  /** Doc of g. @internal */\n  @D()\n  private async g<U>(x: U): Promise<void> {}\n"
            "  /** No body. */\n  abstract h(): void;\n  /** Doc of i. */\n  readonly i = (x: number): number => x;\n}\n"
            "namespace N {\n  /** Doc of {@link j}. */\n  export const j = <T,>(x: T) => x;\n}\n",
            {"f": "Doc of f.", "A.g": "Doc of g. @internal", "A.i": "Doc of i.", "N.j": "Doc of j."},
        ),
        Example(
            "class A {\n  /** Doc of f. */\n  f(x: string): void;\n  f(x: number): void\n  f(x: any) {}\n"
            "  x = 1; /** Doc of g. */\n  public g(x: string): void; // why\n\n  public g(x: any) {}\n}\n",
            {"A.f": "Doc of f.", "A.g": "Doc of g."},
        ),
    ),
)

TSX = dataclasses.replace(TYPESCRIPT, language="tsx", extensions=(".tsx",), entry="language_tsx")
