"""Approximate search: graphs of ours, usearch, hnswlib and faiss, and faiss's inverted lists, beside exact search. Run as
`make bench-ann [ROWS=1000000]`.

Vectors lie as those of texts do: near a surface of few dimensions (32 here) in the space of 256, around centres. Each library
gets the same vectors, queries and threads; build, bytes on disk, recall@10 against exact search, and queries per second for
a block of queries and one by one. hnswlib and faiss are no dependencies of ours: where they are installed they are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from cpt_ray.evaluate.report import machine
from cpt_ray.nearest import top_k
from cpt_ray.serve.graph import GRAPH, GraphIndex, build
from cpt_ray.serve.indexes.hnsw import Hnsw
from cpt_ray.serve.joined import join

RESULT = Path(__file__).parent / "results" / "ann.json"
K, WIDTH, LATENT = 10, 256, 32
LINKS, BREADTH = 16, 128
Found = tuple[str, float, float, Callable[[np.ndarray], np.ndarray]]


def unit(rows: int, seed: int) -> np.ndarray:
    """(rows, WIDTH) float32 of length 1."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    centres, surface = (
        fixed.standard_normal((200, LATENT), np.float32),
        fixed.standard_normal((LATENT, WIDTH), np.float32),
    )
    out = np.empty((rows, WIDTH), np.float32)
    for start in range(0, rows, 50_000):
        part = out[start : start + 50_000]
        latent = centres[rng.integers(0, 200, len(part))] + rng.standard_normal((len(part), LATENT), np.float32)
        part[:] = latent @ surface + 0.3 * rng.standard_normal(part.shape, np.float32)
        part /= np.linalg.norm(part, axis=1, keepdims=True)
    return out


def ours(vectors: np.ndarray, threads: int, folder: str) -> Iterator[Found]:
    """`index.kind=hnsw`: usearch by one thread a part, int8 by one factor, scored by the vectors as they are."""
    started, rows = time.perf_counter(), Hnsw().rows_per_part
    pieces = {f"{folder}/{start}": vectors[start : start + rows] for start in range(0, len(vectors), rows)}

    def one(at: str) -> None:
        Path(at).mkdir()
        build(at, pieces[at], values="int8", links=LINKS, breadth=BREADTH)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(one, pieces))
    took = time.perf_counter() - started
    size = sum(path.stat().st_size for path in Path(folder).rglob(GRAPH))
    for breadth in (32, 64, 128):
        made = join(
            [
                GraphIndex(pa.table({"row": np.arange(len(piece))}), "", piece, at, breadth)
                for at, piece in pieces.items()
            ]
        )
        yield f"ours int8, breadth {breadth}", took, size, lambda q, made=made: made.search(q, K)[1]


def usearch_graphs(vectors: np.ndarray, threads: int, folder: str) -> Iterator[Found]:
    from usearch.index import Index

    for kind in ("f32", "i8"):
        started = time.perf_counter()
        made = Index(ndim=WIDTH, metric="ip", dtype=kind, connectivity=LINKS, expansion_add=BREADTH)
        made.add(np.arange(len(vectors)), vectors, threads=threads)
        took = time.perf_counter() - started
        made.save(f"{folder}/usearch")
        for breadth in (32, 64, 128):
            made.expansion_search = breadth
            yield (
                f"usearch {kind}, breadth {breadth}",
                took,
                os.path.getsize(f"{folder}/usearch"),
                lambda q, made=made: made.search(q, K, threads=threads if len(q) > 1 else 1).keys.reshape(len(q), K),
            )


def hnswlib_graphs(vectors: np.ndarray, threads: int, folder: str) -> Iterator[Found]:
    import hnswlib

    started = time.perf_counter()
    made = hnswlib.Index(space="ip", dim=WIDTH)
    made.init_index(max_elements=len(vectors), ef_construction=BREADTH, M=LINKS)
    made.set_num_threads(threads)
    made.add_items(vectors)
    took = time.perf_counter() - started
    made.save_index(f"{folder}/hnswlib")
    for breadth in (32, 64, 128):
        made.set_ef(breadth)
        size = os.path.getsize(f"{folder}/hnswlib")
        yield f"hnswlib, breadth {breadth}", took, size, lambda q: made.knn_query(q, k=K)[0]


