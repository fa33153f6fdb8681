"""E-mail addresses and secrets of functions: masked where they are asked to be, in literals and comments, and counted."""

from __future__ import annotations

import json

import pytest

from cpt_ray.code.functions import Origin, Source, mine
from cpt_ray.code.grammars import GRAMMARS
from cpt_ray.code.options import MineOptions

ORIGIN = Origin("o/one", "1", "MIT")
PLAIN = MineOptions(languages=tuple(GRAMMARS))
MASKED = PLAIN.model_copy(update={"mask": ("email", "secret")})
KEY = "ghp_" + "a1B2" * 9

FILES = {
    "a.py": f'''def send(a, b):
    """Send a note to jane@example.org with the key {KEY}."""
    m = a@b.T  # as bob@example.org has it
    login("me@example.org", key="{KEY}")
    return f"{{a@b.T}} me@example.org"
''',
    "a.rb": "# Sends a note to the person who asked.\ndef send\n  x = <<~TEXT\n    to me@example.org\n  TEXT\n  x\nend\n",
    "a.js": "/** Sends a note to the one. */\nfunction send(a) {\n  // bob@example.org\n  return `me@example.org ${a}`;\n}\n",
    "a.ts": "/** Sends a note to the one. */\nfunction send(a: string) {\n  // bob@example.org\n  return `me@example.org ${a}`;\n}\n",
    "a.go": 'package a\n\n// Send sends a note to the one.\nfunc Send() string {\n\tx := `me@example.org`\n\treturn x + "me@example.org"\n}\n',
    "A.java": 'class A {\n  /** Sends a note to the one. */\n  String send() {\n    // bob@example.org\n    return "me@example.org";\n  }\n}\n',
    "a.php": "<?php\n/** Sends a note to the one. */\nfunction send() {\n  $x = 'me@example.org';\n  return \"$x bob@example.org\";\n}\n",
    "a.c": '/** Sends a note to the one. */\nchar *send(void) {\n  /* bob@example.org */\n  return "me@example.org";\n}\n',
    "a.cpp": '/** Sends a note to the one. */\nconst char *send() {\n  // bob@example.org\n  return R"(me@example.org)";\n}\n',
    "a.cs": 'class A {\n  /// <summary>Sends a note to the one.</summary>\n  string Send() {\n    // bob@example.org\n    return $"me@example.org";\n  }\n}\n',
    "a.rs": '/// Sends a note to the one.\nfn send() -> &\'static str {\n  // bob@example.org\n  r"me@example.org"\n}\n',
    "a.kt": '/** Sends a note to the one. */\nfun send(): String {\n  val n = this@Outer.name\n  // bob@example.org\n  return "me@example.org $n"\n}\n',
    "a.scala": 'object A {\n  /** Sends a note to the one. */\n  def send(): String = {\n    // bob@example.org\n    s"me@example.org"\n  }\n}\n',
    "a.swift": '/// Sends a note to the one.\nfunc send() -> String {\n  // bob@example.org\n  return "me@example.org"\n}\n',
}
CODE_LIKE = {"a.py": ["a@b.T"], "a.kt": ["this@Outer.name"]}


@pytest.mark.parametrize("path", FILES)
def test_addresses_are_masked_where_they_are_text(path: str) -> None:
    """In strings, in comments, in documentation; what merely has their form and is code stays."""
    source = Source(path, FILES[path].encode())
    (before,), (after,) = (mine([source], ORIGIN, options)[0].to_pylist() for options in (PLAIN, MASKED))
    both = after["docstring"] + after["code"]
    assert "example.org" not in both
    assert KEY not in both
    assert all(one in after["code"] for one in CODE_LIKE.get(path, []))
    places = sum(f"{before['docstring']}{before['code']}".count(one) for one in ("@example.org", KEY))
    assert (before["masked"], after["masked"]) == (0, places)
    same = [name for name in before if before[name] != after[name]]
    assert set(same) <= {"docstring", "summary", "code", "masked", "content_hash", "function_id", "quality"}


def test_the_ledger_counts_what_was_masked_by_kind() -> None:
    sources = [Source(path, text.encode()) for path, text in FILES.items()]
    table, ledger = mine(sources, ORIGIN, MASKED)
    counted = ledger.check("here").to_dict()
    assert counted["masked"]["dropped"] == {"email": sum(table["masked"].to_pylist()) - 2, "token": 2}
    plain = mine(sources, ORIGIN, PLAIN)[1].to_dict()
    assert "masked" not in plain
    assert {unit: count for unit, count in counted.items() if unit != "masked"} == plain


def test_examples_of_what_was_left_out_are_masked_too() -> None:
    source = Source("a.py", f'def send():\n    x = "{KEY}"\n    return x, "me@example.org"\n'.encode())
    _, ledger = mine([source], ORIGIN, MASKED)
    shown = json.dumps([one.texts for held in ledger.examples.values() for one in held])
    assert "<email>" in shown
    assert KEY not in shown
    assert "me@example.org" not in shown


def test_masking_decides_not_what_is_kept() -> None:
    """Rules look at what the file has; a summary that is an address in the main is a row with and without."""
    source = Source("a.py", b'def f(x):\n    """Ask jane@example.org jane@example.org."""\n    y = x\n    return y\n')
    rows = [mine([source], ORIGIN, options)[0].num_rows for options in (PLAIN, MASKED)]
    assert rows[0] == rows[1]
