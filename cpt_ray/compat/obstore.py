"""obstore's internals: the store behind its fsspec file system, whose conditional writes fsspec has no words for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

VERSION = "0.12.1"


def store_of(fs: AbstractFileSystem, name: str) -> tuple[Any, str] | None:
    """The store and the key of an object; None for a file system that is not obstore's."""
    if not hasattr(fs, "_construct_store"):
        return None
    bucket, key = fs._split_path(name)
    return fs._construct_store(bucket), key
