"""Search: each query should find its answer among candidates. Two settings that must not be mixed in one table:

- `compare` draws blocks of 1,000 held-out pairs (candidates.py), each x a query and all y of the block its
  candidates, for models, BM25 and chance on the very same blocks: the paper's code-search setting, and
  the same for neighbouring text.
- `BeirTask` is a corpus with queries and judgements in the BEIR layout, each query searched in the whole corpus.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
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
from cpt_ray.evaluate.embed import Embed, vectors
from cpt_ray.evaluate.lines import either, fields, objects
from cpt_ray.evaluate.options import CandidateOptions
from cpt_ray.evaluate.statistics import Figure
from cpt_ray.ranking import Floats, Judgement, Places, cosine_tiles, per_query, place

DEEPEST = 100
"""The last place that a figure of a corpus looks at."""
JUDGED = ("query-id", "corpus-id", "score")
TREC = ("query-id", "iteration", "corpus-id", "score")
RENAMED = {"id": "_id", "query_id": "query-id", "corpus_id": "corpus-id"}
"""Names of columns in other layouts."""
Row = tuple[str, Mapping[str, Any]]
"""Where it stands, and what it says."""


def search_blocks(pairs: pa.Table, blocks: Sequence[Block], embed: Embed) -> dict[str, float]:
    """Metrics of `embed` averaged over the blocks; columns used: x, y. All texts of a side are embedded in one call."""
    rows = np.concatenate([block.rows for block in blocks])
    chosen = pairs.select(["x", "y"]).take(pa.array(rows))
    queries = vectors(embed, chosen.column("x").to_pylist(), "x")
    answers = vectors(embed, chosen.column("y").to_pylist(), "y")
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
    """Read `corpus.jsonl`, `queries.jsonl` and `qrels/<split>.tsv`, or the same with `.gz`; only queries that the split
    judges are kept, in the file's order."""
    root = Path(folder)
    path = either(root / "qrels" / f"{split}.tsv")
    return _judged(
        objects(either(root / "corpus.jsonl")), objects(either(root / "queries.jsonl")), _judgements(path), str(path)
    )


def coir_files(folder: str, split: str) -> dict[str, list[Path]]:
    """The files of `corpus`, `queries` and the judgements of `split` in CoIR's layout, by what their names begin with:
    `<folder>-queries-corpus` and `<folder>-qrels`, or all in `folder`, as they come from the hub (.parquet) or as .jsonl."""
    roots = [path for path in (Path(f"{folder}-queries-corpus"), Path(f"{folder}-qrels")) if path.is_dir()]
    files = sorted(
        path
        for root in roots or [Path(folder)]
        for path in root.rglob("*")
        if path.name.endswith((".parquet", ".jsonl", ".jsonl.gz"))
    )
    return {
        part: [path for path in files if path.name.startswith((f"{part}-", f"{part}."))]
        for part in ("corpus", "queries", split)
    }


def read_coir(folder: str, split: str = "test") -> BeirTask:
    """The same of a task in CoIR's layout (Li et al. 2024): columns `_id`, `title`, `text`; `query_id`, `corpus_id`, `score`,
    or mteb's names of these."""
    files = coir_files(folder, split)
    corpus, queries, judged = ((row for path in files[part] for row in _rows(path)) for part in files)
    return _judged(corpus, queries, judged, f"{folder}, split {split}")


def _judgements(path: Path) -> Iterator[tuple[str, dict[str, str]]]:
    """By the names of the first line; where it has none, three fields are query, document and score, and four are TREC's."""
    names: list[str] = []
    for where, row in fields(path):
        row = row if len(row) > 1 else row[0].split()
        if not names:
            named = [RENAMED.get(name, name) for name in row]
            if set(JUDGED) <= set(named):
                names = named
                continue
            names = list(TREC if len(row) == len(TREC) else JUDGED)
        yield where, dict(zip(names, row, strict=False))


