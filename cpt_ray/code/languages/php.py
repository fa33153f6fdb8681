"""PHP: the nearest `/**` comment, before the attributes or after them, as its reflection has it."""

from __future__ import annotations

import re

from cpt_ray.code.grammar import Example, Grammar, Node, Style, fields, kinds, text_of
from cpt_ray.code.markup import javadoc


def names(node: Node, element: Node, source: bytes) -> tuple[str, ...]:
    """What stands in an array is called by its key."""
    if element.type != "array_element_initializer" or element.named_child_count < 2:
        return ()
    return (text_of(element.named_child(0), source).strip("'\""),)


PHP = Grammar(
    language="php",
    extensions=(".php", ".phtml", ".php5"),
    module="tree_sitter_php",
    entry="language_php",
    functions=kinds("function_definition method_declaration"),
    values=kinds("anonymous_function arrow_function"),
    scopes=fields(
        "class_declaration=name interface_declaration=name trait_declaration=name enum_declaration=name"
        " anonymous_class=none array_creation_expression=none"
    ),
    bindings=fields("assignment_expression=left const_element=name property_element=name"),
    wrappers=kinds("expression_statement const_declaration array_element_initializer"),
    names=names,
    carries=kinds("parenthesized_expression"),
    keywords=("function", "fn"),
    any_case=True,
    style=Style(re.compile(rb"/\*\*(?=\s)"), javadoc),
    examples=(
        Example(
            "<?php\n/** Doc of f. */\n// phpcs:ignore\nfunction f() {}\n#[R('/x')]\n/** Doc of p. */\nfunction p() {}\n"
            "class A {\n  /**\n   * Doc of g.\n   *\n   * @return int\n   */\n  #[X]\n\n  public static function g() {}\n"
            "  /** No body. */\n  abstract function no();\n  /* Plain. */\n  function none() {}\n}\n"
            "if (!function_exists('h')) {\n  /** Doc of h. */\n  function h() {}\n}\n"
            "/** Doc of d. */\n$d = function ($x) { return $x; };\n"
            "return new class extends M {\n  /** Doc of up. */\n  public function up() {}\n};\n",
            {
                "f": "Doc of f.",
                "p": "Doc of p.",
                "A.g": "Doc of g.",
                "h": "Doc of h.",
                "$d": "Doc of d.",
                "up": "Doc of up.",
            },
        ),
    ),
)
