"""What a GPU is worth here, in one command of at most nine minutes, on a machine that has a GPU and nothing else.

    attention   the kernels that the encoder's attention may take, forward and backward, against an fp64 oracle
    step        the S preset (about 300 million weights) at 12,288 pairs, beside sentence-transformers' cached loss: pairs/s,
                MFU, peak memory (benchmarks/train.py has the steps; the first losses must agree before a time counts)
    zero3       DeepSpeed ZeRO-3 of the S preset from nothing: seconds to import, to wrap, to the first step, and of a step
    batch       1,536 pairs a batch against 12,288 at equal examples: MRR on held-out pairs of a small model

Run as `make bench-gpu`, or on such a machine as `python3 benchmarks/gpu.py --wheels FOLDER`: PyTorch is the machine's own,
and what else is missing comes from the folder, which `--fetch FOLDER` fills on a machine with a package index. Every part is
a process of its own, ends when its share of the time is over, and is written to benchmarks/results/gpu.json when it is done.
Without a GPU all parts run in miniature on the CPU, and the rows say so.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "benchmarks" / "results" / "gpu.json"
NEEDED = {
    "deepspeed": "deepspeed",
    "hjson": "hjson",
    "msgpack": "msgpack",
    "py-cpuinfo": "cpuinfo",
    "einops": "einops",
    "pydantic": "pydantic",
    "pydantic-core": "pydantic_core",
    "annotated-types": "annotated_types",
    "typing-inspection": "typing_inspection",
    "typing-extensions": "typing_extensions",
    "psutil": "psutil",
    "pyyaml": "yaml",
    "rich": "rich",
    "zstandard": "zstandard",
    "xxhash": "xxhash",
    "pyarrow": "pyarrow",
    "transformers": "transformers",
    "sentence-transformers": "sentence_transformers",
}
"""What is imported, by the name of its package: what a machine with PyTorch may lack."""

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Scale:
    """How much each part does: on a GPU, or in miniature."""

    device: str
    where: str
    shapes: tuple[tuple[int, int, int, int], ...]
    """Of attention: texts, heads, tokens, width of a head."""
    zero_pairs: int
    examples: int
    batches: tuple[int, int]
    heldout: int
    layers: int

    @staticmethod
    def here() -> Scale:
        import torch

        if torch.cuda.is_available():
            shapes: tuple[tuple[int, int, int, int], ...] = ((512, 16, 128, 64), (128, 16, 512, 64), (16, 16, 2048, 64))
            card = f"one {torch.cuda.get_device_name()}"
            return Scale("cuda", card, shapes, 1024, 12_288 * 32, (1536, 12_288), 1000, 6)
        shapes = ((8, 4, 128, 64), (2, 4, 512, 64))
        return Scale("cpu", "in miniature on the CPU", shapes, 32, 64 * 24, (32, 256), 200, 1)

    def row(self, part: str, metric: str, value: float, peer: str | None = None, other: float | None = None) -> Any:
        """`ratio` is ours to theirs, as they stand."""
        ratio = None if other is None else round(value / other, 3)
        return {"part": part, "where": self.where, "metric": metric, "value": float(f"{value:.4g}")} | (
            {} if other is None else {"peer": peer, "peer_value": float(f"{other:.4g}"), "ratio": ratio}
        )


def attention(scale: Scale) -> Rows:
    """‖out - oracle‖ / ‖oracle‖ of output and gradients, and TFLOPS forward and backward, by kernel and precision."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    backends = {"math": SDPBackend.MATH, "flash": SDPBackend.FLASH_ATTENTION}
    if scale.device == "cuda":
        backends |= {"efficient": SDPBackend.EFFICIENT_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}
    rows = []
    for texts, heads, tokens, width in scale.shapes:
        torch.manual_seed(0)
        given = [torch.randn(texts, heads, tokens, width, device=scale.device) for _ in range(4)]
        few = [one[:2] for one in given]
        for precision in (torch.bfloat16, torch.float32):
            # The oracle sees the inputs as rounded: what is measured is the kernel's own error.
            oracle = _attention(*(one.to(precision).double() for one in few))
            for name, backend in backends.items():
                cast = [one.to(precision) for one in given]
                try:
                    with sdpa_kernel(backend):
                        got = _attention(*(one.to(precision) for one in few))
                        seconds = _seconds(lambda cast=cast: _attention(*cast), scale.device)  # type: ignore[misc]
                except RuntimeError:  # this kernel does not take this precision or shape
                    continue
                worst = max(float((a - b).norm() / b.norm()) for a, b in zip(got, oracle, strict=True))
                case = f"attention {texts}x{heads}x{tokens}x{width}, {name}, {str(precision).removeprefix('torch.')}"
                rows.append(scale.row(case, "relative error", worst))
                # Causal: half of QK^T and of PV forward, two and a half times that backward.
                flops = 3.5 * 2 * texts * heads * tokens * tokens * width
                rows.append(scale.row(case, "TFLOPS", flops / seconds / 1e12))
    return rows


