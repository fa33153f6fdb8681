"""The endpoint over one model and, where there is one, its index: an ASGI application, the same on a laptop and in a replica.

    POST /v1/embeddings               as OpenAI's API has it, see serve/openai.py
    GET  /v1/models, /v1/models/{id}  the names it goes by there
    POST /v1/similarity               {"queries": [...], "documents": [...]} -> the cosine of each with each
    POST /v1/search                   {"query": "...", "k": 10} -> answers with path, line or url, and the row
    GET  /, /v1/map                   a page to search by, and its map: rows of the index, each with a place
    GET  /health, /healthz            {"status": "ok", "dimension": D, "rows": N}
    GET  /metrics, /openapi.json      Prometheus' text; what all this takes and gives
    POST /embed                       {"texts": [...], "side": "x"} -> {"vectors": [[...], ...], "dimension": D}
    GET  /search?q=...&k=10           {"query": ..., "answers": [{"score", "where", "name", "summary", "row"}, ...]}

Where API_KEY is set in the environment, all but the page, health, metrics and the description ask for it as
`Authorization: Bearer`. Errors are JSON with the key `error`. A text longer than the model takes is cut, and the answer says
which. Nothing that was asked or answered is logged: a line of the log has the route, the status, an error's type and where
in the code it came up.
"""

from __future__ import annotations

import asyncio
import codecs
import hmac
import logging
import os
import time
import traceback
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from email.message import Message
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import to_json
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from cpt_ray import __version__
from cpt_ray.errors import UserError
from cpt_ray.model.options import Side
from cpt_ray.serve import openai
from cpt_ray.serve.batching import Batcher, Embedded, Model
from cpt_ray.serve.following import Following
from cpt_ray.serve.indexes import Index
from cpt_ray.serve.metrics import CONTENT_TYPE, Metrics
from cpt_ray.serve.openai import Refused
from cpt_ray.serve.openapi import Call, document
from cpt_ray.serve.options import HttpOptions
from cpt_ray.serve.plane import Plane, plane_of
from cpt_ray.serve.search import Answer, answers_of, check_query, nearest
from cpt_ray.serve.token_ids import spelling

Parsed = TypeVar("Parsed", bound=BaseModel)
Result = TypeVar("Result")
Handler = Callable[[Request], Awaitable[Response]]

log = logging.getLogger("cpt_ray")

