"""C and C++: Doxygen's comments before a function's definition."""

from __future__ import annotations

import dataclasses
import re

from cpt_ray.code.grammar import Example, Grammar, Node, Style, fields, kinds, text_of
from cpt_ray.code.markup import doxygen


def names(node: Node, source: bytes) -> tuple[str, ...]:
    """The name inside of the declarators: `int *A::B<T>::f(int)` is A.B.f."""
    declarator = node.child_by_field_name("declarator")
    while declarator is not None and declarator.type != "function_declarator":
        inner = declarator.child_by_field_name("declarator")
        declarator = inner or next((c for c in declarator.named_children if c.type.endswith("declarator")), None)
    while declarator is not None and declarator.type in ("function_declarator", "parenthesized_declarator"):
        inner = declarator.child_by_field_name("declarator")
        declarator = inner or next(iter(declarator.named_children), None)
    found: list[str] = []
    while declarator is not None and declarator.type == "qualified_identifier":
        scope = declarator.child_by_field_name("scope")
        if scope is not None:
            found.append(text_of(scope, source).partition("<")[0].strip())
        declarator = declarator.child_by_field_name("name")
    name = "".join(text_of(declarator, source).split()) if declarator is not None else ""
    return (*found, name if name.startswith("operator") else name.partition("<")[0])


C = Grammar(
    language="c",
    extensions=(".c",),
    module="tree_sitter_c",
    functions=kinds("function_definition"),
    names=names,
    style=Style(re.compile(rb"/\*[*!](?![*/<])|//[/!](?![/<])"), doxygen),
    examples=(
        Example(
            "/** @file */\n#ifdef A\n/**\n * \\brief Doc of f.\n *\n * @param x more\n */\nstatic int *f(int x) { return 0; }\n#endif\n"
            "/// Doc of g.\n/// More of \\c g.\n\n__attribute__((x)) int g(int a) {}\n/* Plain. */\nint none(void) {}\n"
            "/*! Doc of h. */\nint h(void)\n{\n}\n/**\n * i_do() - Doc of i.\n * @x: more\n */\nvoid i_do(int x) {}\n"
            "int x; /**< of x */\nint none2(void) {}\n",
            {"f": "Doc of f.", "g": "Doc of g. More of g.", "h": "Doc of h.", "i_do": "Doc of i."},
        ),
    ),
)

CPP = dataclasses.replace(
    C,
    language="cpp",
    extensions=(".cc", ".cpp", ".cxx", ".c++", ".hpp", ".hh", ".hxx", ".h", ".cu", ".cuh"),
    module="tree_sitter_cpp",
    scopes=fields("namespace_definition=name class_specifier=name struct_specifier=name union_specifier=name"),
    wrappers=kinds("template_declaration"),
    examples=(
        *C.examples,
        Example(
            "namespace a {\n/// Doc of f.\ntemplate <class T>\nT f(T x) { return x; }\nclass A : B {\npublic:\n"
            "  /** Doc of g. */\n  int g() const { return 1; }\n  //! Doc of plus.\n  A operator+(A b) { return b; }\n"
            "  /** No body. */\n  A() = default;\n};\n}\n"
            '/** Doc of h. */\nint *A::B<T>::h() {}\nextern "C" {\n/** Doc of z. */\nint z() {}\n}\n',
            {
                "a.f": "Doc of f.",
                "a.A.g": "Doc of g.",
                "a.A.operator+": "Doc of plus.",
                "A.B.h": "Doc of h.",
                "z": "Doc of z.",
            },
        ),
    ),
)
