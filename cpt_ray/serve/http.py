"""A small HTTP endpoint over one model and, where there is one, its index.

    POST /v1/embeddings               as OpenAI's API has it, see serve/openai.py
    GET  /v1/models                   the names it goes by there
    GET  /health, /healthz            {"status": "ok", "dimension": D, "rows": N}
    POST /embed                       {"texts": [...], "side": "x"} -> {"vectors": [[...], ...], "dimension": D}
    GET  /search?q=...&k=10           {"query": ..., "answers": [{"score", "where", "name", "summary", "row"}, ...]}

The model runs in one thread of its own, so that the event loop goes on answering; requests wait in a queue of bounded
length and are turned away with 503 and Retry-After beyond it. Sizes are limited; errors are JSON with the key `error`. A
text longer than the model takes is cut, and the answer says which: `truncated` lists their positions.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

import numpy as np
from aiohttp import web
from pydantic import BaseModel, ConfigDict, ValidationError

from cpt_ray.errors import UserError
from cpt_ray.model.options import Side
from cpt_ray.serve import openai
from cpt_ray.serve.indexes import Index
from cpt_ray.serve.openai import Refused
from cpt_ray.serve.options import HttpOptions
from cpt_ray.serve.search import search

Result = TypeVar("Result")
Body = TypeVar("Body", bound=BaseModel)
SECONDS_TO_WAIT = 1
"""Retry-After of a 503: the queue is short, so a place is soon free."""


class Model(Protocol):
    """What is served: model.embedder.Embedder."""

    @property
    def dimension(self) -> int: ...
    def limit(self, side: Side) -> int: ...
    def embed(self, texts: list[Any], side: Side) -> np.ndarray: ...
    def lengths(self, texts: list[Any]) -> np.ndarray: ...


class EmbedRequest(BaseModel):
    """Body of POST /embed."""

    model_config = ConfigDict(extra="forbid", strict=True)
    texts: list[str]
    side: Side = "x"


def make_app(model: Model, index: Index | None, options: HttpOptions, *, name: str = "cpt-ray") -> web.Application:
    """The application; `index` None leaves /search out (404). `name` is the model's in /v1."""
    thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="model")
    waiting, started = 0, int(time.time())

    async def in_turn(work: Callable[[], Result]) -> Result:
        nonlocal waiting
        if waiting >= options.max_waiting:
            raise Refused(503, "too many requests are waiting; try again")
        waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(thread, work)
        finally:
            waiting -= 1

    async def health(_: web.Request) -> web.Response:
        rows = index.rows.num_rows if index is not None else 0
        return web.json_response({"status": "ok", "dimension": model.dimension, "rows": rows})

    async def embed_texts(request: web.Request) -> web.Response:
        body = await _read(request, EmbedRequest)
        if len(body.texts) > options.max_texts:
            raise Refused(413, f"{len(body.texts)} texts; at most {options.max_texts}")
        longest = max((len(text) for text in body.texts), default=0)
        if longest > options.max_characters:
            raise Refused(413, f"a text has {longest} characters; at most {options.max_characters}")
        vectors, cut = await in_turn(lambda: (model.embed(body.texts, body.side), _cut(model, body.texts, body.side)))
        return web.json_response({"dimension": model.dimension, "vectors": vectors.tolist(), **cut})

    async def answer(request: web.Request) -> web.Response:
        if index is None:
            raise Refused(404, "this endpoint has no index")
        query, count = request.query.get("q", ""), request.query.get("k", str(min(10, options.max_answers)))
        if not (count.isascii() and count.isdecimal() and 1 <= int(count[:9]) <= options.max_answers):
            raise Refused(400, f"k is a number from 1 to {options.max_answers}")
        if len(query) > options.max_characters:
            raise Refused(413, f"the query has {len(query)} characters; at most {options.max_characters}")
        found, cut = await in_turn(lambda: (search(query, index, model.embed, int(count)), _cut(model, [query], "x")))
        answers = [
            {"score": a.score, "where": a.where, "name": a.name, "summary": a.summary, "row": a.row} for a in found
        ]
        return web.json_response({"query": query, "answers": answers, **cut})

    async def embeddings(request: web.Request) -> web.Response:
        body = await _read(request, openai.EmbeddingRequest)
        side, texts = body.side(name), body.texts()
        if body.dimensions not in (None, model.dimension):
            raise Refused(400, f"this model gives vectors of {model.dimension} dimensions", "dimensions")

        def work() -> dict[str, Any]:
            lengths = model.lengths(texts).tolist()
            openai.check_tokens(lengths)
            return openai.embeddings(body, model.embed(texts, side), lengths, model.limit(side))

        return web.json_response(await in_turn(work))

    async def models(_: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": openai.models(name, started)})

    async def one_model(request: web.Request) -> web.Response:
        wanted = request.match_info["model"]
        for found in openai.models(name, started):
            if found["id"] == wanted:
                return web.json_response(found)
        raise Refused(404, f"there is no model {wanted!r}", "model", "model_not_found")

    async def close(_: web.Application) -> None:
        thread.shutdown(wait=False, cancel_futures=True)

    app = web.Application(client_max_size=options.max_body, middlewares=[_errors])
    app.add_routes(
        [
            web.get("/healthz", health),
            web.get("/health", health),
            web.post("/embed", embed_texts),
            web.get("/search", answer),
            web.post("/v1/embeddings", embeddings),
            web.get("/v1/models", models),
            web.get("/v1/models/{model}", one_model),
        ]
    )
    app.on_cleanup.append(close)
    return app


def serve(model: Model, index: Index | None, options: HttpOptions, *, name: str) -> None:
    """Listen until interrupted; requests under way are finished first. UserError where the address cannot be had."""
    try:
        web.run_app(
            make_app(model, index, options, name=name), host=options.host, port=options.port, shutdown_timeout=10
        )
    except OSError as error:
        raise UserError(
            f"cannot listen there: {error.strerror or error}",
            where=f"http.host={options.host} http.port={options.port}",
            fix="end what listens there, or choose another (http.port=0 takes a free one)",
        ) from error


def _cut(model: Model, texts: Sequence[str], side: Side) -> dict[str, list[int]]:
    """`truncated`: positions of the texts that are longer than the model takes, where there are any."""
    beyond = np.flatnonzero(model.lengths(list(texts)) > model.limit(side)).tolist()
    return {"truncated": beyond} if beyond else {}


async def _read(request: web.Request, kind: type[Body]) -> Body:
    """The body as `kind`. Refused where it is none."""
    try:
        text = await request.text()
    except UnicodeError as error:
        raise Refused(400, f"the body is not {request.charset or 'UTF-8'}") from error
    except LookupError as error:  # what Content-Type names is no encoding of text
        raise Refused(415, f"there is no charset {request.charset!r}; send UTF-8") from error
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        param = str(first["loc"][0]) if first["loc"] else None
        raise Refused(400, f"{place}: {first['msg']}" if place else str(first["msg"]), param) from error


@web.middleware
async def _errors(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    """Every refusal as JSON, under /v1 in OpenAI's shape; what nobody foresaw stays a 500 with its traceback in the log."""
    try:
        response: web.StreamResponse = await handler(request)
        return response
    except Refused as error:
        refused = error
    except UserError as error:
        refused = Refused(400, str(error))
    except web.HTTPException as error:
        refused = Refused(error.status, error.reason)
    body = openai.error(refused) if request.path.startswith("/v1/") else {"error": str(refused)}
    headers = {"Retry-After": str(SECONDS_TO_WAIT)} if refused.status == 503 else {}
    return web.json_response(body, status=refused.status, headers=headers)
