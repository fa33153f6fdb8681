"""Contrastive steps: ours beside sentence-transformers' CachedMultipleNegativesRankingLoss and GradCache (arXiv 2101.06983).

Run as `make bench-train`, or with `--grad-cache FOLDER` where FOLDER is a checkout of github.com/luyug/GradCache, which is on
no package index. Every measurement is a process of its own, and its peak memory the process's; all have the same fresh
decoder (4 layers, 256 wide), the same token ids of real pairs (docstring and code of installed functions, neighbouring
paragraphs of PEPs where `../shared/data` is there) cut at the lengths that the batches have by default, the same threads
and AdamW.

    equal precision   all in bf16 autocast, and again in fp32; chunks of equally many tokens and no graph kept; the loss in
                      both directions. sentence-transformers' loss goes by 512 rows, where it is faster than by its 32.
                      Pairs per CPU-second stand beside pairs/s: they say the same on a machine that others use too.
    defaults          each as it comes. sentence-transformers: fp32, 32 texts a chunk, one direction. GradCache has no
                      defaults but fp32 and its loss of one direction: 32 texts a chunk. Ours: TrainOptions().
    peak memory       of the bf16 runs in equal precision
    S preset          on a GPU; without one, the same steps in miniature on the CPU
    no bf16           defaults again, on a processor whose bf16 and AVX-512 instructions are hidden from oneDNN, ATen and MKL
                      (HIDDEN), beside ours with precision=bf16, the default before it was measured. What is hidden is the
                      choice of kernels: clock and caches stay those of the machine.

Losses of the first step must agree to 1 % before a time counts.
"""

from __future__ import annotations

import argparse
import ast
import gzip
import json
import os
import shlex
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cpt_ray.evaluate.report import machine
from cpt_ray.memory import peak_rss
from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.encoder import Encoder
from cpt_ray.model.options import ModelOptions, TokenizerOptions
from cpt_ray.model.precision import Shape
from cpt_ray.model.tokenizer import encode, train_tokenizer
from cpt_ray.model.weights import load_backbone, load_tokenizer, new_language_model
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import make_engine
from cpt_ray.train.faster import faster
from cpt_ray.train.flops import TRAINING, weights_of
from cpt_ray.train.grad_cache import GradCache, Pairs
from cpt_ray.train.options import TrainOptions
from cpt_ray.train.temperature import Temperature

RESULT = Path(__file__).parent / "results" / "train.json"
PEPS = Path(__file__).parents[2] / "shared" / "data" / "text" / "peps.jsonl.gz"
SENTENCE_TRANSFORMERS = "sentence-transformers CachedMultipleNegativesRankingLoss"
GRAD_CACHE = "GradCache"
BACKBONE = ModelOptions(architecture="gpt2", layers=4, context=128)
PRESET_S = ModelOptions(architecture="gpt2", hidden_size=1024, layers=24, heads=16, context=128)
CHUNK = 4096
SCALE = 20.0
RATE = 1e-4
HIDDEN = {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
"""A processor as if it had AVX2 and no more."""
BF16_PEAK = {"H200": 989.0, "H100": 989.0, "A100": 312.0}
"""Dense bf16 TFLOPS by a part of the card's name (NVIDIA's data sheets)."""


def pairs(count: int) -> list[tuple[str, str]]:
    """`count` distinct pairs, a quarter of them paragraphs of PEPs where there are any."""
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


def prepare(folder: str, texts: list[tuple[str, str]], model: ModelOptions) -> None:
    """The backbone, its tokenizer and the token ids of the pairs, in `folder`."""
    limits = BatchOptions()
    tokenizer = train_tokenizer([text for pair in texts[:4000] for text in pair], TokenizerOptions())
    new_language_model(model, len(tokenizer), seed=0).base_model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sides = {"x": ([x for x, _ in texts], limits.max_x_tokens), "y": ([y for _, y in texts], limits.max_y_tokens)}
    for name, (side, most) in sides.items():
        ids = encode(tokenizer, side, most)
        lengths = np.array([len(row) for row in ids])
        np.savez(Path(folder, f"{name}.npz"), ids=np.concatenate(ids), ends=lengths.cumsum())


def load(folder: str, count: int) -> tuple[Pairs, Delimiters]:
    """The first `count` pairs, all of them different."""
    marks = Delimiters.of(load_tokenizer(folder))
    sides: dict[str, list[np.ndarray]] = {}
    for name in ("x", "y"):
        file = np.load(Path(folder, f"{name}.npz"))
        rows = np.split(file["ids"], file["ends"][:-1])[:count]
        sides[name] = [marks.wrap(row, "x" if name == "x" else "y") for row in rows]
    number = np.arange(count, dtype=np.int64)
    return Pairs(sides["x"], sides["y"], [], 0, number, number, number, np.empty(0, np.int64), marks), marks


def padded(rows: list[np.ndarray]) -> dict[str, Tensor]:
    """What a tokenizer's collation gives: ids and attention mask, padded to the longest."""
    lengths = np.array([len(row) for row in rows])
    ids = np.zeros((len(rows), lengths.max()), np.int64)
    for at, row in enumerate(rows):
        ids[at, : len(row)] = row
    mask = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
    return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}


