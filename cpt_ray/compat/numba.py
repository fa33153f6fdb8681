"""numba: machine code that is kept on disk where that is possible, and made anew where it is not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit

VERSION = "0.68.1"


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    """Compile on first use and keep the machine code on disk, beside the file of the function or in the user's cache folder.

    Functions that call each other stand in one file: the cache is renewed when that file changes, and by nothing else.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return njit(cache=True, nogil=True, **options)(function)
        except RuntimeError:
            # Neither folder can be written to: compile anew in every process (some seconds) rather than fail.
            return njit(nogil=True, **options)(function)

    return decorate
