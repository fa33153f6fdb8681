"""Exact search: cpt_ray.nearest beside other exact searches on the same vectors, threads and k. Run as `make
bench-search`.

Each is timed on its best of several runs, after one that warms up; the rows found are compared before a time counts.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from cpt_ray.evaluate.report import machine
from cpt_ray.nearest import top_k

RESULT = Path(__file__).parent / "results" / "search.json"
K = 10
FAISS = "faiss-cpu"
CASES = [(100_000, 256, 1), (100_000, 256, 256), (400_000, 256, 64), (1_000_000, 256, 1_000)]
WHOLE = 1 << 28
"""Scores up to which peers that hold all of them at once are measured: 1 GiB."""
Search = Callable[[np.ndarray, np.ndarray], np.ndarray]


def torch_topk(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """One matrix product and torch.topk."""
    import torch

    return torch.topk(torch.from_numpy(queries) @ torch.from_numpy(vectors).T, K).indices.numpy()


def semantic_search(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """sentence-transformers' util.semantic_search by dot product."""
    import torch
    from sentence_transformers.util import dot_score, semantic_search

    hits = semantic_search(torch.from_numpy(queries), torch.from_numpy(vectors), top_k=K, score_function=dot_score)
    return np.array([[hit["corpus_id"] for hit in row] for row in hits])


def scikit_learn(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
    """scikit-learn's brute-force neighbours; on vectors of length 1 the euclidean order is the cosine's."""
    from sklearn.neighbors import NearestNeighbors

    return NearestNeighbors(n_neighbors=K, algorithm="brute").fit(vectors).kneighbors(queries, return_distance=False)


PEERS: dict[str, Search] = {
    "torch": torch_topk,
    "sentence-transformers": semantic_search,
    "scikit-learn": scikit_learn,
}


def faiss_if_installed() -> None:
    """faiss has no place in our environment; where somebody put it, it is measured."""
    try:
        import faiss
    except ImportError:
        return

    filled: dict[int, Any] = {}

    def flat(queries: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        if id(vectors) not in filled:  # in the round that warms up: filling it is no search
            filled.clear()
            filled[id(vectors)] = faiss.IndexFlatIP(vectors.shape[1])
            filled[id(vectors)].add(vectors)
        return filled[id(vectors)].search(queries, K)[1]

    PEERS[FAISS] = flat


def unit(rows: int, width: int, seed: int) -> np.ndarray:
    """Vectors of length 1 around 200 centres, as embeddings lie, float32."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).standard_normal((200, width), np.float32)
    vectors = centres[rng.integers(0, 200, rows)] + rng.standard_normal((rows, width), np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def best_times(searches: dict[str, Callable[[], np.ndarray]], rounds: int = 5) -> dict[str, tuple[float, np.ndarray]]:
    """Seconds of each one's fastest round, and what it found. All take their turn in each round, so that what else the
    machine does falls on all of them; the first round warms up."""
    best: dict[str, tuple[float, np.ndarray]] = {}
    for number in range(rounds + 1):
        for name, search in searches.items():
            started = time.perf_counter()
            found = search()
            seconds = time.perf_counter() - started
            if number:
                best[name] = min(best.get(name, (seconds, found)), (seconds, found), key=lambda pair: pair[0])
    return best


def main() -> None:
    """Run all cases, print the table, write the JSON."""
    faiss_if_installed()
    rows = []
    for count, width, asked in CASES:
        vectors, queries = unit(count, width, 1), unit(asked, width, 2)
        case = f"{count:,} x {width}, {asked} quer{'y' if asked == 1 else 'ies'}, k={K}"
        half = vectors.astype(np.float16)
        searches = {
            "ours": lambda q=queries, v=vectors: top_k(q, v, K)[1],
            "float16": lambda q=queries, v=half: top_k(q, v, K)[1],
        }
        searches |= {
            peer: lambda q=queries, v=vectors, search=search: search(q, v)  # type: ignore[misc]
            for peer, search in PEERS.items()
            if count * asked <= WHOLE or peer == FAISS
        }
        times = best_times(searches)
        ours, found = times["ours"]
        for peer in (name for name in PEERS if name in times):
            theirs, other = times[peer]
            agreement = np.mean([len(set(a) & set(b)) / K for a, b in zip(found, other, strict=True)])
            if agreement < 0.999:
                raise SystemExit(f"{peer} finds other rows ({agreement:.4f} agree): the times cannot be compared")
            rows.append(row(case, asked / ours, peer, asked / theirs))
        rows.append(row(f"{case}, float16", asked / times["float16"][0], None, None))
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in ("numpy", "torch", "sentence-transformers", "scikit-learn")}
    result = {"area": "search", "machine": machine(), "versions": versions, "rows": rows}
    show(rows)
    os.makedirs(RESULT.parent, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def row(case: str, ours: float, peer: str | None, theirs: float | None) -> dict:
    """One line of the result."""
    return {
        "case": case,
        "metric": "queries/s",
        "ours_value": round(ours, 1),
        "peer": peer,
        "peer_value": None if theirs is None else round(theirs, 1),
        "ratio": None if theirs is None else round(ours / theirs, 2),
    }


def show(rows: list[dict]) -> None:
    """The rows as a table."""
    table = Table("case", "metric", "ours", "peer", "theirs", "ratio", box=None)
    for row in rows:
        values = [row[name] for name in ("case", "metric", "ours_value", "peer", "peer_value", "ratio")]
        table.add_row(
            *("" if value is None else f"{value:,}" if isinstance(value, float) else str(value) for value in values)
        )
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
