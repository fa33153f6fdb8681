"""A wrong path is said before torch, transformers or Ray are touched, and names the key that was typed."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy

from cpt_ray.artifacts import Ledger, Manifest, build, parquet
from cpt_ray.dedup.explain import check_clusters
from cpt_ray.errors import UserError
from pipelines import cli, config, reads, summary

NAMES = [name for names in cli.GROUPS.values() for name in names]
MISTAKES = [
    ("train pairs=/nope model.init=owner/name", "pairs=/nope"),
    ("sweep pairs=/nope model.init=owner/name", "pairs=/nope"),
    ("hard-negatives pairs=/nope trained=/nope", "pairs=/nope"),
    ("labelled-pairs source=/nope", "source=/nope"),
    ("embed source=/nope trained=/nope", "source=/nope"),
    ("evaluate pairs=/nope trained=/nope initial=/nope", "pairs=/nope"),
    ("pretrain documents=/nope", "documents=/nope"),
    ("pretrain model.init=/nope", "model.init=/nope"),
    ("search folder=/nope what", "folder=/nope"),
    ("serve index=/nope", "index=/nope"),
]


@pytest.mark.parametrize(("line", "where"), MISTAKES)
def test_a_wrong_path_is_said_before_the_pipeline_is_imported(
    line: str, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Importing a pipeline may take seconds; the mistake is known without."""
    monkeypatch.setitem(sys.modules, f"pipelines.{line.split()[0].replace('-', '_')}", None)  # type: ignore[arg-type]
    assert cli.main(line.split()) == 2
    assert f"error {where}: " in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_what_is_declared_are_keys_of_the_pipeline(name: str) -> None:
    """READS names keys of the pipeline alone, and kinds that there are."""
    module = importlib.import_module(f"pipelines.options.{name}")
    declared = getattr(module, "READS", {})
    assert set(declared) <= set(config.keys(module.PipelineOptions))
    for key, kind in declared.items():
        if kind != "weights":
            with pytest.raises(UserError):
                reads.check(key, kind, "/nope")


def test_the_way_to_the_check_is_light() -> None:
    """Nothing that the check imports brings torch along."""
    code = "import sys; from pipelines import cli; assert cli.main(['train', 'pairs=/nope']) == 2; print('torch' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(cli.__file__).parents[1]
    )
    assert done.stdout == "False\n", done.stderr


def test_weights_are_a_folder_or_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be a hub id must be a folder with a configuration; a hub id is left to transformers."""
    monkeypatch.chdir(tmp_path)  # where no outputs/demo lies
    for value in ("/nope", "./nope", "~/nope", "outputs/demo/initial", str(tmp_path)):
        with pytest.raises(UserError, match=r"model\.init="):
            reads.check("model.init", "weights", value)
    for value in ("new", "gpt2", "owner/name"):
        reads.check("model.init", "weights", value)
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").touch()
    reads.check("model.init", "weights", str(tmp_path))


@pytest.mark.parametrize("kind", ["weights", "trained", "encoder"])
def test_half_a_model_is_said_at_once(tmp_path: Path, kind: str) -> None:
    """A copy that was broken off has its configuration, and not its weights or not all of their parts."""
    for name in ("config.json", "cpt_ray.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(UserError, match=r"half of a model: no model\.safetensors"):
        reads.check("model", kind, str(tmp_path))
    names = [f"model-0000{n}-of-00002.safetensors" for n in (1, 2)]
    safetensors.numpy.save_file({"a": np.zeros(9)}, tmp_path / names[0])
    index = json.dumps({"weight_map": {"a": names[0], "b": names[1]}})
    for broken in (index[: len(index) // 2], "", "{}"):
        (tmp_path / "model.safetensors.index.json").write_text(broken)
        with pytest.raises(UserError, match="half of a model: its index of weights") as caught:
            reads.check("model", kind, str(tmp_path))
        assert caught.value.where == f"model={tmp_path}"
    (tmp_path / "model.safetensors.index.json").write_text(index)
    with pytest.raises(UserError, match=f"half of a model: no {names[1]}"):
        reads.check("model", kind, str(tmp_path))
    safetensors.numpy.save_file({"b": np.zeros((2, 5), np.float32)}, tmp_path / names[1])
    reads.check("model", kind, str(tmp_path))
    whole = (tmp_path / names[1]).read_bytes()
    for end in (0, 5, 30, len(whole) - 1):
        (tmp_path / names[1]).write_bytes(whole[:end])
        with pytest.raises(UserError, match=f"half of a model: {names[1]} is not whole"):
            reads.check("model", kind, str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"half of a model: model\.safetensors is not whole"):
        reads.check("model", kind, str(tmp_path))
    (tmp_path / "model.safetensors").write_bytes(whole)
    reads.check("model", kind, str(tmp_path))


def test_a_folder_is_no_file_a_file_no_folder_and_an_artifact_no_folder_of_some(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with build(str(tmp_path / "rows"), step="toy", version=1, params={}) as work:
        work.publish(Ledger.of("rows", read=0, kept=0), rows=0)
    for kind, value, what in (
        ("file", tmp_path, "this is a folder"),
        ("folder", tmp_path / "file", "this is a file"),
        ("folder", tmp_path / "rows", "this is an artifact"),
    ):
        with pytest.raises(UserError, match=what) as caught:
            reads.check("key", kind, str(value))
        assert caught.value.where == f"key={value}"
    reads.check("key", "folder", str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"PAR1", b"text of no table", b"PAR1 cut off"])
def test_a_table_is_parquet_to_its_end(tmp_path: Path, content: bytes) -> None:
    """Half a file among whole ones is said before anything is read of those."""
    parquet.write_table(str(tmp_path / "a.parquet"), pa.table({"n": [1]}))
    reads.check("source", "table", str(tmp_path))
    (tmp_path / "b.parquet").write_bytes(content)
    with pytest.raises(UserError, match="no Parquet, or not whole") as caught:
        reads.check("source", "table", str(tmp_path))
    assert caught.value.where == str(tmp_path / "b.parquet")


def test_another_artifact_is_no_pairs_artifact(tmp_path: Path) -> None:
    path = str(tmp_path / "rows")
    with build(path, step="toy", version=1, params={}) as work:
        work.publish(Ledger.of("rows", read=0, kept=0), rows=0)
    reads.check("source", "artifact", path)
    with pytest.raises(UserError, match="no pairs artifact"):
        reads.check("pairs", "pairs", path)
    with pytest.raises(UserError, match="no index but toy"):
        reads.check("index", "index", path)
    with pytest.raises(UserError, match="no clusters artifact"):
        check_clusters(path)


def test_an_input_of_nothing_is_a_mistake() -> None:
    """Dropped rows are a result, said by the table; that there was none to read is not."""
    read, dropped = Ledger.of("files", read=0, kept=0), Ledger.of("files", read=2, kept=0, dropped={"test": 2})
    made = [Manifest.model_construct(ledger=balance.to_dict()) for balance in (read, dropped)]
    with pytest.raises(UserError, match="nothing was read: 0 files"):
        summary.check_read({"functions": made[0]})
    summary.check_read({"functions": made[1]})
