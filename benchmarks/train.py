"""Contrastive steps: ours beside sentence-transformers' CachedMultipleNegativesRankingLoss, on the same backbone and pairs.

Run as `make bench-train`. Every measurement is a process of its own (its peak memory is the process's), with the same fresh
4-layer decoder, the same tokenised pairs (docstring and code of installed functions, neighbouring paragraphs of PEPs where
`../shared/data` is there), the same threads and AdamW. "equal precision" is bf16 autocast for both, their chunks by as many
tokens as ours; "defaults" is each as it comes. Losses of the first step are compared before a time counts.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from cpt_ray.evaluate.report import machine

RESULT = Path(__file__).parent / "results" / "train.json"
PEPS = Path(__file__).parents[2] / "shared" / "data" / "text" / "peps.jsonl.gz"
LONGEST = 126
PEER = "sentence-transformers CachedMultipleNegativesRankingLoss"
SCALE = 20.0


def pairs(count: int) -> list[tuple[str, str]]:
    """`count` distinct pairs, half of them paragraphs of PEPs where there are any."""
    seen: set[str] = set()
    found: list[tuple[str, str]] = []
    for source, most in ((_neighbours(), count // 4), (_functions(), count)):
        for x, y in source:
            if len(found) >= most:
                break
            if x not in seen and y not in seen:
                seen |= {x, y}
                found.append((x, y))
    if len(found) < count:
        raise SystemExit(f"only {len(found):,} pairs on this machine: lower --sizes")
    order = np.random.default_rng(0).permutation(len(found))
    return [found[at] for at in order]


def _functions() -> Iterator[tuple[str, str]]:
    """First paragraph of a docstring and the function without it, of the standard library and installed packages."""
    paths = sysconfig.get_paths()
    for root in (paths["stdlib"], paths["purelib"]):
        for path in sorted(Path(root).rglob("*.py")):
            if root == paths["stdlib"] and "site-packages" in path.parts:
                continue
            try:
                tree = ast.parse(path.read_text(encoding="utf-8"))
            except (SyntaxError, ValueError, OSError):
                continue
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef) and len(node.body) > 1 and (doc := ast.get_docstring(node)):
                    body = ast.unparse(ast.Module(node.body[1:], type_ignores=[]))
                    yield doc.split("\n\n")[0], f"def {node.name}({ast.unparse(node.args)}):\n{body}"


def _neighbours() -> Iterator[tuple[str, str]]:
    if not PEPS.exists():
        return
    with gzip.open(PEPS, "rt") as lines:
        for line in lines:
            pieces = [piece.strip() for piece in json.loads(line)["text"].split("\n\n")]
            pieces = [piece for piece in pieces if len(piece) > 120]
            yield from zip(pieces[::2], pieces[1::2], strict=False)


def prepare(folder: str, count: int) -> None:
    """The model, its tokenizer and the token ids of the pairs, in `folder`."""
    from cpt_ray.model.tokenizer import TokenizerOptions, encode, train_tokenizer
    from cpt_ray.model.weights import ModelOptions, new_language_model

    texts = pairs(count)
    tokenizer = train_tokenizer([text for pair in texts[:4000] for text in pair], TokenizerOptions())
    model = new_language_model(ModelOptions(architecture="gpt2", layers=4, context=256), len(tokenizer), seed=0)
    model.base_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    for name, side in (("x", [x for x, _ in texts]), ("y", [y for _, y in texts])):
        ids = encode(tokenizer, side, LONGEST)
        lengths = np.array([len(row) for row in ids])
        np.savez(Path(folder, f"{name}.npz"), ids=np.concatenate(ids), ends=lengths.cumsum())


def load(folder: str, count: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Delimited ids of the first `count` pairs."""
    from cpt_ray.model.delimiters import Delimiters
    from cpt_ray.model.weights import load_tokenizer

    marks = Delimiters.of(load_tokenizer(folder))
    sides: list[list[np.ndarray]] = []
    for name in ("x", "y"):
        file = np.load(Path(folder, f"{name}.npz"))
        rows = np.split(file["ids"], file["ends"][:-1])[:count]
        sides.append([marks.wrap(row, "x" if name == "x" else "y") for row in rows])
    return sides[0], sides[1]