API_KEY = "CPT_RAY_API_KEY"
OPEN = {"/", "/health", "/healthz", "/metrics", "/openapi.json"}
"""Routes that no key is asked for: those of whoever runs the machine, and what says how to use it."""
PAGE = {
    "content-security-policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""Headers of the page: it loads nothing, from nowhere."""
ENCODINGS = {"utf-8", "ascii", "iso8859-1", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-32-be"}
"""Of a body; Python knows others that take hours for some megabytes."""
GONE = 499
"""Status in the metrics of a request whose client did not wait; nobody reads the answer."""
DISCARDED = 4
"""Times the size of the largest body that are read and thrown away, so that a client that sends more reads why it may not."""


class EmbedRequest(BaseModel):
    """Body of POST /embed."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True)
    texts: openai.Texts
    side: Side = "x"


class Endpoint:
    """What the routes share: model, index, limits and counts."""

    def __init__(
        self,
        model: Model,
        index: Index | Following | None,
        options: HttpOptions,
        name: str,
        metrics: Metrics | None = None,
    ) -> None:
        self._followed = index if isinstance(index, Following) else None
        self.index: Index | None = index.index if isinstance(index, Following) else index
        self.model, self.options, self.name = model, options, name
        self.metrics, self.started = metrics or Metrics(), int(time.time())
        self.batcher = Batcher(
            model,
            max_waiting=options.max_waiting,
            max_waiting_tokens=options.max_waiting_tokens,
            batch_tokens=options.batch_tokens,
            metrics=self.metrics,
        )
        self.metrics.watch(lambda: self.batcher.waiting)
        self.searcher = ThreadPoolExecutor(1, "search")
        self.spelled = None if options.token_ids is None else spelling(options.token_ids)
        self._plane_of: tuple[Index, Plane | None] | None = None  # the map, once it was asked for
        self.few = min(10, options.max_answers)  # answers where nobody says how many
        self.calls = [
            Call(
                "POST", "/v1/embeddings", self.embeddings, "Vectors of texts, as OpenAI's API", openai.EmbeddingRequest
            ),
            Call("GET", "/v1/models", self.models, "The names of the model, one for each side"),
            Call("GET", "/v1/models/{model:path}", self.one_model, "One of them"),
            Call("POST", "/v1/similarity", self.similarity, "Cosine of each with each", openai.SimilarityRequest),
            Call("POST", "/v1/search", self.search, "The nearest rows of the index", openai.SearchRequest),
            Call("GET", "/v1/map", self.map, "Rows of the index on its map"),
            Call("GET", "/", self.page, "A page to search by"),
            Call("GET", "/health", self.health, "Whether it answers"),
            Call("GET", "/healthz", self.health, "The same"),
            Call("GET", "/metrics", self.counts, "Counts for Prometheus"),
            Call("GET", "/openapi.json", self.description, "This document"),
            Call("POST", "/embed", self.embed_texts, "Vectors of texts, all as numbers", EmbedRequest),
            Call(
                "GET",
                "/search",
                self.answer,
                "The nearest rows of the index to q",
                query={"q": "string", "k": "integer"},
            ),
        ]

    async def health(self, _: Request) -> Response:
        rows = index.rows.num_rows if (index := await self._look()) is not None else 0
        return _json({"status": "ok", "dimension": self.model.dimension, "rows": rows})

    async def counts(self, _: Request) -> Response:
        return Response(self.metrics.text(), headers={"content-type": CONTENT_TYPE})

    async def description(self, _: Request) -> Response:
        return _json(document(self.calls, __version__, API_KEY if api_key() else None))

    async def page(self, _: Request) -> Response:
        text = Path(__file__).with_name("page.html").read_bytes()
        return Response(text, headers=PAGE, media_type="text/html; charset=utf-8")

    async def map(self, _: Request) -> Response:
        if (index := await self._look()) is None or (plane := await self._plane(index)) is None:
            raise Refused(404, "there is no index, or one without a map")
        shown = [
            {"at": point.tolist(), "where": answer.where, "name": answer.name, "group": answer.row.get("group")}
            for point, answer in zip(plane.points, answers_of(index, plane.rows, plane.rows), strict=True)
        ]
        return _json({"object": "map", "rows": index.rows.num_rows, "data": shown})

    async def models(self, _: Request) -> Response:
        return _json({"object": "list", "data": self._models()})

    async def one_model(self, request: Request) -> Response:
        wanted = request.path_params["model"]
        openai.side_of(wanted, self.name)
        return _json(next(found for found in self._models() if found["id"] == wanted))

    async def embeddings(self, request: Request) -> Response:
        body = await self._read(request, openai.EmbeddingRequest)
        side, texts = body.side(self.name), body.texts()
        if body.dimensions is not None and body.dimensions > self.model.dimension:
            raise Refused(400, f"this model gives vectors of {self.model.dimension} dimensions", "dimensions")
        check: Callable[[Sequence[int]], None] | None = openai.check_tokens
        if self.spelled is not None and (sent := [item for item in texts if not isinstance(item, str)]):
            openai.check_tokens([len(ids) for ids in sent])  # as their sender counts; of the model's there may be more
            texts, check = [self.spelled(ids) for ids in sent], None
        try:
            made = await self._waited(request, self.batcher.embed(texts, side, check))
        except UserError as error:  # ids of another vocabulary
            raise Refused(400, str(error), "input") from None
        vectors = openai.shortened(made.vectors, body.dimensions)
        return _json(openai.embeddings(body, vectors, set(made.cut), made.tokens))

    async def similarity(self, request: Request) -> Response:
        body = await self._read(request, openai.SimilarityRequest)
        self._known(body.model)
        queries, documents = openai.listed(body.queries, "queries"), openai.listed(body.documents, "documents")
        both = asyncio.gather(
            self.batcher.embed(queries, "x", openai.check_tokens),
            self.batcher.embed(documents, "y", openai.check_tokens),
        )
        x, y = await self._waited(request, both)
        scores = x.vectors @ y.vectors.T
        data = [{"object": "similarity", "index": at, "scores": row.tolist()} for at, row in enumerate(scores)]
        used = openai.usage(x.tokens + y.tokens)
        return _json({"object": "list", "data": data, "model": body.model or self.name, "usage": used})

    async def search(self, request: Request) -> Response:
        body = await self._read(request, openai.SearchRequest)
        self._known(body.model)
        answers, made, index = await self._search(request, body.query, self.few if body.k is None else body.k)
        data = [{"object": "answer", "index": at, **_shown(answer)} for at, answer in enumerate(answers)]
        found = {"object": "list", "data": data, "model": body.model or self.name, "usage": openai.usage(made.tokens)}
        if body.map and (plane := await self._plane(index)) is not None:
            found["at"] = plane.place(made.vectors)[0].tolist()
            vectors = index.vectors_of(np.array([answer.number for answer in answers], np.int64))
            for shown, place in zip(data, plane.place(np.asarray(vectors)), strict=True):
                shown["at"] = place.tolist()
        return _json(found | ({"truncated": True} if made.cut else {}))

    async def answer(self, request: Request) -> Response:
        query, most = request.query_params.get("q", ""), self.options.max_answers
        count = request.query_params.get("k", str(self.few))
        if not (count.isascii() and count.isdecimal()):
            raise Refused(400, f"k is a number from 1 to {most}")
        answers, made, _ = await self._search(request, query, int(count[:9]))
        shown = [{key: value for key, value in _shown(answer).items() if key in SHORT} for answer in answers]
        return _json({"query": query, "answers": shown, **_truncated(made)})

    async def embed_texts(self, request: Request) -> Response:
        body, options = await self._read(request, EmbedRequest), self.options
        if len(body.texts) > options.max_texts:
            raise Refused(413, f"{len(body.texts)} texts; at most {options.max_texts}")
        longest = max((len(text) for text in body.texts), default=0)
        if longest > options.max_characters:
            raise Refused(413, f"a text has {longest} characters; at most {options.max_characters}")
        made = await self._waited(request, self.batcher.embed(body.texts, body.side))
        return _json({"dimension": self.model.dimension, "vectors": made.vectors.tolist(), **_truncated(made)})

    async def _look(self) -> Index | None:
        """The index as it stands now."""
        if self._followed is not None:
            loop = asyncio.get_running_loop()
            self.index = await loop.run_in_executor(self.searcher, self._followed.look)
        return self.index

    async def _search(self, request: Request, query: str, k: int) -> tuple[list[Answer], Embedded, Index]:
        """The answers, what became of the query, and the index that was searched."""
        if (index := await self._look()) is None:
            raise Refused(404, "this endpoint has no index")
        if not 1 <= k <= self.options.max_answers:
            raise Refused(400, f"k is a number from 1 to {self.options.max_answers}", "k")
        if len(query) > self.options.max_characters:
            raise Refused(413, f"the query has {len(query)} characters; at most {self.options.max_characters}", "query")
        check_query(query, self.options.max_characters)

        async def work() -> tuple[list[Answer], Embedded, Index]:
            made = await self.batcher.embed([query], "x")
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self.searcher, lambda: nearest(made.vectors, index, k)), made, index

        return await self._waited(request, work())

    async def _plane(self, index: Index) -> Plane | None:
        """The map, found when it is first asked for."""

        def find() -> Plane | None:
            if self._plane_of is None or self._plane_of[0] is not index:
                self._plane_of = (index, plane_of(index))
            return self._plane_of[1]

        return await asyncio.get_running_loop().run_in_executor(self.searcher, find)

    async def _waited(self, request: Request, work: Awaitable[Result]) -> Result:
        """What `work` gives, unless the client goes away first: then it is dropped, and what waits for the model with it."""
        doing = asyncio.ensure_future(work)
        gone = asyncio.ensure_future(_disconnected(request))
        try:
            await asyncio.wait({doing, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not doing.done():
                raise ClientDisconnect
            return doing.result()
        finally:
            for task in (doing, gone):
                task.cancel()

    async def _read(self, request: Request, kind: type[Parsed]) -> Parsed:
        """The body as `kind`. Refused where it is none, compressed, too large or too slow."""
        if (packed := request.headers.get("content-encoding", "identity").strip().lower()) not in ("", "identity"):
            raise Refused(415, f"a body of content-encoding {packed[:40]!r} is not read; send it as it is")
        try:
            async with asyncio.timeout(self.options.body_seconds):
                raw = await _bytes(request, self.options.max_body)
        except TimeoutError:
            raise Refused(408, f"the body did not come within {self.options.body_seconds:g} s") from None
        charset = _charset(request.headers.get("content-type", ""))
        try:
            if (encoding := codecs.lookup(charset).name) not in ENCODINGS:
                raise LookupError
        except (LookupError, ValueError):
            raise Refused(415, f"there is no charset {charset[:40]!r}; send UTF-8") from None
        try:
            text = raw.decode(encoding)
        except UnicodeError:
            raise Refused(400, f"the body is not {charset}") from None
        try:
            return kind.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid" or not first["loc"]:
            raise Refused(400, str(first["msg"]))
        param = str(first["loc"][0])
        described = kind.model_fields[param].description if param in kind.model_fields else None
        place = ".".join(map(str, first["loc"]))
        raise Refused(400, f"{param} is {described}" if described else f"{place}: {first['msg']}", param)

    def _known(self, model: str | None) -> None:
        if model is not None:
            openai.side_of(model, self.name)

    def _models(self) -> list[dict[str, Any]]:
        return openai.models(self.name, self.started, {side: self.model.limit(side) for side in openai.SPOKEN})

    def close(self) -> None:
        self.batcher.close()
        self.searcher.shutdown(wait=False, cancel_futures=True)


def make_app(
    model: Model,
    index: Index | Following | None,
    options: HttpOptions,
    *,
    name: str = "cpt-ray",
    metrics: Metrics | None = None,
) -> Starlette:
    """The application; `index` None leaves searching out (404). `name` is the model's in /v1. UserError for an empty key."""
    api_key()
    endpoint = Endpoint(model, index, options, name, metrics)

    def answered(route: str, handler: Handler) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Every refusal as JSON, under /v1 in OpenAI's shape; what nobody foresaw is a 500 and a line in the log."""

        async def answer(request: Request) -> Response:
            started = time.perf_counter()
            try:
                if route not in OPEN:
                    _check_key(request)
                response = await handler(request)
            except (Refused, UserError, HTTPException) as error:
                response = _refusal(request.url.path, error)
            except asyncio.CancelledError:  # the server stops, and has waited as long as it may
                response = _refusal(request.url.path, Refused(503, "the server is being stopped; ask again"))
            except ClientDisconnect:
                response = Response(status_code=GONE)
            except Exception as error:  # noqa: BLE001 - the server answers, and goes on
                number = uuid.uuid4().hex
                log.error("500 on %s %s, request %s: %s", request.method, route, number, _place(error))
                response = _refusal(
                    request.url.path, Refused(500, f"a fault of the server; its log has it as {number}")
                )
            endpoint.metrics.answered(route, response.status_code, time.perf_counter() - started)
            return response

        return answer

    async def elsewhere(request: Request, error: Exception) -> Response:
        """No such route, or not by this method."""
        response = _refusal(request.url.path, error)
        endpoint.metrics.answered("other", response.status_code, 0.0)
        return response

    app = Starlette(
        routes=[Route(call.path, answered(call.path, call.handler), methods=[call.method]) for call in endpoint.calls],
        exception_handlers={HTTPException: elsewhere},
    )
    app.state.endpoint = endpoint
    return app


SHORT = ("score", "where", "name", "summary", "row")
"""Of an answer, what GET /search gives."""


def _shown(answer: Answer) -> dict[str, Any]:
    """An answer with where it comes from: path and lines, or url, as far as the index has them."""
    lines = {"line": answer.row.get("start_line") or answer.row.get("line"), "end_line": answer.row.get("end_line")}
    place = {"path": answer.row.get("path") or None, **lines, "url": answer.row.get("url") or None}
    shown = {"score": answer.score, "where": answer.where, "name": answer.name, "summary": answer.summary}
    return {**shown, **place, "row": answer.row}


def _truncated(made: Embedded) -> dict[str, list[int]]:
    """`truncated`: positions of the texts that are longer than the model takes, where there are any."""
    return {"truncated": made.cut} if made.cut else {}


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    # Rust's: a request of 2,048 vectors as numbers would hold up all others for a third of a second.
    body = to_json(value, bytes_mode="base64", inf_nan_mode="null", serialize_unknown=True)
    return Response(body, status, headers, "application/json")


def _refusal(path: str, error: Exception) -> Response:
    allowed: Mapping[str, str] = {}  # of a 405: the methods
    if isinstance(error, UserError):
        error = Refused(400, str(error))
    elif isinstance(error, HTTPException):
        allowed = error.headers or {}
        error = Refused(error.status_code, error.detail)
    if not isinstance(error, Refused):
        raise error
    body = openai.error(error) if path.startswith("/v1/") else {"error": str(error)}
    headers = {"retry-after": str(error.retry or 1)} if error.status in (429, 503) else {}
    headers |= {"www-authenticate": "Bearer"} if error.status == 401 else {}
    headers |= allowed
    return _json(body, error.status, headers)


def api_key() -> str | None:
    """The key in the environment, without the end of line that a file of secrets ends with; None where none is set.

    UserError for an empty one: whoever sets it means to have a key, and would serve everybody."""
    if (key := os.environ.get(API_KEY)) is None:
        return None
    if not key.strip():
        raise UserError("the API key is empty", where=API_KEY, fix="set it to a key, or unset it to ask for none")
    return key.strip()


def _check_key(request: Request) -> None:
    """Refused with 401 unless the request has the key, where there is one."""
    if (key := api_key()) is None:
        return
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode("latin-1"), key.encode()):
        raise Refused(401, "the API key is missing or wrong", code="invalid_api_key")


def _place(error: BaseException) -> str:
    """An error's type and where in the code it came up; its message may quote a text."""
    frames = traceback.extract_tb(error.__traceback__)
    return type(error).__name__ + "".join(
        f" < {os.path.basename(f.filename)}:{f.lineno} {f.name}" for f in frames[::-1]
    )


def _charset(content_type: str) -> str:
    header = Message()
    header["content-type"] = content_type or "application/json"
    return header.get_content_charset() or "utf-8"


async def _bytes(request: Request, most: int) -> bytes:
    """The body. Refused with 413 for one of more than `most` bytes."""
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size <= most:
            parts.append(part)
        elif size > DISCARDED * most:
            break
    if size > most:
        raise Refused(413, f"the body is too large: at most {most:,} bytes", code="too_large")
    return b"".join(parts)


async def _disconnected(request: Request) -> None:
    with suppress(RuntimeError):
        while (await request.receive())["type"] != "http.disconnect":
            pass