def faiss_indexes(vectors: np.ndarray, threads: int, folder: str) -> Iterator[Found]:
    import faiss

    faiss.omp_set_num_threads(threads)
    lists = int(4 * len(vectors) ** 0.5)
    for name, factory in (
        ("graph", f"HNSW{LINKS * 2}"),
        ("lists", f"IVF{lists},Flat"),
        ("lists int8", f"IVF{lists},SQ8"),
    ):
        started = time.perf_counter()
        made = faiss.index_factory(WIDTH, factory, faiss.METRIC_INNER_PRODUCT)
        if name == "graph":
            made.hnsw.efConstruction = BREADTH
        made.train(vectors[:: max(1, len(vectors) // (lists * 40))])
        made.add(vectors)
        took = time.perf_counter() - started
        faiss.write_index(made, f"{folder}/faiss")
        for breadth in (32, 64, 128) if name == "graph" else (8, 16, 32):
            if name == "graph":
                made.hnsw.efSearch = breadth
            else:
                made.nprobe = breadth
            size = os.path.getsize(f"{folder}/faiss")
            yield f"faiss {name}, breadth {breadth}", took, size, lambda q, made=made: made.search(q, K)[1]


def per_second(search: Callable[[np.ndarray], np.ndarray], queries: np.ndarray, rounds: int = 3) -> float:
    """Queries per second of the fastest round."""
    best = 0.0
    for _ in range(rounds):
        started = time.perf_counter()
        search(queries)
        best = max(best, len(queries) / (time.perf_counter() - started))
    return best


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=int(os.environ.get("ROWS", "200000")))
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="measure them too")
    given = parser.parse_args()
    rows = given.rows
    threads = len(os.sched_getaffinity(0))
    vectors, queries = unit(rows, 1), unit(256, 2)

    def exact(asked: np.ndarray) -> np.ndarray:
        return top_k(asked, vectors, K)[1]

    want = exact(queries)
    block, single = per_second(exact, queries), per_second(lambda q: [exact(one[None]) for one in q], queries[:8])  # type: ignore[arg-type,return-value]
    lines = [line("exact", 0.0, vectors.nbytes, 1.0, block, single, block, single)]
    with tempfile.TemporaryDirectory() as folder:
        for peer in (ours, usearch_graphs, hnswlib_graphs, faiss_indexes) if given.peers else (ours,):
            try:
                for name, took, size, search in peer(vectors, threads, folder):
                    recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(search(queries), want, strict=True)])
                    fast = per_second(search, queries)
                    one = per_second(lambda q, s=search: [s(each[None]) for each in q], queries[:64])  # type: ignore[misc]
                    lines.append(line(name, took, size, recall, fast, one, block, single))
                    print(*lines[-1].values(), sep="  ", flush=True)
            except ImportError as error:
                print(f"not installed, not measured: {error.name}")
    table = Table(*lines[0], box=None)
    for each in lines:
        table.add_row(*map(str, each.values()))
    Console(width=140).print(f"{rows:,} x {WIDTH}, k={K}, {threads} threads", table)
    versions = {}
    for name in ("numpy", "usearch", "hnswlib", "faiss-cpu"):
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    result = {"area": "ann", "vectors": rows, "machine": machine() | {"threads": str(threads)}, "versions": versions}
    kept = json.loads(RESULT.read_text()) if RESULT.exists() else []  # by number of vectors
    kept = [one for one in kept if one["vectors"] != rows] + [result | {"rows": lines}]
    RESULT.write_text(json.dumps(sorted(kept, key=lambda one: one["vectors"]), indent=1) + "\n")


def line(
    name: str, took: float, size: float, recall: float, block: float, single: float, exact: float, exact_single: float
) -> dict:
    """One line of the result: queries per second, and how many times those of exact search."""
    return {
        "index": name,
        "build s": round(took, 1),
        "MiB": round(size / 2**20),
        "recall@10": round(float(recall), 4),
        "queries/s": round(block),
        "x exact": round(block / exact, 1),
        "one by one/s": round(single),
        "x exact one by one": round(single / exact_single, 1),
    }


if __name__ == "__main__":
    main()
