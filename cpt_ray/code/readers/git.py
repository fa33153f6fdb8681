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
from typing import IO

from cpt_ray.code.tree import Entry, Wanted, parts_of
from cpt_ray.errors import UserError

REVISIONS = True


def holds(path: str) -> bool:
    """Whether git would take the folder itself for a repository, whatever state that is in."""
    if os.path.lexists(os.path.join(path, ".git")):
        return True
    return os.path.isdir(path) and all(os.path.exists(os.path.join(path, name)) for name in ("HEAD", "objects"))


def opened(path: str, revision: str, *_: object) -> Repository:
    return Repository(path, revision or "HEAD")


class Repository:
    """A git repository (or a bare one) at a revision; a context manager. UserError where there is none."""

    def __init__(self, folder: str, revision: str = "HEAD") -> None:
        self.folder, self.revision = folder, revision
        self._commit = ""
        self._scratch = tempfile.TemporaryDirectory(prefix="cpt-ray-git-")
        self._environment = {**surroundings(), "GIT_NO_REPLACE_OBJECTS": "1"}

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
        shallow = self._ask("rev-parse", "--path-format=absolute", "--git-path", "shallow").decode().rstrip("\n")
        if os.path.exists(shallow):  # where its history ends
            self._borrowing["GIT_SHALLOW_FILE"] = shallow
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._scratch.cleanup()

    def version(self) -> str:
        """The full id of the commit that the revision names; UserError where there is none."""
        if not self._commit:
            name = f"{self.revision}^{{commit}}"
            self._commit = self._ask("rev-parse", "--verify", "--end-of-options", name).decode().strip()
        return self._commit

    def entries(self) -> list[Entry]:
        """The files of the commit by path; links and submodules are none that can be read."""
        found = []
        listing = self._run("ls-tree", "-z", "-l", "-r", "--full-tree", self.version(), environment=self._borrowing)
        for entry in filter(None, listing.split(b"\0")):
            head, _, name = entry.partition(b"\t")
            mode, kind, digest, size = head.split()
            path = os.fsdecode(name).encode("utf-8", "replace").decode()
            regular = kind == b"blob" and mode != b"120000"
            there = int(size) if size.isdigit() else None
            found.append(Entry(path, digest.decode(), there, None if regular else "not_a_file"))
        return sorted(found, key=lambda entry: entry.path)

    def parts(self, wanted: Wanted) -> int:
        return parts_of(wanted)

    def contents(self, wanted: Sequence[Entry], most: int) -> Iterator[tuple[Entry, bytes | str]]:
        """In the order asked for; what is absent is a `missing_blob`."""
        for entry, data in zip(wanted, self.blobs([entry.key for entry in wanted]), strict=True):
            yield entry, "missing_blob" if data is None else data

    def blobs(self, digests: Sequence[str]) -> Generator[bytes | None]:
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

    def plumbing(self, *words: str) -> bytes:
        """What a git command answers on the objects alone; UserError where it cannot."""
        return self._run(*words, environment=self._borrowing)

    def _answer(self, stdout: IO[bytes], errors: IO[bytes]) -> bytes | None:
        head = stdout.readline().split()
        if len(head) == 2 and head[1] == b"missing":
            return None
        if len(head) != 3:
            errors.seek(0)
            why = died_of(errors.read()) or "no reason given"
            raise UserError(f"git cat-file stopped: {why}", where=self.folder, fix="run git fsck there")
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
                f"git cannot read this: {died_of(done.stderr) or 'no reason given'}",
                where=self.folder,
                fix="give the folder of a git repository and a commit that it holds; git fsck there tells more",
            )
        return done.stdout


def surroundings() -> dict[str, str]:
    """The environment for git, in English: of the caller's own repository (a hook's GIT_DIR) it knows nothing.

    Where git's own configuration stands is the user's to say (safe.directory in a container's environment).
    """
    mine = {n: value for n, value in os.environ.items() if not n.startswith("GIT_") or n.startswith("GIT_CONFIG")}
    return {**mine, "LC_ALL": "C"}


def died_of(stderr: bytes) -> str:
    """The line of git's complaints that says why it stopped, which advice may follow; "" where it said nothing."""
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    return (fatal or lines or [""])[-1]
