"""`cpt-ray plan` prints the stages it can choose from, and refuses what cannot fit."""

from __future__ import annotations

from pipelines import cli


def test_a_plan_shows_every_stage(capsys):
    assert cli.main(["plan", "model=cpt-s"]) == 0
    shown = capsys.readouterr().out
    assert "12,288 pairs" in shown
    assert "hours on 8 devices" in shown


def test_what_cannot_fit_is_refused_with_what_could(capsys):
    assert cli.main(["plan", "model=cpt-xl", "plan.cluster.devices=8"]) == 2
    shown = capsys.readouterr().err
    assert "train.zero_stage" in shown
    assert "fix:" in shown
