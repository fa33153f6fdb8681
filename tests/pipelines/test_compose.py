"""What is typed after `key=` means what Hydra's grammar meant by it, and files are merged in the order they are listed."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from cpt_ray.errors import UserError
from pipelines.compose import choices, compose


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    for group in ("model", "batches"):
        (tmp_path / group).mkdir()
    (tmp_path / "model" / "small.yaml").write_text("size: 1\nrate: 1e-3\n")
    (tmp_path / "model" / "large.yaml").write_text("size: 2\n")
    (tmp_path / "batches" / "large.yaml").write_text("batch_size: 64\n")
    (tmp_path / "toy.yaml").write_text(
        "defaults:\n  - model: small\n  - model@other.model: large\n  - optional batches: ${model}\n"
        "model:\n  threads: ${workers}\nworkers: 3\n"
    )
    return tmp_path


DEFAULTS = {"any": None, "batches": {"batch_size": 8}, "model": {"size": 0, "rate": 0.5}}


def composed(conf: Path, *overrides: str) -> dict[str, Any]:
    return compose(conf, "toy", DEFAULTS, overrides)


def test_files_are_merged_in_order(conf: Path) -> None:
    """Defaults, groups where they are put, the pipeline's file; a reference is resolved with the last word."""
    assert composed(conf) == {
        "any": None,
        "batches": {"batch_size": 8},
        "model": {"size": 1, "rate": 1e-3, "threads": 3},
        "other": {"model": {"size": 2}},
        "workers": 3,
    }
    assert composed(conf, "workers=5")["model"]["threads"] == 5


def test_a_group_follows_another(conf: Path) -> None:
    """`optional batches: ${model}` is the file of the model that is chosen, where there is one."""
    found = composed(conf, "model=large", "model@other.model=small")
    assert found["batches"] == {"batch_size": 64}
    assert found["model"]["size"] == 2
    assert found["other"]["model"]["size"] == 1
    assert composed(conf, "model=null")["model"] == {"size": 0, "rate": 0.5, "threads": 3}
    assert composed(conf, "model={size: 7}")["model"]["size"] == 7
    assert choices(conf, "toy") == {"model": ["large", "small"], "model@other.model": ["large", "small"]}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(
            ("1", 1),
            ("-2", -2),
            ("1_000", 1000),
            ("1.5", 1.5),
            ("1.", 1.0),
            ("1e-3", 1e-3),
            (".5", 0.5),
            ("inf", math.inf),
        ),
        *(("true", True), ("FALSE", False), ("null", None), ("", ""), ("''", ""), ('"a, b"', "a, b")),
        # what YAML 1.1 would turn into numbers, truth or nothing
        *((text, text) for text in ("010", "0x10", "12:30", "2020-01-01", "yes", "off", "~/x", "-", "1e")),
        *((text, text) for text in ("a b", "a:b", "a=b", "a #b", "*x", "@x", "http://x:80/y?z", "../x", "a'b", "a,b")),
        *(
            ("[a,b]", ["a", "b"]),
            ("[1, 2.5,true,null]", [1, 2.5, True, None]),
            ("[]", []),
            ("[http://x/y]", ["http://x/y"]),
        ),
        *(("{}", {}), ("{a: 1}", {"a": 1}), ("{a:1}", {"a": 1}), ("{a:[1,2],b:{c:d}}", {"a": [1, 2], "b": {"c": "d"}})),
        *(("[{a:1},{b:x:y}]", [{"a": 1}, {"b": "x:y"}]), ("${workers}", 3), ("x${workers}y", "x3y")),
    ],
)
def test_a_value_is_what_it_looks_like(conf: Path, text: str, value: Any) -> None:
    assert composed(conf, f"any={text}")["any"] == value


def test_overrides_go_by_order(conf: Path) -> None:
    """Lists are replaced, mappings merged, elements reached by number, keys added and taken out."""
    assert composed(conf, "any=[1,2]", "any=[3]")["any"] == [3]
    assert composed(conf, "any={a:1}", "any={b:2}")["any"] == {"a": 1, "b": 2}
    assert composed(conf, "any=[{a:1}]", "any.0.a=2")["any"] == [{"a": 2}]
    assert composed(conf, "+any.b=1", "++any.c=2")["any"] == {"b": 1, "c": 2}
    assert "rate" not in composed(conf, "~model.rate=")["model"]
    assert composed(conf, "~model=")["model"] == {"size": 0, "rate": 0.5, "threads": 3}


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("any=[1", ["any", "not a value", "any='...'"]),
        ("any={a", ["any", "not a value"]),
        ("model=medium", ["model=medium", "no such choice", "large, small"]),
        ("any=${nowhere}", ["nowhere", "any=${nowhere}"]),
        ("any=${oc.env:NO_SUCH_VARIABLE}", ["NO_SUCH_VARIABLE is not set"]),
        ("~model.nothing=", ["model.nothing: there is no such key"]),
    ],
)
def test_a_mistake_names_its_key(conf: Path, override: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        composed(conf, override)
    for word in words:
        assert word in str(error.value)
