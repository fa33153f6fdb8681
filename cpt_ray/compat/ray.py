"""Ray's internals: what its errors carry, and how they are worded. Imports nothing of it."""

from __future__ import annotations

from collections.abc import Mapping

from cpt_ray.errors import UserError

VERSION = "2.60.0"
WRAPPED = ("controller_failure", "cause")
"""Where Ray's errors hold another: Ray Train's ControllerError; RayTaskError, and all that Ray Data and Tune raise of it."""


def inner(error: BaseException) -> BaseException | None:
    """What Ray wrapped `error` around, else None."""
    held = (getattr(error, name, None) for name in WRAPPED)
    return next((one for one in held if isinstance(one, BaseException)), None)


def unwrapped(error: BaseException) -> BaseException:
    """The error that was raised in a worker, without what Ray put around it."""
    while (held := inner(error)) is not None:
        error = held
    return error


def user_error(error: BaseException | None) -> UserError | None:
    """The UserError that `error` is, holds, or was raised from; as one of this process, without that past."""
    while error is not None and not isinstance(error, UserError):
        error = inner(error) or error.__cause__
    return UserError(error.what, where=error.where, fix=error.fix) if error is not None else None


def worker_failures(error: BaseException) -> Mapping[int, BaseException]:
    """By rank, what Ray Train's TrainingFailedError says of its workers; empty where none was to blame."""
    return dict(getattr(error, "worker_failures", {}))


def started_too_slowly(error: BaseException) -> bool:
    """Whether `ray.init` gave its own processes up because they took more than 30 s, which a busy machine may need."""
    return "timed out during startup" in str(error)


def cannot_listen(error: BaseException) -> bool:
    """Whether Ray Serve's proxy could not have the address that it is to listen on."""
    return "Failed to bind to address" in str(unwrapped(error))
