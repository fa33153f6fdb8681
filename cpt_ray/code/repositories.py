"""Files of a git repository at a commit, without a checkout: `ls-tree` lists, one `cat-file --batch` reads.

A partial clone lacks blobs over some size, and git would fetch each one it is asked for, or die if it may not. So the
objects are read through an empty repository of our own that borrows the object folder: there an absent blob is just
absent, and no setting of the repository that is read has any effect.
"""

from __future__ import annotations

import logging
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
from cpt_ray.code.functions import FUNCTIONS, Origin, Source, mine
from cpt_ray.code.grammars import language_of
from cpt_ray.code.licences import is_licence_file, repository_licence
from cpt_ray.code.options import MineOptions
from cpt_ray.errors import UserError

logger = logging.getLogger(__name__)


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
        # Where git's own configuration stands is the user's to say (safe.directory in a container's environment).
        self._environment = {
            **{n: value for n, value in os.environ.items() if not n.startswith("GIT_") or n.startswith("GIT_CONFIG")},
            "GIT_NO_REPLACE_OBJECTS": "1",
            "LC_ALL": "C",
        }

    def __enter__(self) -> Repository:
        inside = os.fsdecode(self._ask("rev-parse", "--show-prefix")).strip("\n")
        if inside:
            raise UserError(
                "this is a folder inside a repository, not a repository",
                where=self.folder,
                fix=f"give the repository's own folder, {len(inside.strip('/').split('/'))} above it",
            )
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
        return self._listing(commit, "-r", "--full-tree")

    def _listing(self, commit: str, *how: str) -> list[Blob]:
        found = []
        listing = self._run("ls-tree", "-z", "-l", *how, commit, environment=self._borrowing)
        for entry in filter(None, listing.split(b"\0")):
            head, _, path = entry.partition(b"\t")
            mode, kind, digest, size = head.split()
            if kind == b"blob" and mode != b"120000":
                found.append(Blob(os.fsdecode(path), digest.decode(), int(size) if size.isdigit() else None))
        return sorted(found)

    def licence_texts(self, commit: str) -> list[str]:
        """The licence files at the top of a commit that are there, of at most 200 kB."""
        found = [blob for blob in self._listing(commit, "--full-tree") if is_licence_file(blob.path)]
        wanted = [blob.digest for blob in found if blob.size is not None and blob.size <= 200_000]
        return [data.decode("utf-8", "replace") for data in self.contents(wanted) if data is not None]

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


def mine_listed_shard(shard: Mapping[str, Any], options: MineOptions) -> tuple[pa.Table, Ledger]:
    """`mine_repository_shard`, where one repository of many that cannot be read costs itself alone.

    It is counted among the `repositories` as `unreadable`, and said on the log.
    """
    try:
        if shard.get("problem"):
            raise UserError(str(shard["problem"]), where=str(shard["repository"]), fix="see git fsck")
        table, ledger = mine_repository_shard(shard, options)
        return table, ledger + Ledger.of("repositories", read=1, kept=1)
    except UserError as problem:
        logger.warning("left out: %s", problem)
        unread = Ledger.of("repositories", read=1, kept=0, dropped={"unreadable": 1})
        return FUNCTIONS.empty_table(), Ledger.count("files", []) + Ledger.count("functions", []) + unread


def mine_repository_shard(shard: Mapping[str, Any], options: MineOptions) -> tuple[pa.Table, Ledger]:
    """Functions of `{"repository": folder, "commit": revision, "group", "licence"?, "slice"?: [i, n]}`.

    `version` of the rows is the full commit id. A slice takes the files whose path hashes to i of n, so that a large
    repository becomes many shards. A blob that is not there is dropped as `missing_blob`.
    """
    with Repository(str(shard["repository"])) as repository:
        commit = repository.resolve(str(shard.get("commit") or "HEAD"))
        part, of = shard.get("slice") or (0, 1)
        blobs = [blob for blob in repository.blobs(commit) if of == 1 or _slot(blob.path, of) == part]
        licence = shard.get("licence") or repository_licence(repository.licence_texts(commit))
        origin = Origin(shard["group"], commit, licence)
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
    """What git died of; advice may follow it."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (fatal or lines or ["no reason given"])[-1]


def _slot(path: str, of: int) -> int:
    return xxhash.xxh3_64_intdigest(os.fsencode(path)) % of
