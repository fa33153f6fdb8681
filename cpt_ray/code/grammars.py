"""The languages that are mined. A new one is a row in a file of `languages` and its name here.

`cpt_ray.code.syntax` reads the rows and holds each to its own examples before its first file.
"""

from __future__ import annotations

import dataclasses
import os
from functools import cache

from cpt_ray.code.grammar import Grammar
from cpt_ray.code.languages.c import CPP, C
from cpt_ray.code.languages.csharp import CSHARP
from cpt_ray.code.languages.go import GO
from cpt_ray.code.languages.java import JAVA
from cpt_ray.code.languages.javascript import JAVASCRIPT, TSX, TYPESCRIPT
from cpt_ray.code.languages.jvm import KOTLIN, SCALA
from cpt_ray.code.languages.php import PHP
from cpt_ray.code.languages.python import PYTHON
from cpt_ray.code.languages.ruby import RUBY
from cpt_ray.code.languages.rust import RUST
from cpt_ray.code.languages.swift import SWIFT

GRAMMARS: dict[str, Grammar] = {
    grammar.language: grammar
    for grammar in (
        *(PYTHON, JAVA, GO, JAVASCRIPT, PHP, RUBY),  # those of the paper
        *(TYPESCRIPT, TSX, C, CPP, CSHARP, RUST, KOTLIN, SCALA, SWIFT),
    )
}

HEADER_BYTES = 4_096
"""Of a file, in which a dialect declares itself (Flow's `@flow`, which stands in a comment before all code)."""


def grammar_of(language: str, source: bytes) -> tuple[str, Grammar]:
    """The language whose parser reads `source`, a file of `language`, and the row to read its tree by."""
    grammar = GRAMMARS[language]
    if grammar.dialect is not None and grammar.dialect[0].search(source, 0, HEADER_BYTES) is not None:
        return grammar.dialect[1], _dialect(language, grammar.dialect[1])
    return language, grammar


@cache
def _dialect(language: str, read_by: str) -> Grammar:
    return dataclasses.replace(GRAMMARS[read_by], language=language)


_LANGUAGES = {ending: grammar.language for grammar in reversed(GRAMMARS.values()) for ending in grammar.extensions}


def language_of(path: str) -> str | None:
    """The language of a file by how its name ends, or None where no grammar reads it."""
    return _LANGUAGES.get(os.path.splitext(path)[1].lower())
