"""The manifest: what a published directory holds, how it was made and from what."""

from __future__ import annotations

import hashlib
import json
import platform
import posixpath
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from typing import Any

from pydantic import BaseModel, ConfigDict, SerializerFunctionWrapHandler, model_serializer

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.options import Options

FORMAT = 1
DIGEST = 32
"""Hex digits kept of a SHA-256: 128 bits."""
SOFTWARE = (
    *("cpt-ray", "ray", "torch", "transformers", "deepspeed", "pyarrow"),
    *("datasketch", "tree-sitter", "numba", "mlflow"),
)


def canonical(value: object) -> str:
    """JSON with sorted keys and no spaces: equal values have equal text."""
    if isinstance(value, Options):
        value = value.result()
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def fingerprint(value: object) -> str:
    """128 bits of SHA-256 over the canonical JSON of `value`, as 32 hex digits."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:DIGEST]


@cache
def software() -> dict[str, str]:
    """Versions of what may change an artifact's bytes; recorded, but no part of its identity."""
    versions = {"python": platform.python_version()}
    for name in SOFTWARE:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


class File(BaseModel):
    """One published file: path relative to the artifact, size in bytes, SHA-256 prefix of its content.

    `at` is where it lies, if not at `path`: in a bucket, relative to the artifact under a name of the attempt that wrote it;
    of somebody else's file (`adopted`) the whole path.
    """

    model_config = ConfigDict(frozen=True)
    path: str
    size: int
    digest: str
    at: str | None = None

    def named(self, path: str, at: str | None = None) -> File:
        return self.model_copy(update={"path": path, "at": at})

    @property
    def place(self) -> str:
        return self.at or self.path

    def below(self, root: str) -> str:
        """Its path, where that of the artifact is `root`."""
        return self.place if self.adopted else posixpath.join(root, self.place)

    @property
    def adopted(self) -> bool:
        return "://" in self.place or self.place.startswith("/")

    @model_serializer(mode="wrap")
    def _where_it_is(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = handler(self)
        return told if self.at else {name: value for name, value in told.items() if name != "at"}


class Manifest(BaseModel):
    """`manifest.json` of a published artifact."""

    model_config = ConfigDict(frozen=True)

    format: int = FORMAT
    step: str
    version: int
    params: dict[str, Any]
    inputs: dict[str, str]
    identity: str
    digest: str
    rows: int
    columns: dict[str, str]
    ledger: dict[str, Any]
    files: list[File]
    software: dict[str, str]
    seconds: float
    resumed: bool
    created: str
    extra: dict[str, Any] = {}

    @property
    def balance(self) -> Ledger:
        return Ledger.from_dict(self.ledger)


def digests_of(inputs: Mapping[str, str | Manifest]) -> dict[str, str]:
    """Of each input its digest, which may be given as it is."""
    return {name: value.digest if isinstance(value, Manifest) else value for name, value in inputs.items()}


def identity_of(step: str, version: int, params: object, inputs: Mapping[str, str]) -> str:
    """What makes an artifact this one: the step and its version, its parameters, and its inputs' digests."""
    plain = json.loads(canonical(params))
    return fingerprint({"step": step, "version": version, "params": plain, "inputs": dict(inputs)})


def content_digest(identity: str, files: list[File]) -> str:
    """Identity and content together: two artifacts with one digest are interchangeable."""
    return fingerprint({"identity": identity, "files": [file.model_dump(exclude={"at"}) for file in files]})
