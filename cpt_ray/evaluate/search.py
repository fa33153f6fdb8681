"""Search: each query should find its answer among candidates. Two settings that must not be mixed in one table:

- `compare` draws blocks of 1,000 held-out pairs (candidates.py), each x a query and all y of the block its
  candidates, for models, BM25 and chance on the very same blocks: the paper's code-search setting, and
  the same for neighbouring text.
- `BeirTask` is a corpus with queries and judgements in the BEIR layout, each query searched in the whole corpus.
"""

import csv
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from cpt_ray.errors import UserError
from cpt_ray.evaluate.baselines import bm25_tiles, chance
from cpt_ray.evaluate.candidates import Block, draw
from cpt_ray.evaluate.embed import Embed
from cpt_ray.evaluate.options import CandidateOptions
from cpt_ray.evaluate.statistics import Figure
from cpt_ray.ranking import Floats, Judgement, Places, cosine_tiles, per_query, place

DEEPEST = 100
"""The last place that a figure of a corpus looks at."""


def search_blocks(pairs: pa.Table, blocks: Sequence[Block], embed: Embed) -> dict[str, float]:
    """Metrics of `embed` averaged over the blocks; columns used: x, y. All texts of a side are embedded in one call."""
    rows = np.concatenate([block.rows for block in blocks])
    chosen = pairs.select(["x", "y"]).take(pa.array(rows))
    queries = _checked(embed(chosen.column("x").to_pylist(), "x"), len(rows))
    answers = _checked(embed(chosen.column("y").to_pylist(), "y"), len(rows))
    results, start = [], 0
    for block in blocks:
        part = slice(start, start + len(block.rows))
        results.append(place(cosine_tiles(queries[part], answers[part]), Judgement.diagonal(len(block.rows))))
        start = part.stop
    return _pooled(results, chosen.column("y").to_pylist())


def bm25_blocks(pairs: pa.Table, blocks: Sequence[Block]) -> dict[str, float]:
    """Metrics of BM25 averaged over the blocks."""
    results = []
    for block in blocks:
        chosen = pairs.select(["x", "y"]).take(pa.array(block.rows))
        tiles = bm25_tiles(chosen.column("x").to_pylist(), chosen.column("y").to_pylist())
        results.append(place(tiles, Judgement.diagonal(len(block.rows))))
    rows = np.concatenate([block.rows for block in blocks])
    return _pooled(results, pairs.column("y").take(pa.array(rows)).to_pylist())


def compare(pairs: pa.Table, options: CandidateOptions, models: Mapping[str, Embed]) -> dict[str, Any]:
    """{name: {mrr, recall_at_1, recall_at_10}} for each of `models`, `bm25` and `chance`, and `setting` that says
    among what.

    `pairs` are held-out pairs alone; what was trained on must not be among them.
    """
    blocks = draw(pairs, options)
    sizes = [len(block.rows) for block in blocks]
    result: dict[str, Any] = {name: search_blocks(pairs, blocks, embed) for name, embed in models.items()}
    result["bm25"] = bm25_blocks(pairs, blocks)
    result["chance"] = _mean([chance(size) for size in sizes])
    result["setting"] = {
        "candidates": sizes[0],
        "queries": sum(sizes),
        "blocks": len(blocks),
        "pairs": pairs.num_rows,
        "largest_group": max(block.largest_group for block in blocks),
        "repeated_documents": sum(block.repeated_documents for block in blocks),
    }
    return result


