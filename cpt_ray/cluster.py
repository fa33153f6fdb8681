"""Where the work runs: Ray on this machine, or a Ray cluster that is already up."""

from __future__ import annotations

import functools
import logging
import os
import posixpath
import re
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from cpt_ray.compat.ray import started_too_slowly, unwrapped, user_error
from cpt_ray.errors import UserError
from cpt_ray.options import Options

log = logging.getLogger("cpt_ray")
Result = TypeVar("Result")
LAST_PORT = 65_535
PATIENCE = 10.0
"""Seconds that the head of a cluster may take to answer."""
ATTEMPTS = 3
"""Starts of Ray on this machine before its failure is the user's."""


class ClusterOptions(Options):
    """The machine or machines, and where artifacts are kept."""

    address: str | None = Field(None, description="Ray address to join ('auto' inside a job); null starts Ray here")
    cpus: int | None = Field(None, ge=1, description="CPUs of the Ray started here; null takes all of them")
    object_store_mb: int = Field(512, ge=80, description="shared memory of the Ray started here, MiB")
    workers: int = Field(2, ge=0, description="training workers; 0 trains in the driver's own process")
    threads: int = Field(1, ge=1, description="CPUs, and threads, of each training worker")
    gpu: bool = Field(False, description="one GPU for each training worker")
    outputs: str = Field(
        "outputs",
        description="root of all artifacts: a folder that all nodes reach, or for documents, functions and pairs a bucket",
    )

    def folder(self, name: str) -> str:
        """The place `name` below `outputs`; absolute, because Ray's workers have working directories of their own.

        UserError where no folder can be: a file has its name or that of one above it, or nothing may be written there."""
        if "://" in self.outputs:
            return posixpath.join(self.outputs, name)
        path = posixpath.join(os.path.abspath(os.path.expanduser(self.outputs)), name)
        there = next(folder for folder in (Path(path), *Path(path).parents) if os.path.lexists(folder))
        if not (there.is_dir() and os.access(there, os.W_OK | os.X_OK)):
            what = f"{there} is not a folder" if not there.is_dir() else f"nothing may be written to {there}"
            raise UserError(what, where=f"cluster.outputs={self.outputs}", fix="give a folder of yours")
        return path

    def on_disk(self, name: str) -> str:
        """The same for what is written in files of other libraries. UserError for a bucket."""
        if "://" in self.outputs:
            raise UserError(
                "a crawl, a model and an index are written to a folder; a bucket takes documents, functions, pairs and"
                " vectors (index=null), and all of these may be read from one",
                where=f"cluster.outputs={self.outputs}",
                fix="give a folder that all nodes reach",
            )
        return self.folder(name)


@contextmanager
def connect(options: ClusterOptions) -> Iterator[dict[str, float]]:
    """Join or start Ray for the length of the block; started ones are shut down, joined ones are left up.

    Gives what all nodes have together, by the names of Ray's arguments: num_cpus, num_gpus, memory in bytes.
    """
    # Read when ray is first imported, so they are set before it: no usage report leaves the machine, worker processes keep
    # the driver's accelerators variable as it is, and the workers of a Ray that is started here are as nice as this process.
    # By default they are 15 nicer: beside one busy process of somebody's all of them share the cores that are left.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")
    _knock(options.address)
    import ray

    if ray.is_initialized():
        yield _resources()
        return
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "ignore_reinit_error": False}
    try:
        if options.address:
            ray.init(address=options.address, **common)
        else:
            # "local", or Ray would join whatever session it finds on this machine.
            _start(
                address="local",
                num_cpus=options.cpus,
                object_store_memory=options.object_store_mb << 20,
                include_dashboard=False,
                **common,
            )
    except ConnectionError as error:
        raise _no_answer(options.address, error) from error
    has = _resources()
    log.info("ray: CPUs %g%s", has["num_cpus"], f", GPUs {has['num_gpus']:g}" if has["num_gpus"] else "")
    try:
        yield has
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """UserError where nobody listens at host:port; Ray itself would try for minutes before it says so."""
    named = re.fullmatch(r"(?:ray://)?(.+):(\d+)", address or "")
    if named is None:
        return
    host, port = named[1].strip("[]"), int(named[2])
    if port > LAST_PORT:  # getaddrinfo would take it modulo 65,536, where somebody may listen
        raise _no_answer(address, ValueError(f"{port} is no port, the last is {LAST_PORT}"))
    try:
        socket.create_connection((host, port), timeout=PATIENCE).close()
    except OSError as error:
        raise _no_answer(address, error) from error


