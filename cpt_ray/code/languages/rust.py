"""Rust: all `///`, `/** */` and `#[doc = ...]` before an item, whatever attributes stand between."""

from __future__ import annotations

import re

from cpt_ray.code.grammar import Example, Grammar, Style, fields, kinds, of_kind
from cpt_ray.code.markup import rustdoc

RUST = Grammar(
    language="rust",
    extensions=(".rs",),
    module="tree_sitter_rust",
    functions=kinds("function_item function_signature_item"),
    scopes=fields("impl_item=type trait_item=name mod_item=name"),
    leads=of_kind("attribute_item"),
    keywords=("fn",),
    style=Style(
        re.compile(rb"///(?!/)|/\*\*(?![*/])|#\[\s*doc\s*="),
        rustdoc,
        joins=True,
        inner=re.compile(rb"//!|/\*!|#!\[\s*doc\s*="),
    ),
    examples=(
        Example(
            "//! Of the crate.\n\n/// Doc of [`f`].\n// plain\n#[inline]\n/// More of f.\npub fn f<T>(x: T) -> T { x }\n"
            'impl<T> A<T> {\n    #[doc = "Doc of g."]\n    pub fn g(&self) {}\n    /** Doc of h. */\n\n    fn h() {}\n'
            "    // Plain.\n    fn none() {}\n    //// None.\n    fn none2() {}\n}\n"
            "trait T {\n    /// No body.\n    fn s(&self);\n    /// Doc of t.\n    ///\n    /// # Errors\n    fn t(&self) {}\n}\n"
            "mod m {\n    /// Doc of z.\n    fn z() {}\n}\n"
            '#[doc = include_str!("x.md")]\nfn none3() {}\n/// Doc of y.\n#[doc = concat!("a", "b")]\nfn y() {}\n',
            {
                "f": "Doc of `f`. More of f.",
                "A.g": "Doc of g.",
                "A.h": "Doc of h.",
                "T.t": "Doc of t.",
                "m.z": "Doc of z.",
                "y": "Doc of y.",
            },
        ),
    ),
)
