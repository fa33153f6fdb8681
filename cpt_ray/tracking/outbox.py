"""What is to be told to MLflow, kept on disk until MLflow has it: tracking never costs a training.

    put -> line in <folder>/<process>.jsonl -> thread -> MLflow

1. `put` writes a line and returns. Nobody who trains ever waits for MLflow, or hears of its errors.
2. One thread sends the lines in their order. What MLflow does not take now (it is gone, slow, locked or full) is tried
   again, with longer and longer pauses.
3. `close` waits for what is left for as long as it moves, in bounded time. When all of it is sent the file goes; if not,
   it stays, with a line that says so.
4. The next outbox over the same folder and MLflow sends first what ended processes left: killed ones too.

Sending twice is harmless: runs are found by their keys, steps and versions that are held already are not logged again
(`tracking.mlflow`). Times are those of `put`. What MLflow understands and refuses is a mistake that no repetition mends: it
is said, and kept in `refused.jsonl`, with the files that it speaks of in `refused.files`.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from cpt_ray.errors import first_line

try:
    import fcntl
except ImportError:  # pragma: no cover - only Windows lacks it, and there files of others are left alone
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from matplotlib.figure import Figure

log = logging.getLogger("cpt_ray")

Message = dict[str, Any]
"""{"run": key, "call": a method of TrackedRun or "open", ...its arguments}."""
Send = Callable[[Sequence[Message]], None]
"""Tells MLflow messages of one kind and run. Raises `Refused` for what can never be told, anything else to try again."""

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
PATIENCE = 20.0
"""Seconds without a message taken after which `close` gives up, besides what files may take at SLOWEST bytes per second."""
LONGEST_WAIT = 3
"""As many times its patience `close` waits for a store that takes messages, but slowly."""
SLOWEST = 4 << 20
LAST_TRIES = 2
TOGETHER = 400
"""Messages with metrics that are sent in one."""
REFUSED, REFUSED_FILES = "refused.jsonl", "refused.files"


class Published(Protocol):
    """What tracking needs of an artifact's manifest."""

    @property
    def step(self) -> str: ...
    @property
    def digest(self) -> str: ...
    @property
    def rows(self) -> int: ...
    @property
    def columns(self) -> dict[str, str]: ...


class Refused(Exception):
    """MLflow understood, and will not have it."""


