"""A sweep small enough for a test, and who listens to it."""

from __future__ import annotations

import hashlib
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.pairs.batches import build_batches
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.tokens import listed
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.sweep.trials import Setting, Trial, known_trials, orders
from cpt_ray.train.options import TrainOptions

SMALL = ModelOptions(hidden_size=16, layers=1, heads=2, feedforward=32, context=32)
TRAIN = TrainOptions(workers=0, engine="reference", precision="fp32")
BATCHES = BatchOptions(batch_size=16, max_x_tokens=8, max_y_tokens=8)
COMMON = Setting(TRAIN, BATCHES, SMALL)
SIZES = {"batch_size": [8, 16]}
SWEEP = SweepOptions(over={"batches": SIZES, "train": {"temperature": [0.05, 0.5]}}, examples=32)
TRIALS = known_trials(SWEEP, COMMON)


def materialised(folder: Path, examples: int = 32) -> dict[str, Any]:
    """What `run_sweep` needs besides: orders of batches of 8, of 16 and of what all have in common, and a tokenizer."""
    texts = [hashlib.md5(str(i).encode()).hexdigest()[:8] for i in range(120)]
    number = pa.array(range(120), pa.uint64())
    pairs = pa.table(
        {"pair_id": texts, "source": ["toy"] * 120, "x": texts, "y": texts}
        | dict.fromkeys(("x_hash", "y_hash", "cluster"), number)
    )
    made: dict[str, str] = {}
    for over in ({"batches": SIZES}, {"train": {"seed": [0]}}):
        for name, options in orders(SweepOptions(over=over, examples=examples), COMMON).items():
            made[name] = str(folder / name)
            build_batches(made[name], pairs, listed(lambda rows: [list(row.encode()) for row in rows]), options, {})
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab={chr(i): i for i in range(128)}, merges=[])), eos_token="a"
    )
    tokenizer.save_pretrained(folder / "tokenizer")
    return {
        "orders": made,
        "heldout": made["batches"],
        "out": str(folder / "sweep"),
        "inputs": {"initial": "digest"},
        "tokenizer": str(folder / "tokenizer"),
    }


class Heard:
    """What a sweep says of its trials."""

    def __init__(self) -> None:
        self.lock = threading.RLock()  # it cannot be pickled, no more than what speaks to MLflow
        self.said: list[tuple[str, str]] = []
        self.identities: set[str] = set()

    def began(self, trial: Trial, identity: str, metrics: str) -> None:
        self.said.append(("began", trial.name))
        self.identities.add(identity)
        assert metrics.endswith(f"{trial.name}.building/metrics.jsonl")

    def ended(self, trial: Trial, error: str) -> None:
        self.said.append((error or "ended", trial.name))


class Unlucky:
    """A callback that fails in the worker."""

    def __call__(self, step: int, metrics: dict[str, float]) -> None:
        raise UserError("no luck")
