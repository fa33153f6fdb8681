"""A model that costs nothing, and conversations with the application without a socket."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import httpx2
import numpy as np
from starlette.applications import Starlette

from cpt_ray.errors import UserError
from cpt_ray.serve.http import make_app
from cpt_ray.serve.indexes import Index
from cpt_ray.serve.options import HttpOptions

Steps = Callable[[httpx2.AsyncClient], Awaitable[None]]


class Toy:
    """A token is a character, ten of them are read, and the vector says the side."""

    dimension = 4

    def limit(self, side: str) -> int:
        return 10

    def token_ids(self, texts: list) -> list[Sequence[int]]:
        rows = [[ord(letter) for letter in text] if isinstance(text, str) else text for text in texts]
        if any(not 0 <= number <= 0x10FFFF for row in rows for number in row):
            raise UserError("a token id is not of this model's")
        return rows

    def wrap(self, rows: list, side: str) -> list[np.ndarray]:
        return [np.array([1 if side == "x" else -1, *row[:10]]) for row in rows]

    def embed_ids(self, sequences: list) -> np.ndarray:
        return np.array([[0.5 * row[0]] * 4 for row in sequences], np.float32)


def client_of(app: Starlette) -> httpx2.AsyncClient:
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://toy", timeout=60)


def ask(steps: Steps, index: Index | None = None, model: Any = None, **options: float) -> None:
    """Run one conversation with a fresh application."""

    async def conversation() -> None:
        app = make_app(model or Toy(), index, HttpOptions(**options), name="toy")
        try:
            async with client_of(app) as client:
                await steps(client)
        finally:
            app.state.endpoint.close()

    asyncio.run(conversation())
