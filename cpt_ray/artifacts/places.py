"""Where artifacts lie: a folder, a bucket, or whatever else fsspec names; and how something appears there as a whole.

In a folder a file appears by a rename. A bucket has none, but an object appears when its last byte is there, and `put_over`
writes one only where nobody has written since. `s3://`, `gs://` and `az://` are opened by obstore (docs/platform.md says
why), with the credentials of the usual environment variables and of the machine's role; nothing else of them is kept.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import fsspec
from fsspec import AbstractFileSystem

from cpt_ray.compat.obstore import store_of
from cpt_ray.errors import UserError

BUCKETS = ("s3", "gs", "az")
"""Schemes that obstore opens."""
CUT = ".tmp"
"""Ending of a file that is being written, or was when its writer died."""
ADDRESSES = {
    "s3": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "gs": ("GOOGLE_BASE_URL",),
    "az": ("AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
}
"""The variables that name another server of a scheme than its cloud's, the first that is set."""
ATTEMPTS = 6
"""Conditional writes of which nothing is known, but that they left no trace: obstore sends those once."""


class Changed(Exception):
    """Another wrote here since."""


def locate(path: str) -> tuple[AbstractFileSystem, str]:
    """The file system of `path`, and the path as it has it."""
    scheme, found, rest = path.partition("://")
    if not found or scheme not in BUCKETS:
        fs, target = fsspec.core.url_to_fs(path)
        return fs, target
    return _bucket(scheme), rest.rstrip("/")


def renames(fs: AbstractFileSystem) -> bool:
    """Whether this is a folder, where a rename makes a thing appear at once."""
    return "file" in ((fs.protocol,) if isinstance(fs.protocol, str) else fs.protocol)


@contextmanager
def writing(fs: AbstractFileSystem, name: str) -> Iterator[IO[bytes]]:
    """A file that appears whole under its name; in a bucket, a failing writer may leave the beginning of one.

    Several may write it at once, as when a task is given to another node while the first still runs: each has a file of
    its own until the rename.
    """
    if not renames(fs):
        with fs.open(name, "wb") as sink:
            yield sink
        return
    own = f"{name}.{uuid.uuid4().hex[:8]}{CUT}"
    try:
        with fs.open(own, "wb") as sink:
            yield sink
    except BaseException as error:
        with suppress(OSError):
            os.unlink(own)  # what is half written would only keep a full disk full
        if isinstance(error, OSError) and error.filename is None:
            error.filename = name
        raise
    os.replace(own, name)  # a move of fsspec's would put it into a folder of that name


def make_room(path: str, key: str) -> None:
    """Make the folders above a file that somebody has named by the option `key`, before the work that ends in it.

    UserError where it is a folder, or where none can be made."""
    fs, target = locate(path)
    if not renames(fs):
        return
    where, fix = f"{key}={path}", f"name a file in a folder of yours: {key}=<folder>/<file>"
    if os.path.isdir(target):
        raise UserError("this is a folder", where=where, fix=fix)
    folder = os.path.dirname(target)
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise UserError(f"there can be no folder {folder}: {error.strerror}", where=where, fix=fix) from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UserError(f"nothing can be written to {folder}", where=where, fix=fix)


def clear_cut(path: str) -> None:
    """Remove, below a folder, what writers that died have left of files."""
    fs, folder = locate(path)
    if renames(fs):
        for name in fs.find(folder):
            if name.endswith(CUT):
                with suppress(FileNotFoundError):  # its writer lives, and has just finished
                    fs.rm(name)


def write(fs: AbstractFileSystem, name: str, content: bytes) -> None:
    """Write a file whole or not at all."""
    if renames(fs):
        with writing(fs, name) as sink:
            sink.write(content)
    elif (store := store_of(fs, name)) is None:
        fs.pipe_file(name, content)
    else:
        import obstore

        with reaching(name):
            obstore.put(*store, content)


def remove(fs: AbstractFileSystem, name: str) -> None:
    """Remove a file, or a folder with everything in it, if it is there."""
    if (store := store_of(fs, name)) is None:
        if fs.exists(name):
            fs.rm(name, recursive=True)
        return
    import obstore

    bucket, key = store
    with reaching(name):
        below = [found["path"] for chunk in obstore.list(bucket, prefix=f"{key}/") for found in chunk]
        with suppress(FileNotFoundError):
            obstore.delete(bucket, below or key)  # many in one request, where the bucket can


