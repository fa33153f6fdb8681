"""Checkpoints that are complete or absent.

    checkpoints/step-00000100/   written by all ranks: the engine's shards, and rank-00000.pt with that rank's random state
        portable.pt              by option: whole weights and moments, for a run that is sharded otherwise
        complete.json            written last, by rank 0, once every expected file is there: without it nothing counts

Training goes on while a checkpoint is written; one that is not complete when the process dies does not count. The newest
`keep` stay. The folder must be one that all workers see. A checkpoint is exact: at the same number of workers and the same
engine, a resumed run repeats the losses of an undisturbed one to the bit.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from cpt_ray.errors import UserError
from cpt_ray.train.collectives import Workers
from cpt_ray.train.engine import Engine
from cpt_ray.train.options import EngineOptions
from cpt_ray.train.writer import Writer, told_where

COMPLETE = "complete.json"
PORTABLE = "portable.pt"
SHARDING = ("workers", "engine", "zero_stage")
"""What may differ where a portable checkpoint is taken up."""
PATIENCE = 600.0
"""Seconds that the slowest worker may write longer than rank 0."""


@dataclass(frozen=True)
class Kind:
    """What must be equal between the run that saved and the run that loads."""

    workers: int
    engine: str
    zero_stage: int
    precision: str
    model: str

    @staticmethod
    def of(options: EngineOptions, workers: Workers, model: str) -> Kind:
        stage = options.zero_stage if options.engine == "deepspeed" else 0
        return Kind(workers.count, options.engine, stage, options.precision, model)


class Checkpoints:
    """The checkpoints of one run, in `folder`. Saving goes on while training does; `written` is its end."""

    def __init__(
        self,
        folder: str,
        kind: Kind,
        workers: Workers,
        keep: int,
        *,
        portable: bool = False,
    ) -> None:
        self.folder, self.kind, self.workers, self.keep, self.portable = folder, kind, workers, keep, portable
        self._writer = Writer()

    def save(self, step: int, engine: Engine, state: dict[str, Any]) -> None:
        """Save after `step` finished steps; `state` is equal on all ranks and holds tensors and plain values only.

        All is as it is now, and is on disk when the next `save` returns.
        """
        self._writer.wait()
        target = _folder(self.folder, step)
        if self.workers.rank == 0:
            shutil.rmtree(target, ignore_errors=True)
            with told_where(str(target)):
                target.mkdir(parents=True)
        self.workers.barrier()
        seen = torch.tensor(float(target.is_dir()), device=self.workers.device)
        if self.workers.sum(seen) < self.workers.count:
            raise UserError(
                "some workers do not see this folder", where=str(target), fix="use a folder that all workers share"
            )
        engine.save(str(target), self._writer.put)
        if self.portable:
            whole = engine.whole()
            if self.workers.rank == 0:
                self._writer.put(whole, str(target / PORTABLE))
        own = {"cpu": torch.get_rng_state()}
        if self.workers.device.type == "cuda":
            own["cuda"] = torch.cuda.get_rng_state(self.workers.device)
        self._writer.put(own, str(target / f"rank-{self.workers.rank:05d}.pt"))
        if self.workers.rank == 0:
            self._writer.put(state, str(target / "state.pt"))
            self._writer.then(self._publish, step, target, engine.shards())

    @contextmanager
    def written(self) -> Iterator[None]:
        """On leaving, however that comes: what this worker had to write is written, and on rank 0 published."""
        try:
            yield
        finally:
            self._writer.wait()

    def newest(self) -> Path | None:
        """The newest checkpoint that all workers see complete, or None. UserError if a run of another kind saved it."""
        complete = _complete(self.folder)
        step = _step(complete[-1]) if complete else -1
        # A network file system may show it to one worker before another.
        step = -int(self.workers.max(torch.tensor(-step, dtype=torch.int64, device=self.workers.device)))
        if step < 0:
            return None
        newest = _folder(self.folder, step)
        saved = json.loads((newest / COMPLETE).read_text())["kind"]
        portable = (newest / PORTABLE).exists()
        for name, value in asdict(self.kind).items():
            if saved.get(name) != value and not (portable and name in SHARDING):
                raise UserError(
                    f"this checkpoint was saved with {name}={saved.get(name)}, and the run has {name}={value}",
                    where=str(newest),
                    fix=f"set {name} back, or remove the checkpoints to start again"
                    + (", next time with portable_checkpoints=true" if name in SHARDING else ""),
                )
        return newest

    def elsewhere(self) -> dict[str, dict[str, torch.Tensor]] | None:
        """Whole weights and moments of the newest checkpoint when it was sharded otherwise than this run, else None."""
        newest = self.newest()
        if newest is None or json.loads((newest / COMPLETE).read_text())["kind"] == asdict(self.kind):
            return None
        return torch.load(newest / PORTABLE, weights_only=True, map_location="cpu", mmap=True)

    def restore(
        self, engine: Engine, elsewhere: dict[str, dict[str, torch.Tensor]] | None = None
    ) -> tuple[int, dict[str, Any]] | None:
        """(finished steps, state) of the newest complete checkpoint, loaded into `engine`; None when there is none.

        `elsewhere` is what the method of that name gave, whose weights the engine's module has already.
        """
        newest = self.newest()
        if newest is None:
            return None
        finished = _step(newest)
        state = torch.load(newest / "state.pt", weights_only=True, map_location="cpu")
        if elsewhere is not None:
            engine.take_over(elsewhere, finished)
            return finished, state
        engine.load(str(newest))
        own = torch.load(newest / f"rank-{self.workers.rank:05d}.pt", weights_only=True)
        torch.set_rng_state(own["cpu"])
        if "cuda" in own and self.workers.device.type == "cuda":
            torch.cuda.set_rng_state(own["cuda"], self.workers.device)
        return finished, state

    def _publish(self, step: int, target: Path, shards: list[str]) -> None:
        """On rank 0, in the writer's thread: mark the checkpoint once the files of all ranks are there; drop old ones."""
        expected = [
            *shards,
            *([PORTABLE] if self.portable else []),
            "state.pt",
            *(f"rank-{rank:05d}.pt" for rank in range(self.workers.count)),
        ]
        given_up = time.monotonic() + PATIENCE
        while missing := [name for name in expected if not (target / name).exists()]:
            if time.monotonic() > given_up:
                raise UserError(
                    f"a checkpoint still lacks {missing[0]} after {PATIENCE:.0f} s",
                    where=str(target),
                    fix="look at the disk of the worker that writes it; the same command goes on from the newest complete"
                    " checkpoint",
                )
            time.sleep(0.02)
        files = {name: (target / name).stat().st_size for name in expected}
        content = {"step": step, "kind": asdict(self.kind), "files": files}
        temporary = target / (COMPLETE + ".tmp")
        with told_where(str(target)):
            with temporary.open("w") as sink:
                sink.write(json.dumps(content, indent=1) + "\n")
                sink.flush()
                os.fsync(sink.fileno())
            temporary.rename(target / COMPLETE)
        kept = _complete(self.folder)[-self.keep :]
        for old in _folders(self.folder):
            if _step(old) < step and old not in kept:
                # Others may still have a file of it open, which some shared folders do not let go of: then the next time.
                shutil.rmtree(old, ignore_errors=True)


def precision_in(folder: str) -> str | None:
    """The precision in which the newest complete checkpoint of `folder` was trained; None without one."""
    found = _complete(folder)
    return json.loads((found[-1] / COMPLETE).read_text())["kind"]["precision"] if found else None


def steps_in(folder: str) -> int:
    """Steps that the newest complete checkpoint of `folder` has finished; 0 without one."""
    found = _complete(folder)
    return _step(found[-1]) if found else 0


def _complete(folder: str) -> list[Path]:
    found = []
    for path in _folders(folder):
        if (path / COMPLETE).exists():
            files = json.loads((path / COMPLETE).read_text())["files"]
            if all((path / name).exists() and (path / name).stat().st_size == size for name, size in files.items()):
                found.append(path)
    return found


def _folders(folder: str) -> list[Path]:
    """Of all checkpoints, complete or not, by their steps."""
    return sorted(Path(folder).glob("step-*"))


def _folder(folder: str, step: int) -> Path:
    return Path(folder, f"step-{step:08d}")


def _step(path: Path) -> int:
    return int(path.name.removeprefix("step-"))
