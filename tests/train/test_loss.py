"""The contrastive loss against plain autograd over the whole matrix, in float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cpt_ray.train.collectives import Workers
from cpt_ray.train.loss import Embedded, Keys
from cpt_ray.train.losses.infonce import InfoNCE
from cpt_ray.train.losses.one_way import OneWay

PAIRS, HARD, WIDTH = 13, 7, 5


def unit(rows: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(rows, WIDTH, generator=generator, dtype=torch.float64), dim=-1)


def keys(hard: int) -> Keys:
    """x of 0 and 4, y of 1 and 5, clusters of 2 and 6 are the same; hard negative 3 is the y of pair 8."""
    x, y, cluster = (torch.arange(PAIRS) + base for base in (100, 200, 300))
    x[4], y[5], cluster[6] = x[0], y[1], cluster[2]
    other = torch.arange(hard) + 400
    if hard:
        other[3] = y[8]
    return Keys(x, y, cluster, other)


def plain(q: Tensor, d: Tensor, hard: Tensor, tau: Tensor, content: Keys, mask: bool, kind: str) -> Tensor:
    logits = q @ torch.cat([d, hard]).T * tau.exp()
    if mask:
        hidden = torch.zeros_like(logits, dtype=torch.bool)
        for i, j in ((0, 4), (1, 5), (2, 6)):
            hidden[i, j] = hidden[j, i] = True
        if len(hard):
            hidden[8, PAIRS + 3] = True
        logits = logits.masked_fill(hidden, -torch.inf)
    right = torch.arange(PAIRS)
    if kind == "one_way":
        return F.cross_entropy(logits, right)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits[:, :PAIRS].T, right)) / 2


KINDS = {"infonce": InfoNCE(), "one_way": OneWay()}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("hard", [0, HARD])
@pytest.mark.parametrize("mask", [False, True])
@pytest.mark.parametrize("tile_rows", [1, 4, 100])
def test_value_and_every_gradient_equal_autograd(hard: int, mask: bool, tile_rows: int, kind: str) -> None:
    """Loss, dq, dd, dhard and dtau equal those of torch's cross-entropy over the full matrix, for every tile size."""
    leaves = [unit(PAIRS, 1), unit(PAIRS, 2), unit(hard, 3), torch.tensor(1.3, dtype=torch.float64)]
    for leaf in leaves:
        leaf.requires_grad_()
    expected = plain(*leaves, keys(hard), mask, kind)
    expected.backward()
    q, d, other, tau = (leaf.detach() for leaf in leaves)
    got = KINDS[kind](Embedded(q, d, other, tau, keys(hard), Workers.alone(), mask, tile_rows))
    assert abs(float(got.value) - expected.item()) < 1e-12
    for value, leaf in zip((got.dq, got.dd, got.dhard, got.dtau), leaves, strict=True):
        wanted = torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        assert torch.allclose(value, wanted, atol=1e-13, rtol=0)
    assert got.masked == (0 if not mask else 6 + bool(hard))


def test_masking_changes_the_gradient() -> None:
    """Guards the test above against being vacuous: with and without masks the gradients differ."""
    arguments = unit(PAIRS, 1), unit(PAIRS, 2), unit(0, 3), torch.tensor(1.3), keys(0), Workers.alone()
    with_mask, without = (InfoNCE()(Embedded(*arguments, mask=mask)) for mask in (True, False))
    assert float((with_mask.dq - without.dq).abs().max()) > 1e-4


def test_half_precision_is_refused() -> None:
    """bf16 logits cost 0.3-1.3 % of the gradient, so embeddings must come in fp32."""
    q = unit(PAIRS, 1).bfloat16()
    with pytest.raises(AssertionError):
        Embedded(q, q, q[:0], torch.tensor(1.0), keys(0), Workers.alone())


def test_extreme_temperatures_stay_finite() -> None:
    """exp(tau) = 100 with a perfect match neither overflows nor gives NaN."""
    q = unit(PAIRS, 1).float()
    got = InfoNCE()(Embedded(q, q, q[:0], torch.tensor(100.0).log(), keys(0), Workers.alone()))
    assert torch.isfinite(got.dq).all()
    assert 0 <= float(got.value) < 0.1
    assert got.correct == 1.0
