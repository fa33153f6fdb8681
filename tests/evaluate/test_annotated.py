"""NDCG of CodeSearchNet's annotated queries: by hand, against its own evaluator's definition, and with ties by enumeration."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest

from cpt_ray.errors import UserError
from cpt_ray.evaluate.annotated import expected_dcg, judged, read_judgements
from cpt_ray.evaluate.suite import measure
from cpt_ray.evaluate.tasks.codesearchnet import CodeSearchNet

URL = "https://github.com/a/b/blob/1/x#L{}"
LOG3 = math.log2(3)


def write(folder: Path) -> CodeSearchNet:
    """Go: one query of four judgements, one of which is of no function here; Python: two, one without any gain; of PHP's
    queries none has one."""
    rows = [
        ("Go", "Parse Date", 1, 3, ""),
        ("Go", "parse date", 1, 2, "another's view, with a comma"),
        ("Go", "parse date", 2, 0, ""),
        ("Go", "parse date", 3, 1, ""),
        ("Go", "parse date", 99, 3, ""),
        ("Python", "sort list", 1, 2, ""),
        ("Python", "open door", 2, 0, ""),
        ("Ruby", "sort list", 1, 2, ""),
        ("PHP", "sort list", 1, 0, ""),
    ]
    lines = [f'{language},{query},{URL.format(at)},{gain},"{note}"' for language, query, at, gain, note in rows]
    (folder / "annotationStore.csv").write_text("\n".join(["Language,Query,GitHubUrl,Relevance,Notes", *lines]) + "\n")
    functions = [json.dumps({"url": URL.format(at), "code": f"f{at}"}) + "\n" for at in range(1, 6)]
    for language in ("go", "php"):
        (folder / f"{language}.jsonl").write_text("".join(functions))
    (folder / "python" / "final" / "jsonl" / "test").mkdir(parents=True)
    with gzip.open(folder / "python" / "final" / "jsonl" / "test" / "python_test_0.jsonl.gz", "wt") as sink:
        sink.write("".join(functions))
    return CodeSearchNet(folder=str(folder))


def ordered(*names: str):
    """A model for which the functions stand in this order for every query."""
    place = {name: math.cos(number / 10) for number, name in enumerate(names)}

    def embed(texts: list[str], side: str) -> np.ndarray:
        if side == "x":
            return np.tile(np.array([1.0, 0.0], np.float32), (len(texts), 1))
        return np.array([[place[text], math.sqrt(1 - place[text] ** 2)] for text in texts], np.float32)

    return embed


def test_the_figures_are_those_computed_by_hand(tmp_path: Path) -> None:
    """Order f5 f3 f1 f2 f4. Go judges f1 (2.5 of two), f2 (0), f3 (1) and one that is not there (3)."""
    task = write(tmp_path)
    found = task.scores(ordered("f5", "f3", "f1", "f2", "f4"))
    best = 2**2.5 - 1
    ideal = 7 + best / LOG3 + 1 / 2
    assert found["go_ndcg"] == pytest.approx((1 + best / LOG3) / ideal)
    assert found["go_all_ndcg"] == pytest.approx((1 / LOG3 + best / 2) / ideal)
    assert found["python_ndcg"] == pytest.approx(1.0)
    assert found["python_all_ndcg"] == pytest.approx(1 / 2)
    for name in ("ndcg", "all_ndcg"):
        assert found[name] == pytest.approx((found[f"go_{name}"] + found[f"python_{name}"]) / 2)
    assert found["covered"] == pytest.approx((3 / 4 + 1) / 2)
    assert {"ruby_ndcg", "php_ndcg"} & set(found) == set()


def test_a_suite_has_it_beside_its_baselines(tmp_path: Path) -> None:
    """Each query with an answer that people gave the highest gain; languages without functions are left out."""
    task = write(tmp_path)
    rows = measure([task], {"model": ordered("f1", "f3", "f2", "f4", "f5")})
    assert {row["method"] for row in rows} >= {"model", "bm25", "chance", "tfidf_svd"}
    assert {row["queries"] for row in rows} == {2}
    assert task.items() == [("parse date (go)", "f1"), ("sort list (python)", "f1")]
    files = ["annotationStore.csv", "go.jsonl", "php.jsonl", "python_test_0.jsonl.gz"]
    assert [path.name for path in task.files()] == files


def by_definition(order: list[int], relevance: dict[int, float], *, within: bool, depth: int) -> float:
    """DCG as relevanceeval.py walks a ranking."""
    rank, total = 1, 0.0
    for item in order[:depth]:
        if item in relevance:
            total += (2 ** relevance[item] - 1) / math.log2(rank + 1)
            rank += 1
        elif not within:
            rank += 1
    return total


@pytest.mark.parametrize("depth", [1, 3, 4, 300])
@pytest.mark.parametrize("within", [True, False])
def test_ties_are_the_mean_over_every_order(within: bool, depth: int) -> None:
    """Of seven functions with few scores, over all permutations that keep the scores falling."""
    rng = np.random.default_rng(depth)
    for _ in range(4):
        scores = rng.integers(0, 3, 7).astype(np.float32)
        at = rng.permutation(7)[: int(rng.integers(1, 6))]
        relevance = {int(item): float(value) for item, value in zip(at, rng.integers(0, 4, len(at)), strict=True)}
        orders = [
            order
            for order in itertools.permutations(range(7))
            if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
        ]
        wanted = np.mean([by_definition(list(order), relevance, within=within, depth=depth) for order in orders])
        gain = np.array([2 ** relevance[int(item)] - 1 for item in at])
        assert expected_dcg(scores, at, gain, within=within, depth=depth) == pytest.approx(float(wanted))


def test_judgements_are_averaged_and_wrong_files_are_named(tmp_path: Path) -> None:
    task = write(tmp_path)
    assert read_judgements(str(tmp_path / "annotationStore.csv"))["go"]["parse date"][URL.format(1)] == 2.5
    store = tmp_path / "annotationStore.csv"
    figures = task.scores(ordered("f5", "f3", "f1", "f2", "f4"))
    (tmp_path / f"{store.name}.gz").write_bytes(gzip.compress(store.read_bytes()))
    plain = store.read_bytes()
    store.unlink()
    assert task.files()[0].name == "annotationStore.csv.gz"
    assert task.scores(ordered("f5", "f3", "f1", "f2", "f4")) == figures
    store.write_bytes(plain.replace(b"Language", b"caf\xe9"))
    with pytest.raises(UserError, match="not UTF-8"):
        judged(str(tmp_path))
    store.write_bytes(plain)
    (tmp_path / "go.jsonl").write_text('{"url": "a"}\n')
    with pytest.raises(UserError, match=r"go\.jsonl:1"):
        task.texts()
    (tmp_path / "annotationStore.csv").write_text("Language,Query,GitHubUrl,Relevance\nGo,a,b,much\n")
    with pytest.raises(UserError, match=r"annotationStore\.csv:2"):
        judged(str(tmp_path))
    (tmp_path / "annotationStore.csv").write_text("Language,Query,GitHubUrl,Relevance\nCobol,a,b,1\n")
    with pytest.raises(UserError, match="no function of a language"):
        judged(str(tmp_path))
