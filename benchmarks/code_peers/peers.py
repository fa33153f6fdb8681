"""CodeSearchNet's function_parser over files of one language, for benchmarks/code.py: prints {"seconds", "files",
"functions", "documented"} as JSON.

Its own parsers (get_definition) and tokenizer as its DataProcessor calls them, on trees of today's grammars; the version
that it pins, tree-sitter 0.0.5, builds for no Python of today. CPU seconds of this process, files in the order given; no
more are begun after MOST_SECONDS, because some of its work grows with the square of a file.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import sys
import time
from pathlib import Path

from function_parser.language_data import LANGUAGE_METADATA
from function_parser.parsers.language_parser import tokenize_docstring
from tree_sitter import Language, Parser

MOST_SECONDS = 30.0


def main(language: str, module: str, entry: str, listed: str) -> None:
    parser = Parser(Language(getattr(importlib.import_module(module), entry)()))
    rules = LANGUAGE_METADATA[language]["language_parser"]
    sys.setrecursionlimit(100_000)
    files = functions = documented = 0
    begun = time.process_time()
    for path in json.loads(Path(listed).read_text()):
        if time.process_time() - begun > MOST_SECONDS:
            break
        files += 1
        blob = Path(path).read_text(errors="replace")
        # What it does not foresee in a file ends the file.
        with contextlib.suppress(ValueError, IndexError, AttributeError, TypeError):
            for found in rules.get_definition(parser.parse(blob.encode()), blob):
                tokenize_docstring(found["docstring_summary"])
                functions += 1
                documented += bool(found["docstring"].strip())
    seconds = time.process_time() - begun
    print(json.dumps({"seconds": seconds, "files": files, "functions": functions, "documented": documented}))


if __name__ == "__main__":
    main(*sys.argv[1:])
