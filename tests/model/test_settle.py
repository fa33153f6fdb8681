"""precision=auto is settled before a training has an identity, and stays what it was."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from cpt_ray.artifacts import Ledger, Stage, store
from cpt_ray.model.precision import Choice, settle

STAGE = Stage("model", version=1, unit="slots")
FASTER = {"fp32": Choice("fp32", 2.0, 1.0), "bf16": Choice("bf16", 1.0, 2.0)}


class Here:
    """This machine: what it would choose; None: it must not be asked."""

    def __init__(self) -> None:
        self.choice: str | None = None

    def __call__(self, precision: str | None) -> None:
        self.choice = precision

    def settled(self, path: Path, wanted: str = "auto", rate: float = 0.1) -> tuple[str, dict[str, Any]]:
        def measure() -> Choice:
            assert self.choice is not None, "asked what is faster"
            return FASTER[self.choice]

        return settle(
            wanted,
            STAGE,
            str(path),
            params=lambda one: _params(one, rate),
            inputs={"batches": "digest"},
            measure=measure,
        )


@pytest.fixture
def here() -> Here:
    return Here()


def _params(precision: str, rate: float = 0.1) -> dict[str, Any]:
    return {"train": {"precision": precision, "learning_rate": rate}}


def _begin(path: Path, precision: str, *, publish: bool) -> None:
    with STAGE.build(str(path), params=_params(precision), inputs={"batches": "digest"}) as work:
        Path(work.scratch, "checkpoint").write_text("weights")
        if publish:
            work.publish(Ledger.of("slots", read=1, kept=1), rows=1)


def test_a_new_training_takes_what_is_faster_and_says_so(here, tmp_path, caplog) -> None:
    here("bf16")
    with caplog.at_level(logging.INFO, "cpt_ray"):
        precision, told = here.settled(tmp_path / "model")
    assert precision == "bf16"
    assert told == {"precision": {"precision": "bf16", "fp32_tokens_per_second": 1.0, "bf16_tokens_per_second": 2.0}}
    assert "model: precision bf16 (one layer: 1 tokens/s in fp32, 2 in bf16)" in caplog.text


@pytest.mark.parametrize("began", ["fp32", "bf16"])
def test_a_killed_one_goes_on_as_it_began_also_on_another_machine(here, tmp_path, caplog, began) -> None:
    """The build is found, not begun anew, and a line says that this machine would choose otherwise."""
    _begin(tmp_path / "model", began, publish=False)
    other = {"fp32": "bf16", "bf16": "fp32"}[began]
    here(other)
    with caplog.at_level(logging.INFO, "cpt_ray"):
        precision, told = here.settled(tmp_path / "model")
    assert precision == began
    assert told["precision"]["precision"] == began
    assert f"goes on in {began}, as it began; here {other}" in caplog.text
    with STAGE.build(str(tmp_path / "model"), params=_params(began), inputs={"batches": "digest"}) as work:
        assert work.resumed


def test_one_that_was_put_beside_is_found_too(here, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(store, "WORTH_KEEPING", -1.0)
    _begin(tmp_path / "model", "bf16", publish=False)
    with STAGE.build(str(tmp_path / "model"), params={"other": 1}, inputs={"batches": "digest"}):
        pass
    here("fp32")
    assert here.settled(tmp_path / "model")[0] == "bf16"


def test_a_finished_one_asks_nothing(here, tmp_path) -> None:
    """So a second run finds it done, whatever a noisy measurement would say."""
    _begin(tmp_path / "model", "bf16", publish=True)
    here(None)
    assert here.settled(tmp_path / "model") == ("bf16", {})


def test_what_the_user_says_holds(here, tmp_path) -> None:
    here(None)
    assert here.settled(tmp_path / "model", "bf16") == ("bf16", {})
    _begin(tmp_path / "model", "bf16", publish=True)
    assert here.settled(tmp_path / "model", "fp32") == ("fp32", {})


def test_another_training_is_measured_anew(here, tmp_path) -> None:
    """What stands there with another learning rate says nothing of this one."""
    _begin(tmp_path / "model", "bf16", publish=True)
    here("fp32")
    assert here.settled(tmp_path / "model", rate=0.5)[0] == "fp32"