def ours(folder: str, batch: int, precision: str, chunk: int, keep: int, steps: int) -> dict[str, Any]:
    from cpt_ray.model.delimiters import Delimiters
    from cpt_ray.model.encoder import Encoder
    from cpt_ray.model.weights import ModelOptions, load_backbone, load_tokenizer
    from cpt_ray.train.collectives import Workers
    from cpt_ray.train.engine import make_engine
    from cpt_ray.train.grad_cache import GradCache, Pairs
    from cpt_ray.train.options import TrainOptions
    from cpt_ray.train.temperature import Temperature

    x, y = load(folder, batch)
    number = np.arange(batch, dtype=np.int64)
    marks = Delimiters.of(load_tokenizer(folder))
    data = Pairs(x, y, [], 0, number, number, number, np.empty(0, np.int64), marks)
    options = TrainOptions(workers=0, engine="reference", precision=precision)
    encoder = Encoder(load_backbone(ModelOptions(init=folder), 0, 0), marks, autocast=precision == "bf16")
    engine = make_engine(encoder, options, Workers.alone())
    temperature = Temperature(1 / SCALE, trained=False)
    cache = GradCache(engine, temperature, Workers.alone(), chunk_tokens=chunk, keep_bytes=keep << 20)
    return _timed(lambda: cache.step(data, 1e-4, 0.0).loss, batch, steps)


def theirs(folder: str, batch: int, precision: str, chunk: int, steps: int) -> dict[str, Any]:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    x, y = load(folder, batch)

    def features(rows: list[np.ndarray]) -> dict[str, Any]:
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        for at, row in enumerate(rows):
            ids[at, : len(row)] = row
        lengths = np.array([len(row) for row in rows])
        mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask), "modality": "text"}

    transformer = Transformer(folder)
    model = SentenceTransformer(modules=[transformer, Pooling(256, "lasttoken"), Normalize()], device="cpu").train()
    size = {"mini_batch_num_tokens": chunk} if chunk else {}
    # Both directions, as in the paper and in ours; theirs is one-directional unless told.
    loss = CachedMultipleNegativesRankingLoss(model, scale=SCALE, **size, **BOTH_WAYS)
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-4)
    inputs = [features(x), features(y)]

    def step() -> float:
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            value = loss([dict(one) for one in inputs], None)
            value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return float(value.detach())

    return _timed(step, batch, steps)


BOTH_WAYS: dict[str, Any] = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}


def _timed(step: Any, batch: int, steps: int) -> dict[str, Any]:
    times, losses = [], []
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    for _ in range(steps):
        started = time.perf_counter()
        losses.append(step())
        times.append(time.perf_counter() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"pairs_per_second": batch / min(times), "peak_mb": peak, "base_mb": before, "loss": losses[0]}


def measure(which: str, folder: str, **arguments: Any) -> dict[str, Any]:
    """One measurement in a process of its own."""
    given = json.dumps({"which": which, "folder": folder, **arguments})
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1]), "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, __file__, "--one", given], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024, 4096, 12288])
    parser.add_argument("--most-of-peer", type=int, default=4096, help="largest batch of the peer as it comes (hours)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        given = json.loads(arguments.one)
        function = {"ours": ours, "theirs": theirs}[given.pop("which")]
        print(json.dumps(function(**given)))
        return 0
    rows: list[dict[str, Any]] = []

    def row(case: str, metric: str, value: float, peer: float | None, better: float | None) -> None:
        name = PEER if peer is not None else None
        rows.append(
            {"case": case, "metric": metric, "ours_value": round(value, 2), "peer": name}
            | {"peer_value": None if peer is None else round(peer, 2)}
            | {"ratio": None if better is None else round(better, 2)}
        )
        shown = "" if peer is None else f"   peer {peer:9.1f}   ratio {better:5.2f}"
        print(f"{case:<32} {metric:<10} ours {value:9.1f}{shown}", flush=True)

    with tempfile.TemporaryDirectory() as folder:
        prepare(folder, max(arguments.sizes))
        for batch in arguments.sizes:
            steps = 3 if batch <= 1024 else 2 if batch <= 4096 else 1
            same = {"batch": batch, "precision": "bf16", "chunk": 4096, "steps": steps}
            mine, other = measure("ours", folder, keep=512, **same), measure("theirs", folder, **same)
            if abs(mine["loss"] - other["loss"]) > 0.01 * other["loss"]:
                raise SystemExit(f"the losses differ: {mine['loss']} and {other['loss']}")
            speed = mine["pairs_per_second"], other["pairs_per_second"]
            row(f"equal precision, B={batch}", "pairs/s", *speed, speed[0] / speed[1])
            row(f"peak memory, B={batch}", "MB", mine["peak_mb"], other["peak_mb"], other["peak_mb"] / mine["peak_mb"])
            if batch <= arguments.most_of_peer:
                default = measure("ours", folder, batch=batch, precision="bf16", chunk=4096, keep=512, steps=steps)
                peer = measure("theirs", folder, batch=batch, precision="fp32", chunk=0, steps=1)
                speed = default["pairs_per_second"], peer["pairs_per_second"]
                row(f"defaults, B={batch}", "pairs/s", *speed, speed[0] / speed[1])
    versions = {name: metadata.version(name) for name in ("torch", "transformers", "sentence-transformers")}
    result = {"area": "train", "machine": machine(), "versions": versions, "rows": rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
