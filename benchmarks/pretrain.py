"""Language-modelling steps of the demo's size by precision: the one measured to be faster here, and the default before.

Run as `make bench-pretrain`. The model has 4 layers of width 256, 8,192 words and windows of 128 tokens, 4,096 tokens a
step, on one thread. A processor without bf16 instructions is had by hiding them (benchmarks/train.py, HIDDEN). There is no
peer: what stands beside ours is our own default before, bf16 whatever the processor.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from train import HIDDEN, in_its_own_process

from cpt_ray.evaluate.report import machine
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.precision import Shape
from cpt_ray.model.weights import new_language_model
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import make_engine
from cpt_ray.train.faster import faster
from cpt_ray.train.options import PretrainOptions
from cpt_ray.train.pretrain import LanguageModel

RESULT = Path(__file__).parent / "results" / "pretrain.json"
MODEL, WORDS, CONTEXT, TOKENS = ModelOptions(context=128), 8192, 128, 4096


def measure(precision: str, steps: int) -> dict[str, Any]:
    """Tokens per CPU-second of the fastest step after the first, and the first step's loss."""
    torch.set_num_threads(1)
    options = PretrainOptions(workers=0, engine="reference", precision=precision)  # type: ignore[arg-type]
    model = new_language_model(MODEL, WORDS, seed=0)
    if precision == "auto":
        shape = Shape.of(model.config, sequence=CONTEXT, trained=True, logits=True)
        options = options.model_copy(update={"precision": faster(shape, options).precision})
    engine = make_engine(LanguageModel(model, autocast=options.precision == "bf16"), options, Workers.alone())
    ids = torch.from_numpy(np.random.default_rng(0).integers(0, WORDS, (TOKENS // CONTEXT, CONTEXT)))
    times, losses = [], []
    for _ in range(steps + 1):
        before = time.process_time()
        loss = engine.embed(ids)
        engine.backward(loss, last=True)
        engine.step(1e-3)
        times.append(time.process_time() - before)
        losses.append(float(loss.detach()))
    return {"tokens": TOKENS / min(times[1:]), "loss": losses[0], "precision": options.precision}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(**json.loads(arguments.one))))
        return 0
    rows = []
    for case, environment in (("native, pretrain", {}), ("no bf16, pretrain", HIDDEN)):
        mine, before = (
            in_its_own_process(__file__, {"precision": precision, "steps": steps}, environment)
            for precision, steps in (("auto", 10), ("bf16", 2))
        )
        if abs(mine["loss"] - before["loss"]) > 0.01 * before["loss"]:
            raise SystemExit(f"the losses differ: {mine} and {before}; no time counts")
        ratio = mine["tokens"] / before["tokens"]
        row = {"case": case, "metric": f"tokens/CPU-s, {mine['precision']}", "ours_value": round(mine["tokens"], 1)}
        rows.append(row | {"peer": "before", "peer_value": round(before["tokens"], 1), "ratio": round(ratio, 2)})
        print(
            f"{case:<20} {mine['precision']} {mine['tokens']:>10,.0f} {before['tokens']:>10,.0f} {ratio:6.2f} x   before"
        )
    versions = {name: metadata.version(name) for name in ("torch", "transformers")}
    result = {"area": "pretrain", "machine": machine(), "versions": versions, "rows": rows}
    RESULT.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
