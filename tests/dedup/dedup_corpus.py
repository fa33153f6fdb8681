"""Documents with known duplicates, and deaths at a chosen moment, for the tests of this folder."""

from __future__ import annotations

import os
import random
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fsspec.implementations.local import LocalFileSystem

from cpt_ray.dedup.unicode_words import words


def text_of(rng: random.Random, size: int = 150) -> list[str]:
    return [f"w{rng.randrange(20_000)}" for _ in range(size)]


def edited(rng: random.Random, base: Sequence[str], edits: int) -> list[str]:
    out = list(base)
    for at in rng.sample(range(len(out)), edits):
        out[at] = f"e{rng.randrange(10**9)}"
    return out


def corpus(seed: int = 0, originals: int = 60) -> dict[str, str]:
    """Originals, lightly and heavily edited copies, exact copies in another case, and odd documents."""
    rng, docs = random.Random(seed), {}
    for n in range(originals):
        base = text_of(rng)
        docs[f"{n:03d}-base"] = " ".join(base)
        docs[f"{n:03d}-light"] = " ".join(edited(rng, base, 1)) + f" tail{n}"
        docs[f"{n:03d}-heavy"] = " ".join(edited(rng, base, 30))
        docs[f"{n:03d}-case"] = " ".join(base).upper() + "!"
    return docs | {"odd-empty": "", "odd-blank": " ?! ", "odd-one": "word", "odd-cjk": "今日は良い天気ですね"}


def shingles(text: str, ngram: int = 5) -> set[tuple[str, ...]]:
    """Word n-grams by the definition, as Python tuples."""
    units = words(text)
    return {tuple(units[i : i + ngram]) for i in range(max(len(units) - ngram + 1, 1))} if units else set()


def jaccard(a: str, b: str, ngram: int = 5) -> float:
    x, y = shingles(a, ngram), shingles(b, ngram)
    return len(x & y) / len(x | y)


def real_pieces(count: int, size: int) -> list[str]:
    """Pieces of the standard library's source, `size` bytes each: real text that every machine has."""
    found: list[str] = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [text[i : i + size] for i in range(0, len(text) - size, size)]
        if len(found) >= count:
            return found[:count]
    return found


class Killed(BaseException):
    """Not an Exception: nothing on the way up may catch it."""


@dataclass
class Calls:
    """How often the file system was asked to change something that others read."""

    calls: int = 0


@contextmanager
def dying(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[Calls]:
    """Die instead of the `at`-th renaming, copying or removing of a file or folder; 0 only counts them."""
    counted = Calls()
    with monkeypatch.context() as patch:
        for owner, name in ((os, "replace"), *((LocalFileSystem, name) for name in ("mv", "copy", "rm"))):
            real = getattr(owner, name)

            def change(*args: Any, _real: Callable[..., Any] = real, **options: Any) -> Any:
                counted.calls += 1
                if counted.calls == at:
                    raise Killed
                return _real(*args, **options)

            patch.setattr(owner, name, change)
        yield counted
