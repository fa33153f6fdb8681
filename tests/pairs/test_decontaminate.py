"""Benchmarks' own functions and texts never reach the training pairs."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from cpt_ray.errors import UserError
from cpt_ray.pairs.decontaminate import Evaluation, benchmark_files, decontaminate, text_hashes
from cpt_ray.pairs.schema import Pair, pairs_table

LISTS = Path(__file__).parents[3] / "shared" / "data" / "eval" / "code_search" / "codesearchnet" / "test_urls"
URL = "https://github.com/Owner/Some_Name/blob/0123abcd/src/pkg/Mod%20a/mod.py#L3-L9"


def pair(group: str, path: str | None, x: str = "a query", y: str = "def f(): pass") -> Pair:
    return Pair("code", "code", group, x, y, f"{group}/{path}", "d", "d", (1, 2), (1, 2), path, 1, "MIT")


def kept(pairs: list[Pair], evaluation: Evaluation) -> tuple[set[tuple[str, str]], dict[str, int]]:
    table, ledger = decontaminate(pairs_table(pairs), evaluation)
    ledger.check("decontaminate")
    rows = {(row["group"], row["path"]) for row in table.to_pylist()}
    return rows, dict(ledger.units["pairs"].dropped)


def test_addresses_are_read_and_others_refused() -> None:
    assert benchmark_files([URL, "", "  \n"]) == {("owner/some_name", "src/pkg/mod%20a/mod.py")}
    with pytest.raises(UserError, match=r"list\.txt line 2"):
        benchmark_files([URL, "https://example.org/a.py"], "list.txt")


def test_files_of_a_repository_are_matched_exactly() -> None:
    evaluation = Evaluation(frozenset({("owner/name", "src/pkg/mod.py")}))
    pairs = [
        pair("owner/name", "src/pkg/mod.py"),
        pair("github.com/Owner/Name", "src/pkg/mod.py"),
        pair("owner/name", "pkg/mod.py"),
        pair("other/name", "src/pkg/mod.py"),
        pair("owner/name", None),
    ]
    rows, dropped = kept(pairs, evaluation)
    assert rows == {("owner/name", "pkg/mod.py"), ("other/name", "src/pkg/mod.py"), ("owner/name", None)}
    assert dropped == {"test_file": 2}


def test_files_of_a_distribution_are_matched_by_name_and_end_of_path() -> None:
    evaluation = Evaluation(frozenset({("owner/some_name", "src/pkg/mod.py")}))
    pairs = [
        pair("some-name", "pkg/mod.py"),
        pair("Some.Name", "src/pkg/mod.py"),
        pair("some-name", "kg/mod.py"),
        pair("some-name", "other/pkg/mod.py"),
        pair("name", "pkg/mod.py"),
    ]
    rows, dropped = kept(pairs, evaluation)
    assert rows == {("some-name", "kg/mod.py"), ("some-name", "other/pkg/mod.py"), ("name", "pkg/mod.py")}
    assert dropped == {"test_file": 2}


def test_a_large_distribution_is_compared_with_a_large_repository() -> None:
    """Each path is looked up: every path with every test file would be 10^10 comparisons."""
    evaluation = Evaluation(frozenset(("owner/name", f"src/a/b/t{number}.py") for number in range(100_000)))
    table = pairs_table([pair("name", "b/t7.py")]).take([0] * 100_000)
    paths = pa.array(["b/t7.py", *(f"b/m{number}.py" for number in range(99_999))])
    table = table.set_column(table.schema.get_field_index("path"), "path", paths)
    _, ledger = decontaminate(table, evaluation)
    assert ledger.units["pairs"].dropped == {"test_file": 1}


def test_evaluation_texts_are_dropped_whatever_their_spacing() -> None:
    evaluation = Evaluation(hashes=text_hashes(["how to  parse\na date", "def g():\n    return 1"]))
    pairs = [pair("a", "a.py", x="how to parse a date"), pair("b", "b.py", y="def g():\n\treturn 1"), pair("c", "c.py")]
    rows, dropped = kept(pairs, evaluation)
    assert rows == {("c", "c.py")}
    assert dropped == {"test_text": 2}


def test_evaluation_code_is_recognised_without_its_docstring() -> None:
    """CoSQA keeps docstrings in its code; our pairs have them taken out."""
    code = 'def g(x):\n    """Adds one to x."""\n    y = x + 1\n    return y'
    bare = "def g(x):\n    y = x + 1\n    return y"
    assert kept([pair("a", "a.py", y=bare)], Evaluation(hashes=text_hashes([code])))[1] == {}
    assert kept([pair("a", "a.py", y=bare)], Evaluation(hashes=text_hashes([code], "python")))[1] == {"test_text": 1}


def test_nothing_to_compare_with_drops_nothing() -> None:
    rows, dropped = kept([pair("a", "a.py")], Evaluation())
    assert rows == {("a", "a.py")}
    assert dropped == {}
    table, ledger = decontaminate(pairs_table([]), Evaluation())
    assert isinstance(table, pa.Table)
    ledger.check("empty")


@pytest.mark.skipif(not LISTS.exists(), reason="needs ../shared/data/eval/code_search/codesearchnet/test_urls")
@pytest.mark.parametrize("language", ["python", "java", "go", "javascript", "php", "ruby"])
def test_the_official_lists_are_read_whole(language: str) -> None:
    with gzip.open(LISTS / f"{language}.txt.gz", "rt") as lines:
        urls = lines.read().split("\n")
    files = benchmark_files(urls)
    assert 100 < len(files) <= len(urls)
    assert all("/" in repository and "#" not in path for repository, path in files)