class Outbox:
    """The messages of one process to one MLflow; `about` names it (uri, experiment). Begins to send at once."""

    def __init__(self, folder: str, about: Mapping[str, str], connect: Callable[[], Send]) -> None:
        self._folder, self._about, self._connect = Path(folder), dict(about), connect
        self._send: Send | None = None
        self._queue: deque[Message] = deque()
        self._changed = threading.Condition()
        self._tries_left: int | None = None  # set when closing
        self._moved = time.monotonic()
        self._ill = False
        self._left_by_others: list[_File] = []
        self._file: _File | None = None
        try:
            self._left_by_others = [file for file in _files(self._folder) if file.take(self._about)]
            self._file = _File.new(self._folder, self._about)
        except OSError as error:
            log.warning("what MLflow does not take at once will be lost: %s", error)
        for file in self._left_by_others:
            self._queue.extend(file.messages())
        if self._queue:
            log.info("MLflow: sending %d reports that earlier commands left", len(self._queue))
        self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
        self._thread.start()

    def put(self, message: Message) -> None:
        """Keep a message (JSON-able), and send it as soon as may be."""
        if self._file is not None:
            try:
                self._file.write(message)
            except OSError as error:
                log.warning("what MLflow does not take at once will be lost: %s", error)
                self._file = None
        with self._changed:
            self._queue.append(message)
            self._changed.notify()

    def attach(self, name: str) -> str:
        """A new path for a file that a message will speak of; kept as long as the messages are."""
        folder = (self._file.attachments if self._file else self._folder / uuid.uuid4().hex) / uuid.uuid4().hex[:8]
        folder.mkdir(parents=True, exist_ok=True)
        return str(folder / name)

    def close(self, patience: float = PATIENCE) -> int:
        """Send what is left, for a bounded time; returns how many messages stay on disk."""
        with self._changed:
            self._tries_left = LAST_TRIES
            self._changed.notify()
            waiting = sum(_bytes(message) for message in self._queue)
        began, of_files = time.monotonic(), waiting / SLOWEST
        self._moved, said = began, False
        while self._thread.is_alive():
            self._thread.join(0.1)
            now = time.monotonic()
            if now - self._moved > patience + of_files or now - began > LONGEST_WAIT * patience + of_files:
                break
            if now - began > 3.0 and not said:
                log.info("MLflow: waiting for it to take %d reports", len(self._queue))
                said = True
        with self._changed:
            left = len(self._queue)
        if left:
            kept = f"kept in {self._folder} and sent by the next command" if self._file else "lost"
            log.warning("MLflow (%s) did not take %d reports; they are %s", self._about["uri"], left, kept)
        for file in [*self._left_by_others, *([self._file] if self._file else [])]:
            file.release(remove=not left)
        return left

    def _work(self) -> None:
        pause = FIRST_PAUSE
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._tries_left is not None)
                if not self._queue:
                    return
                batch = self._batch()
            try:
                if self._send is None:
                    self._send = self._connect()
                self._send(batch)
            except Refused as error:
                self._refuse(batch, error)
            except Exception as error:  # noqa: BLE001 - whatever ails MLflow, it is no reason to end a training
                self._send = None
                if not self._ill:
                    log.warning("MLflow (%s) is not to be had, and waited for: %s", self._about["uri"], _short(error))
                self._ill = True
                with self._changed:
                    if self._tries_left is not None:
                        self._tries_left -= 1
                        if self._tries_left < 0:
                            return
                    self._changed.wait_for(lambda: self._tries_left is not None, timeout=pause)
                pause = min(2 * pause, LONGEST_PAUSE)
                continue
            if self._ill:
                log.info("MLflow is back")
            pause, self._ill, self._moved = FIRST_PAUSE, False, time.monotonic()
            with self._changed:
                for _ in batch:
                    self._queue.popleft()

    def _batch(self) -> list[Message]:
        """The first message, or the metrics of one run that stand together."""
        first = self._queue[0]
        batch = [first]
        if first["call"] == "metrics":
            for message in itertools.islice(self._queue, 1, TOGETHER):
                if message["call"] != "metrics" or message["run"] != first["run"]:
                    break
                batch.append(message)
        return batch

    def _refuse(self, batch: Sequence[Message], error: Refused) -> None:
        log.warning("MLflow refused a report (%s): %s", batch[0]["call"], _short(error))
        try:
            kept = [{**message, **self._kept_file(message), "error": str(error)} for message in batch]
            with (self._folder / REFUSED).open("a") as sink:
                sink.writelines(json.dumps(message) + "\n" for message in kept)
        except OSError:
            log.warning("and it could not be kept in %s", self._folder)

    def _kept_file(self, message: Message) -> Message:
        """A copy of what was attached to a refused message: it itself goes when all else is sent."""
        attached = Path(message.get("path") or "")
        if message["call"] != "artifact" or self._folder.absolute() not in attached.parents or not attached.is_file():
            return {}
        kept = self._folder / REFUSED_FILES / attached.parent.name / attached.name
        kept.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(attached, kept)
        return {"path": str(kept.absolute())}


class ReportedRun:
    """A run that is told of through an outbox: the methods of `tracking.mlflow.TrackedRun`, none of which waits or fails.

    A context manager: leaving it ends the run FINISHED, FAILED, or KILLED where the process was told to stop.
    """

    def __init__(
        self,
        outbox: Outbox,
        key: str,
        name: str,
        *,
        parent: ReportedRun | None = None,
        tags: Mapping[str, Any] | None = None,
        started: float | None = None,
    ) -> None:
        """`started`: seconds since the epoch, by default now."""
        self._outbox, self._ended = outbox, False
        self.key: str = f"{parent.key}/{key}" if parent else key
        at = time.time() if started is None else started
        above = parent.key if parent else None
        self._put("open", own=key, name=name, parent=above, tags=dict(tags or {}), started=round(at * 1000))

    def __enter__(self) -> ReportedRun:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.end(ending(kind))

    def params(self, values: Mapping[str, Any]) -> None:
        """Parameters, nested keys joined by dots."""
        self._put("params", values=dict(values))

    def tags(self, values: Mapping[str, Any]) -> None:
        """Tags; those with the value None are left out."""
        self._put("tags", values=dict(values))

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Numbers at a step."""
        self._put("metrics", step=step, values={name: float(v) for name, v in values.items()}, at=_now())

    def dataset(self, path: str, manifest: Published, context: str = "training") -> None:
        """An artifact as an input dataset."""
        told = {"step": manifest.step, "digest": manifest.digest, "rows": manifest.rows, "columns": manifest.columns}
        self._put("dataset", path=os.path.abspath(path), manifest=told, context=context)

    def figure(self, figure: Figure, file: str) -> None:
        """A matplotlib figure, for example as `figures/loss.png`."""
        try:
            kept = self._outbox.attach(os.path.basename(file))
            figure.savefig(kept, dpi=150, bbox_inches="tight")
        except OSError as error:
            log.warning("the figure %s is not told to MLflow: %s", file, error)
            return
        self.artifact(kept, os.path.dirname(file) or None)

    def table(self, rows: Sequence[Mapping[str, Any]], file: str) -> None:
        """Rows as a table that the UI shows, for example `leaderboard.json`; replaces one of that name."""
        self._put("table", rows=[dict(row) for row in rows], file=file)

    def artifact(self, path: str, folder: str | None = None) -> None:
        """A file, or the files of a folder, below `folder` of the run's artifacts."""
        self._put("artifact", path=os.path.abspath(path), folder=folder)

    def model(self, folder: str, digest: str, **about: Any) -> None:
        """A trained model; see `TrackedRun.model`."""
        self._put("model", folder=os.path.abspath(folder), digest=digest, **about)

    def end(self, status: str = "FINISHED", at: float | None = None) -> None:
        """Close the run with this status; `at` in seconds since the epoch, by default now."""
        if not self._ended:
            self._put("end", status=status, at=_now() if at is None else round(at * 1000))
        self._ended = True

    def _put(self, call: str, **arguments: Any) -> None:
        self._outbox.put({"run": self.key, "call": call, **json.loads(json.dumps(arguments, default=str))})


