"""One peer's MinHash signatures over a Parquet file of texts, timed in its own process: run by benchmarks/dedup.py.

    python benchmarks/dedup_peers/signatures.py <peer> <documents.parquet> <ngram> <permutations>

prints one line of JSON: {"cpu_s", "documents", "bytes", "permutations"}. Reading the file, imports and a warm-up on 20
documents are not counted. Where a peer only makes shingles from a list of words, the words are those of `re.findall`.
"""

from __future__ import annotations

import json
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.parquet as pq

WORD = re.compile(r"\w+")


def shingles(text: str, ngram: int) -> list[str]:
    words = WORD.findall(text.lower())
    return [" ".join(words[i : i + ngram]) for i in range(max(len(words) - ngram + 1, 1))]


def datatrove(texts: list[str], ngram: int, permutations: int) -> None:
    """datatrove's own step: its shingles and its signature, without writing them."""
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    config = MinhashConfig(n_grams=ngram, num_buckets=permutations // 8, hashes_per_bucket=8)
    step = MinhashDedupSignature(tempfile.mkdtemp(), config)
    for text in texts:
        found = step.get_shingles(text)
        if found.size:
            step.get_signature(found)


def datasketch(texts: list[str], ngram: int, permutations: int) -> None:
    """datasketch 2.0, scheme affine32, its default SHA-1."""
    from datasketch import MinHash

    blank = MinHash(num_perm=permutations)
    for text in texts:
        sketch = blank.copy()
        sketch.update_batch([s.encode() for s in set(shingles(text, ngram))])


def text_dedup(texts: list[str], ngram: int, permutations: int) -> None:
    """text-dedup's embed_func with its faster hash (xxh3)."""
    import numpy as np
    from text_dedup.minhash import RNG, embed_func
    from text_dedup.utils import xxh3_32hash

    prime = np.uint64((1 << 61) - 1)
    drawn = tuple(RNG.randint(low, prime, size=(permutations,), dtype=np.uint64) for low in (1, 0))
    ranges = [(i * 8, i * 8 + 8) for i in range(permutations // 8)]
    for n, text in enumerate(texts):
        embed_func(
            text,
            n,
            num_perm=permutations,
            ngram_size=ngram,
            min_length=0,
            hashranges=ranges,
            permutations=drawn,
            hash_func=xxh3_32hash,
            dtype=np.uint64,
            max_hash=np.uint32((1 << 32) - 1),
            modulo_prime=prime,
        )


def rensa(texts: list[str], ngram: int, permutations: int) -> None:
    """rensa's RMinHash, fed with Python shingles."""
    from rensa import RMinHash

    for text in texts:
        sketch = RMinHash(permutations, 1)
        sketch.update(shingles(text, ngram))
        sketch.digest()


def polars_rensa(texts: list[str], ngram: int, permutations: int) -> None:
    """polars tokenises and hashes words, numpy rolls the n-grams, rensa takes the flat hashes."""
    import numpy as np
    import polars as pl
    from rensa import RMinHash

    words = pl.Series(texts).str.to_lowercase().str.extract_all(r"\w+")
    lengths = words.list.len().to_numpy().astype(np.int64)
    hashes = words.explode(empty_as_null=False).hash().to_numpy()
    rolled = np.zeros(max(len(hashes) - ngram + 1, 0), np.uint64)
    for j in range(ngram):
        rolled = rolled * np.uint64(0x9E3779B97F4A7C15) + hashes[j : len(hashes) - ngram + 1 + j]
    ends = np.cumsum(lengths)
    starts = ends - lengths
    keep = np.zeros(len(rolled) + 1, np.int32)
    counts = np.maximum(lengths - ngram + 1, 0)
    np.add.at(keep, starts[counts > 0], 1)
    np.add.at(keep, starts[counts > 0] + counts[counts > 0], -1)
    flat = rolled[np.cumsum(keep)[:-1] > 0]
    offsets = np.r_[0, np.cumsum(counts)].astype(np.uint64)
    RMinHash.digest_matrix_from_flat_token_hashes(flat, offsets, permutations, 1)


def daft(texts: list[str], ngram: int, permutations: int) -> None:
    """daft's minhash (xxhash3_64) over its own normalised text."""
    import daft as engine
    from daft import col
    from daft.functions import minhash, normalize

    table = engine.from_arrow(pa.table({"text": pa.array(texts, pa.large_string())}))
    text = normalize(col("text"), remove_punct=True, lowercase=True, white_space=True)
    signed = minhash(text, num_hashes=permutations, ngram_size=ngram, hash_function="xxhash3_64")
    table.select(signed.alias("signature")).to_arrow()


PEERS: dict[str, Callable[[list[str], int, int], None]] = {
    "datatrove": datatrove,
    "datasketch": datasketch,
    "text-dedup": text_dedup,
    "rensa": rensa,
    "polars + rensa": polars_rensa,
    "daft": daft,
}


def size(texts: Iterable[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def main() -> None:
    name, path, ngram, permutations = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    texts = pq.read_table(path, columns=["text"])["text"].to_pylist()
    run = PEERS[name]
    run(texts[:20], ngram, permutations)
    limit, done, spent = 20.0, 0, 0.0
    # Slow peers measure a share of the documents: after 20 CPU-seconds they stop.
    step = len(texts) if name in ("daft", "polars + rensa") else 500
    while done < len(texts) and spent < limit:
        batch = texts[done : done + step]
        started = time.process_time()
        run(batch, ngram, permutations)
        spent += time.process_time() - started
        done += len(batch)
    print(json.dumps({"cpu_s": spent, "documents": done, "bytes": size(texts[:done]), "permutations": permutations}))


if __name__ == "__main__":
    main()