def _attention(q: Any, k: Any, v: Any, gradient: Any) -> list[Any]:
    """Causal attention's output and the gradients of q, k and v under `gradient`, all in fp64."""
    from torch.nn.functional import scaled_dot_product_attention

    q, k, v = (one.detach().requires_grad_(True) for one in (q, k, v))
    out = scaled_dot_product_attention(q, k, v, is_causal=True)
    out.backward(gradient)
    return [one.double() for one in (out.detach(), q.grad, k.grad, v.grad)]


def _seconds(run: Callable[[], Any], device: str, repeats: int = 5) -> float:
    """The median of `repeats` runs after one that warms up."""
    import torch

    times = []
    for _ in range(repeats + 1):
        if device == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return sorted(times[1:])[repeats // 2]


def step(scale: Scale) -> Rows:
    """benchmarks/train.py's preset: the S preset at 12,288 pairs on a GPU, its own backbone at 256 without one."""
    import train

    train.RESULT = Path(os.environ["GPU_SCRATCH"], "train.json")
    with tempfile.TemporaryDirectory() as folder:
        texts = train.pairs(12_288 if scale.device == "cuda" else 256)
        train.prepare(folder, texts, train.BACKBONE)
        bench = train.Bench(folder, {train.SENTENCE_TRANSFORMERS: {}}, "")
        bench.preset(texts)
    return [
        scale.row(row["case"], row["metric"], row["ours_value"], row["peer"], row["peer_value"]) for row in bench.rows
    ]


def zero3(scale: Scale) -> Rows:
    """Seconds of each stage of a start under ZeRO-3, one rank, then of a step; peak memory."""
    started = time.perf_counter()
    import deepspeed  # noqa: F401
    import torch
    import train

    from cpt_ray.memory import peak_rss
    from cpt_ray.model.encoder import Encoder
    from cpt_ray.model.options import ModelOptions
    from cpt_ray.model.weights import load_backbone
    from cpt_ray.train.engine import make_engine
    from cpt_ray.train.grad_cache import GradCache
    from cpt_ray.train.launch import launch
    from cpt_ray.train.options import TrainOptions
    from cpt_ray.train.temperature import Temperature

    marks = [("import", time.perf_counter() - started)]
    preset = train.PRESET_S if scale.device == "cuda" else train.BACKBONE
    options = TrainOptions(workers=0, engine="deepspeed", zero_stage=3, gpu=scale.device == "cuda", precision="bf16")

    def run(folder: str, workers: Any) -> list[tuple[str, float]]:
        data, delimiters = train.load(folder, scale.zero_pairs)
        at = time.perf_counter()
        encoder = Encoder(load_backbone(ModelOptions(init=folder), 0, 0), delimiters, autocast=True)
        engine = make_engine(encoder, options, workers)
        found = [("wrap", time.perf_counter() - at)]
        temperature = Temperature(0.05, trained=False, device=scale.device)
        cache = GradCache.of(options, engine, temperature, workers)
        for name in ("first step", "second step", "third step"):
            at = time.perf_counter()
            cache.step(data.dealt(workers), 1e-4, 0.0)
            if scale.device == "cuda":
                torch.cuda.synchronize()
            found.append((name, time.perf_counter() - at))
        return found

    with tempfile.TemporaryDirectory() as folder:
        train.prepare(folder, train.pairs(scale.zero_pairs), preset)
        marks += launch(run, folder, options, folder)
    case = f"ZeRO-3, {'S preset' if scale.device == 'cuda' else '4 layers, 256 wide'}, {scale.zero_pairs} pairs"
    peak = torch.cuda.max_memory_allocated() if scale.device == "cuda" else peak_rss()
    return [*(scale.row(case, f"seconds, {name}", value) for name, value in marks), scale.row(case, "MB", peak / 2**20)]


def batch(scale: Scale) -> Rows:
    """MRR on held-out pairs after equally many examples, by batch size; the rate goes by the batch's square root."""
    import numpy as np
    import train

    from cpt_ray.model.encoder import Encoder
    from cpt_ray.model.options import ModelOptions
    from cpt_ray.model.weights import load_backbone
    from cpt_ray.train.collectives import Workers
    from cpt_ray.train.engine import make_engine
    from cpt_ray.train.grad_cache import GradCache
    from cpt_ray.train.heldout import evaluate
    from cpt_ray.train.options import TrainOptions
    from cpt_ray.train.temperature import Temperature

    wanted = scale.heldout + max(scale.batches) * (3 if scale.device == "cuda" else 4)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        train.prepare(folder, train.pairs(wanted), ModelOptions(layers=scale.layers, context=128))
        data, delimiters = train.load(folder, wanted)
        held = data.part(np.arange(scale.heldout))
        for size in scale.batches:
            options = TrainOptions(workers=0, engine="reference", gpu=scale.device == "cuda", chunk_tokens=16_384)
            workers, generator = Workers.alone(scale.device), np.random.default_rng(0)
            encoder = Encoder(
                load_backbone(ModelOptions(init=folder), 0, 0), delimiters, autocast=scale.device == "cuda"
            )
            engine = make_engine(encoder, options.model_copy(update={"precision": "fp32"}), workers)
            temperature = Temperature(0.05, trained=False, device=scale.device)
            cache = GradCache.of(options, engine, temperature, workers)
            steps, started = scale.examples // size, time.perf_counter()
            rate = 1e-3 * (size / max(scale.batches)) ** 0.5
            for number in range(steps):
                drawn = scale.heldout + generator.choice(wanted - scale.heldout, size, replace=False)
                warm = min(1.0, (number + 1) / max(steps // 10, 1))
                cache.step(data.part(drawn).dealt(workers), rate * warm * (1 - number / steps), 0.0)
            seconds = time.perf_counter() - started
            found = evaluate(engine, held, temperature, workers, options.chunk_tokens)
            case = f"batch {size:,}, {scale.examples:,} examples, {scale.layers} layers"
            rows.append(scale.row(case, f"MRR among {scale.heldout}", found["heldout_mrr"]))
            rows.append(scale.row(case, "examples/s", steps * size / seconds))
    return rows


PARTS: dict[str, tuple[Callable[[Scale], Rows], float]] = {
    "attention": (attention, 0.1),
    "step": (step, 0.45),
    "zero3": (zero3, 0.2),
    "batch": (batch, 0.25),
}
"""Each with its share of the time; what one leaves over goes to the next."""


def fetch(folder: str, python: str) -> None:
    """Fill `folder` with wheels of what NEEDED names for Python `python`, by this project's constraints."""
    pip, constraints = [sys.executable, "-m", "pip"], ["--no-deps", "-c", str(ROOT / "constraints.txt")]
    # DeepSpeed has no wheel on the index; without its operators the one made here is for every Python.
    command = [*pip, "wheel", "-q", "-w", folder, *constraints, "deepspeed"]
    subprocess.run(command, check=True, env=os.environ | {"DS_BUILD_OPS": "0"})
    command = [*pip, "download", "-q", "-d", folder, *constraints, "--only-binary=:all:", "--python-version", python]
    subprocess.run([*command, *(package for package in NEEDED if package != "deepspeed")], check=True)


def install(folder: str, target: str) -> None:
    """What this Python lacks, from the wheels in `folder` into `target`."""
    missing = [package for package, module in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--find-links", folder]
        subprocess.run([*command, "--target", target, *missing], check=True)


def run(name: str, scratch: str, seconds: float) -> tuple[Rows, str]:
    """The rows of a part in a process of its own, and why there are none."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "benchmarks"), scratch, os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": path, "GPU_SCRATCH": scratch, "TOKENIZERS_PARALLELISM": "false"}
    out = Path(scratch, f"{name}.json")
    command = [sys.executable, __file__, "--part", name, "--out", str(out)]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return [], f"not done in {seconds:.0f} s"
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
        return [], lines[-1] if lines else f"exit code {done.returncode}"
    return json.loads(out.read_text()), ""


def save(rows: Rows, missing: dict[str, str]) -> None:
    from cpt_ray.evaluate.report import machine

    names = ("torch", "transformers", "sentence-transformers", "deepspeed")
    versions = {name: _version(name) for name in names}
    result = {"area": "gpu", "machine": machine(), "versions": versions, "rows": rows, "missing": missing}
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=9.0, help="for all parts together (default 9)")
    parser.add_argument("--only", nargs="+", choices=tuple(PARTS), default=tuple(PARTS), help="parts to run")
    parser.add_argument("--wheels", metavar="FOLDER", help="install from here what is missing, beside this Python")
    parser.add_argument("--fetch", metavar="FOLDER", help="fill FOLDER with wheels for --wheels, and end")
    parser.add_argument("--python", default="3.12", help="the Python of the machine that --fetch is for (default 3.12)")
    parser.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fetch:
        fetch(arguments.fetch, arguments.python)
        return 0
    if arguments.part:
        rows = PARTS[arguments.part][0](Scale.here())
        Path(arguments.out).write_text(json.dumps(rows))
        return 0
    ends = time.monotonic() + 60 * arguments.minutes
    rows, missing = [], {}
    with tempfile.TemporaryDirectory() as scratch:
        if arguments.wheels:
            install(arguments.wheels, scratch)
        sys.path[:0] = [str(ROOT), scratch]
        scale = Scale.here()
        print(f"{scale.where}; at most {arguments.minutes:g} minutes")
        for at, name in enumerate(arguments.only):
            share = PARTS[name][1] / sum(PARTS[one][1] for one in arguments.only[at:])
            found, reason = run(name, scratch, share * (ends - time.monotonic()))
            if reason:
                missing[name] = reason
                print(f"{name}: {reason}", flush=True)
            for row in found:
                peer = f"   {row['peer_value']:>12,.4g} {row['ratio']:7.2f} x   {row['peer']}" if "peer" in row else ""
                print(f"{row['part']:<52} {row['metric']:<22} {row['value']:>12,.4g}{peer}", flush=True)
            rows += found
            save(rows, missing)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
