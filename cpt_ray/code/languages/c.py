"""C and C++: Doxygen's comments before a function's definition."""

from __future__ import annotations

import dataclasses
import re

from cpt_ray.code.grammar import CONDITIONS, Example, Grammar, Node, Style, fields, kinds, text_of
from cpt_ray.code.markup import doxygen

# A macro in the head of a function (`API int f(int x) NOEXCEPT {`) is no word of the language: the grammar takes the
# first word for the type, and what is one too many for an error. The body is whole all the same.
_WORDS = frozenset(["identifier", "type_identifier", "field_identifier", "primitive_type", "qualified_identifier"])
_IN_TYPES = _WORDS | {"struct", "union", "enum", "const", "volatile", "unsigned", "signed", "long", "short", "*"}
_LEFT_OVER = _WORDS | {":", "bitfield_clause", "function_declarator"}


def tolerates(node: Node) -> bool:
    """Whether there is a name for certain, and no error but words in the head, in the type or among the parameters.

    In its body a macro may stand for a statement or its beginning (`for_each(x, list) { }`), and take types for arguments.
    """
    body, kind = node.child_by_field_name("body"), node.child_by_field_name("type")
    if kind is not None and kind.child_by_field_name("body") is not None:  # a class that ended too early
        return False
    return body is not None and _name(node) is not None and (not body.has_error or _holds_macros(body))


def _name(node: Node) -> Node | None:
    body = node.child_by_field_name("body")
    if any(child.has_error for child in node.children if body is None or child.id != body.id):
        return _name_in_damage(node)
    return _declared(node)


def _holds_macros(body: Node) -> bool:
    """Whether macros are all that is amiss."""
    todo = [(body, False)]
    while todo:
        node, in_arguments = todo.pop()
        in_arguments = node.type == "argument_list" or (
            in_arguments and node.type == "binary_expression"
        )  # `struct a *`
        for child in node.children:
            if child.is_missing:
                first = next(iter(node.named_children), None)
                statement = child.type == ";" and first is not None and first.type == "call_expression"
                if not statement and not (in_arguments and child.type == "identifier"):
                    return False
            elif child.is_error:
                if not in_arguments or not all(one.type in _IN_TYPES for one in child.children):
                    return False
            elif child.has_error:
                todo.append((child, in_arguments))
    return True


def _name_in_damage(node: Node) -> Node | None:
    declarator = node.child_by_field_name("declarator")
    for child in node.children:
        if child.is_missing or (child.is_error and not _is_left_over(child)):
            return None
    declarator = _misread(node) or declarator
    while declarator is not None and declarator.type != "function_declarator":
        if any(child.is_missing or (child.is_error and not _is_left_over(child)) for child in declarator.children):
            return None
        inner = _misread(declarator) or declarator.child_by_field_name("declarator")
        declarator = inner or next((c for c in declarator.named_children if c.type.endswith("declarator")), None)
    return _declared_in_damage(declarator) if declarator is not None else None


def _declared_in_damage(declarator: Node) -> Node | None:
    named, parameters = declarator.child_by_field_name("declarator"), declarator.child_by_field_name("parameters")
    if named is None or parameters is None:
        return None
    if named.has_error and named.type == "template_function":  # API T f<T>(int x)
        errors = [child for child in named.children if child.has_error]
        return errors[0].children[0] if len(errors) == 1 and _is_word(errors[0]) else None
    if named.has_error:
        return None
    for child in declarator.children:
        if child.is_missing or (child.is_error and not _is_word(child)):
            return None
        if child.is_error and child.start_byte < parameters.start_byte:  # API T f(int x)
            named = child.children[0]
    return named


def _misread(node: Node) -> Node | None:
    """Where a macro follows the parameters it has the declarator's place, and that stands in the error before it."""
    errors = (error for error in node.children if error.is_error)
    return next((one for error in errors for one in error.children if one.type == "function_declarator"), None)


def _is_left_over(error: Node) -> bool:
    return all(one.type in _LEFT_OVER for one in error.children)


def _is_word(error: Node) -> bool:
    return error.is_error and error.child_count == 1 and error.children[0].type in _WORDS


def names(node: Node, _parent: Node, source: bytes) -> tuple[str, ...]:
    """The name inside of the declarators: `int *A::B<T>::f(int)` is A.B.f."""
    named = _name(node) if node.has_error else None
    return _qualified(named or _declared(node), source)


_DECLARED = frozenset(["function_declarator", "operator_cast", "qualified_identifier"])


def _declared(node: Node) -> Node | None:
    declarator = node.child_by_field_name("declarator")
    while declarator is not None and declarator.type not in _DECLARED:
        inner = declarator.child_by_field_name("declarator")
        declarator = inner or next((c for c in declarator.named_children if c.type.endswith("declarator")), None)
    while declarator is not None and declarator.type.endswith("_declarator"):  # `int (*f(int x))(int)` is f
        inner = declarator.child_by_field_name("declarator")
        declarator = inner or next(iter(declarator.named_children), None)
    return declarator


