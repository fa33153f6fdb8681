"""The doctor goes through every look, names what fails with its fix, and ends with 1 if something does."""

from __future__ import annotations

import re

import pytest

from cpt_ray import machine
from cpt_ray.errors import UserError
from cpt_ray.machine import Finding
from cpt_ray.model.precision import Choice, Shape
from pipelines import cli, config, doctor
from pipelines.options.demo import PipelineOptions as Demo


@pytest.fixture
def without_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ray", lambda cluster: Finding("Ray", "starts"))
    monkeypatch.setattr(machine, "memory", lambda needed: Finding("memory", "enough"))


@pytest.mark.usefixtures("without_ray")
def test_every_look_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    shown = capsys.readouterr().out
    for name in ("Python", "packages", "compiler", "processor", "outputs", "shared memory", "GPU", "Ray"):
        assert name in shown
    assert "tokens/s in fp32" in shown
    assert "minutes" in shown
    assert "nothing stands in the way" in shown


def test_the_minutes_are_those_of_the_readme() -> None:
    """What is no training took as long in the run whose table the README shows."""
    text = (doctor.CONF.parent / "README.md").read_text()
    seconds = {name: float(value) for name, value in re.findall(r"^(\w+) +([\d.]+) +\d", text, re.MULTILINE)}
    trained = sum(seconds[name] for name in ("initial", "code_model", "text_model", "sweep")) / 60
    total = re.search(r"^([\d.]+) minutes, peak memory", text, re.MULTILINE)
    assert total is not None
    assert pytest.approx(float(total[1]) - trained, abs=0.1) == doctor.OTHER_MINUTES


@pytest.mark.parametrize(
    ("logits", "layer", "minutes"),
    [((6_800, 18_800), (50_000, 148_000), 11.0), ((6_800, 340), (50_000, 5_400), 15.6)],
    ids=["bf16", "no bf16"],
)
def test_the_whole_is_said_as_it_was_seen(
    logits: tuple[float, float], layer: tuple[float, float], minutes: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make run` on two CPUs of an AMD EPYC, as it is and without its bf16 instructions: what the probe finds there gives the
    minutes that were seen, within a fifth."""

    def found(shape: Shape, *_: object) -> Choice:
        fp32, bf16 = logits if shape.vocabulary else layer
        return Choice("bf16" if bf16 > fp32 else "fp32", fp32, bf16)

    monkeypatch.setattr("cpt_ray.model.precision.measured", found)
    said = doctor.precision(config.load("demo", Demo))[-1].says
    assert float(said.split()[1]) == pytest.approx(minutes, rel=0.2)


@pytest.mark.usefixtures("without_ray")
def test_what_fails_is_named_and_the_rest_is_looked_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A look that breaks is a finding, and so is what the user chose wrongly."""

    def broken(cluster: object) -> Finding:
        raise UserError("no Ray cluster answers", where="cluster.address=x", fix="start one")

    monkeypatch.setattr(doctor, "ray", broken)
    monkeypatch.setattr(machine, "processor", lambda: 1 / 0)
    assert cli.main(["doctor", "cluster.gpu=false"]) == 1
    shown = capsys.readouterr().out
    assert "cluster.address=x: no Ray cluster answers" in shown
    assert "start one" in shown
    assert "ZeroDivisionError" in shown
    assert "2 will fail: processor, Ray" in shown
