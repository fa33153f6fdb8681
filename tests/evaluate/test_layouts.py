"""Labelled data as others publish it: SentEval's folders, SICK, MRPC, CoIR; each figure is the one of their own programs."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import accuracy_score, f1_score

from cpt_ray.errors import UserError
from cpt_ray.evaluate.search import read_beir, search_beir
from cpt_ray.evaluate.similarity import read_similarity
from cpt_ray.evaluate.statistics import Figure, interval, paired
from cpt_ray.evaluate.suite import by_query, figure, measure
from cpt_ray.evaluate.tasks.coir import Coir
from cpt_ray.evaluate.tasks.paraphrase import Paraphrase
from cpt_ray.evaluate.tasks.similarity import Similarity
from cpt_ray.evaluate.tasks.sts import Year
from tests.evaluate.conftest import bag_of_words
from tests.evaluate.test_compare import small_data

WORDS = ["harbour", "lantern", "orchard", "copper", "violin", "glacier", "saddle", "pepper", "compass", "thunder"]
SIZES = {"MSRvid": 30, "surprise.OnWN": 12, "headlines": 45}


def _year(root: Path) -> Path:
    rng = np.random.default_rng(0)
    root.mkdir()
    for name, size in SIZES.items():
        pairs, scores = [], []
        for number in range(size):
            first = " ".join(rng.choice(WORDS, 4))
            second = " ".join(rng.choice(WORDS, 4)) if number % 3 else f"{first}\x85 \u2028 too"
            pairs.append(f"{first}\t{second}\thttp://a.source\n" if name == "headlines" else f"{first}\t{second}\n")
            scores.append("\n" if number % 7 == 3 else f"{rng.integers(0, 11) / 2}\n")
        (root / f"STS.input.{name}.txt").write_text("".join(pairs))
        (root / f"STS.gs.{name}.txt").write_text("".join(scores))
    return root


def _sentevals(root: Path) -> dict[str, float]:
    """The correlations as SentEval's program takes them: by part, those without a score left out, then both means."""
    rho, size, everything = {}, {}, ([], [])
    for name in SIZES:
        gold = (root / f"STS.gs.{name}.txt").read_text().split("\n")[:-1]
        lines = (root / f"STS.input.{name}.txt").read_text().split("\n")[:-1]
        rows = [(*line.split("\t")[:2], float(score)) for line, score in zip(lines, gold, strict=True) if score]
        first, second, wanted = (list(column) for column in zip(*rows, strict=True))
        cosine = (bag_of_words(first) * bag_of_words(second)).sum(axis=1, dtype=np.float64)
        rho[name], size[name] = spearmanr(cosine, wanted).statistic, len(rows)
        everything[0].extend(cosine)
        everything[1].extend(wanted)
    return {
        "spearman": np.average(list(rho.values()), weights=list(size.values())),
        "mean_spearman": np.mean(list(rho.values())),
        "all_spearman": spearmanr(*everything).statistic,
        **{f"{name}_spearman": value for name, value in rho.items()},
    }


def test_a_year_of_sts_is_aggregated_as_by_senteval(tmp_path: Path) -> None:
    """Weighted by the parts' sizes, unweighted, all together and each part; what has no score is left out."""
    root = _year(tmp_path / "STS12-en-test")
    wanted = _sentevals(root)
    found = Year(folder=str(root)).scores(bag_of_words)
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name
    assert found["spearman"] != pytest.approx(found["all_spearman"], abs=1e-3)


