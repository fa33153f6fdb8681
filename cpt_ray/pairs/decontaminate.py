"""Training pairs that a benchmark would later ask about are dropped: by where they come from, and by what they say.

CodeSearchNet's official test functions are lists of URLs; a whole file named there is dropped, because line numbers
move from version to version. Other evaluation sets are given as texts.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.code.functions import Origin, Source, mine
from cpt_ray.code.grammars import GRAMMARS
from cpt_ray.code.options import MineOptions
from cpt_ray.errors import UserError
from cpt_ray.pairs.schema import examples_of
from cpt_ray.words import text_hash

_URL = re.compile(r"https?://github\.com/([^/\s]+)/([^/\s]+)/blob/[^/\s]+/(.+?)(?:#L\d+(?:-L\d+)?)?")


class Evaluation(NamedTuple):
    """What must not be trained on: files as (owner/name, path), both lower-cased, and hashes of texts."""

    files: frozenset[tuple[str, str]] = frozenset()
    hashes: frozenset[int] = frozenset()


def benchmark_files(urls: Iterable[str], where: str = "") -> frozenset[tuple[str, str]]:
    """(owner/name, path) of lines `https://github.com/owner/name/blob/commit/path#L1-L2`; UserError on any other."""
    found = set()
    for number, line in enumerate(urls, 1):
        url = line.strip()
        if not url:
            continue
        parts = _URL.fullmatch(url)
        if parts is None:
            raise UserError(
                f"not the address of a file on GitHub: {url[:100]!r}",
                where=f"{where} line {number}".strip(),
                fix="give lines such as https://github.com/owner/name/blob/commit/path#L1-L9",
            )
        found.add((f"{parts[1]}/{parts[2]}".lower(), parts[3].lower()))
    return frozenset(found)


def text_hashes(texts: Sequence[str], language: str | None = None) -> frozenset[int]:
    """Hashes of evaluation texts, comparable with `x_hash` and `y_hash`.

    With a language the texts are source code: each function in them is also hashed as mining would give it, without
    its docstring.
    """
    found = {text_hash(text) for text in texts}
    if language is not None:
        grammar = GRAMMARS[language]
        every = {"min_words": 1, "min_code_lines": 1, "skip_tests": False, "skip_generated": False}
        options = MineOptions.model_validate({"languages": (language,), **every})
        sources = (
            Source(f"{i}{grammar.extensions[0]}", text.encode("utf-8", "replace")) for i, text in enumerate(texts)
        )
        table, _ = mine(sources, Origin("", "", ""), options)
        found.update(table["content_hash"].to_pylist())
    return frozenset(found)


def decontaminate(pairs: pa.Table, evaluation: Evaluation) -> tuple[pa.Table, Ledger]:
    """Drop pairs of a test file (`test_file`) and pairs one of whose sides is an evaluation text (`test_text`).

    A group that is a repository (`owner/name`, with or without `github.com/`) is compared as it is. A group that is a
    distribution is compared by its name with the repository's, and by the end of the path: a repository keeps
    `pkg/mod.py` below `src/` or `lib/`.
    """
    of_repository: dict[str, set[str]] = defaultdict(set)
    of_name: dict[str, set[str]] = defaultdict(set)
    here = {_normalised(_repository(group)) for group in pairs["group"].unique().to_pylist()}
    for repository, path in evaluation.files:
        of_repository[repository].add(path)
        if (name := _normalised(repository.rpartition("/")[2])) in here:
            of_name[name].update(_ends(path))
    where = {
        key: _is_test(*key, of_repository, of_name)
        for key in set(zip(pairs["group"].to_pylist(), pairs["path"].to_pylist(), strict=True))
    }
    hashes = np.fromiter(evaluation.hashes, np.uint64, len(evaluation.hashes))
    says = np.isin(pairs["x_hash"].to_numpy(), hashes) | np.isin(pairs["y_hash"].to_numpy(), hashes)
    keys = zip(pairs["group"].to_pylist(), pairs["path"].to_pylist(), strict=True)
    reasons = [
        "test_file" if where[key] else "test_text" if said else None for key, said in zip(keys, says, strict=True)
    ]
    kept = pa.array([reason is None for reason in reasons], pa.bool_())
    gone = examples_of(pairs.filter(pc.invert(kept)), "pairs", [reason for reason in reasons if reason is not None])
    return pairs.filter(kept), Ledger.count("pairs", reasons).showing(gone)


def _is_test(group: str, path: str | None, of_repository: dict[str, set[str]], of_name: dict[str, set[str]]) -> bool:
    """`of_repository` holds whole paths, `of_name` all ends of paths."""
    if not path:
        return False
    name = _repository(group)
    files = of_repository.get(name, ()) if "/" in name else of_name.get(_normalised(name), ())
    return path.lower() in files


def _repository(group: str) -> str:
    """owner/name of a group that is a repository; of a distribution its name."""
    return group.lower().removeprefix("https://").removeprefix("github.com/").removesuffix(".git")


def _ends(path: str) -> Iterator[str]:
    """a/b/c, b/c and c of a/b/c."""
    yield path
    while "/" in path:
        path = path.partition("/")[2]
        yield path


def _normalised(name: str) -> str:
    """A distribution's name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name.lower())