def ours(folder: str, batch: int, steps: int, device: str, peak_tflops: float, **changes: Any) -> dict[str, Any]:
    """Steps of this project's engine with TrainOptions, changed by `changes`."""
    data, marks = load(folder, batch)
    options = TrainOptions(workers=0, engine="reference", gpu=device == "cuda", **changes)
    workers = Workers.alone(device)
    backbone = load_backbone(ModelOptions(init=folder), 0, 0)
    if options.precision == "auto":
        shape = Shape.of(backbone.config, sequence=int(data.lengths().max()), trained=True)
        options = options.model_copy(update={"precision": faster(shape, options).precision})
    encoder = Encoder(backbone, marks, autocast=options.precision == "bf16")
    engine = make_engine(encoder, options, workers)
    cache = GradCache.of(options, engine, Temperature(1 / SCALE, trained=False, device=device), workers)
    found = timed(lambda: cache.step(data.dealt(workers), RATE, 0.0).loss, batch, steps, device)
    if peak_tflops:
        flops = TRAINING * weights_of(encoder.backbone).products(int(data.lengths().sum()), texts=len(data.pool()))
        found["mfu"] = flops / found["seconds"] / (peak_tflops * 1e12)
    return found


def sentence_transformers(
    folder: str, batch: int, steps: int, device: str, precision: str, chunk: int | None
) -> dict[str, Any]:
    """Steps of CachedMultipleNegativesRankingLoss; without `chunk`, as it comes."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.losses import CachedMultipleNegativesRankingLoss
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    data, _ = load(folder, batch)
    inputs = [{**padded(rows), "modality": "text"} for rows in (data.x, data.y)]
    inputs = [{k: v.to(device) if isinstance(v, Tensor) else v for k, v in one.items()} for one in inputs]
    transformer = Transformer(folder)
    width = transformer.get_embedding_dimension()
    model = SentenceTransformer(modules=[transformer, Pooling(width, "lasttoken"), Normalize()], device=device).train()
    both: dict[str, Any] = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    settings = {} if chunk is None else {"mini_batch_num_tokens": chunk, "mini_batch_size": 512, **both}
    loss = CachedMultipleNegativesRankingLoss(model, scale=SCALE, **settings)

    def run() -> float:
        value = loss([dict(one) for one in inputs], None)
        value.backward()
        return float(value.detach())

    return timed(stepping(run, model, precision, device), batch, steps, device)


class LastToken(torch.nn.Module):
    """A decoder read at the last token of the mask, as users of GradCache write it."""

    def __init__(self, folder: str) -> None:
        super().__init__()
        self.backbone = load_backbone(ModelOptions(init=folder), 0, 0)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False).last_hidden_state
        last = attention_mask.sum(dim=1) - 1
        return F.normalize(hidden[torch.arange(len(hidden), device=hidden.device), last].float(), dim=-1)


def grad_cache(
    folder: str, batch: int, steps: int, device: str, precision: str, chunk: int | None, checkout: str
) -> dict[str, Any]:
    """Steps of github.com/luyug/GradCache; without `chunk`, 32 texts at a time and a loss of one direction."""
    sys.path.insert(0, str(Path(checkout, "src")))
    from grad_cache import GradCache as Peer
    from grad_cache.loss import SimpleContrastiveLoss

    data, _ = load(folder, batch)
    inputs = [{name: value.to(device) for name, value in padded(rows).items()} for rows in (data.x, data.y)]
    model = LastToken(folder).to(device).train()

    def both(x: Tensor, y: Tensor) -> Tensor:
        logits, right = SCALE * x @ y.T, torch.arange(len(x), device=x.device)
        return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2

    one_way = SimpleContrastiveLoss()
    rows = [32, 32] if chunk is None else [chunk // one["input_ids"].shape[1] for one in inputs]
    loss = (lambda x, y: one_way(SCALE * x, y)) if chunk is None else both
    peer = Peer(models=[model, model], chunk_sizes=rows, loss_fn=loss)
    return timed(stepping(lambda: float(peer(*inputs)), model, precision, device), batch, steps, device)


def stepping(run: Callable[[], float], model: torch.nn.Module, precision: str, device: str) -> Callable[[], float]:
    """A whole step around `run`, which leaves gradients in the model: autocast, clipping and AdamW as ours."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)

    def step() -> float:
        with torch.autocast(device, torch.bfloat16, enabled=precision == "bf16"):
            loss = run()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        return loss

    return step