def test_the_parts_of_a_year_reach_its_interval_its_test_and_its_rows(tmp_path: Path) -> None:
    """What the table kept gives the figure again. A part's own scale of cosines is no difference between two models."""
    task = Year(folder=str(_year(tmp_path / "STS12-en-test")))
    rows = measure([task], {"model": bag_of_words})
    kept = figure(by_query([task], rows), rows[0]["task"], "model")
    assert kept == pytest.approx(rows[0]["value"], abs=1e-12)
    assert rows[0]["low"] < rows[0]["value"] < rows[0]["high"]
    assert (rows[0]["queries"], len(task.items())) == (len(kept.each),) * 2
    moved = kept.each.copy()
    moved[:, 0] += [100 * sorted(SIZES).index(part) for part in kept.parts]
    shifted = Figure.of(moved, parts=kept.parts)
    assert interval(shifted) == pytest.approx(interval(kept), abs=1e-12)
    same = paired(kept, shifted)
    assert (same.difference, same.p, same.won, same.lost) == (pytest.approx(0, abs=1e-12), 1.0, 0, 0)
    assert Figure.of(moved) != pytest.approx(Figure.of(kept.each), abs=1e-3)
    perfect = Figure.of(np.stack([moved[:, 1], moved[:, 1]], axis=1), parts=kept.parts)
    assert paired(kept, perfect).p < 0.01
    with pytest.raises(ValueError, match="same queries"):
        paired(kept, Figure.of(kept.each))


