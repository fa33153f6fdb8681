"""Embedding a table with a real tiny model: every row gets the vector that it gets alone."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cpt_ray.artifacts.store import parts, read_table
from cpt_ray.errors import UserError
from cpt_ray.model.embedder import Embedder
from cpt_ray.model.weights import weights_identity
from cpt_ray.serve.embed import EmbedOptions, embed_table
from tests.serve.serve_samples import functions


def _vectors(table) -> np.ndarray:
    return np.array(table.column("vector").to_pylist(), np.float32)


def test_vectors_are_those_of_each_text_alone(publish: Callable[..., str], model_folder: str, tmp_path: Path) -> None:
    """Neither the shard, nor the neighbours in a chunk, nor the padding show in a vector; keys keep their order."""
    source = publish("functions", functions(0, 23), functions(23, 6))
    out = str(tmp_path / "out")
    manifest = embed_table(
        out, source=source, model=model_folder, options=EmbedOptions(rows_per_shard=5, chunk_tokens=100)
    )
    assert len(parts(out)) == 7
    table = read_table(out)
    assert table.column("key").to_pylist() == [f"f{i}" for i in range(29)]
    embedder = Embedder(model_folder)
    code = read_table(source).column("code").to_pylist()
    alone = np.vstack([embedder.embed([text], "y") for text in code])
    np.testing.assert_allclose(_vectors(table), alone, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(_vectors(table), axis=1), 1, atol=1e-6)
    assert np.abs(alone - np.vstack([embedder.embed([text], "x") for text in code])).max() > 1e-3  # sides differ
    assert manifest.inputs["model"] == weights_identity(model_folder)


def test_blank_texts_are_counted_and_float16_is_close(
    publish: Callable[..., str], model_folder: str, tmp_path: Path
) -> None:
    """A blank text is dropped by name; half precision changes a coordinate by less than a thousandth."""
    table = functions(0, 6)
    code = table.column("code").to_pylist()
    code[2], code[4] = " \n", None
    source = publish("functions", table.set_column(table.schema.get_field_index("code"), "code", [code]))
    made = embed_table(str(tmp_path / "full"), source=source, model=model_folder, options=EmbedOptions())
    assert made.balance.dropped == {"empty_text": 2}
    embed_table(str(tmp_path / "half"), source=source, model=model_folder, options=EmbedOptions(dtype="float16"))
    full, half = read_table(str(tmp_path / "full")), read_table(str(tmp_path / "half"))
    assert full.column("key").to_pylist() == half.column("key").to_pylist() == ["f0", "f1", "f3", "f5"]
    assert np.abs(_vectors(full) - _vectors(half)).max() < 1e-3


def test_another_model_is_another_artifact(model_folder: str, tmp_path: Path) -> None:
    """A changed byte of the weights changes the model's digest, so that vectors of two models never mix."""
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(model_folder, copy)
    assert weights_identity(str(copy)) == weights_identity(model_folder)
    weights = next(copy.glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.unlink()  # it may be a hard link
    weights.write_bytes(data)
    assert weights_identity(str(copy)) != weights_identity(model_folder)


def test_a_missing_column_and_a_folder_without_a_model(
    publish: Callable[..., str], model_folder: str, tmp_path: Path
) -> None:
    """Both are errors before anything is loaded."""
    source = publish("functions", functions(0, 2))
    with pytest.raises(UserError, match="no column 'body'"):
        embed_table(str(tmp_path / "o"), source=source, model=model_folder, options=EmbedOptions(text="body"))
    with pytest.raises(UserError, match="not a trained model"):
        embed_table(str(tmp_path / "o"), source=source, model=str(tmp_path), options=EmbedOptions())


def test_mlflow_opens_the_logged_model(model_folder: str, tmp_path: Path) -> None:
    """A model logged by the tracker gives the embedder's vectors through MLflow's own loader."""
    import mlflow.pyfunc

    staged = str(tmp_path / "model")
    mlflow.pyfunc.save_model(
        staged, loader_module="cpt_ray.serve.pyfunc", data_path=model_folder, pip_requirements=["cpt-ray"]
    )
    got = mlflow.pyfunc.load_model(staged).predict(["parse a date", "open a file"])
    np.testing.assert_allclose(got, Embedder(model_folder).embed(["parse a date", "open a file"], "x"), atol=1e-6)
