"""Published directories: written under a temporary name, appearing whole or not at all.

`build` opens (or goes on with) the temporary directory `<path>.building`. It survives a kill, and is reused by the next
run when step, version, parameters and inputs are the same. One of another identity is kept beside if it holds more than
a minute of work, and cleared if not. A second build with the same identity finds the artifact done.

`publish` is safe to be killed in at any point, because each line of it leaves what the next build can go on from:

1. the files are counted and the manifest is written: until then the build goes on, from then on it is whole;
2. the directory is renamed into place (the next build does it if this one could not);
3. what only resuming needed is removed (likewise).

In a bucket nothing is renamed. Files are written below the artifact, in a folder of the identity and under names of the
attempt, and the artifact appears by one write, that of its manifest, put only where the manifest that stood at the
beginning still stands. Whoever builds holds a lease (`lease`) in place of a lock.

What an artifact holds, and in which order, is what its manifest lists; a listing of the directory is never asked.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import posixpath
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal

import pyarrow as pa
from fsspec import AbstractFileSystem
from pydantic import ValidationError

from cpt_ray import telemetry
from cpt_ray.artifacts import examples, parquet
from cpt_ray.artifacts.lease import Lease, leased
from cpt_ray.artifacts.ledger import Ledger, parts_to_rows
from cpt_ray.artifacts.manifest import (
    DIGEST,
    FORMAT,
    File,
    Manifest,
    canonical,
    content_digest,
    digests_of,
    identity_of,
    software,
)
from cpt_ray.artifacts.places import Changed, clear_cut, locate, put_over, read, remove, remove_file, renames, write
from cpt_ray.errors import UserError
from cpt_ray.options import flatten

try:
    import fcntl
except ImportError:  # pragma: no cover - only Windows lacks it, and there the lock is left out
    fcntl = None  # type: ignore[assignment]

log = logging.getLogger("cpt_ray")

MANIFEST = "manifest.json"
BUILDING = ".building"
REPLACED = ".replaced"
PHASES = ".phases"
IDENTITY = "_identity.json"
SCRATCH = "_scratch"
"""A folder of this name inside a build holds what resume needs; it is left out of the published artifact."""
WORTH_KEEPING = 60.0
"""Seconds of work in an unfinished build from which on it is never removed, only put beside."""


class BeingBuilt(UserError):
    """Another process holds the lock of an artifact in a folder."""


@dataclass(frozen=True)
class Place:
    """Where the files of a build are written; with an `attempt`, in a bucket, under names of it."""

    path: str
    attempt: str = ""

    def write(self, name: str, table: pa.Table, *, row_group_size: int = parquet.ROW_GROUP) -> File:
        """Write a table as the file `name` of the artifact."""
        own, at = self._own(name)
        written = parquet.write_table(posixpath.join(self.path, own), table, row_group_size=row_group_size)
        return written.named(name, at)

    def put(self, name: str, content: bytes) -> File:
        """Write a small file whole as the file `name` of the artifact."""
        own, at = self._own(name)
        fs, target = locate(posixpath.join(self.path, own))
        write(fs, target, content)
        return File(path=name, size=len(content), digest=parquet.digest_of(content), at=at)

    def _own(self, name: str) -> tuple[str, str | None]:
        """Its name below `path`, and below the artifact if that is another."""
        if not self.attempt:
            return name, None
        stem, suffix = posixpath.splitext(name)
        own = f"{stem}-{self.attempt}{suffix}"
        return own, posixpath.join(posixpath.basename(self.path), own)


@dataclass
class Work:
    """A build under way. `path` is where to write; `scratch` is for resume state and is never published."""

    target: str
    path: str
    done: bool
    manifest: Manifest | None
    step: str
    version: int
    params: dict[str, Any]
    inputs: dict[str, str]
    identity: str
    resumed: bool
    attempt: str = ""
    lease: Lease | None = None
    standing: Any = None
    started: float = field(default_factory=time.monotonic)
    written: list[File] = field(default_factory=list)

    @property
    def place(self) -> Place:
        return Place(self.path, self.attempt)

    def write(self, name: str, table: pa.Table, *, row_group_size: int = parquet.ROW_GROUP) -> None:
        """Write a table as the file `name` of the artifact; see `publish`."""
        self.written.append(self.place.write(name, table, row_group_size=row_group_size))

    def write_parts(self, table: pa.Table, rows: int) -> None:
        """Write a table as parts of so many rows, one without rows as one part; see `publish`."""
        for number, start in enumerate(range(0, max(table.num_rows, 1), rows)):
            self.write(f"{part_name(number)}.parquet", table.slice(start, rows))

    @property
    def scratch(self) -> str:
        path = posixpath.join(self.path, SCRATCH)
        fs, local = locate(path)
        fs.makedirs(local, exist_ok=True)
        return path

    def publish(
        self,
        ledger: Ledger,
        *,
        rows: int,
        schema: pa.Schema | None = None,
        extra: Mapping[str, Any] | None = None,
        files: Sequence[File] | None = None,
    ) -> Manifest:
        """Write the manifest and let the artifact appear; the ledger must balance.

        What it holds are `files`, in their order; without them what `write` wrote; and in a folder, without both, whatever
        lies there.
        """
        ledger.check(f"{self.step} -> {self.target}")
        if files is None:  # of shards each was counted when it was done
            telemetry.rows(self.step, ledger.units)
        fs, building = locate(self.path)
        told = list(self.written if files is None else files)
        if self.lease is not None and rows and not told:
            raise UserError(
                f"{self.step} writes files of its own, which a bucket cannot take in",
                where=self.target,
                fix="give a folder that all nodes reach (cluster.outputs)",
            )
        beside = [*parts_to_rows(ledger.parts), *examples.to_rows(ledger.examples)]
        shown = [self.place.put(examples.FILE, examples.lines(beside))] if beside else []
        if self.lease is None:
            clear_cut(self.path)
            told = told or _files(fs, building)
        files = sorted({file.path: file for file in [*told, *shown]}.values(), key=lambda file: _by_number(file.path))
        self.manifest = Manifest(
            step=self.step,
            version=self.version,
            params=self.params,
            inputs=self.inputs,
            identity=self.identity,
            digest=content_digest(self.identity, files),
            rows=rows,
            columns={name: str(kind) for name, kind in zip(schema.names, schema.types, strict=True)} if schema else {},
            ledger=ledger.to_dict(),
            files=files,
            software=software(),
            seconds=round(time.monotonic() - self.started, 3),
            resumed=self.resumed,
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            extra=dict(extra or {}),
        )
        target = locate(self.target)[1]
        if self.lease is not None:
            self._appear(fs, target)
            self.done = True
            return self.manifest
        _write_json(fs, posixpath.join(building, MANIFEST), self.manifest.model_dump(mode="json"))
        _finish_publish(fs, building, target)
        for other in _kept(fs, building):
            log.info("%s is an unfinished build of other options; remove it if you do not want to go on with it", other)
        self.done = True
        return self.manifest

    def _appear(self, fs: AbstractFileSystem, target: str) -> None:
        """Put the manifest over the one that stood when the build began, and remove what nobody needs any more."""
        assert self.lease is not None
        assert self.manifest is not None
        self.lease.check()
        before = _manifest_or_none(fs, target)
        try:
            content = _json(self.manifest.model_dump(mode="json"))
            put_over(fs, posixpath.join(target, MANIFEST), content, self.standing)
        except Changed:
            raise UserError(
                "another process has published here meanwhile", where=self.target, fix="run again, one at a time"
            ) from None
        places = {file.place for file in self.manifest.files}
        for file in before.files if before else ():
            if file.place not in places and not file.adopted:
                remove_file(fs, posixpath.join(target, file.place))
        own = locate(self.path)[1]
        remove(fs, posixpath.join(own, SCRATCH))
        remove_file(fs, posixpath.join(own, IDENTITY))


@contextmanager
def build(
    path: str,
    *,
    step: str,
    version: int,
    params: object,
    inputs: Mapping[str, str | Manifest] | None = None,
) -> Iterator[Work]:
    """Open the build of the artifact at `path`; `work.done` says that it already stands, identical.

    `params` is a JSON-able mapping or an Options, of which what says `How` is no part of the identity; `inputs` maps a
    name to a manifest or a digest. Raises UserError when another process is building the same artifact.

    A build of another identity that was killed is put beside when it holds more than WORTH_KEEPING seconds of work, and
    goes on when it is asked for again; nothing but the user's hand removes it.
    """
    digests = digests_of(inputs or {})
    plain = json.loads(canonical(params))
    identity = identity_of(step, version, plain, digests)
    recipe = {"identity": identity, "step": step, "version": version, "params": plain, "inputs": digests}
    fs, target = locate(path)
    if not renames(fs):
        with leased(fs, target) as lease:
            there = read(fs, posixpath.join(target, MANIFEST))
            standing = _manifest_of(there[0], posixpath.join(target, MANIFEST)) if there else None
            if standing is not None and standing.identity == identity:
                yield Work(path, path, True, standing, step, version, plain, digests, identity, False)
                return
            if standing is not None:
                log.info("%s: building again: %s", path, _differences(standing.model_dump(), recipe))
            own = posixpath.join(path.rstrip("/"), identity[:16])
            marker = posixpath.join(locate(own)[1], IDENTITY)
            resumed = read(fs, marker) is not None
            write(fs, marker, _json(recipe))
            work = Work(path, own, False, None, step, version, plain, digests, identity, resumed)
            work.attempt, work.lease, work.standing = uuid.uuid4().hex[:8], lease, there[1] if there else None
            yield work
        return
    building = target.rstrip("/") + BUILDING
    with _only_builder(target):
        _finish_publish(fs, building, target)
        standing = _manifest_or_none(fs, target)
        if standing is not None and standing.identity == identity:
            yield Work(path, path, True, standing, step, version, plain, digests, identity, False)
            return
        if standing is not None:
            log.info("%s: building again: %s", path, _differences(standing.model_dump(), recipe))
        _must_be_free(target)
        resumed = _open_building(fs, building, recipe)
        yield Work(path, path.rstrip("/") + BUILDING, False, None, step, version, plain, digests, identity, resumed)


def begun(
    path: str, *, step: str, version: int, params: object, inputs: Mapping[str, str | Manifest]
) -> Literal["done", "unfinished"] | None:
    """Whether the artifact of this identity stands at `path`, or a build of it was begun there; None if neither."""
    digests = digests_of(inputs)
    identity = identity_of(step, version, params, digests)
    fs, target = locate(path)
    if not renames(fs):
        standing = _manifest_or_none(fs, target)
        if standing is not None and standing.identity == identity:
            return "done"
        return "unfinished" if read(fs, posixpath.join(target, identity[:16], IDENTITY)) else None
    building = target.rstrip("/") + BUILDING
    for place in (target, building):
        if (manifest := _manifest_or_none(fs, place)) is not None and manifest.identity == identity:
            return "done"
    if fs.exists(marker := posixpath.join(building, IDENTITY)):
        with fs.open(marker, "r") as source:
            if json.loads(source.read() or "{}").get("identity") == identity:
                return "unfinished"
    return "unfinished" if fs.exists(_beside(building, {"identity": identity})) else None


def phases_of(path: str) -> str:
    """The folder of the artifacts that are made on the way to the one at `path`."""
    return path.rstrip("/") + PHASES


def part_name(index: int) -> str:
    """Name of a part without its suffix. Beyond 99,999 names sort otherwise than numbers: the manifest has the order."""
    return f"part-{index:05d}"


def read_manifest(path: str) -> Manifest:
    """The manifest of the artifact at `path`; UserError when nothing is published there."""
    fs, target = locate(path)
    found = _manifest_or_none(fs, target)
    if found is None:
        raise UserError("no finished artifact here (no manifest.json)", where=path, fix=_instead(path))
    return found


def _instead(path: str) -> str:
    """What to do where no artifact is: name the one that this is a file of, or one of those in this folder, or make it."""
    here = Path(path).expanduser()
    around = [folder for folder in here.parents if (folder / MANIFEST).is_file()] if here.exists() else []
    if around:
        return f"name the artifact, not a file of it: {around[0]}"
    found = [] if "://" in path else here.glob(f"*/{MANIFEST}")
    inside = sorted(one.parent.name for one in found if BUILDING not in one.parent.name)
    return (
        f"name one of those in it: {', '.join(inside)}" if inside else "check the path, or run the step that makes it"
    )


def parts(path: str) -> list[str]:
    """Paths of the Parquet parts of a published artifact, in the manifest's order.

    UserError where one is gone or cut in a folder, as in a copy that was broken off."""
    root = path.rstrip("/") if "://" in path else locate(path)[1]
    files = [file for file in read_manifest(path).files if file.path.endswith(".parquet")]
    for file in files:
        _whole(file.below(root), file.size)
    return [file.below(root) for file in files]


def _whole(name: str, size: int) -> None:
    """UserError unless a file of an artifact has its size; in a bucket that would be a request for each."""
    if "://" in name:
        return
    there = os.path.getsize(name) if os.path.isfile(name) else None
    if there != size:
        what = "is gone" if there is None else f"is not whole: it has {there:,} bytes of {size:,}"
        raise UserError(f"a file of an artifact {what}", where=name, fix="copy the artifact again, or make it again")


def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    """All rows of a published artifact."""
    return parquet.read_table(parts(path), columns)


def _manifest_or_none(fs: AbstractFileSystem, target: str) -> Manifest | None:
    name = posixpath.join(target, MANIFEST)
    there = read(fs, name)
    return _manifest_of(there[0], name) if there else None


def _manifest_of(content: bytes, name: str) -> Manifest:
    """UserError for what is none of ours, or of a version that is not known here."""
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = " ".join([*map(str, first["loc"]), first["msg"]])
        raise UserError(f"this is no artifact's manifest: {what}", where=name, fix="give another folder") from None
    if manifest.format > FORMAT:
        raise UserError("a later version of cpt-ray made this", where=name, fix="read it with that version")
    return manifest


def _open_building(fs: AbstractFileSystem, building: str, recipe: dict[str, Any]) -> bool:
    """Make the temporary directory, or take the one that a killed build of the same identity left; True if taken."""
    marker = posixpath.join(building, IDENTITY)
    left: dict[str, Any] = {}
    if fs.exists(marker):
        with fs.open(marker, "r") as source:
            left = json.loads(source.read() or "{}")
        if left.get("identity") == recipe["identity"]:
            return True
    own = _beside(building, recipe)
    if fs.exists(building):
        _make_room(fs, building, left, recipe)
    if fs.exists(own):
        fs.mv(own, building, recursive=True)
        return True
    fs.makedirs(building, exist_ok=True)
    _write_json(fs, marker, recipe)
    return False


def _make_room(fs: AbstractFileSystem, building: str, left: dict[str, Any], recipe: dict[str, Any]) -> None:
    """Make room for the build of `recipe` where that of `left` was killed, with a word about what becomes of it."""
    differences = _differences(left, recipe)
    if "identity" in left and _seconds_of_work(fs, building) > WORTH_KEEPING:
        beside = _beside(building, left)
        fs.mv(building, beside, recursive=True)
        log.warning(
            "%s was unfinished and of other options (%s); it is kept in %s: set the options back to go on with it",
            building,
            differences,
            beside,
        )
        return
    if set(fs.find(building)) - {posixpath.join(building, IDENTITY)}:
        log.warning("%s was unfinished and of other options (%s): removed", building, differences)
    fs.rm(building, recursive=True)


def _seconds_of_work(fs: AbstractFileSystem, building: str) -> float:
    """From the beginning of a build to its last written file."""
    began = fs.modified(posixpath.join(building, IDENTITY))
    return float(max(((fs.modified(name) - began).total_seconds() for name in fs.find(building)), default=0.0))


def _beside(building: str, recipe: dict[str, Any]) -> str:
    """Where the build of `recipe` is kept while one of another identity is under way."""
    return f"{building}.{recipe['identity'][:8]}"


def _kept(fs: AbstractFileSystem, building: str) -> list[str]:
    """The builds that are kept beside `building`."""
    names = fs.ls(posixpath.dirname(building), detail=False)
    return [name for name in names if posixpath.basename(name).startswith(posixpath.basename(building) + ".")]


def _finish_publish(fs: AbstractFileSystem, building: str, target: str) -> None:
    """From a whole artifact under the temporary name, or what a kill made of it, to one in its place."""
    # Under a name that nobody gives to a copy of their own, as model.old: what has it is removed.
    old = posixpath.join(posixpath.dirname(target.rstrip("/")), f".{posixpath.basename(target.rstrip('/'))}{REPLACED}")
    if fs.exists(posixpath.join(building, MANIFEST)):
        _must_be_free(target)
        if fs.exists(target):
            remove(fs, old)
            fs.mv(target, old, recursive=True)
        fs.mv(building, target, recursive=True)
    if fs.exists(posixpath.join(target, MANIFEST)):
        for only_for_resuming in (old, posixpath.join(target, SCRATCH), posixpath.join(target, IDENTITY)):
            remove(fs, only_for_resuming)


def _must_be_free(target: str) -> None:
    """UserError where something stands that is no artifact: publishing there would remove it."""
    if not os.path.lexists(target) or os.path.isfile(os.path.join(target, MANIFEST)):
        return
    if not os.path.isdir(target) or os.listdir(target):
        what = "a folder" if os.path.isdir(target) else "a file"
        raise UserError(
            f"here is {what} that is no artifact, which would be removed",
            where=target,
            fix="give another place, or move it away",
        )


def _files(fs: AbstractFileSystem, root: str) -> list[File]:
    """What is to be published below `root`, in its order."""
    found = []
    names = {posixpath.relpath(name, root): name for name in fs.find(root)}
    for path in sorted(names, key=_by_number):
        if path in (IDENTITY, MANIFEST) or path.startswith(f"{SCRATCH}/"):
            continue
        with fs.open(names[path], "rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()[:DIGEST]
        found.append(File(path=path, size=fs.size(names[path]), digest=digest))
    return found


def _by_number(path: str) -> list[tuple[int, str]]:
    """Sorts part-100000 after part-99999, and paths without numbers as text."""
    return [(int(piece), "") if piece.isdigit() else (-1, piece) for piece in re.split(r"(\d+)", path)]


def _write_json(fs: AbstractFileSystem, name: str, value: object) -> None:
    write(fs, name, _json(value))


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=False) + "\n").encode()


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What changed from one recipe to the other, for the log."""
    if "step" not in before:  # an earlier version wrote its identity alone
        return "its identity differs"
    changed = [] if before["step"] == now["step"] else [f"step {before['step']} -> {now['step']}"]
    if before["version"] != now["version"]:
        changed.append(f"version of the step {before['version']} -> {now['version']}")
    old, new = flatten(before["params"]), flatten(now["params"])
    for name in sorted({*old, *new}):
        if old.get(name) != new.get(name):
            changed.append(f"{name} {old.get(name)!r} -> {new.get(name)!r}"[:200])
    for name in sorted({*before["inputs"], *now["inputs"]}):
        if before["inputs"].get(name) != now["inputs"].get(name):
            changed.append(f"the input {name} is another")
    return "; ".join(changed) or "its identity differs"


@contextmanager
def _only_builder(target: str) -> Iterator[None]:
    """A lock file beside the artifact, in a folder; the kernel lets go of it when the holder dies."""
    if fcntl is None:
        yield
        return
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    name = os.path.join(os.path.dirname(target), f".{os.path.basename(target)}.lock")
    with open(name, "w") as holder:
        _lock(holder, target)
        yield


def _lock(holder: IO[str], target: str) -> None:
    try:
        fcntl.flock(holder, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BeingBuilt(
            "another process is building this artifact", where=target, fix="wait for it, or end it, and run again"
        ) from None
