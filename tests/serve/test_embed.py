"""Embedding a table with a real tiny model: every row gets the vector that it gets alone."""

import contextlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cpt_ray.artifacts.store import parts, read_table
from cpt_ray.errors import UserError
from cpt_ray.model.embedder import FEW, Embedder
from cpt_ray.model.weights import weights_identity
from cpt_ray.serve.datasets import _Embedding
from cpt_ray.serve.embed import CUT, embed_table, gpus_wanted
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


def test_columns_of_any_type_that_is_text(publish: Callable[..., str], model_folder: str, tmp_path: Path) -> None:
    """Texts of every string type, keys of numbers and the text itself as its key; rows without a key are counted, and
    what is no text is said."""
    texts = ["one text", "two", None, "four"]
    for number, kind in enumerate((pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))):
        column = pa.array(texts, pa.string()).cast(kind) if number != 2 else pa.array(texts).dictionary_encode()
        table = pa.table({"id": [7, 8, 9, None], "text": column, "vector": [[1.0]] * 4})
        options = EmbedOptions(precision="fp32", text="text", key="id")
        made = embed_table(
            str(tmp_path / f"o{number}"), source=publish(f"s{number}", table), model=model_folder, options=options
        )
        assert read_table(str(tmp_path / f"o{number}"))["key"].to_pylist() == ["7", "8"]
        assert made.balance.units["texts"].dropped == {"empty_text": 1, "no_key": 1}
    options = options.model_copy(update={"key": "text"})
    embed_table(str(tmp_path / "own"), source=str(tmp_path / "s0"), model=model_folder, options=options)
    assert read_table(str(tmp_path / "own"))["key"].to_pylist() == ["one text", "two", "four"]
    for change, said in (({"text": "id"}, "int64, not text"), ({"key": "vector"}, "no text that could be a key")):
        with pytest.raises(UserError, match=said):
            embed_table(
                str(tmp_path / "no"),
                source=str(tmp_path / "s0"),
                model=model_folder,
                options=options.model_copy(update=change),
            )


def test_the_command_embeds_parquet_of_a_bucket_into_it(model_folder: str, tmp_path: Path, s3: str) -> None:
    """Without an index vectors may lie in a bucket too; they are those of the same Parquet in a folder, and a column that
    is not there is said before anything is read."""
    from cpt_ray.artifacts.places import locate
    from pipelines import cli

    rows = tmp_path / "rows.parquet"
    pq.write_table(pa.table({"number": [1, 2, 3], "said": ["one text", "two", "three"]}), rows)
    fs, target = locate(f"{s3}/parquet/rows.parquet")
    fs.pipe_file(target, rows.read_bytes())
    words = ["embed", f"trained={model_folder}", "embed.key=number", "embed.precision=fp32", "cluster.cpus=1"]
    here, there = str(tmp_path / "out"), f"{s3}/vectors"
    assert cli.main([*words, "embed.text=body", f"source={rows}", f"cluster.outputs={here}"]) == 2
    assert not (tmp_path / "out/embed").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pipelines.embed.connect", lambda _: contextlib.nullcontext({"num_cpus": 1.0}))
        for source, outputs in ((str(rows), here), (f"{s3}/parquet", there)):
            assert (
                cli.main([*words, "embed.text=said", f"source={source}", f"cluster.outputs={outputs}", "index=null"])
                == 0
            )
    one, two = read_table(f"{here}/embed/embeddings"), read_table(f"{there}/embed/embeddings")
    assert one.equals(two)
    assert one["key"].to_pylist() == ["1", "2", "3"]


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_dataset_by_actors(model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lazily a column more; as an artifact, the same vectors, from actors that load the model once each, and again at once."""
    import ray.data

    import cpt_ray
    from cpt_ray.cluster import ClusterOptions, connect

    texts = [f"text {i} {'and more ' * (i % 5)}" for i in range(40)]
    with connect(ClusterOptions(cpus=2)):
        rows = ray.data.from_items([{"id": i, "text": text, "kept": -i} for i, text in enumerate(texts)])
        options = EmbedOptions(precision="fp32", text="text", key="id", rows_per_shard=4)
        lazily = cpt_ray.embed(rows, trained=model_folder, options=options)
        found = sorted(lazily.take_all(), key=lambda row: row["id"])
        made = cpt_ray.embed(rows, trained=model_folder, options=options, to=str(tmp_path / "out"))
        assert (
            cpt_ray.embed(rows, trained=model_folder, options=options, to=str(tmp_path / "out")).manifest
            == made.manifest
        )
        again = made.dataset().take_all()
    assert [(row["id"], row["kept"]) for row in found] == [(i, -i) for i in range(40)]
    want = Embedder(model_folder).embed(texts, "y")
    np.testing.assert_allclose(np.stack([row["vector"] for row in found]), want, atol=2e-6)
    by_key = {int(row["key"]): row["vector"] for row in again}
    np.testing.assert_allclose(np.stack([by_key[i] for i in range(40)]), want, atol=2e-6)


def test_a_column_of_vectors_that_is_there_is_not_doubled(model_folder: str) -> None:
    """As in rows that were embedded by another model before."""
    add = _Embedding(model_folder, EmbedOptions(precision="fp32", text="text"))
    once = add(pa.table({"text": ["one", " ", "two"]}))
    assert once.column_names == ["text", "vector"]
    with pytest.raises(UserError, match="a column 'vector' already"):
        add(once)


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


def test_many_texts_have_the_ids_and_the_cuts_of_each_alone(
    publish: Callable[..., str], model_folder: str, tmp_path: Path
) -> None:
    """Many are encoded by their words, few one by one; ids that came as such stand between them, and a text of just the limit
    is not cut."""
    letters = ["a" * n for n in (0, 1, 39, 40, 41, 42, 500)]
    texts = [*letters, *functions(0, 2 * FEW).column("code").to_pylist(), "HTTPServer naïve  \ue000 x2"]
    embedder = Embedder(model_folder)
    for most in (1, 40, sys.maxsize):
        alone = [list(embedder.token_ids([text], most)[0]) for text in texts]
        assert [list(row) for row in embedder.token_ids(texts, most)] == alone
        assert all(len(row) <= most for row in alone)
    mixed = [text if i % 3 else embedder.token_ids([text])[0] for i, text in enumerate(texts)]
    np.testing.assert_allclose(embedder.embed(mixed, "y"), embedder.embed(texts, "y"), atol=2e-6)

    table = pa.table({"id": [str(i) for i in range(len(texts))], "text": texts})
    options = EmbedOptions(precision="fp32", text="text", key="id")
    made = embed_table(str(tmp_path / "out"), source=publish("docs", table), model=model_folder, options=options)
    assert made.balance.units[CUT].read == sum(int(n) > 40 for n in embedder.lengths(texts))


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
    assert [gpus_wanted(device) for device in ("auto", "cuda", "cpu")] == [1.0, 1.0, 0.0]
    monkeypatch.setattr("cpt_ray.serve.embed.gpus", lambda: 0.0)
    assert gpus_wanted("auto") == 0.0


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
