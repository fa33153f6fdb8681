"""Java: the nearest `/**` comment, or since JDK 23 a run of `///` lines (JEP 467)."""

from __future__ import annotations

import re

from cpt_ray.code.grammar import Example, Grammar, Style, fields, kinds
from cpt_ray.code.markup import javadoc

JAVA = Grammar(
    language="java",
    extensions=(".java",),
    module="tree_sitter_java",
    functions=kinds(
        "method_declaration constructor_declaration compact_constructor_declaration annotation_type_element_declaration"
    ),
    scopes=fields(
        "class_declaration=name interface_declaration=name enum_declaration=name record_declaration=name"
        " annotation_type_declaration=name enum_constant=name object_creation_expression=none"
    ),
    bindings=fields("variable_declarator=name"),
    style=Style(re.compile(rb"/\*\*(?!/)|///(?!/)"), javadoc),
    examples=(
        Example(
            "/** Not of f. */\nclass A {\n  /** Doc of {@link A f}. <p>More. */\n\n  // why\n"
            "  @Override int f() { return 1; }\n  /** Doc of A. */ /* package */ A() {}\n  int none() { return 0; }\n}\n",
            {"A.f": "Doc of f.", "A.A": "Doc of A."},
        ),
        Example(
            "record P(int x) {\n  /** Doc of P. */\n  P {}\n}\n"
            "enum E {\n  ONE {\n    /** Doc of g. */\n    int g() { return 1; }\n  };\n"
            "  /// Doc of **h**.\n  /// More.\n  int h() { return 1; }\n}\n"
            "interface I {\n  /** Doc of no body. */\n  int i();\n  /** Doc of j. */\n  default int j() { return 1; }\n}\n"
            "class C {\n  Runnable r = new Runnable() {\n    /** Doc of run. */\n    public void run() {}\n  };\n}\n",
            {
                "P.P": "Doc of P.",
                "E.ONE.g": "Doc of g.",
                "E.h": "Doc of **h**. More.",
                "I.j": "Doc of j.",
                "C.r.run": "Doc of run.",
            },
        ),
    ),
)