def timed(step: Callable[[], float], batch: int, steps: int, device: str) -> dict[str, Any]:
    """The fastest of `steps` steps, the first step's loss, and the peak memory in MB of the process, or of its GPU."""
    times, cpu, losses = [], [], []
    before = peak_rss() / 2**20
    for _ in range(steps):
        started, busy = time.perf_counter(), time.process_time()
        losses.append(step())
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
        cpu.append(time.process_time() - busy)
    peak = peak_rss() / 2**20
    if device == "cuda":
        before, peak = 0.0, torch.cuda.max_memory_allocated() / 2**20
    seconds = min(times)
    return {
        "seconds": seconds,
        "pairs_per_second": batch / seconds,
        "pairs_per_cpu_second": batch / min(cpu),
        "peak_mb": peak,
        "base_mb": before,
        "loss": losses[0],
    }


TOOLS: dict[str, Callable[..., dict[str, Any]]] = {
    "ours": ours,
    SENTENCE_TRANSFORMERS: sentence_transformers,
    GRAD_CACHE: grad_cache,
}


def in_its_own_process(
    script: str, given: dict[str, Any], environment: dict[str, str], prefix: Sequence[str] = ()
) -> Any:
    """What `script --one <given as JSON>` prints as its last line, also JSON, where nothing was imported before: what
    libraries read of the environment counts, and the peak memory is that of this one measurement."""
    own = {"PYTHONPATH": str(Path(__file__).parents[1]), "TOKENIZERS_PARALLELISM": "false"}
    own["OMP_WAIT_POLICY"] = "PASSIVE"  # a thread that spins while it waits would count as work
    command = [*prefix, sys.executable, script, "--one", json.dumps(given)]
    done = subprocess.run(command, env=os.environ | own | environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{Path(script).stem} failed with {given}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


class Bench:
    """Runs tools in processes of their own, checks that they agree, and keeps the rows."""

    def __init__(self, folder: str, peers: dict[str, dict[str, Any]], prefix: str) -> None:
        self.folder, self.peers, self.prefix = folder, peers, shlex.split(prefix)
        self.rows: list[dict[str, Any]] = []
        self.environment: dict[str, str] = {}

    def measure(self, tool: str, **arguments: Any) -> dict[str, Any]:
        """One measurement in a process of its own."""
        given = {"tool": tool, "folder": self.folder, **arguments}
        found: dict[str, Any] = in_its_own_process(__file__, given, self.environment, self.prefix)
        shown = "  ".join(f"{name} {value:,.4g}" for name, value in found.items())
        print(f"    {tool} {arguments}: {shown}", file=sys.stderr, flush=True)
        return found

    def row(
        self, case: str, metric: str, ours: float, peer: str | None, theirs: float | None, ratio: float | None
    ) -> None:
        """`ratio` is how many times better ours is."""
        self.rows.append(
            {"case": case, "metric": metric, "ours_value": round(ours, 3), "peer": peer}
            | {"peer_value": None if theirs is None else round(theirs, 3)}
            | {"ratio": None if ratio is None else round(ratio, 2)}
        )
        shown = "" if theirs is None else f"   {theirs:10,.1f} {ratio:6.2f} x   {peer}"
        save(self.rows)
        print(f"{case:<28} {metric:<15} {ours:10,.1f}{shown}", flush=True)

    def equal_precision(self, batch: int, precision: str, steps: int) -> None:
        """Same precision and chunk tokens; with bf16 the memory of the same runs too."""
        mine = self.measure("ours", batch=batch, steps=steps, precision=precision, **LEAN, **ON_CPU)
        for peer, more in self.peers.items():
            other = self.measure(peer, batch=batch, steps=steps, device="cpu", precision=precision, chunk=CHUNK, **more)
            agree(mine, other, peer)
            for unit, name in (("pairs/s", "pairs_per_second"), ("pairs/CPU-s", "pairs_per_cpu_second")):
                self.row(
                    f"equal precision, B={batch}",
                    f"{unit}, {precision}",
                    mine[name],
                    peer,
                    other[name],
                    mine[name] / other[name],
                )
            if precision == "bf16":
                memory = mine["peak_mb"], peer, other["peak_mb"]
                self.row(f"peak memory, B={batch}", "MB", *memory, memory[2] / memory[0])

    def defaults(self, batch: int, steps: int) -> None:
        """Each as it comes. The losses differ by direction, so they were compared in equal precision."""
        mine = self.measure("ours", batch=batch, steps=steps, **ON_CPU)
        for peer, more in self.peers.items():
            other = self.measure(peer, batch=batch, steps=steps, device="cpu", precision="fp32", chunk=None, **more)
            for unit, name in (("pairs/s", "pairs_per_second"), ("pairs/CPU-s", "pairs_per_cpu_second")):
                self.row(f"defaults, B={batch}", unit, mine[name], peer, other[name], mine[name] / other[name])

    def hidden(self, batch: int, steps: int) -> None:
        """Defaults without bf16 instructions: beside the peers', and beside our own default before."""
        self.environment = HIDDEN
        case, unit, name = f"no bf16, B={batch}", "pairs/CPU-s", "pairs_per_cpu_second"
        mine = self.measure("ours", batch=batch, steps=steps, **ON_CPU)
        before = self.measure("ours", batch=batch, steps=1, precision="bf16", **ON_CPU)
        agree(mine, before, "ours before")
        self.row(case, unit, mine[name], "before", before[name], mine[name] / before[name])
        for peer, more in self.peers.items():
            other = self.measure(peer, batch=batch, steps=steps, device="cpu", precision="fp32", chunk=None, **more)
            self.row(case, unit, mine[name], peer, other[name], mine[name] / other[name])
        self.environment = {}

    def preset(self, texts: list[tuple[str, str]]) -> None:
        """The S preset at 12,288 pairs on a GPU; the benchmark's own backbone at 256 on the CPU when there is none."""
        if torch.cuda.is_available():
            card = torch.cuda.get_device_name()
            case, batch, device = f"S preset, B=12288, one {card}", 12288, "cuda"
            peak = next((value for name, value in BF16_PEAK.items() if name in card), 0.0)
            chunk, keep = 65536, int(torch.cuda.get_device_properties(0).total_memory * 0.6) >> 20
            with tempfile.TemporaryDirectory() as folder:
                prepare(folder, texts, PRESET_S)
                own, self.folder = self.folder, folder
                self._preset(case, batch, device, peak, chunk, keep)
                self.folder = own
            return
        print("no GPU is at hand: the S preset's steps in miniature on the CPU (4 layers, 256 wide, 256 pairs)")
        case = "S preset in miniature on CPU, B=256"
        self._preset(case, 256, "cpu", matmul_tflops(), CHUNK, TrainOptions().keep_graphs_mb)

    def _preset(self, case: str, batch: int, device: str, peak: float, chunk: int, keep: int) -> None:
        mine = self.measure(
            "ours", batch=batch, steps=3, device=device, peak_tflops=peak, chunk_tokens=chunk, keep_graphs_mb=keep
        )
        other = self.measure(SENTENCE_TRANSFORMERS, batch=batch, steps=3, device=device, precision="bf16", chunk=chunk)
        agree(mine, other, SENTENCE_TRANSFORMERS)
        speeds = mine["pairs_per_second"], SENTENCE_TRANSFORMERS, other["pairs_per_second"]
        self.row(case, "pairs/s, bf16", *speeds, speeds[0] / speeds[2])
        self.row(
            case,
            "peak MB",
            mine["peak_mb"],
            SENTENCE_TRANSFORMERS,
            other["peak_mb"],
            other["peak_mb"] / mine["peak_mb"],
        )
        if peak:
            self.row(case, "MFU", mine["mfu"], None, None, None)


ON_CPU: dict[str, Any] = {"device": "cpu", "peak_tflops": 0.0}
LEAN: dict[str, Any] = {"chunk_tokens": CHUNK, "keep_graphs_mb": 0}


def agree(mine: dict[str, Any], other: dict[str, Any], peer: str) -> None:
    if abs(mine["loss"] - other["loss"]) > 0.01 * other["loss"]:
        raise SystemExit(f"the losses differ, ours {mine['loss']} and {other['loss']} of {peer}: no time counts")


def matmul_tflops(size: int = 2048) -> float:
    """The bf16 peak that this CPU shows in a large matrix product."""
    a = torch.randn(size, size, dtype=torch.bfloat16)
    best = float("inf")
    for _ in range(5):
        started = time.perf_counter()
        a @ a
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best / 1e12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[256, 1024, 4096, 12288])
    parser.add_argument(
        "--largest-fp32", type=int, default=12288, help="largest batch that is run in fp32, peers' defaults too"
    )
    parser.add_argument("--grad-cache", help="folder of a checkout of github.com/luyug/GradCache")
    parser.add_argument("--prefix", default="", help="put before each measured command, such as 'flock FILE'")
    parser.add_argument(
        "--only", nargs="+", choices=("equal", "defaults", "preset", "hidden"), help="parts to run; rows are merged"
    )
    parser.add_argument("--table", action="store_true", help="print what was measured as Markdown, and end")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        given = json.loads(arguments.one)
        print(json.dumps(TOOLS[given.pop("tool")](**given)))
        return 0
    if arguments.table:
        print(table())
        return 0
    peers: dict[str, dict[str, Any]] = {SENTENCE_TRANSFORMERS: {}}
    if arguments.grad_cache:
        peers[GRAD_CACHE] = {"checkout": os.path.abspath(arguments.grad_cache)}
    else:
        print("GradCache is left out: it is on no package index; give a checkout by --grad-cache FOLDER")
    parts = set(arguments.only or ("equal", "defaults", "preset", "hidden"))
    with tempfile.TemporaryDirectory() as folder:
        texts = pairs(max(arguments.sizes))
        prepare(folder, texts, BACKBONE)
        bench = Bench(folder, peers, arguments.prefix)
        for batch in arguments.sizes:
            steps = 3 if batch <= 256 else 1
            if "equal" in parts:
                bench.equal_precision(batch, "bf16", steps)
                if batch <= arguments.largest_fp32:
                    bench.equal_precision(batch, "fp32", steps)
            if "defaults" in parts and batch <= arguments.largest_fp32:
                bench.defaults(batch, steps)
            if "hidden" in parts and batch <= 1024:
                bench.hidden(batch, steps)
        if "preset" in parts:
            bench.preset(texts)
    return 0


