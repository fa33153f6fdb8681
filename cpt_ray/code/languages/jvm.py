"""Kotlin and Scala: the nearest `/**` comment."""

from __future__ import annotations

import re

from cpt_ray.code.grammar import Example, Grammar, Node, Style, fields, kinds
from cpt_ray.code.markup import markdown, scaladoc

_NEAREST = re.compile(rb"/\*\*(?!/)")


def names(node: Node, _parent: Node, source: bytes) -> tuple[str, ...]:
    """A secondary constructor has no name but its word."""
    return ("constructor",) if node.type == "secondary_constructor" else ()


def leads(node: Node, _of: Node, source: bytes) -> bool:
    """`context(A, B)` before a function, which looks like a call."""
    return node.type == "call_expression" and source.startswith(b"context(", node.start_byte)


def tolerates(node: Node) -> bool:
    """Whether all that is amiss is the end of a line, which the grammar asks for behind the last member of an object."""
    todo = [node]
    while todo:
        inner = todo.pop()
        if inner.is_error or (inner.is_missing and inner.type != "_class_member_semi"):
            return False
        todo += [child for child in inner.children if child.has_error]
    return True


KOTLIN = Grammar(
    language="kotlin",
    extensions=(".kt", ".kts"),
    module="tree_sitter_kotlin",
    functions=kinds("function_declaration secondary_constructor"),
    scopes=fields("class_declaration=name object_declaration=name"),
    names=names,
    leads=leads,
    tolerates=tolerates,
    body="function_body block",
    keywords=("fun", "constructor"),
    style=Style(_NEAREST, markdown),
    examples=(
        Example(
            "package a\n\n/** Doc of [f]. */\n\n// why\n@X private fun <T> String.f(x: Int): Int { return 1 }\n\n"
            "class A {\n    /**\n     * Doc of g.\n     *\n     * @param x more\n     */\n    fun g(x: Int) = 1\n\n"
            "    companion object {\n        /** Doc of h. */\n        fun h() {}\n    }\n    // Plain.\n    fun none() {}\n}\n\n"
            "interface I {\n    /** No body. */\n    fun m()\n}\n"
            "class C(x: Int) {\n    /** Doc of C. */\n    constructor() : this(1) {}\n}\n",
            {"f": "Doc of f.", "A.g": "Doc of g.", "A.h": "Doc of h.", "C.constructor": "Doc of C."},
        ),
    ),
)

SCALA = Grammar(
    language="scala",
    extensions=(".scala", ".sc"),
    module="tree_sitter_scala",
    functions=kinds("function_definition function_declaration"),
    scopes=fields(
        "object_definition=name class_definition=name trait_definition=name enum_definition=name package_object=name"
    ),
    style=Style(_NEAREST, scaladoc),
    spills=True,
    keywords=("def",),
    examples=(
        Example(
            "package a\n\nobject O {\n  /** Doc of [[f]] `x`.\n    * More.\n    *\n    * @param x more\n    */\n"
            "  @tailrec private def f(x: Int): Int = x + 1\n  /** No body. */\n  def no: Int\n  // Plain.\n  def none = 1\n}\n"
            "class A extends B {\n  /** Doc of '''g'''. */\n  def g = { 1 }\n}\n",
            {"O.f": "Doc of f `x`. More.", "A.g": "Doc of g."},
        ),
        Example(
            "object O:\n  /** Doc of f. */\n  def f(x: Int): Int =\n    x + 1\n    // inside\n\n  /** Doc of g. */\n"
            "  def g =\n    if a then\n      1\n    else\n      2\n\n/** Doc of h. */\ndef h = 1\n",
            {"O.f": "Doc of f.", "O.g": "Doc of g.", "h": "Doc of h."},
        ),
    ),
)
