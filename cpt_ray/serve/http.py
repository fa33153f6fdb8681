"""A small HTTP endpoint over one model and, where there is one, its index.

    GET  /healthz                     {"status": "ok", "dimension": D, "rows": N} POST /embed   {"texts": [...],
    "side": "x"}   {"vectors": [[...], ...], "dimension": D} GET  /search?q=...&k=10           {"query": ...,
    "answers": [{"score", "where", "name", "summary", "row"}, ...]}

The model runs in one thread of its own, so that the event loop goes on answering; requests wait in a queue of bounded
length and are turned away with 503 beyond it. Sizes are limited; errors are JSON with the key `error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cpt_ray.errors import UserError
from cpt_ray.evaluate.search import Embed
from cpt_ray.model.delimiters import Side
from cpt_ray.options import Options
from cpt_ray.serve.index import Index
from cpt_ray.serve.search import search

Result = TypeVar("Result")


class HttpOptions(Options):
    """Where the endpoint listens and what it lets in."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 opens it to the network")
    port: int = Field(8080, ge=0, le=65535, description="0 takes a free one")
    max_body: int = Field(2 << 20, ge=1024, description="bytes of a request's body")
    max_texts: int = Field(256, ge=1, description="texts in one request")
    max_characters: int = Field(20_000, ge=1, description="characters of one text or query")
    max_answers: int = Field(100, ge=1, description="answers of one search")
    max_waiting: int = Field(32, ge=1, description="requests that may wait for the model; further ones get 503")


class EmbedRequest(BaseModel):
    """Body of POST /embed."""

    model_config = ConfigDict(extra="forbid", strict=True)
    texts: list[str]
    side: Side = "x"


def make_app(embed: Embed, dimension: int, index: Index | None, options: HttpOptions) -> web.Application:
    """The application; `index` None leaves /search out (404)."""
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
    waiting = 0

    async def in_turn(work: Callable[[], Result]) -> Result:
        nonlocal waiting
        if waiting >= options.max_waiting:
            raise _Refused(503, "too many requests are waiting; try again")
        waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work)
        finally:
            waiting -= 1

    async def healthz(_: web.Request) -> web.Response:
        rows = index.rows.num_rows if index is not None else 0
        return web.json_response({"status": "ok", "dimension": dimension, "rows": rows})

    async def embed_texts(request: web.Request) -> web.Response:
        try:
            body = EmbedRequest.model_validate_json(await request.text())
        except (ValidationError, UnicodeDecodeError) as error:
            raise _Refused(400, _first(error)) from error
        if len(body.texts) > options.max_texts:
            raise _Refused(413, f"{len(body.texts)} texts; at most {options.max_texts}")
        longest = max((len(text) for text in body.texts), default=0)
        if longest > options.max_characters:
            raise _Refused(413, f"a text has {longest} characters; at most {options.max_characters}")
        vectors = await in_turn(lambda: embed(body.texts, body.side))
        return web.json_response({"dimension": dimension, "vectors": vectors.tolist()})

    async def answer(request: web.Request) -> web.Response:
        if index is None:
            raise _Refused(404, "this endpoint has no index")
        query, count = request.query.get("q", ""), request.query.get("k", str(min(10, options.max_answers)))
        if not count.isdecimal() or not 1 <= int(count) <= options.max_answers:
            raise _Refused(400, f"k is a number from 1 to {options.max_answers}")
        if len(query) > options.max_characters:
            raise _Refused(413, f"the query has {len(query)} characters; at most {options.max_characters}")
        found = await in_turn(lambda: search(query, index, embed, int(count)))
        answers = [
            {"score": a.score, "where": a.where, "name": a.name, "summary": a.summary, "row": a.row} for a in found
        ]
        return web.json_response({"query": query, "answers": answers})

    async def close(_: web.Application) -> None:
        thread.shutdown(wait=False, cancel_futures=True)

    app = web.Application(client_max_size=options.max_body, middlewares=[_errors])
    app.add_routes([web.get("/healthz", healthz), web.post("/embed", embed_texts), web.get("/search", answer)])
    app.on_cleanup.append(close)
    return app


def serve(embed: Embed, dimension: int, index: Index | None, options: HttpOptions) -> None:
    """Listen until interrupted; requests under way are finished first."""
    web.run_app(make_app(embed, dimension, index, options), host=options.host, port=options.port, shutdown_timeout=10)


class _Refused(Exception):
    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status


@web.middleware
async def _errors(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    """Every refusal as JSON; what nobody foresaw stays a 500 with its traceback in the log."""
    try:
        response: web.StreamResponse = await handler(request)
        return response
    except _Refused as refused:
        return web.json_response({"error": str(refused)}, status=refused.status)
    except UserError as error:
        return web.json_response({"error": str(error)}, status=400)
    except web.HTTPException as error:
        return web.json_response({"error": error.reason}, status=error.status)


def _first(error: ValidationError | UnicodeDecodeError) -> str:
    if isinstance(error, UnicodeDecodeError):
        return "the body is not UTF-8"
    first = error.errors(include_url=False)[0]
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {first['msg']}" if place else str(first["msg"])