def table() -> str:
    """The rows of the result as Markdown."""
    lines = ["| case | unit | ours | peer | theirs | times better |", "|---|---|---|---|---|---|"]
    for row in json.loads(RESULT.read_text())["rows"]:
        ours, theirs = row["ours_value"], row["peer_value"]
        peer = (row["peer"] or "").split(" ")[0]
        values = [row["case"], row["metric"], f"{ours:,.3g}" if ours < 1000 else f"{ours:,.0f}", peer]
        values += (
            ["", ""] if theirs is None else [f"{theirs:,.3g}" if theirs < 1000 else f"{theirs:,.0f}", f"{row['ratio']}"]
        )
        lines.append("| " + " | ".join(values) + " |")
    return "\n".join(lines)


def save(rows: list[dict[str, Any]]) -> None:
    """Write the rows; rows of other cases that an earlier run left stay."""
    names = ("torch", "transformers", "sentence-transformers")
    versions = {name: metadata.version(name) for name in names} | {GRAD_CACHE: "0.1.0 (git)"}
    key = ("case", "metric", "peer")
    fresh = {tuple(row[name] for name in key) for row in rows}
    old = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else []
    kept = [row for row in old if tuple(row[name] for name in key) not in fresh]
    result = {"area": "train", "machine": machine(), "versions": versions, "rows": kept + rows}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