@dataclass(frozen=True)
class BeirTask:
    """Queries and corpus as texts, and which document answers which query (with its gain)."""

    queries: list[str]
    corpus: list[str]
    judgement: Judgement

    def items(self) -> list[tuple[str, str]]:
        """(query, an answer of the highest gain) of each query that has one."""
        best: dict[int, tuple[float, int]] = {}
        j = self.judgement
        for query, candidate, gain in zip(j.query.tolist(), j.candidate.tolist(), j.gain.tolist(), strict=True):
            if gain > best.get(query, (0.0, 0))[0]:
                best[query] = gain, candidate
        return [(self.queries[query], self.corpus[candidate]) for query, (_, candidate) in sorted(best.items())]

    def undocumented(self, language: str) -> "BeirTask":
        """The same with the functions of the corpus without their documentation, which may hold the query's very words."""
        from cpt_ray.code.functions import undocumented

        return BeirTask(self.queries, [undocumented(code, language) for code in self.corpus], self.judgement)

    def merged(self) -> "BeirTask":
        """The same with each distinct text of the corpus once: copies of an answer answer too (the best gain counts).

        Where a corpus repeats itself, a model that finds a copy is right; unmerged it is counted wrong (CosQA).
        """
        first: dict[str, int] = {}
        place_of = [first.setdefault(text, len(first)) for text in self.corpus]
        relevant: list[dict[int, float]] = [{} for _ in self.queries]
        j = self.judgement
        for query, candidate, gain in zip(j.query.tolist(), j.candidate.tolist(), j.gain.tolist(), strict=True):
            at = place_of[candidate]
            relevant[query][at] = max(gain, relevant[query].get(at, 0.0))
        return BeirTask(self.queries, list(first), Judgement.of(relevant))


def read_beir(folder: str, split: str = "test") -> BeirTask:
    """Read `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`; only queries that the split judges are kept, in
    the file's order."""
    root = Path(folder)
    path = root / "qrels" / f"{split}.tsv"
    with path.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        judged = [(f"{path}:{line}", row) for line, row in enumerate(rows, start=2)]
    return _judged(_jsonl(root / "corpus.jsonl"), _jsonl(root / "queries.jsonl"), judged)


def coir_files(folder: str, split: str) -> dict[str, list[Path]]:
    """The files of `corpus`, `queries` and the judgements of `split` in CoIR's layout, by what their names begin with:
    `<folder>-queries-corpus` and `<folder>-qrels`, or all in `folder`, as they come from the hub (.parquet) or as .jsonl."""
    roots = [path for path in (Path(f"{folder}-queries-corpus"), Path(f"{folder}-qrels")) if path.is_dir()]
    files = sorted(
        path for root in roots or [Path(folder)] for path in root.rglob("*") if path.suffix in (".parquet", ".jsonl")
    )
    return {
        part: [path for path in files if path.name.startswith((f"{part}-", f"{part}."))]
        for part in ("corpus", "queries", split)
    }


def read_coir(folder: str, split: str = "test") -> BeirTask:
    """The same of a task in CoIR's layout (Li et al. 2024): columns `_id`, `title`, `text`; `query_id`, `corpus_id`, `score`,
    or mteb's names of these."""
    tables = {
        part: [(f"{path}:{line}", row) for path in paths for line, row in enumerate(_rows(path), start=1)]
        for part, paths in coir_files(folder, split).items()
    }
    renamed = {"id": "_id", "query_id": "query-id", "corpus_id": "corpus-id"}
    for rows in tables.values():
        for _, row in rows:
            row |= {to: row.pop(name) for name, to in renamed.items() if name in row}
    return _judged([row for _, row in tables["corpus"]], [row for _, row in tables["queries"]], tables[split])


def _judged(
    documents: Sequence[Mapping[str, Any]],
    queries: Sequence[Mapping[str, Any]],
    judged: Sequence[tuple[str, Mapping[str, Any]]],
) -> BeirTask:
    """A task of the rows of a corpus, of queries and, with where each stands, of judgements."""
    texts = [" ".join(part for part in (row.get("title"), row["text"]) if part) for row in documents]
    number = {str(row["_id"]): i for i, row in enumerate(documents)}
    relevant: dict[str, dict[int, float]] = {}
    for where, row in judged:
        if str(row["corpus-id"]) not in number:
            raise UserError(
                f"no document {row['corpus-id']!r} in the corpus", where=where, fix="use the matching corpus"
            )
        relevant.setdefault(str(row["query-id"]), {})[number[str(row["corpus-id"])]] = float(row["score"])
    asked = [row for row in queries if str(row["_id"]) in relevant]
    return BeirTask([row["text"] for row in asked], texts, Judgement.of([relevant[str(row["_id"])] for row in asked]))


