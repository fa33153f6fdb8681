"""Kinds of loss: a new one is one file, is chosen by `train.loss.kind`, and trains through gradient caching, exactly."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import cpt_ray.train.losses
from benchmarks.gradient_matrix import Cell, batch, model
from cpt_ray.kinds import kinds, one_of
from cpt_ray.model.encoder import collate
from cpt_ray.options import Options
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine.reference import ReferenceEngine
from cpt_ray.train.grad_cache import GradCache
from cpt_ray.train.loop import train_model
from cpt_ray.train.losses.infonce import InfoNCE
from cpt_ray.train.losses.one_way import OneWay
from cpt_ray.train.options import TrainOptions
from cpt_ray.train.temperature import Temperature
from pipelines import config
from tests.train.conftest import SMALL

PACKAGE = "cpt_ray.train.losses"
SIGMOID = '''
"""A kind that a user has added: each pair of texts by itself (SigLIP, arXiv 2303.15343), with a fixed bias."""
from typing import Literal
from cpt_ray.train.losses import Kind


class Sigmoid(Kind):
    """Pairwise, without a sum over the batch."""

    kind: Literal["sigmoid"] = "sigmoid"
    bias: float = -2.0

    def __call__(self, batch):
        import torch
        from torch.nn.functional import softplus

        def of_rows(logits, positive):
            signs = -torch.ones_like(logits)
            signs[torch.arange(len(positive)), positive] = 1
            seen = logits.isfinite()
            return softplus(-signs * (logits.where(seen, 0) + self.bias)).where(seen, 0).sum(dim=1)

        return batch.by_rows(of_rows)
'''


def plain(logits: torch.Tensor, bias: float) -> torch.Tensor:
    """The same loss of the whole matrix, written out."""
    n, total = len(logits), logits.new_zeros(())
    for i in range(n):
        for j in range(logits.shape[1]):
            if torch.isfinite(logits[i, j]):
                total = total - F.logsigmoid((1 if i == j else -1) * (logits[i, j] + bias))
    return total / n


@pytest.fixture
def sigmoid(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> type[Options]:
    """The kind that one more file of the folder brings."""
    (tmp_path / "sigmoid.py").write_text(SIGMOID)
    monkeypatch.setattr(cpt_ray.train.losses, "__path__", [*cpt_ray.train.losses.__path__, str(tmp_path)])
    monkeypatch.delitem(sys.modules, f"{PACKAGE}.sigmoid", raising=False)
    assert set(kinds(PACKAGE)) == {"infonce", "one_way", "sigmoid"}
    return kinds(PACKAGE)["sigmoid"]


@pytest.mark.parametrize("chunk_tokens", [32, 64, 1 << 20])
@pytest.mark.parametrize("keep_bytes", [0, 1_500_000])
def test_a_new_loss_trains_through_the_cached_step(sigmoid: type[Options], chunk_tokens: int, keep_bytes: int) -> None:
    """Its gradients, of all weights and the temperature, are those of plain autograd over all texts at once."""
    pairs = batch(Cell(ranks=1, stage=0, chunks="odd", mask=False, hard=True, unequal=True), 0)
    whole, tau = model().double(), torch.tensor(1.4, dtype=torch.float64, requires_grad=True)
    vectors = whole(*collate(pairs.pool(), pairs.delimiters))
    expected = plain(vectors[: len(pairs)] @ vectors[len(pairs) :].T * tau.exp(), bias=-1.0)
    expected.backward()

    cut = model().double()
    engine = ReferenceEngine(cut, TrainOptions(engine="reference", workers=0, precision="fp32"), Workers.alone())
    cache = GradCache(
        engine,
        Temperature(math.exp(-1.4), dtype=torch.float64),
        Workers.alone(),
        chunk_tokens=chunk_tokens,
        keep_bytes=keep_bytes,
        tile_rows=5,
        mask=False,
        loss=sigmoid(bias=-1.0),  # type: ignore[arg-type]
    )
    got, _ = cache.gradients(pairs.dealt(Workers.alone()))
    assert abs(float(got.value) - expected.item()) <= 1e-10
    assert tau.grad is not None
    assert abs(float(got.dtau - tau.grad)) <= 1e-10
    wanted = dict(whole.named_parameters())
    for name, parameter in cut.named_parameters():
        assert parameter.grad is not None
        of_all = wanted[name].grad
        assert of_all is not None
        assert float((parameter.grad - of_all).abs().max()) <= 1e-10, name


def test_a_new_loss_is_chosen_by_its_kind_and_trains_a_model(
    sigmoid: type[Options], corpus: dict[str, str], tokenizer: str, places: dict[str, str]
) -> None:
    """Typed as an option, part of what the model is, minimised and evaluated by."""

    class Chosen(TrainOptions):  # as a process has it that began with the file in the folder
        loss: one_of(PACKAGE) = InfoNCE()  # type: ignore[valid-type]

    given = {"engine": "reference", "workers": 0, "precision": "fp32", "steps": 12, "temperature": 0.5}
    loss = {"kind": "sigmoid", "bias": -3.0}
    own = config.validate(Chosen, given | {"loss": loss})
    assert own.result() == TrainOptions(**given).result() | {"loss": loss}
    paths = {name: corpus[name] for name in ("batches", "heldout")}
    rows = train_model(own, SMALL, tokenizer=tokenizer, **paths, **places).metrics
    assert rows[-1]["loss"] < rows[1]["loss"]
    assert rows[-1]["heldout_loss"] < rows[0]["heldout_loss"]


def test_a_loss_of_before_there_were_kinds_is_the_papers() -> None:
    """The identity of a training without `loss` is what it was, and another kind is another model."""
    assert "loss" not in TrainOptions().result()
    assert TrainOptions(loss=OneWay()).result()["loss"] == {"kind": "one_way"}