def ending(kind: type[BaseException] | None) -> str:
    """A run's status by what its block raised: what is no Exception (an interrupt, an exit) was someone's wish."""
    if kind is None:
        return "FINISHED"
    return "FAILED" if issubclass(kind, Exception) else "KILLED"


class _File:
    """The lines of one process, locked for as long as it lives: the kernel lets go of it when it dies."""

    def __init__(self, path: Path) -> None:
        self.path, self.attachments = path, path.with_suffix(".files")
        self._opened = path.open("a+", encoding="utf-8")

    @staticmethod
    def new(folder: Path, about: Mapping[str, str]) -> _File:
        folder.mkdir(parents=True, exist_ok=True)
        # It has its name only when it is locked, so that nobody takes it for one that was left.
        hidden = folder / f".{uuid.uuid4().hex}"
        file = _File(hidden)
        file._lock()
        file.write(dict(about))
        final = folder / f"{time.time_ns():020}-{os.getpid()}.jsonl"
        os.rename(hidden, final)
        file.path, file.attachments = final, final.with_suffix(".files")
        return file

    def write(self, message: Message) -> None:
        self._opened.write(json.dumps(message) + "\n")
        self._opened.flush()

    def take(self, about: Mapping[str, str]) -> bool:
        """Lock the file if it speaks of this MLflow and its process has ended."""
        if fcntl is None or not self._lock() or not self.path.exists() or next(self._lines(), None) != about:
            self._opened.close()
            return False
        return True

    def messages(self) -> list[Message]:
        return list(self._lines())[1:]

    def release(self, *, remove: bool) -> None:
        if remove:
            shutil.rmtree(self.attachments, ignore_errors=True)
            self.path.unlink(missing_ok=True)
        self._opened.close()

    def _lines(self) -> Iterator[Message]:
        """Whole lines; the last may have been cut by a kill or a full disk."""
        self._opened.seek(0)
        for line in self._opened.read().splitlines(keepends=True):
            if line.endswith("\n"):
                try:
                    yield json.loads(line)
                except json.JSONDecodeError:
                    log.warning("%s: a line cannot be read and is left out", self.path)

    def _lock(self) -> bool:
        if fcntl is None:
            return True
        try:
            fcntl.flock(self._opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True


def _files(folder: Path) -> Iterator[_File]:
    """What processes left in the folder, oldest first."""
    for path in sorted(folder.glob("[0-9]*.jsonl")):
        try:
            yield _File(path)
        except OSError:  # another took it in this moment
            continue


def _bytes(message: Message) -> int:
    """Of the files that a message speaks of."""
    where = message.get("path") if message["call"] == "artifact" else message.get("folder")
    if message["call"] not in ("artifact", "model") or not where:
        return 0
    try:
        inside = Path(where).iterdir() if os.path.isdir(where) else [Path(where)]
        return sum(file.stat().st_size for file in inside if file.is_file())
    except OSError:
        return 0


def _now() -> int:
    return int(time.time() * 1000)


def _short(error: BaseException) -> str:
    return first_line(error)[:200]
