"""A model through MLflow: the side that was asked for, texts and nothing else, in an environment without us."""

from __future__ import annotations

import json
import re
import subprocess
import venv
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from packaging.requirements import Requirement

from cpt_ray.errors import UserError
from cpt_ray.model.embedder import Embedder
from cpt_ray.serve.pyfunc import EXAMPLE, REQUIRED, save, texts_of

TEXTS = ["parse a date", "open a file"]


@pytest.fixture(scope="module")
def saved(model_folder: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    to = str(tmp_path_factory.mktemp("mlflow") / "model")
    save(model_folder, to)
    return to


@pytest.fixture(scope="module")
def loaded(saved: str) -> Any:
    import mlflow.pyfunc

    return mlflow.pyfunc.load_model(saved)


def test_each_side_has_its_own_vectors(loaded: Any, model_folder: str) -> None:
    """Documents never get the vectors of queries: the side passes MLflow's schema, and another word than x or y does not."""
    embedder = Embedder(model_folder)
    np.testing.assert_allclose(loaded.predict(TEXTS), embedder.embed(TEXTS, "x"), atol=1e-6)
    for side in ("x", "y"):
        np.testing.assert_allclose(loaded.predict(TEXTS, params={"side": side}), embedder.embed(TEXTS, side), atol=1e-6)
    with pytest.raises(UserError, match="no side 'z'"):
        loaded.predict(TEXTS, params={"side": "z"})


@pytest.mark.parametrize(
    "given",
    [
        TEXTS,
        np.array(TEXTS),
        pd.Series(TEXTS),
        pd.Series(TEXTS, name="code", index=[7, 3]),
        pd.DataFrame({"text": TEXTS}),
        pd.DataFrame({"id": ["1", "2"], "text": TEXTS}),
        pd.DataFrame({"code": TEXTS}),
    ],
)
def test_texts_in_every_form_are_those_texts(loaded: Any, model_folder: str, given: Any) -> None:
    np.testing.assert_allclose(loaded.predict(given), Embedder(model_folder).embed(TEXTS, "x"), atol=1e-6)


def test_one_string_is_one_text(loaded: Any, model_folder: str) -> None:
    got = loaded.predict("parse a date")
    np.testing.assert_allclose(got, Embedder(model_folder).embed(["parse a date"], "x"), atol=1e-6)


@pytest.mark.parametrize(
    "given",
    [
        None,
        b"bytes",
        7,
        {"inputs": TEXTS},
        {"text": TEXTS},
        [None, "a"],
        ["a", float("nan")],
        [1, 2],
        [TEXTS],
        [{"text": "a"}],
        np.array([TEXTS]),
        pd.Series(["a", None]),
        pd.DataFrame({"id": ["1"], "body": ["a"]}),
        pd.DataFrame({"text": [1]}),
    ],
)
def test_what_is_no_text_is_refused(loaded: Any, given: Any) -> None:
    """No vector of the word None, of a key or of an id."""
    with pytest.raises(UserError):
        loaded.predict(given)


def test_no_texts_are_no_vectors(loaded: Any) -> None:
    assert loaded.predict([]).shape == (0, 32)
    assert texts_of(pd.DataFrame({"text": []})) == []


def test_a_text_that_was_cut_is_said(loaded: Any, caplog: pytest.LogCaptureFixture) -> None:
    loaded.predict(["long " * 60, "short"])
    assert "1 of 2 texts" in caplog.text


def test_signature_example_and_requirements(saved: str) -> None:
    """What the registry shows, and nothing to install that no index has."""
    from mlflow.models import Model

    model = Model.load(saved)
    assert [str(kind) for kind in model.get_input_schema().input_types()] == ["DataType.string"]
    assert model.get_params_schema().params[0].name == "side"
    assert model.get_output_schema().is_tensor_spec()
    assert json.loads(Path(saved, "serving_input_example.json").read_text()) == {"inputs": EXAMPLE}
    named = [line.partition("==")[0] for line in Path(saved, "requirements.txt").read_text().split()]
    assert sorted(named) == sorted(REQUIRED)
    assert "+" not in Path(saved, "requirements.txt").read_text()


def test_the_weights_are_there_once(saved: str) -> None:
    assert len(list(Path(saved).rglob("*.safetensors"))) == 1


def test_it_opens_where_we_are_not_installed(saved: str, tmp_path: Path) -> None:
    """In an environment of nothing but what it requires, with what that requires."""
    venv.create(tmp_path / "env", with_pip=False)
    (packages,) = (tmp_path / "env" / "lib").glob("python*/site-packages")
    for distribution in _closure(REQUIRED):
        for top in {file.parts[0] for file in distribution.files or [] if file.parts[0] != ".."} - {"__pycache__"}:
            if not (packages / top).exists():
                (packages / top).symlink_to(Path(str(distribution.locate_file(top))))
    code = (
        "import sys, mlflow.pyfunc, importlib.util\n"
        "assert importlib.util.find_spec('ray') is None\n"
        "assert mlflow.pyfunc.load_model(sys.argv[1]).predict(['a', 'b']).shape == (2, 32)\n"
        "import cpt_ray\n"
        "assert cpt_ray.__file__.startswith(sys.argv[1]), cpt_ray.__file__\n"
    )
    command = [str(tmp_path / "env" / "bin" / "python"), "-c", code, saved]
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr[-3000:]


def _closure(names: Iterable[str]) -> Iterator[metadata.Distribution]:
    """The distributions of these names, and those that they require."""
    seen, wanted = set(), list(names)
    while wanted:
        name = re.sub("[-_.]+", "-", wanted.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another platform
            continue
        yield found
        needs = [Requirement(need) for need in found.requires or []]
        wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
