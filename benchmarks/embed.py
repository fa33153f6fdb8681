"""Batch embedding: our embedder beside sentence-transformers on the same weights, texts, threads and precision.

Run as `make bench-embed [MODEL=folder]`: the model is a folder that training wrote (outputs/demo's code model if it
is there); without one a decoder of the demo's size with fresh weights is made, which costs the same to run. Texts are
functions of the standard library. The vectors of both are compared before a time counts.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import sysconfig
import tempfile
import textwrap
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from sentence_transformers import SentenceTransformer

from cpt_ray.evaluate.report import machine
from cpt_ray.model import encoding
from cpt_ray.model.embedder import Embedder
from cpt_ray.model.weights import INFO

RESULT = Path(__file__).parent / "results" / "embed.json"
TEXTS = 512
ROUNDS = 3


def functions(count: int) -> list[str]:
    """Source of the standard library's functions, every so many, in the order of path and line."""
    found = []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        source = path.read_text(encoding="utf-8", errors="replace")
        nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef)]
        lines = source.splitlines(keepends=True)
        # Stripped, because sentence-transformers strips its texts.
        found += [textwrap.dedent("".join(lines[node.lineno - 1 : node.end_lineno])).strip() for node in nodes]
    return found[:: max(1, len(found) // count)][:count]


def fresh_model(folder: str, texts: list[str]) -> str:
    """A decoder of the default size with fresh weights and a byte-level tokenizer of 8,192 tokens, saved to
    `folder`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from cpt_ray.model.delimiters import Delimiters
    from cpt_ray.model.encoder import Encoder
    from cpt_ray.model.options import ModelOptions
    from cpt_ray.model.weights import ModelInfo, new_language_model, save_model

    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    end = "<|endoftext|>"
    trainer = trainers.BpeTrainer(vocab_size=8192, initial_alphabet=alphabet, special_tokens=[end], show_progress=False)
    raw.train_from_iterator(texts, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token=end)
    options = ModelOptions()
    backbone = new_language_model(options, len(tokenizer), seed=0).base_model
    delimiters = Delimiters.of(tokenizer)
    info = ModelInfo(
        delimiters=delimiters.to_dict(),
        max_x_tokens=64,
        max_y_tokens=126,
        temperature=20.0,
        embedding_dimension=options.hidden_size,
    )
    save_model(Encoder(backbone, delimiters), tokenizer, info, folder, backbone.state_dict())
    return folder


def best_times(work: dict[str, Callable[[], np.ndarray]]) -> dict[str, tuple[float, np.ndarray]]:
    """Seconds of the fastest of several rounds, and the vectors. All take their turn in each round, so that what else
    the machine does falls on all of them."""
    encoding.KNOWN = 0  # the words of a round are forgotten: a job meets its texts once
    best: dict[str, tuple[float, np.ndarray]] = {}
    for _ in range(ROUNDS):
        for name, run in work.items():
            started = time.perf_counter()
            vectors = run()
            seconds = time.perf_counter() - started
            best[name] = min(best.get(name, (float("inf"), vectors)), (seconds, vectors), key=lambda pair: pair[0])
    return best


def measure(folder: str, texts: list[str]) -> list[dict]:
    """Rows of the result: ours against sentence-transformers with its default batch size and with a larger one."""
    full, half, peer = Embedder(folder), Embedder(folder, precision="bf16"), SentenceTransformer(folder, device="cpu")
    for warm in (full.embed, half.embed):
        warm(texts[:32], "y")
    peer.encode_document(texts[:32])
    sizes = (32, 128)
    times = best_times(
        {"ours": lambda: full.embed(texts, "y"), "bf16": lambda: half.embed(texts, "y")}
        | {f"{size}": lambda size=size: peer.encode_document(texts, batch_size=size) for size in sizes}
        | {f"bf16 {size}": lambda size=size: in_bf16(peer, texts, size) for size in sizes}
    )
    rows = []
    for size in sizes:
        difference = float(np.abs(times["ours"][1] - times[f"{size}"][1]).max())
        if difference > 1e-4:
            raise SystemExit(f"sentence-transformers' vectors differ by {difference:.2g}: the times cannot be compared")
        name = f"sentence-transformers, batches of {size}"
        rows.append(row("functions, fp32", len(texts) / times["ours"][0], name, len(texts) / times[f"{size}"][0]))
        away = float((1 - (times["bf16"][1] * times[f"bf16 {size}"][1]).sum(axis=1)).max())
        if away > 1e-3:
            raise SystemExit(f"the vectors in bf16 are {away:.2g} of a cosine apart: the times cannot be compared")
        theirs = len(texts) / times[f"bf16 {size}"][0]
        rows.append(row("functions, bf16", len(texts) / times["bf16"][0], name, theirs))
    return rows


def in_bf16(peer: SentenceTransformer, texts: list[str], size: int) -> np.ndarray:
    """The peer's vectors when its products are in bf16 over fp32 weights, as ours are."""
    with torch.autocast("cpu", torch.bfloat16):
        found = peer.encode_document(texts, batch_size=size, convert_to_tensor=True)
    return torch.nn.functional.normalize(found.float(), dim=1).numpy()


def row(case: str, ours: float, peer: str | None, theirs: float | None) -> dict:
    """One line of the result."""
    return {
        "case": case,
        "metric": "texts/s",
        "ours_value": round(ours, 1),
        "peer": peer,
        "peer_value": None if theirs is None else round(theirs, 1),
        "ratio": None if theirs is None else round(ours / theirs, 2),
    }


def main() -> None:
    """Measure, print the table, write the JSON."""
    texts = functions(TEXTS)
    given = os.environ.get("MODEL") or next(
        (str(p.parent) for p in Path("outputs/demo").glob(f"**/code*/**/{INFO}")), ""
    )
    with tempfile.TemporaryDirectory() as scratch:
        rows = measure(given or fresh_model(scratch, texts), texts)
    versions = {"python": platform.python_version()}
    versions |= {name: metadata.version(name) for name in ("torch", "transformers", "sentence-transformers")}
    result = {
        "area": "embed",
        "machine": machine() | {"threads": str(torch.get_num_threads())},
        "versions": versions,
        "rows": rows,
    }
    table = Table("case", "metric", "ours", "peer", "theirs", "ratio", box=None)
    for each in rows:
        table.add_row(*("" if value is None else str(value) for value in each.values()))
    Console(width=120).print(f"model: {given or 'fresh weights'}, {len(texts):,} texts", table)
    os.makedirs(RESULT.parent, exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
