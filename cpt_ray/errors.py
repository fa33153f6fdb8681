"""The one error a user may cause: it says what was wrong, where, and what to do about it."""

from __future__ import annotations

import errno
import re

_CREDENTIALS = re.compile(r"(?<=://)[^/\s]*@")
"""Of a URL, as in postgresql://name:password@host or https://token@host: messages are kept in logs and ledgers."""


class UserError(Exception):
    """A mistake in the input or the configuration, as opposed to a defect of the program.

    `what` was wrong, `where` it was (file, row, key) and the `fix`, each a short phrase. Pipelines print it without a
    traceback and end with exit code 2. What a URL has before its host is left out of all three.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        what, where, fix = (_CREDENTIALS.sub("***@", text) for text in (what, where, fix))
        # All three go to Exception.__init__ so that the error survives pickling between Ray processes.
        super().__init__(what, where, fix)
        self.what = what
        self.where = where
        self.fix = fix

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.where, self.fix)

    def __str__(self) -> str:
        lines = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.fix:
            lines.append(f"  fix: {self.fix}")
        return "\n".join(lines)


_ROOM = "make room there, and run the same command again: it goes on"
_OTHERS = "look at who may read and write there"
_PLACE = "one of the names in it is a file where a folder is meant, or a folder where a file is"
_REFUSED = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), _ROOM),
    **dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), _OTHERS),
    **dict.fromkeys((errno.ENOTDIR, errno.EISDIR), _PLACE),
}
"""What to do where the system refuses a file. That there is none may be a defect of ours, and is not among it."""


def refused(error: BaseException) -> UserError | None:
    """The UserError that is meant by what the system says of a file: no room, no permission, a file where a folder belongs.

    None for any other error."""
    if not isinstance(error, OSError) or error.errno not in _REFUSED or error.strerror is None:
        return None
    return UserError(error.strerror.lower(), where=str(error.filename or ""), fix=_REFUSED[error.errno])


def first_line(error: BaseException) -> str:
    """The first line of another library's message, or the error's kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _rebuild(kind: type[UserError], what: str, where: str, fix: str) -> UserError:
    return kind(what, where=where, fix=fix)
