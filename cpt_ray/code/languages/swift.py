"""Swift: `///` lines or a `/**` block before a declaration, with its own field lists."""

from __future__ import annotations

import re

from cpt_ray.code.grammar import Example, Grammar, Style, fields, kinds
from cpt_ray.code.markup import markdown

SWIFT = Grammar(
    language="swift",
    extensions=(".swift",),
    module="tree_sitter_swift",
    functions=kinds("function_declaration init_declaration deinit_declaration protocol_function_declaration"),
    scopes=fields("class_declaration=name protocol_declaration=name"),
    keywords=("func", "init", "deinit"),
    style=Style(re.compile(rb"///(?!/)|/\*\*(?![*/])"), markdown),
    examples=(
        Example(
            "/// Doc of f.\n/// - Parameter x: more\n@objc public func f(x: Int) -> Int { return 1 }\n"
            "class A {\n    /** Doc of g. */\n\n    @discardableResult\n    func g() -> Int { return 1 }\n    // Plain.\n    func none() {}\n"
            "    /// Doc of ``init``.\n    init(x: Int) {}\n}\n"
            "extension B.C {\n    /// Doc of h.\n    static func h() {}\n}\nprotocol P {\n    /// No body.\n    func m()\n}\n",
            {"f": "Doc of f.", "A.g": "Doc of g.", "A.init": "Doc of ``init``.", "B.C.h": "Doc of h."},
        ),
    ),
)