@pytest.mark.parametrize("pack", [lambda text: text, gzip.compress], ids=["plain", "gz"])
def test_a_year_is_the_same_with_other_ends_of_lines_a_mark_and_packed(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    """As every other layout; blank lines are pairs without a score, but for those behind the last pair."""
    plain, other = _year(tmp_path / "year"), tmp_path / "other"
    other.mkdir()
    for path in plain.iterdir():
        text = b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n"
        packed = pack(text)
        (other / (path.name if packed == text else f"{path.name}.gz")).write_bytes(packed)
    assert Year(folder=str(other)).texts() == Year(folder=str(plain)).texts()
    assert Year(folder=str(other)).scores(bag_of_words) == Year(folder=str(plain)).scores(bag_of_words)


def test_a_year_of_bytes_that_are_no_text_is_said(tmp_path: Path) -> None:
    root = _year(tmp_path / "year")
    (root / "STS.input.MSRvid.txt").write_bytes(b"caf\xe9\tx\n")
    with pytest.raises(UserError, match="not UTF-8"):
        Year(folder=str(root)).texts()


def test_one_part_is_the_correlation_itself() -> None:
    rows = np.random.default_rng(0).random((40, 2))
    one = Figure.of(rows, parts=["a"] * 40)
    assert (one, interval(one)) == (Figure.of(rows), interval(Figure.of(rows)))


def test_a_year_that_does_not_fit_is_said_with_its_file(tmp_path: Path) -> None:
    root = _year(tmp_path / "year")
    (root / "STS.gs.MSRvid.txt").write_text("1\n2\n")
    with pytest.raises(UserError, match=r"STS\.gs\.MSRvid\.txt: 2 scores for 30 pairs"):
        Year(folder=str(root)).texts()
    (root / "STS.input.MSRvid.txt").write_text("one\ttwo\nalone\n")
    with pytest.raises(UserError, match=r"STS\.input\.MSRvid\.txt:2"):
        Year(folder=str(root)).texts()


def test_sick_is_read_as_it_is_published(tmp_path: Path) -> None:
    path = tmp_path / "SICK" / "SICK_test_annotated.txt"
    path.parent.mkdir()
    rows = [f'{i}\ta "{word} runs\tsome {word}s\t{1 + i / 3:.1f}\tNEUTRAL\n' for i, word in enumerate(WORDS)]
    path.write_text("pair_ID\tsentence_A\tsentence_B\trelatedness_score\tentailment_judgment\n" + "".join(rows))
    task = read_similarity(str(path))
    assert (task.first[1], task.second[1], task.score[3]) == ('a "lantern runs', "some lanterns", 2.0)
    assert Similarity(file=str(path)).title == "SICK SICK_test_annotated"
    path.write_text("score\tsentence1\tsentence2\nmuch\ta\tb\n")
    with pytest.raises(UserError, match=r"annotated\.txt:2"):
        read_similarity(str(path))


@pytest.mark.parametrize("published", [False, True])
def test_paraphrases_by_the_features_of_senteval(tmp_path: Path, published: bool) -> None:
    """|u - v| and u * v tell equal texts from others, which u and v alone do not; accuracy and F1 are scikit-learn's."""
    rng = np.random.default_rng(1)
    for part in ("train", "test"):
        lines = []
        for number in range(160):
            one = " ".join(rng.choice(WORDS, 3))
            other = one if number % 3 else " ".join(rng.choice(WORDS, 3))
            label = int(number % 3 > 0) if number % 11 else int(number % 3 == 0)  # people err
            ids = f"\t{number}\t{number + 1000}" if published else ""
            lines.append(f"{label}{ids}\t{one}\t{other}\n")
        if published:
            text = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n" + "".join(lines)
            (tmp_path / f"msr_paraphrase_{part}.txt").write_text(text)
        else:
            (tmp_path / f"{part}.tsv").write_text("label\tsentence1\tsentence2\n" + "".join(lines))
    task = Paraphrase(folder=str(tmp_path))
    found = task.scores(bag_of_words)
    said = [int(word) for word in found["accuracy"].said]
    labels = [int(label) for _, label in task.items()]
    assert found["accuracy"] == accuracy_score(labels, said) > 0.85
    assert found["f1"] == pytest.approx(f1_score(labels, said))
    assert task.fixed()["chance"]["accuracy"] == pytest.approx(max(np.mean(labels), 1 - np.mean(labels)))
    task.files()[1].write_text("label\tsentence1\tsentence2\n1\tone text alone\n")
    with pytest.raises(UserError, match=r":2"):
        task.scores(bag_of_words)


@pytest.mark.parametrize("layout", ["two repositories", "one repository", "lines"])
def test_coir_is_the_same_search_as_beir(tmp_path: Path, layout: str) -> None:
    """The same queries, corpus and judgements in its folders give the same figures; other splits are left alone."""
    small_data(tmp_path)
    beir = read_beir(str(tmp_path / "search"))
    corpus = [
        {"_id": f"d{i}", "partition": "test", "text": text, "title": "", "language": "en", "meta_information": "{}"}
        for i, text in enumerate(beir.corpus)
    ]
    queries = [{"_id": f"q{i}", "text": text, "title": ""} for i, text in enumerate([*beir.queries, "unasked"])]
    names = ("query-id", "corpus-id") if layout == "one repository" else ("query_id", "corpus_id")
    right = zip(beir.judgement.query.tolist(), beir.judgement.candidate.tolist(), strict=True)
    judged = [dict(zip((*names, "score"), (f"q{query}", f"d{at}", 1), strict=True)) for query, at in right]
    other = [dict(zip((*names, "score"), ("q40", "d0", 1), strict=True))]
    root, tail = tmp_path / "toy", "-00000-of-00001.parquet"
    if layout == "two repositories":
        both, qrels = tmp_path / "toy-queries-corpus" / "data", tmp_path / "toy-qrels" / "data"
        places = [both / f"corpus{tail}", both / f"queries{tail}", qrels / f"test{tail}", qrels / f"train{tail}"]
    elif layout == "one repository":
        places = [root / "corpus" / f"corpus{tail}", root / "queries" / f"queries{tail}"]
        places += [root / "data" / f"test{tail}", root / "data" / f"train{tail}"]
    else:
        places = [root / f"{name}.jsonl" for name in ("corpus", "queries", "test", "train")]
    for path, rows in zip(places, (corpus, queries, judged, other), strict=True):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".jsonl":
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        else:
            pq.write_table(pa.Table.from_pylist(rows), path)
    task = Coir(folder=str(root))
    assert all(path.is_file() for path in task.files())
    found = task.scores(bag_of_words)
    assert {name: found[name] for name in found} == search_beir(beir, bag_of_words)
    assert task.title == "toy"
    missing = Coir(folder=str(tmp_path / "nothing")).files()
    assert not any(path.exists() for path in missing)
