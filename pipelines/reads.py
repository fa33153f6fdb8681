"""What a pipeline reads is looked at before anything heavy is imported or started: a wrong path is said at once.

The module of its options declares it as READS, {key: kind}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cpt_ray.artifacts import parts, read_manifest
from cpt_ray.artifacts.adopted import find_parquet, is_artifact
from cpt_ray.artifacts.parquet import must_be_parquet
from cpt_ray.errors import UserError
from cpt_ray.options import Options
from cpt_ray.serve.following import indexes_at

from .config import at

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""One of them, or the index of its parts, is what transformers reads weights from."""


def check_options(reads: Mapping[str, str], options: Options) -> None:
    """Check what the options name; what is at its default is the pipeline's own to look for."""
    for key, kind in reads.items():
        value: Any = options
        default: Any = None
        for part in key.split("."):
            default = type(value).model_fields[part].default
            value = getattr(value, part)
        if value not in (None, default):
            for one in [value] if isinstance(value, str) else value:
                check(key, kind, one)


def check(key: str, kind: str, value: str) -> None:
    """UserError naming `key=value` unless `value` is there and of its kind."""
    where = f"{key}={value}"
    if kind in ("artifact", "pairs"):
        with at(key, value):
            columns = read_manifest(value).columns
        if kind == "pairs" and "split" not in columns:
            raise UserError("this is no pairs artifact", where=where, fix="give one, such as outputs/demo/code_pairs")
        if kind == "pairs":
            parts(value)
    elif kind == "table":
        with at(key, value):
            found = [] if is_artifact(value) else find_parquet(value)
        for name in found or parts(value):
            must_be_parquet(name)
    elif kind == "index":
        with at(key, value):
            indexes_at(value)
    elif kind == "file":
        if "://" not in value and not Path(value).is_file():
            what = "this is a folder" if Path(value).is_dir() else "there is no such file"
            raise UserError(what, where=where, fix="give the path of a file")
    elif kind == "folder":
        if "://" not in value and not Path(value).is_dir():
            what = "this is a file" if Path(value).is_file() else "there is no such folder"
            raise UserError(what, where=where, fix="give the path of a folder")
        if is_artifact(value):
            raise UserError(
                "this is an artifact, and no folder of some", where=where, fix="give the folder that it is in"
            )
    elif kind == "trained":
        if not Path(value, "cpt_ray.json").is_file():
            raise UserError("this is no trained model: it has no cpt_ray.json", where=where, fix="see cpt-ray train")
        _whole(where, Path(value))
    elif kind == "encoder":
        if Path(value, "cpt_ray.json").is_file():
            _whole(where, Path(value))
        elif not Path(value, "modules.json").is_file():
            raise UserError(
                "no model here: neither cpt_ray.json nor modules.json",
                where=where,
                fix="give a folder of cpt-ray train, or one of sentence-transformers",
            )
    elif kind == "weights":
        _weights(where, value)
    else:
        raise ValueError(f"{key}: no kind {kind!r}")


def _weights(where: str, value: str) -> None:
    """A folder of weights; what looks like a hub id is left to transformers, 'new' to the pipeline."""
    folder = Path(value)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(
                "no weights here: it has no config.json", where=where, fix="give a folder of save_pretrained"
            )
        _whole(where, folder)
    elif value.startswith((".", "/", "~")) or value.count("/") > 1 or folder.exists():
        raise UserError("there is no such folder", where=where, fix="give a folder, or a hub id such as owner/name")


def _whole(where: str, folder: Path) -> None:
    """UserError where files of the weights are not in the folder of a model, as after a copy that was broken off."""
    fix = "copy or fetch the whole folder again"
    if single := [folder / name for name in WEIGHTS if (folder / name).is_file()]:
        if _cut(single[0]):
            raise UserError(f"half of a model: {single[0].name} is not whole", where=where, fix=fix)
        return
    listed = [folder / f"{name}.index.json" for name in WEIGHTS]
    try:
        named = {
            name for path in listed if path.is_file() for name in json.loads(path.read_text())["weight_map"].values()
        }
    except (ValueError, KeyError) as error:
        raise UserError(
            f"half of a model: its index of weights cannot be read: {error}", where=where, fix=fix
        ) from None
    missing = sorted(name for name in named if not (folder / name).is_file())
    if missing or not named:
        what = f"half of a model: no {missing[0] if missing else ' and no '.join(WEIGHTS)} here"
        raise UserError(what, where=where, fix=fix)
    if cut := [name for name in sorted(named) if _cut(folder / name)]:
        raise UserError(f"half of a model: {cut[0]} is not whole", where=where, fix=fix)


def _cut(weights: Path) -> bool:
    """Whether a file of safetensors is shorter than its head says, or than a head; of others nothing is known.

    The format: 8 bytes, how long a JSON object is; that, with where each tensor ends; the tensors."""
    if weights.suffix != ".safetensors":
        return False
    with weights.open("rb") as source:
        length = int.from_bytes(source.read(8), "little")
        size = weights.stat().st_size
        if size < 8 + length:
            return True
        try:
            tensors = json.loads(source.read(length))
            ends = [one["data_offsets"][1] for name, one in tensors.items() if name != "__metadata__"]
        except (ValueError, KeyError, TypeError, AttributeError):
            return True
    return bool(size < 8 + length + max(ends, default=0))