def _no_answer(address: str | None, error: Exception) -> UserError:
    return UserError(
        f"no Ray cluster answers: {error}",
        where=f"cluster.address={address}",
        fix="start one with `ray start --head`, or use cluster=laptop to start Ray here",
    )


def gpus() -> float:
    """GPUs of the Ray session of this process; 0 without one. It imports nothing: that takes seconds."""
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return 0.0
    return float(ray.cluster_resources().get("GPU", 0.0))


def check_room(what: str, has: Mapping[str, float], *, cpus: float, gpus: float, here: bool, where: str) -> None:
    """UserError where the Ray that was started `here` has no room for `what`: Ray itself would wait for ever, without a word.
    A cluster that was joined may grow, so that is said and waited for. `has` is what `connect` gives, `where` the key that
    asks for so many CPUs and GPUs."""
    there = has.get("num_cpus", 0.0), has.get("num_gpus", 0.0)
    if cpus <= there[0] and gpus <= there[1]:
        return
    told = f"{what} are asked for, and Ray has {there[0]:g} CPUs and {there[1]:g} GPUs"
    if here:
        fix = "ask for what there is, or join a larger cluster (cluster.address)"
        raise UserError(told, where=where, fix=fix)
    log.warning("%s: this waits until it has grown", told)


def remotely(function: Callable[..., Result], *arguments: Any, cpus: float = 1.0, gpus: float = 0.0) -> Result:
    """`function(*arguments)` as one task of the Ray session, with these resources; without a session, here."""
    import ray
    from ray.exceptions import RayTaskError

    if not ray.is_initialized():
        return function(*arguments)
    try:
        result: Result = ray.get(ray.remote(num_cpus=cpus, num_gpus=gpus)(function).remote(*arguments))
    except RayTaskError as error:
        if mistake := user_error(error):
            raise mistake from error
        raise
    return result


class Gone(Exception):
    """The process of an actor is gone, or its node."""


class Away:
    """An object in a process of its own: its methods are called there, and awaited here."""

    def __init__(self, actor: Any) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        if name.startswith("_"):
            raise AttributeError(name)
        return functools.partial(self._call, name)

    async def _call(self, name: str, *arguments: Any) -> Any:
        from ray.exceptions import RayActorError, RayTaskError

        try:
            return await getattr(self._actor, name).remote(*arguments)
        except RayActorError as error:
            raise Gone(str(error).partition("\n")[0]) from error
        except RayTaskError as error:
            inner = unwrapped(error)
            raise (inner if isinstance(inner, Gone) else user_error(error) or error) from error


@contextmanager
def actors(kind: Callable[..., Any], arguments: Sequence[tuple[Any, ...]]) -> Iterator[list[Away]]:
    """For the length of the block a `kind(*arguments)`, a class of async methods, for each of `arguments`, over all nodes."""
    import ray

    started = [ray.remote(kind).options(scheduling_strategy="SPREAD").remote(*given) for given in arguments]  # type: ignore[arg-type]
    try:
        yield [Away(actor) for actor in started]
    finally:
        for actor in started:
            ray.kill(actor)


def _start(**arguments: Any) -> None:
    """Start Ray here. It gives its own processes 30 s, which is too little on a machine that is busy: then try again."""
    import ray

    for attempt in range(1, ATTEMPTS + 1):
        try:
            ray.init(**arguments)
        except Exception as error:
            ray.shutdown()
            if not started_too_slowly(error) or attempt == ATTEMPTS:
                raise
            log.info("ray did not start within 30 s, trying again")
        else:
            return


def _resources() -> dict[str, float]:
    import ray

    found = ray.cluster_resources()
    return {
        name: float(found.get(key, 0)) for name, key in (("num_cpus", "CPU"), ("num_gpus", "GPU"), ("memory", "memory"))
    }