def search_beir(task: BeirTask, embed: Embed) -> dict[str, float]:
    """MRR (also at 10), recall and nDCG at 1, 10, 20 and 100 over the whole corpus."""
    tiles = cosine_tiles(
        _checked(embed(task.queries, "x"), len(task.queries)), _checked(embed(task.corpus, "y"), len(task.corpus))
    )
    return _beir_metrics(tiles, task)


def graph_beir(task: BeirTask, embed: Embed, breadth: int) -> dict[str, float]:
    """The same when a graph of neighbours (HNSW, usearch) finds the nearest 100 by looking at `breadth` or more at a time;
    `found_at_10` is the share of the true ten nearest among its ten. Built by one thread: others would make another."""
    from usearch.index import Index

    queries = np.ascontiguousarray(_checked(embed(task.queries, "x"), len(task.queries)), np.float32)
    corpus = np.ascontiguousarray(_checked(embed(task.corpus, "y"), len(task.corpus)), np.float32)
    graph = Index(ndim=corpus.shape[1], metric="ip", dtype="f32", expansion_add=max(128, breadth))
    graph.expansion_search = max(breadth, DEEPEST)  # type: ignore[misc]
    graph.add(np.arange(len(corpus)), corpus, threads=1)
    shares: list[float] = []

    def tiles() -> Iterable[Floats]:
        for query in queries:
            exact = corpus @ query
            found = np.asarray(graph.search(query, min(DEEPEST, len(corpus)), threads=1).keys, np.int64)
            nearest = np.argsort(-exact, kind="stable")[:10]
            shares.append(float(np.isin(nearest, found[:10]).mean()))
            scores = np.full((1, len(corpus)), -2.0, np.float32)  # below any cosine: what it did not find
            scores[0, found] = exact[found]
            yield scores

    return _beir_metrics(tiles(), task) | {"found_at_10": Figure.of(np.array(shares))}


def bm25_beir(task: BeirTask) -> dict[str, float]:
    """The same for BM25."""
    return _beir_metrics(bm25_tiles(task.queries, task.corpus), task)


def chance_beir(task: BeirTask) -> dict[str, float]:
    """What a random order of the corpus scores, exactly: that of a scorer for whom all candidates are alike."""
    places = place((np.zeros((1, len(task.corpus)), np.float32) for _ in task.queries), task.judgement)
    return {name: Figure.of(each) for name, each in _depths(places).items()}


def _beir_metrics(tiles: Iterable[Floats], task: BeirTask) -> dict[str, float]:
    places = place(tiles, task.judgement)
    said = [task.corpus[at] for at in places.first[np.unique(task.judgement.query)].tolist()]
    return {name: Figure.of(each, said) for name, each in _depths(places).items()}


def _depths(places: Places) -> dict[str, npt.NDArray[np.float64]]:
    return per_query(places, ks=(1, 10, 20, DEEPEST), ndcg=True, mrr=(10,))


def _rows(path: Path) -> list[dict[str, Any]]:
    if path.suffix == ".jsonl":
        return _jsonl(path)
    found: list[dict[str, Any]] = pq.read_table(path).to_pylist()
    return found


def _jsonl(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def _checked(vectors: Floats, rows: int) -> Floats:
    if vectors.ndim != 2 or len(vectors) != rows:
        raise ValueError(f"embed gave {vectors.shape} for {rows} texts")
    return vectors


def _pooled(blocks: Sequence[Places], answers: Sequence[str]) -> dict[str, float]:
    """The figures of all blocks' queries; `answers` are the candidates of the blocks one after another."""
    found = [per_query(places) for places in blocks]
    starts = np.cumsum([0, *(len(places.first) for places in blocks[:-1])])
    said = [answers[start + at] for start, one in zip(starts, blocks, strict=True) for at in one.first.tolist()]
    return {name: Figure.of(np.concatenate([one[name] for one in found]), said) for name in found[0]}


def _mean(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([result[key] for result in results])) for key in results[0]}
