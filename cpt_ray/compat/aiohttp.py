"""aiohttp's internals."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import aiohttp

VERSION = "3.14.5"


def ask_once(client: aiohttp.ClientSession) -> aiohttp.ClientSession:
    """A client that does not ask again, at once and without a word, when a kept connection turns out to be closed. No
    option forbids it."""
    client._retry_connection = False
    return client
