"""What the path was tuned to, changed one by one, on this processor and on one without bf16 and AVX-512 instructions.

Run as `make bench-processor`. Each row is a whole step in a process of its own, as `precision=auto` runs it there:
contrastive (benchmarks/train.py: 512 pairs, 4 layers of width 256) or language modelling (benchmarks/pretrain.py). The ratio
is work per CPU-second to that of the settings as they are: below 1, the setting as it is was right on that kind of processor
too. Every round runs all settings, and each row takes its best, since whoever shares the machine slows some of them.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import pretrain
import torch
import train

from cpt_ray.evaluate.report import machine
from cpt_ray.model import encoder

RESULT = Path(__file__).parent / "results" / "processor.json"
PAIRS = 512
CONTRASTIVE: dict[str, dict[str, Any]] = {
    "as it is": {},
    "attention by the fused kernel": {"short": 0},
    "tile_rows=128": {"tile_rows": 128},
    "tile_rows=2048": {"tile_rows": 2048},
    "chunk_tokens=2048": {"chunk_tokens": 2048},
    "chunk_tokens=32768": {"chunk_tokens": 32768},
    "two threads": {"torch_threads": 2},
}
PRETRAINING: dict[str, dict[str, Any]] = {
    "as it is": {},
    "micro_batch_tokens=1024": {"tokens": 1024},
    "micro_batch_tokens=16384": {"tokens": 16384},
    "two threads": {"torch_threads": 2},
}
PROCESSORS: dict[str, dict[str, str]] = {"this processor": {}, "without bf16 and AVX-512": train.HIDDEN}


def one(kind: str, folder: str, changes: dict[str, Any]) -> float:
    """Pairs, or tokens, per CPU-second."""
    torch.set_num_threads(changes.pop("torch_threads", 1))
    if kind == "contrastive":
        encoder.SHORT = changes.pop("short", encoder.SHORT)
        found = train.ours(folder, PAIRS, 2, "cpu", 0.0, **changes)
        return float(found["pairs_per_cpu_second"])
    pretrain.TOKENS = changes.pop("tokens", pretrain.TOKENS)
    return float(pretrain.measure("auto", 2)["tokens"])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2, help="of all settings; each takes its best (default 2)")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(one(**json.loads(arguments.one)))
        return 0
    cases = [(kind, name) for kind, all_ in KINDS.items() for name in all_]
    best: dict[tuple[str, str, str], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        train.prepare(folder, train.pairs(PAIRS), train.BACKBONE)
        for _ in range(arguments.rounds):
            for processor, hidden in PROCESSORS.items():
                for kind, name in cases:
                    given = {"kind": kind, "folder": folder, "changes": KINDS[kind][name]}
                    found = train.in_its_own_process(__file__, given, hidden)
                    key = processor, kind, name
                    best[key] = max(best.get(key, 0.0), found)
    rows = []
    for (processor, kind, name), value in best.items():
        ratio = value / best[processor, kind, "as it is"]
        unit = "pairs/CPU-s" if kind == "contrastive" else "tokens/CPU-s"
        figures = {"ours_value": round(value, 2), "ratio": round(ratio, 3)}
        rows.append({"case": f"{kind}, {name}", "metric": unit, "processor": processor, **figures})
        print(f"{processor:<26} {kind:<12} {name:<32} {value:>12,.1f} {unit:<13} {ratio:6.2f} x")
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps({"area": "processor", "machine": machine(), "rows": rows}, indent=1) + "\n")
    return 0


KINDS = {"contrastive": CONTRASTIVE, "pretraining": PRETRAINING}

if __name__ == "__main__":
    sys.exit(main())
