"""A git repository by its URL: the one commit, without its history, and of that the files alone that are asked for.

First comes the commit with its trees (`--depth=1 --filter=blob:none`), then, in one request, the blobs that are mined. A
server that knows no filters sends all of the commit at once. What was fetched lies in a temporary folder, and goes with
the end of the work; what a kill left behind is removed by the next.

A URL is somebody else's word: it must not lead this machine to addresses that are not public. The name is resolved here,
and git connects to the address that was looked at; it follows no redirection, no alternates, and asks nobody for a password.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import glob
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

import xxhash

from cpt_ray.addresses import PORTS, Permission, host_and_port, is_address, permitted_address
from cpt_ray.code.options import CloneOptions
from cpt_ray.code.readers.git import Repository, died_of, surroundings
from cpt_ray.code.tree import Entry, Wanted
from cpt_ray.errors import UserError

REVISIONS = True
_PORTS = {**PORTS, "git": 9418}
_PREFIX = "cpt-ray-clone-"
_LONGEST_BIRTH = 60
"""Seconds in which a folder that was made gets its lock."""
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_FOR_GOOD = re.compile(
    r"not found|error: (?:30|40[134])|[Aa]uthentication|could not read Username|not our ref|not valid|redirect"
)
"""What git says, but for the address, where trying again changes nothing."""


def holds(path: str) -> bool:
    return "://" in path


@contextmanager
def opened(path: str, revision: str, clone: CloneOptions) -> Iterator[Remote]:
    with contextlib.ExitStack() as held:
        yield Remote(path, revision or "HEAD", clone, held)


class Remote:
    def __init__(self, url: str, revision: str, options: CloneOptions, held: contextlib.ExitStack) -> None:
        self.url, self.revision, self.options, self.held = url, revision, options, held
        self.pinned, self.settings = _pinned(url, options)
        self.host = urlsplit(url).hostname or ""
        self._cloned: Repository | None = None
        self._commit = revision if _COMMIT.fullmatch(revision) else ""

    def version(self) -> str:
        """The commit that the revision names on the server, which is asked for nothing else."""
        if not self._commit:
            wanted = (self.revision, f"{self.revision}^{{}}")  # the second is what an annotated tag is of
            listed = self._git("ls-remote", "--", self.pinned, *wanted).decode("utf-8", "replace").split()
            found = dict(zip(listed[1::2], listed[::2], strict=False))
            names = [f"{at}{name}" for at in ("", "refs/tags/", "refs/heads/") for name in reversed(wanted)]
            commit = next((found[name] for name in names if name in found), None)
            if commit is None:
                raise UserError(
                    f"it has no revision {self.revision}", where=self.url, fix="give a branch or a tag of it"
                )
            self._commit = commit
        return self._commit

    def entries(self) -> list[Entry]:
        return [entry._replace(absent=entry.reason is None and entry.size is None) for entry in self._clone().entries()]

    def parts(self, wanted: Wanted) -> int:
        return 1  # each part would fetch it again

    def contents(self, wanted: Sequence[Entry], most: int) -> Iterator[tuple[Entry, bytes | str]]:
        clone = self._clone()
        absent = sorted({entry.key for entry in wanted if entry.absent})
        if absent:
            # As git itself fetches what a partial clone lacks, but all of it at once.
            words = (
                "fetch",
                "-q",
                "--no-tags",
                "--no-write-fetch-head",
                "--recurse-submodules=no",
                "--filter=blob:none",
            )
            noop = ("-c", "fetch.negotiationAlgorithm=noop")
            self._git(
                *noop, "-C", clone.folder, *words, "--stdin", "origin", asked="".join(f"{one}\n" for one in absent)
            )
        yield from clone.contents(wanted, most)

    def _clone(self) -> Repository:
        if self._cloned is None:
            commit = self.version()
            folder = self.held.enter_context(_scratch())
            kind = "sha256" if len(commit) == 64 else "sha1"
            self._git("init", "-q", "--bare", "--template=", f"--object-format={kind}", folder, local=True)
            for name, value in (("url", self.pinned), ("promisor", "true"), ("partialclonefilter", "blob:none")):
                self._git("-C", folder, "config", f"remote.origin.{name}", value, local=True)
            words = ("fetch", "-q", "--no-tags", "--no-write-fetch-head", "--depth=1", "--filter=blob:none")
            self._git("-C", folder, *words, "origin", f"{commit}:refs/heads/mined")
            self._cloned = self.held.enter_context(Repository(folder, "refs/heads/mined"))
        return self._cloned

    def _git(self, *words: str, asked: str = "", local: bool = False) -> bytes:
        """What git prints; a fetch that a server lets down is tried again, later each time."""
        for left in range(0 if local else self.options.tries - 1, -1, -1):
            if not local:
                _wait_for_turn(self.host, self.options.pause)
            code, out, said = _run(words, asked, self.settings, self.options)
            if code == 0:
                return out
            if not left or _is_for_good(said.decode("utf-8", "replace"), self.pinned):
                break
            time.sleep(self.options.pause * 2 ** (self.options.tries - left) * (1 + random.random()))
        # The address is ours; the user knows the URL.
        why = died_of(said) or "it took too long"
        raise UserError(f"git cannot fetch this: {why}", where=self.url, fix="try git ls-remote")


def _is_for_good(said: str, address: str) -> bool:
    """Whether git was refused. What the address holds is no word of that: a port 40135 has a 401 in it."""
    parts = urlsplit(address)
    for part in (address, parts.netloc, parts.hostname or ""):
        said = re.sub(rf"(?<!\w){re.escape(part)}(?!\w)", "", said)
    return _FOR_GOOD.search(said) is not None


def _run(
    words: Sequence[str], asked: str, settings: Mapping[str, str], options: CloneOptions
) -> tuple[int, bytes, bytes]:
    """Exit status, output and complaints; of one that took longer than it may, neither of the last two."""
    environment = surroundings()
    at = int(environment.get("GIT_CONFIG_COUNT", "0") or 0)
    for i, (name, value) in enumerate(settings.items(), at):
        environment |= {f"GIT_CONFIG_KEY_{i}": name, f"GIT_CONFIG_VALUE_{i}": value}
    environment |= {
        "GIT_CONFIG_COUNT": str(at + len(settings)),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_ALLOW_PROTOCOL": ":".join(_PORTS),
    }
    limit = str(options.max_bytes // 512)  # blocks of POSIX
    command = ["sh", "-c", 'ulimit -f "$0"; exec git "$@"', limit, *words]
    with subprocess.Popen(
        command,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as git:
        try:
            out, err = git.communicate(asked.encode(), options.timeout)
        except subprocess.TimeoutExpired:
            out, err = b"", b""
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(git.pid, signal.SIGKILL)  # and what git started, which would go on fetching
    return git.returncode, out, err


def _pinned(url: str, options: CloneOptions) -> tuple[str, dict[str, str]]:
    """The URL and the settings with which git connects to an address that is allowed, and to no other."""
    named, port = host_and_port(url, _PORTS)
    try:
        # As it will be looked up: libcurl would turn other spellings of a name into this one, and look that up itself.
        host = named.rstrip(".").encode("idna").decode().lower()
    except UnicodeError:
        host = ""
    if not host or not port or "@" in urlsplit(url).netloc:
        raise UserError("no URL to clone from", where=url, fix="give https://host/path, and a token by clone.tokens")
    parts = urlsplit(url)
    permission = Permission(options.allow_private)
    address = permitted_address(host, port, permission, url=url, option="clone.allow_private")
    settings = {
        "http.followRedirects": "false",
        "http.lowSpeedLimit": "1000",
        "http.lowSpeedTime": "60",
        "gc.auto": "0",
        "maintenance.auto": "false",
    }
    shown = f"[{address}]" if ":" in address else address
    literal = is_address(host)
    if parts.scheme == "git" or literal:  # nothing is left to look up
        return parts._replace(netloc=f"{shown}:{port}").geturl(), settings | _credentials(url, host, options)
    settings["http.curloptResolve"] = f"{host}:{port}:{shown}"
    return parts._replace(netloc=f"{host}:{port}").geturl(), settings | _credentials(url, host, options)


def _credentials(url: str, host: str, options: CloneOptions) -> dict[str, str]:
    """The token of a host as git sends it, to it alone, and never without encryption."""
    token = os.environ.get(options.tokens.get(host, ""), "")
    if not token or urlsplit(url).scheme != "https":
        return {}
    secret = base64.b64encode(f"x-access-token:{token}".encode()).decode()
    return {"http.extraHeader": f"Authorization: Basic {secret}"}  # redirections, which it would go with, are off


def _file_name(host: str) -> str:
    """A name for a file, of any host a URL may name: what a file may not be called is told apart by its digest."""
    plain = re.sub(r"[^A-Za-z0-9.-]", "_", host)
    return host if plain == host and len(host) <= 100 else f"{plain[:80]}-{xxhash.xxh3_64_hexdigest(host.encode())}"


def _wait_for_turn(host: str, pause: float) -> None:
    """Return when the last fetch of the host by any process of this user began `pause` seconds ago."""
    path = os.path.join(tempfile.gettempdir(), f"cpt-ray-turn-{os.getuid()}-{_file_name(host)}")
    with open(os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600), "r+b") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        text = turn.read(32)
        wait = float(text or 0) + pause - time.time()
        time.sleep(min(max(wait, 0), pause))
        turn.seek(0)
        turn.write(f"{time.time():<32.3f}".encode())


@contextmanager
def _scratch() -> Iterator[str]:
    """A folder of this process, locked while it lives; those that nobody holds any more are removed."""
    for left in glob.glob(os.path.join(tempfile.gettempdir(), f"{_PREFIX}{os.getuid()}-*")):
        with contextlib.suppress(OSError):
            if os.stat(left).st_mtime < time.time() - _LONGEST_BIRTH:
                with _locked(left):
                    shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getuid()}-")
    try:
        with _locked(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _locked(folder: str) -> Iterator[None]:
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(handle)
