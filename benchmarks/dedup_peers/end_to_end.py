"""One tool's whole deduplication, text in and kept ids out, in a process of its own: run by benchmarks/dedup.py.

    python benchmarks/dedup_peers/end_to_end.py <tool> <folder of Parquet parts (doc_id, text)> <work folder>

writes <work folder>/kept.parquet (doc_id). All tools: word 5-grams, similarity 0.8, 14 bands of 9 (datatrove: 14 of 8,
its own default), two processes where they have processes.
"""

from __future__ import annotations

import glob
import json
import os
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq

PROCESSES = 2


def ours(source: str, work: str) -> list[str]:
    """cpt_ray.dedup, in one process and without Ray."""
    from cpt_ray.artifacts import read_table
    from cpt_ray.dedup.cluster import deduplicate
    from cpt_ray.dedup.options import DedupOptions

    manifest = deduplicate(f"{work}/clusters", sorted(glob.glob(f"{source}/*.parquet")), options=DedupOptions())
    with open(f"{work}/manifest.json", "w") as sink:
        json.dump({"extra": manifest.extra, "ledger": manifest.ledger}, sink)
    table = read_table(f"{work}/clusters", ["doc_id", "kept"])
    return table.filter(table["kept"])["doc_id"].to_pylist()


def datatrove(source: str, work: str) -> list[str]:
    """Its four stages on the local executor."""
    from datatrove.executor import LocalPipelineExecutor
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    config = MinhashConfig()
    tasks = len(glob.glob(f"{source}/*.parquet"))
    reader = ParquetReader(source, text_key="text", id_key="doc_id")
    stages = [
        (tasks, [reader, MinhashDedupSignature(f"{work}/signatures", config)]),
        (config.num_buckets, [MinhashDedupBuckets(f"{work}/signatures", f"{work}/buckets", config=config)]),
        (1, [MinhashDedupCluster(f"{work}/buckets", f"{work}/remove", config=config)]),
        (tasks, [reader, MinhashDedupFilter(f"{work}/remove"), ParquetWriter(f"{work}/kept")]),
    ]
    for n, (count, pipeline) in enumerate(stages):
        LocalPipelineExecutor(
            pipeline=pipeline, tasks=count, workers=min(PROCESSES, count), logging_dir=f"{work}/logs-{n}"
        ).run()
    return pq.read_table(f"{work}/kept", columns=["id"])["id"].to_pylist()


def text_dedup(source: str, work: str) -> list[str]:
    """Its MinHash command line with its faster hash."""
    command = [sys.executable, "-m", "text_dedup.minhash", "--path", "parquet", "--data_files", f"{source}/*.parquet"]
    command += ["--split", "train", "--column", "text", "--output", f"{work}/kept", "--cache_dir", f"{work}/cache"]
    command += ["--ngram", "5", "--num_perm", "128", "--b", "14", "--r", "9", "--hash_func", "xxh3"]
    subprocess.run([*command, "--num_proc", str(PROCESSES)], check=True, cwd=work)
    from datasets import load_from_disk

    return list(load_from_disk(f"{work}/kept")["doc_id"])


def data_juicer(source: str, work: str) -> list[str]:
    """Its Ray operator (BTS union-find). Its `space` knows no line break and glues the words at both sides of one, so
    that a copy in another layout is another text; what separates words becomes a space beforehand."""
    import pyarrow.compute as pc
    import ray
    from data_juicer.ops.deduplicator.ray_bts_minhash_deduplicator import RayBTSMinhashDeduplicator

    # Ray's workers step back for whatever else runs on the machine; the other tools do not.
    os.environ["RAY_worker_niceness"] = "0"  # noqa: SIM112 - its name
    ray.init("local", num_cpus=PROCESSES)
    operator = RayBTSMinhashDeduplicator(
        tokenization="space",
        window_size=5,
        lowercase=True,
        num_permutations=126,
        jaccard_threshold=0.8,
        num_bands=14,
        num_rows_per_band=9,
        union_find_parallel_num=PROCESSES,
        work_dir=f"{work}/juicer",
    )

    def words(table: pa.Table) -> pa.Table:
        text = pc.replace_substring_regex(table["text"], r"[^\pL\pN_]+", " ")
        return table.set_column(table.schema.get_field_index("text"), "text", text)

    documents = ray.data.read_parquet(source).map_batches(words, batch_format="pyarrow")
    operator.run(documents).write_parquet(f"{work}/kept")
    return pq.read_table(f"{work}/kept", columns=["doc_id"])["doc_id"].to_pylist()


TOOLS = {"ours": ours, "datatrove": datatrove, "text-dedup": text_dedup, "data-juicer": data_juicer}


def main() -> None:
    tool, source, work = sys.argv[1:4]
    os.makedirs(work, exist_ok=True)
    kept = TOOLS[tool](source, work)
    pq.write_table(pa.table({"doc_id": pa.array(kept, pa.string())}), f"{work}/kept.parquet")


if __name__ == "__main__":
    main()
