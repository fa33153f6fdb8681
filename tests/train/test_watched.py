"""Tasks measured in training see the vectors of all texts, in order, however many ranks share the work."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from cpt_ray.errors import UserError
from cpt_ray.model.delimiters import Delimiters
from cpt_ray.train import watched
from cpt_ray.train.collectives import Workers
from cpt_ray.train.options import TrainOptions, check_best

TEXTS = ["a", "abc", "abcdefgh", "ab", "abcde", "b", "bcd"]


@dataclass(frozen=True)
class Together(Workers):
    """A rank among threads of this process."""

    parts: dict[int, Tensor] = field(default_factory=dict)
    meet: Any = None

    def all_gather(self, part: Tensor) -> Tensor:
        self.parts[self.rank] = part.clone()
        self.meet.wait(60)
        found = torch.cat([self.parts[rank] for rank in range(self.count)])
        self.meet.wait(60)
        return found

    def max(self, value: Tensor) -> Tensor:
        return self.all_gather(value.reshape(1)).amax()


class Lengths:
    """What it saw, and a figure that differs by rank as rounding on another machine may."""

    names = ("last", "first")

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.seen: list[np.ndarray] = []

    def __call__(self, embed: watched.Embed) -> dict[str, float]:
        self.seen = [embed(TEXTS, "x"), embed(TEXTS[:1], "y")]
        return {"first": float(self.seen[0][0, 0]) + self.rank, "last": 7.0}


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_all_ranks_see_all_vectors_and_the_figures_of_the_first(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where there are fewer texts than ranks, and where a share is embedded in several chunks."""

    @contextmanager
    def evaluating(engine: Any) -> Any:
        yield

    monkeypatch.setattr(watched, "evaluating", evaluating)
    engine = SimpleNamespace(embed=lambda ids, last: torch.stack([last.float() + 1, ids[:, 1].float()], dim=1))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.BPE(vocab={chr(i): i for i in range(128)}, merges=[])), eos_token="a"
    )
    delimiters = Delimiters(x=(128, 129), y=(130, 131))
    meet, parts = threading.Barrier(count), dict[int, Tensor]()
    tasks = [Lengths(rank) for rank in range(count)]
    found: dict[int, dict[str, float]] = {}

    def run(rank: int) -> None:
        workers = Together(rank, count, torch.device("cpu"), parts, meet)
        limits: Any = {"x": 5, "y": 5}
        found[rank] = watched.measure(tasks[rank], engine, tokenizer, delimiters, limits, workers, chunk_tokens=16)  # type: ignore[arg-type]

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    wanted = [[min(len(text), 5) + 2, ord(text[0])] for text in TEXTS]  # with two delimiters
    assert all(task.seen[0].tolist() == wanted for task in tasks)
    assert all(task.seen[1].tolist() == wanted[:1] for task in tasks)
    assert list(found.values()) == [{"last": 7.0, "first": float(wanted[0][0])}] * count


def test_only_what_is_measured_may_choose_the_checkpoint() -> None:
    check_best(TrainOptions(best="heldout_loss"), (), "train.best")
    check_best(TrainOptions(best="TREC_accuracy"), ("TREC_accuracy",), "train.best")
    with pytest.raises(UserError, match="heldout_mrr"):
        check_best(TrainOptions(best="TREC_accuracy"), (), "train.best")
