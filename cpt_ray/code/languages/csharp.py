"""C#: XML documentation comments, all `///` lines before a member."""

from __future__ import annotations

import re

from cpt_ray.code.grammar import CONDITIONS, Example, Grammar, Node, Style, fields, kinds, text_of
from cpt_ray.code.markup import xmldoc


def names(node: Node, _parent: Node, source: bytes) -> tuple[str, ...]:
    """Operators have no name of their own, and a destructor has its class's."""
    if node.type == "destructor_declaration":
        return (f"~{text_of(node.child_by_field_name('name'), source)}",)
    if node.type == "conversion_operator_declaration":
        return (f"operator {text_of(node.child_by_field_name('type'), source)}",)
    if node.type == "operator_declaration":
        sign = text_of(node.child_by_field_name("operator"), source)
        return (f"operator {sign}" if sign.isalpha() else f"operator{sign}",)
    return ()


def around(root: Node, source: bytes) -> tuple[str, ...]:
    """`namespace A.B;` holds what follows it."""
    found = next((one for one in root.named_children if one.type == "file_scoped_namespace_declaration"), None)
    name = text_of(found.child_by_field_name("name"), source) if found is not None else ""
    return (name,) if name else ()


CSHARP = Grammar(
    language="csharp",
    extensions=(".cs",),
    module="tree_sitter_c_sharp",
    functions=kinds(
        "method_declaration constructor_declaration destructor_declaration operator_declaration"
        " conversion_operator_declaration local_function_statement"
    ),
    scopes=fields(
        "namespace_declaration=name class_declaration=name struct_declaration=name record_declaration=name"
        " interface_declaration=name enum_declaration=name"
    ),
    names=names,
    around=around,
    passed=kinds("preproc_region preproc_endregion preproc_pragma preproc_nullable"),
    style=Style(re.compile(rb"///(?!/)|/\*\*(?![*/])"), xmldoc, joins=True, between=CONDITIONS),
    examples=(
        Example(
            'namespace A.B {\n  public class C<T> {\n    /// <summary>\n    /// Doc of <see cref="T:X"/> <c>F</c>.\n    /// </summary>\n'
            '    /// <param name="x">more</param>\n    [Y]\n    public int F(int x) => x;\n'
            "    /** <summary>Doc of C.</summary> */\n    public C() {}\n    // Plain.\n    void None() {}\n"
            "    /// <remarks>More.</remarks>\n\n    /// <summary>Doc of plus.</summary>\n"
            "    public static C operator +(C a, C b) { return a; }\n  }\n"
            "  interface I {\n    /// <summary>No body.</summary>\n    void M();\n  }\n}\n",
            {"A.B.C.F": "Doc of X F.", "A.B.C.C": "Doc of C.", "A.B.C.operator+": "Doc of plus."},
        ),
        Example(
            "class C {\n  /// <summary>Doc of F.</summary>\n  #region R\n  void F() {}\n  #endregion\n"
            "  /// <summary>Doc of G.</summary>\n#pragma warning disable X\n#nullable enable\n  [Y]\n  void G() {}\n"
            "  /// <summary>Doc of H.</summary>\n#if A\n  void H() {}\n#endif\n}\n",
            {"C.F": "Doc of F.", "C.G": "Doc of G.", "C.H": "Doc of H."},
        ),
    ),
)
