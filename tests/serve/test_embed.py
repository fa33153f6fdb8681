"""Embedding a table with a real tiny model: every row gets the vector that it gets alone."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from cpt_ray.artifacts.store import parts, read_table
from cpt_ray.errors import UserError
from cpt_ray.model.embedder import Embedder
from cpt_ray.model.weights import weights_identity
from cpt_ray.serve.embed import CUT, _gpus, embed_table
from cpt_ray.serve.options import EmbedOptions
from tests.serve.serve_samples import functions


def _vectors(table) -> np.ndarray:
    return np.array(table.column("vector").to_pylist(), np.float32)


def test_vectors_are_those_of_each_text_alone(publish: Callable[..., str], model_folder: str, tmp_path: Path) -> None:
    """Neither the shard, nor the neighbours in a chunk, nor the padding show in a vector; keys keep their order."""
    source = publish("functions", functions(0, 23), functions(23, 6))
    out = str(tmp_path / "out")
    manifest = embed_table(
        out,
        source=source,
        model=model_folder,
        options=EmbedOptions(precision="fp32", rows_per_shard=5, chunk_tokens=100),
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
    made = embed_table(
        str(tmp_path / "full"),
        source=source,
        model=model_folder,
        options=EmbedOptions(
            precision="fp32",
        ),
    )
    assert made.balance.dropped == {"empty_text": 2}
    assert made.balance.kept == 4
    embed_table(
        str(tmp_path / "half"),
        source=source,
        model=model_folder,
        options=EmbedOptions(precision="fp32", dtype="float16"),
    )
    full, half = read_table(str(tmp_path / "full")), read_table(str(tmp_path / "half"))
    assert full.column("key").to_pylist() == half.column("key").to_pylist() == ["f0", "f1", "f3", "f5"]
    assert np.abs(_vectors(full) - _vectors(half)).max() < 1e-3


def test_texts_that_were_cut_are_counted(publish: Callable[..., str], model_folder: str, tmp_path: Path) -> None:
    """The vector of a text beyond the limit is that of its beginning, and the ledger says how many there were."""
    texts = [
        "a",
        "b" * 39,
        "c" * 40,
        "d" * 41,
        "e" * 500,
    ]  # the model takes 40 tokens, and these letters have no merges
    table = pa.table({"id": list("abcde"), "text": texts})
    options = EmbedOptions(precision="fp32", text="text", key="id", rows_per_shard=2)
    made = embed_table(str(tmp_path / "out"), source=publish("docs", table), model=model_folder, options=options)
    assert made.balance.units[CUT].read == 2
    vectors = _vectors(read_table(str(tmp_path / "out")))
    np.testing.assert_allclose(vectors[4], Embedder(model_folder).embed(["e" * 40], "y")[0], atol=1e-6)


def test_a_gpu_is_used_where_there_is_one(model_folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` asks torch; a GPU that is asked for and is not there is the user's error, before weights are read."""
    import torch

    with pytest.raises(UserError, match="no GPU"):
        Embedder("nowhere", device="cuda")
    assert Embedder(model_folder).device == "cpu"
    moved = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, device: moved.append(device) or self)
    assert Embedder(model_folder).device == "cuda"
    assert Embedder(model_folder, device="cpu").device == "cpu"
    assert moved == ["cuda", "cpu"]


def test_a_task_asks_ray_for_a_gpu_where_the_session_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cpt_ray.serve.embed.gpus", lambda: 4.0)
    assert [_gpus(device) for device in ("auto", "cuda", "cpu")] == [1.0, 1.0, 0.0]
    monkeypatch.setattr("cpt_ray.serve.embed.gpus", lambda: 0.0)
    assert _gpus("auto") == 0.0


def test_where_the_model_runs_is_no_part_of_the_vectors_identity() -> None:
    assert (
        EmbedOptions(precision="fp32", device="cpu").result() == EmbedOptions(precision="fp32", device="auto").result()
    )


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
        embed_table(
            str(tmp_path / "o"), source=source, model=model_folder, options=EmbedOptions(precision="fp32", text="body")
        )
    with pytest.raises(UserError, match="not a trained model"):
        embed_table(
            str(tmp_path / "o"),
            source=source,
            model=str(tmp_path),
            options=EmbedOptions(
                precision="fp32",
            ),
        )


def test_chunks_side_by_side_give_the_vectors_of_one_after_the_other(
    model_folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On several threads and in small chunks every text keeps its vector and its place; the number of threads is what it
    was, for threads that come later too, and what goes wrong in one chunk is raised."""
    import threading

    import torch

    texts = [f"{'word ' * (i % 9)}{i}" for i in range(300)]
    embedder = Embedder(model_folder, device="cpu")
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = embedder.embed(texts, "y")
        torch.set_num_threads(3)
        monkeypatch.setattr("cpt_ray.model.embedder.CACHED_TOKENS", 64)
        assert embedder._stateless()
        np.testing.assert_allclose(embedder.embed(texts, "y"), alone, atol=2e-6)
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert (torch.get_num_threads(), later) == (3, [3])
        with pytest.raises(ValueError, match="closing delimiter"):
            embedder.embed_ids([np.full(40, 5, np.int64)] * 20)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_a_choice_of_precision_is_said(model_folder: str, caplog) -> None:
    """Vectors in auto depend on the machine: which precision it is, and why, is in the log."""
    with caplog.at_level(logging.INFO, "cpt_ray"):
        embedder = Embedder(model_folder, device="cpu", precision="auto")
    assert embedder.precision in ("fp32", "bf16")
    assert f"{model_folder}: precision {embedder.precision} (one layer:" in caplog.text