def _judged(documents: Iterable[Row], queries: Iterable[Row], judged: Iterable[Row], where: str) -> BeirTask:
    """A task of the rows of a corpus, of queries and of judgements, which stand in `where`. What is judged must be there,
    except for documents that answer nothing."""
    corpus, asked = _texts(documents, "title", "text"), _texts(queries, "text")
    number = {key: place for place, key in enumerate(corpus)}
    relevant: dict[str, dict[int, float]] = {}
    for line, row in judged:
        row = _renamed(row)
        try:
            query, document, gain = str(row["query-id"]), str(row["corpus-id"]), float(row["score"])
        except (KeyError, TypeError, ValueError):
            gain = np.nan
        if np.isnan(gain):
            raise UserError("not a judgement", where=line, fix=f"expected {', '.join(JUDGED)}, the last a number")
        if query not in asked:
            raise UserError(f"no query {query!r}", where=line, fix="use the matching queries")
        of = relevant.setdefault(query, {})
        if document in number:
            of[number[document]] = gain
        elif gain > 0:
            raise UserError(f"no document {document!r} in the corpus", where=line, fix="use the matching corpus")
    if not any(gain > 0 for of in relevant.values() for gain in of.values()):
        raise UserError("no query has a relevant document", where=where, fix="a score above 0 is one")
    kept = [query for query in asked if query in relevant]
    return BeirTask(
        [asked[query] for query in kept], list(corpus.values()), Judgement.of([relevant[query] for query in kept])
    )


def _texts(rows: Iterable[Row], *parts: str) -> dict[str, str]:
    """{id: the parts of its text that are there}, in order. UserError for a row that is none, or whose id was there."""
    found: dict[str, str] = {}
    for where, row in rows:
        row = _renamed(row)
        values = [row.get(part) or "" for part in parts]
        if row.get("_id") is None or "text" not in row or not all(isinstance(value, str) for value in values):
            raise UserError("not a text with an id", where=where, fix="expected _id and text")
        key = str(row["_id"])
        if key in found:
            raise UserError(f"a second text has the id {key!r}", where=where, fix="give each an id of its own")
        found[key] = " ".join(value for value in values if value)
    return found


def _renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    return {RENAMED.get(name, name): value for name, value in row.items()}


def search_beir(task: BeirTask, embed: Embed) -> dict[str, float]:
    """MRR (also at 10), recall and nDCG at 1, 10, 20 and 100 over the whole corpus."""
    tiles = cosine_tiles(vectors(embed, task.queries, "x"), vectors(embed, task.corpus, "y"))
    return _beir_metrics(tiles, task)


def graph_beir(task: BeirTask, embed: Embed, breadth: int) -> dict[str, float]:
    """The same when a graph of neighbours (HNSW, usearch) finds the nearest 100 by looking at `breadth` or more at a time;
    `found_at_10` is the share of the true ten nearest among its ten. Built by one thread: others would make another."""
    from usearch.index import Index

    queries = np.ascontiguousarray(vectors(embed, task.queries, "x"), np.float32)
    corpus = np.ascontiguousarray(vectors(embed, task.corpus, "y"), np.float32)
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


def _rows(path: Path) -> Iterator[Row]:
    """With where each stands."""
    if path.suffix != ".parquet":
        yield from objects(path)
        return
    for line, row in enumerate(pq.read_table(path).to_pylist(), start=1):
        yield f"{path}:{line}", row


def _pooled(blocks: Sequence[Places], answers: Sequence[str]) -> dict[str, float]:
    """The figures of all blocks' queries; `answers` are the candidates of the blocks one after another."""
    found = [per_query(places) for places in blocks]
    starts = np.cumsum([0, *(len(places.first) for places in blocks[:-1])])
    said = [answers[start + at] for start, one in zip(starts, blocks, strict=True) for at in one.first.tolist()]
    return {name: Figure.of(np.concatenate([one[name] for one in found]), said) for name in found[0]}


def _mean(results: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: float(np.mean([result[key] for result in results])) for key in results[0]}
