"""What a pipeline reads is looked at before anything heavy is imported or started: a wrong path is said at once.

A pipeline declares it as the constant READS, {key: kind}, a plain dictionary: the command line reads it from the file
without importing the pipeline, whose own imports take seconds.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cpt_ray.artifacts import read_manifest
from cpt_ray.errors import UserError
from cpt_ray.options import Options


def declared(name: str) -> dict[str, str]:
    """READS of the pipeline module `name`, by its syntax tree; {} if it declares none."""
    for node in ast.parse(Path(__file__).with_name(f"{name}.py").read_text()).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "READS" for t in node.targets):
            found: dict[str, str] = ast.literal_eval(node.value)
            return found
    return {}


def check_overrides(name: str, overrides: Sequence[str]) -> None:
    """Check what is given as plain `key=value`; the rest is checked when the options are composed."""
    given = dict(override.split("=", 1) for override in overrides if "=" in override)
    for key, kind in declared(name).items():
        value = given.get(key, "").strip("\"'")
        if (
            value and value not in ("null", "auto") and not set(value) & set("$\\")
        ):  # what Hydra resolves is known later
            check(key, kind, value)


def check_options(reads: Mapping[str, str], options: Options) -> None:
    """Check what composed options name; null is nothing to read."""
    for key, kind in reads.items():
        value: Any = options
        for part in key.split("."):
            value = getattr(value, part)
        if value is not None:
            check(key, kind, value)


def check(key: str, kind: str, value: str) -> None:
    """UserError naming `key=value` unless `value` is there and of its kind."""
    where = f"{key}={value}"
    if kind in ("artifact", "pairs"):
        try:
            columns = read_manifest(value).columns
        except UserError as error:
            raise UserError(error.what, where=where, fix=error.fix) from error
        if kind == "pairs" and "split" not in columns:
            raise UserError("this is no pairs artifact", where=where, fix="give one, such as outputs/demo/code_pairs")
    elif kind == "file":
        if "://" not in value and not Path(value).is_file():
            raise UserError("there is no such file", where=where, fix="give the path of a file")
    elif kind == "folder":
        if not Path(value).is_dir():
            raise UserError("there is no such folder", where=where, fix="give the path of a folder")
    elif kind == "trained":
        if not Path(value, "cpt_ray.json").is_file():
            raise UserError("this is no trained model: it has no cpt_ray.json", where=where, fix="see cpt-ray train")
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
    elif value.startswith((".", "/", "~")) or value.count("/") > 1 or folder.exists():
        raise UserError("there is no such folder", where=where, fix="give a folder, or a hub id such as owner/name")
