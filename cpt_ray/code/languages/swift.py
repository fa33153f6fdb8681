"""Swift: `///` lines or a `/**` block before a declaration, with its own field lists."""

from __future__ import annotations

import re

from cpt_ray.code.grammar import Example, Grammar, Node, Style, fields, kinds
from cpt_ray.code.markup import markdown


def names(node: Node, _parent: Node, source: bytes) -> tuple[str, ...]:
    """`deinit` is all the name there is."""
    return ("deinit",) if node.type == "deinit_declaration" else ()


SWIFT = Grammar(
    language="swift",
    extensions=(".swift",),
    module="tree_sitter_swift",
    functions=kinds("function_declaration init_declaration deinit_declaration protocol_function_declaration"),
    scopes=fields("class_declaration=name protocol_declaration=name"),
    names=names,
    keywords=("func", "init", "deinit"),
    style=Style(re.compile(rb"///(?!/)|/\*\*(?![*/])"), markdown),
    examples=(
        Example(
            "/// Doc of f.\n/// - Parameter x: more\n@objc public func f(x: Int) -> Int { return 1 }\n"
            "class A {\n    /** Doc of g. */\n\n    @discardableResult\n    func g() -> Int { return 1 }\n    // Plain.\n    func none() {}\n"
            "    /// Doc of ``init``.\n    init(x: Int) {}\n    /// Doc of deinit.\n    deinit { close() }\n}\n"
            "extension B.C {\n    /// Doc of h.\n    static func h() {}\n}\nprotocol P {\n    /// No body.\n    func m()\n}\n",
            {
                "f": "Doc of f.",
                "A.g": "Doc of g.",
                "A.init": "Doc of ``init``.",
                "A.deinit": "Doc of deinit.",
                "B.C.h": "Doc of h.",
            },
        ),
    ),
)