def _name_end(cast: Node) -> int:
    """The byte at which the name of an `operator T()` ends, and its parameters begin."""
    inner = cast.child_by_field_name("declarator")
    while inner is not None and inner.child_by_field_name("parameters") is None:
        inner = inner.child_by_field_name("declarator")
    parameters = inner.child_by_field_name("parameters") if inner is not None else None
    return parameters.start_byte if parameters is not None else cast.end_byte


def _qualified(named: Node | None, source: bytes) -> tuple[str, ...]:
    found: list[str] = []
    while named is not None and named.type == "qualified_identifier":
        scope = named.child_by_field_name("scope")
        if scope is not None:
            found.append(text_of(scope, source).partition("<")[0].strip())
        named = named.child_by_field_name("name")
    if named is not None and named.type == "operator_cast":
        return (*found, " ".join(source[named.start_byte : _name_end(named)].decode().split()))
    name = "".join(text_of(named, source).split()) if named is not None else ""
    return (*found, name if name.startswith("operator") else name.partition("<")[0])


C = Grammar(
    language="c",
    extensions=(".c",),
    module="tree_sitter_c",
    functions=kinds("function_definition"),
    names=names,
    tolerates=tolerates,
    passed=kinds("preproc_call"),
    style=Style(
        re.compile(rb"/\*[*!](?![*/<])|//[/!](?![/<])"),
        doxygen,
        above=True,
        between=CONDITIONS,
    ),
    examples=(
        Example(
            "/** @file */\n#ifdef A\n/**\n * \\brief Doc of f.\n *\n * @param x more\n */\nstatic int *f(int x) { return 0; }\n#endif\n"
            "/// Doc of g.\n/// More of \\c g.\n\n__attribute__((x)) int g(int a) {}\n/* Plain. */\nint none(void) {}\n"
            "/*! Doc of h. */\nint h(void)\n{\n}\n/**\n * i_do() - Doc of i.\n * @x: more\n */\nvoid i_do(int x) {}\n"
            "int x; /**< of x */\nint none2(void) {}\n",
            {"f": "Doc of f.", "g": "Doc of g. More of g.", "h": "Doc of h.", "i_do": "Doc of i."},
        ),
        Example(
            "/** A prototype. */\nint f(int x);\n/** Doc of f. */\nAPI int f(int x) { return x; }\n"
            "/** Doc of g. */\n/* Copyright 2031 somebody. All rights reserved. */\n"
            "static struct a * __init g(char __user *x, const char *y)\n__acquires(lock)\n{ return 0; }\n"
            "/** A macro. */\n#define none(x) (x + 1)\n"
            "/** Not of l. */\n\n/// Doc of l.\n/**\n * More of l.\n */\nint l(void) { return 1; }\n"
            "/** @returns what m does. */\nint m(void) { return 1; }\n"
            "/** Doc of k. */\n#ifdef A\nint k(void) { return 1; }\n#else\nint k(int x) { return 2; }\n#endif\n",
            {
                "f": "Doc of f.",
                "g": "Doc of g.",
                "l": "Doc of l.",
                "m": "Returns what m does.",
                "k": "Doc of k.",
            },
        ),
        Example(
            "/** @name Group\n * @{ */\nint none(void) { return 1; }\n/** @} */\nint none2(void) { return 1; }\n///@{\n"
            "/** Doc of f. */\n#pragma GCC push_options\nint (*f(int x))(int) { return 0; }\n",
            {"f": "Doc of f."},
        ),
    ),
)

CPP = dataclasses.replace(
    C,
    language="cpp",
    extensions=(
        *(".cc", ".cpp", ".cxx", ".c++", ".hpp", ".hh", ".hxx", ".h", ".cu", ".cuh"),
        *(".inl", ".ipp", ".tpp", ".tcc", ".txx", ".ixx", ".cppm"),  # templates' bodies, and modules
    ),
    module="tree_sitter_cpp",
    divides=re.compile(r"::(?:\s*inline\s+)?"),
    scopes=fields("namespace_definition=name class_specifier=name struct_specifier=name union_specifier=name"),
    wrappers=kinds("template_declaration friend_declaration linkage_specification"),
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
        Example(
            "class A {\n  /** Doc of f. */\n  API\n  iterator f() const NOEXCEPT { return 1; }\n"
            "  /** Doc of g. */\n  virtual CONSTEXPR bool g(B x) const { return 1; }\n"
            "  /** Doc of A. */\n  API A(const B& b) : C(b) {}\n  /** A prototype. */\n  int none() const;\n};\n"
            "/** Doc of h. */\ntemplate <> STRONG_INLINE T h<T>(const T& a) { return a; }\n",
            {"A.f": "Doc of f.", "A.g": "Doc of g.", "A.A": "Doc of A.", "h": "Doc of h."},
        ),
        Example(
            "struct A {\n  /// Doc of a friend.\n  friend bool operator==(const A& a, const A& b) { return true; }\n"
            "  /// Doc of bool.\n  explicit operator bool() const { return true; }\n};\n"
            "/// Doc of a pointer.\nA::operator const  char*() { return 0; }\n",
            {
                "A.operator==": "Doc of a friend.",
                "A.operator bool": "Doc of bool.",
                "A.operator const char*": "Doc of a pointer.",
            },
        ),
    ),
)
