"""What is counted for who watches a cluster: rows by reason and steps, and nothing where Ray is not up."""

from __future__ import annotations

import sys
import types

import pytest

from cpt_ray import telemetry
from cpt_ray.artifacts.ledger import Ledger

LEDGER = Ledger.of("pages", read=5, kept=2, dropped={"empty": 3}) + Ledger.of("pairs", read=0, kept=0)


class Told:
    """A metric that keeps what it is told."""

    said: list = []

    def __init__(self, name: str, description: str, tag_keys: tuple[str, ...]) -> None:
        self.name, self.tags = name, tag_keys

    def inc(self, amount: float, tags: dict) -> None:
        assert set(tags) == set(self.tags)
        self.said.append((self.name, amount, *tags.values()))

    set = inc


def test_rows_by_reason_and_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(is_initialized=lambda: True))
    monkeypatch.setattr(telemetry, "_metric", lambda kind, name, said, tags: Told(name, said, tags))
    monkeypatch.setattr(Told, "said", [])
    telemetry.rows("documents", LEDGER.units)
    telemetry.training("code_model", {"loss": 1.5, "pairs_per_second": 7.0, "lr": 0.1})
    assert Told.said[:2] == [
        ("cpt_ray_rows", 2, "documents", "pages", "kept"),
        ("cpt_ray_rows", 3, "documents", "pages", "empty"),
    ]
    assert sorted(Told.said[2:]) == [
        ("cpt_ray_train_loss", 1.5, "code_model"),
        ("cpt_ray_train_pairs_per_second", 7.0, "code_model"),
    ]


@pytest.mark.parametrize("ray", [None, types.SimpleNamespace(is_initialized=lambda: False)])
def test_without_ray_nothing_is_counted(monkeypatch: pytest.MonkeyPatch, ray: object) -> None:
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setattr(telemetry, "_metric", None)
    telemetry.rows("documents", LEDGER.units)
    telemetry.training("code_model", {"loss": 1.5})
