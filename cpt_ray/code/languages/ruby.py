"""Ruby: the comment lines or the =begin block before a method, over one blank line at most, as YARD has it."""

from __future__ import annotations

import re

from cpt_ray.code.grammar import Example, Grammar, Node, Style, fields, kinds, text_of
from cpt_ray.code.markup import rdoc

_DEFINING = ("define_method", "define_singleton_method")


def names(node: Node, _parent: Node, source: bytes) -> tuple[str, ...]:
    """`define_method(:name) { ... }` is called as its first argument says."""
    if node.type != "call":
        return ()
    arguments = node.child_by_field_name("arguments")
    first = next(iter(arguments.named_children), None) if arguments is not None else None
    return (text_of(first, source).strip(":'\""),)


def defines(node: Node, source: bytes) -> bool:
    """`define_method(...) { ... }`, of an object too."""
    return node.type == "call" and text_of(node.child_by_field_name("method"), source) in _DEFINING


def leads(node: Node, _of: Node, source: bytes) -> bool:
    """A Sorbet signature."""
    return node.type == "call" and text_of(node.child_by_field_name("method"), source) == "sig"


RUBY = Grammar(
    language="ruby",
    extensions=(".rb", ".rake", ".gemspec", ".podspec", ".ru", ".thor"),
    module="tree_sitter_ruby",
    functions=kinds("method singleton_method"),
    defines=defines,
    scopes=fields("module=name class=name do_block=none block=none"),
    bindings=fields("assignment=left"),
    wrappers=kinds("call"),
    carries=kinds("argument_list"),
    leads=leads,
    names=names,
    body="",
    keywords=("def", *_DEFINING),
    style=Style(re.compile(rb"#|=begin"), rdoc, blank_lines=1, own_line=True),
    examples=(
        Example(
            "# frozen_string_literal: true\n# Doc of a.\ndef a; end\n"
            "module A\n  class B\n    # Doc of f.\n    # More.\n    def f\n      1\n    end\n\n"
            "    # Doc of g.\n    sig { returns(Integer) }\n    private def g\n      1\n    end\n\n"
            "    # rubocop:disable Metrics\n    def none; end\n    attr_reader :x # of x\n    def none2; end\n"
            "=begin\nDoc of h.\n=end\n    def self.h; end\n"
            "    # Doc of i.\n\n    define_method(:i) do |x|\n      x\n    end\n  end\nend\n"
            "P = Struct.new(:a) do\n  # @api private\n  # Doc of +sum+.\n  def sum; end\nend\n",
            {
                "a": "Doc of a.",
                "A.B.f": "Doc of f. More.",
                "A.B.g": "Doc of g.",
                "A.B.h": "Doc of h.",
                "A.B.i": "Doc of i.",
                "P.sum": "Doc of sum.",
            },
        ),
    ),
)