def remove_file(fs: AbstractFileSystem, name: str) -> None:
    """Remove what is known to be a file, if it is there: in a bucket one request."""
    if (store := store_of(fs, name)) is None:
        remove(fs, name)
        return
    import obstore

    with reaching(name), suppress(FileNotFoundError):
        obstore.delete(*store)


def link(source: str | Path, target: str | Path) -> None:
    """Give a file of this machine a second name, in place of what has it: a hard link where the file system knows them,
    else a copy."""
    Path(target).unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without hard links
        shutil.copy(source, target)


@contextmanager
def reaching(where: str) -> Iterator[None]:
    """UserError, with the first line of what obstore says, for a bucket that cannot be reached or is not there."""
    try:
        yield
    except Exception as error:
        from obstore.exceptions import BaseError

        if not isinstance(error, BaseError):
            raise
        raise _unreachable(where, error) from error


def _unreachable(where: str, error: Exception) -> UserError:
    return UserError(
        f"the bucket does not do what was asked: {str(error).partition(chr(10))[0][:300]}",
        where=where,
        fix="check that it is there, and the credentials, region and address that the environment gives",
    )


def read(fs: AbstractFileSystem, name: str) -> tuple[bytes, Any] | None:
    """An object and its version, which `put_over` takes; None where there is none."""
    try:
        if (store := store_of(fs, name)) is None:
            content = fs.cat_file(name)
            return content, hashlib.sha256(content).hexdigest()
        import obstore

        with reaching(name):
            found = obstore.get(*store)
            return bytes(found.bytes()), _version(found.meta)
    except (FileNotFoundError, NotADirectoryError):  # the latter below a file
        return None


def put_over(fs: AbstractFileSystem, name: str, content: bytes, version: Any) -> Any:
    """Write an object in place of `version`, None for nothing; returns its own version. Changed if that is not what stands.

    One of several writers succeeds, if each writes something of its own: who gets no answer, or one to a request that was
    carried out and sent again, looks at what stands. File systems that are no bucket of obstore are asked first and
    written to then.
    """
    if (store := store_of(fs, name)) is None:
        return _ask_and_write(fs, name, content, version)
    import obstore
    from obstore.exceptions import AlreadyExistsError, BaseError, GenericError, PreconditionError

    for attempt in range(ATTEMPTS):
        try:
            return _version(obstore.put(*store, content, mode="create" if version is None else version))
        except FileNotFoundError as error:  # what stood is gone; and where nothing was to stand, there is no bucket
            if version is None:
                raise _unreachable(name, error) from error
            raise Changed(name) from error
        except (AlreadyExistsError, PreconditionError, GenericError) as error:
            there = read(fs, name)
            if there is not None and there[0] == content:
                return there[1]
            if (there[1] if there else None) != version or not isinstance(error, GenericError):
                raise Changed(name) from error
            if attempt == ATTEMPTS - 1:
                raise _unreachable(name, error) from error
        except BaseError as error:
            raise _unreachable(name, error) from error
        time.sleep(0.1 * 2**attempt)
    raise AssertionError("the last attempt returns or raises")


def _ask_and_write(fs: AbstractFileSystem, name: str, content: bytes, version: Any) -> Any:
    there = read(fs, name)
    if (there[1] if there else None) != version:
        raise Changed(name)
    try:
        fs.pipe_file(name, content, mode="overwrite" if there else "create")
    except FileExistsError as error:
        raise Changed(name) from error
    return hashlib.sha256(content).hexdigest()


def _bucket(scheme: str) -> Any:
    from obstore.fsspec import FsspecStore

    # An endpoint of one's own, such as a server on this network, may be without TLS; the variable says so itself.
    told = next((os.environ[name] for name in ADDRESSES[scheme] if name in os.environ), "")
    plain = told.startswith("http://")
    opened: Any = FsspecStore
    return opened(scheme, client_options={"allow_http": plain})


def _version(told: Any) -> dict[str, str]:
    return {name: told[name] for name in ("e_tag", "version") if told[name] is not None}
