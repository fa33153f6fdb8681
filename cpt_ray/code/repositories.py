"""Files of a git repository at a commit, without a checkout: `ls-tree` lists, one `cat-file --batch` reads.

A partial clone lacks blobs over some size, and git would fetch each one it is asked for, or die if it may not. So the
objects are read through an empty repository of our own that borrows the object folder: there an absent blob is just
absent, and no setting of the repository that is read has any effect.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Generator, Iterator, Mapping, Sequence
from types import TracebackType
from typing import IO, Any, NamedTuple

import pyarrow as pa
import xxhash

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.code import filters
from cpt_ray.code.functions import Origin, Source, mine
from cpt_ray.code.grammars import language_of
from cpt_ray.code.options import MineOptions
from cpt_ray.errors import UserError


class Blob(NamedTuple):
    """A regular file of a commit; `size` in bytes, None where the object is absent."""

    path: str
    digest: str
    size: int | None


class Repository:
    """A git repository (or a bare one) opened for reading; a context manager. UserError where there is none."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._scratch = tempfile.TemporaryDirectory(prefix="cpt-ray-git-")
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "LC_ALL": "C",
        }

    def __enter__(self) -> Repository:
        objects = self._ask("rev-parse", "--path-format=absolute", "--git-path", "objects").decode().rstrip("\n")
        kind = self._ask("rev-parse", "--show-object-format").decode().strip()
        self._run("init", "-q", "--bare", "--template=", f"--object-format={kind}", self._scratch.name)
        self._borrowing = {**self._environment, "GIT_DIR": self._scratch.name, "GIT_OBJECT_DIRECTORY": objects}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._scratch.cleanup()

    def resolve(self, revision: str) -> str:
        """The full id of the commit that `revision` names; UserError where there is none."""
        name = f"{revision}^{{commit}}"
        return self._ask("rev-parse", "--verify", "--end-of-options", name).decode().strip()

    def blobs(self, commit: str) -> list[Blob]:
        """Regular files of a commit by path; links and submodules are left out."""
        found = []
        listing = self._run("ls-tree", "-r", "-z", "-l", "--full-tree", commit, environment=self._borrowing)
        for entry in filter(None, listing.split(b"\0")):
            head, _, path = entry.partition(b"\t")
            mode, kind, digest, size = head.split()
            if kind == b"blob" and mode != b"120000":
                found.append(Blob(os.fsdecode(path), digest.decode(), int(size) if size.isdigit() else None))
        return sorted(found)

    def contents(self, digests: Sequence[str]) -> Generator[bytes | None]:
        """Blobs in the order asked for, None where one is absent; one git process for all, one blob in memory."""
        # Git reads its questions from a file: writing them to a pipe while it answers could block both sides.
        with tempfile.TemporaryFile() as questions, tempfile.TemporaryFile() as errors:
            questions.write("".join(f"{digest}\n" for digest in digests).encode())
            questions.seek(0)
            command = ["git", "cat-file", "--batch", "--buffer"]
            with subprocess.Popen(
                command, stdin=questions, stdout=subprocess.PIPE, stderr=errors, env=self._borrowing
            ) as git:
                assert git.stdout is not None
                try:
                    for _ in digests:
                        yield self._answer(git.stdout, errors)
                finally:
                    git.kill()

    def _answer(self, stdout: IO[bytes], errors: IO[bytes]) -> bytes | None:
        head = stdout.readline().split()
        if len(head) == 2 and head[1] == b"missing":
            return None
        if len(head) != 3:
            errors.seek(0)
            raise UserError(
                f"git cat-file stopped: {_last(errors.read())}", where=self.folder, fix="run git fsck there"
            )
        data = stdout.read(int(head[2]))
        stdout.read(1)
        return data

    def _ask(self, *words: str) -> bytes:
        """A question to the repository itself, about its references and its layout, never about a blob."""
        return self._run("-C", self.folder, *words, environment=self._environment)

    def _run(self, *words: str, environment: Mapping[str, str] | None = None) -> bytes:
        done = subprocess.run(
            ["git", *words], capture_output=True, stdin=subprocess.DEVNULL, env=environment or self._environment
        )
        if done.returncode:
            raise UserError(
                f"git cannot read this: {_last(done.stderr)}",
                where=self.folder,
                fix="give the folder of a git repository and a commit that it holds; git fsck there tells more",
            )
        return done.stdout


def mine_repository_shard(shard: Mapping[str, Any], options: MineOptions) -> tuple[pa.Table, Ledger]:
    """Functions of `{"repository": folder, "commit": revision, "group", "licence"?, "slice"?: [i, n]}`.

    `version` of the rows is the full commit id. A slice takes the files whose path hashes to i of n, so that a large
    repository becomes many shards. A blob that is not there is dropped as `missing_blob`.
    """
    with Repository(str(shard["repository"])) as repository:
        commit = repository.resolve(str(shard.get("commit") or "HEAD"))
        part, of = shard.get("slice") or (0, 1)
        blobs = [blob for blob in repository.blobs(commit) if of == 1 or _slot(blob.path, of) == part]
        origin = Origin(shard["group"], commit, shard.get("licence") or "")
        return mine(_sources(repository, blobs, options), origin, options)


def _sources(repository: Repository, blobs: list[Blob], options: MineOptions) -> Iterator[Source]:
    reasons = [_reason(blob, options) for blob in blobs]
    contents = repository.contents([blob.digest for blob, reason in zip(blobs, reasons, strict=True) if reason is None])
    for blob, reason in zip(blobs, reasons, strict=True):
        data = next(contents) if reason is None else None
        yield Source(blob.path.encode("utf-8", "replace").decode(), data, reason or "missing_blob")
    contents.close()


def _reason(blob: Blob, options: MineOptions) -> str | None:
    """Why a blob need not be read at all; the same names as in `mine_source`."""
    if language_of(os.path.splitext(blob.path)[1].lower()) not in options.languages:
        return "other_language"
    reason = filters.path_reason(blob.path, options)
    if reason is not None:
        return reason
    if blob.size is None:
        return "missing_blob"
    return "too_large" if blob.size > options.max_file_bytes else None


def _last(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"


def _slot(path: str, of: int) -> int:
    return xxhash.xxh3_64_intdigest(os.fsencode(path)) % of
