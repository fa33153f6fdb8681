"""`POST /v1/embeddings` and `GET /v1/models` in the shape of OpenAI's API, so that its clients work unchanged.

A model has two sides, which that API does not know. It stands under three names: `<name>` and `<name>-passage` embed
documents and code (y, as SentenceTransformer's default does), `<name>-query` embeds queries; `input_type` says it too.
`/v1/similarity` and `/v1/search` are ours, in the same manner.
"""

from __future__ import annotations

import base64
from collections.abc import Container, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cpt_ray.model.options import Side

SIDES: dict[str, Side] = {"": "y", "-passage": "y", "-query": "x"}
SPOKEN: dict[Side, str] = {"x": "query", "y": "passage"}
MAX_ITEMS, MAX_ITEM_TOKENS, MAX_TOKENS = 2048, 8192, 300_000
"""Of one request, as the API has them."""

# The first wrong item is enough: a report on each of four million would take the memory that the limits are there to save.
FIRST = Field(fail_fast=True)
Texts = Annotated[list[str], FIRST]
Ids = Annotated[list[int], FIRST]


class Refused(Exception):
    """A request that is turned away: HTTP status, what is wrong, the field that is, and after how many seconds it may
    come again."""

    def __init__(
        self, status: int, message: str, param: str | None = None, code: str | None = None, retry: int | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry = status, param, code, retry


class Body(BaseModel):
    """What all requests have; what else a client sends is ignored, as the API does."""

    model_config = ConfigDict(extra="ignore", strict=True, hide_input_in_errors=True)


class EmbeddingRequest(Body):
    """Body of POST /v1/embeddings; `input_type` is NVIDIA's and Cohere's."""

    input: str | Texts | Ids | Annotated[list[Ids], FIRST] = Field(
        description="a text, a list of texts, the token ids of a text, or a list of them"
    )
    model: str = Field(description="<name> or <name>-passage for documents and code, <name>-query for queries")
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = Field(
        None, ge=1, description="a whole number: of each vector the first so many values, scaled to length 1 again"
    )
    input_type: Literal["query", "passage", "document", "search_query", "search_document"] | None = None
    user: str | None = None

    def texts(self) -> list[str | list[int]]:
        """The items of the input. Refused where there are none, too many, or one is empty."""
        given: Any = self.input
        items = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else list(given)
        return checked(items, "input")

    def side(self, name: str) -> Side:
        """What the model's name or `input_type` asks for. Refused with 404 for a name that is not served, and with 422 where
        both say a side and not the same."""
        by_name = side_of(self.model, name)
        if self.input_type is None:
            return by_name
        asked: Side = "x" if self.input_type.endswith("query") else "y"
        if self.model != name and asked != by_name:
            raise Refused(422, f"{self.model!r} does not embed input_type {self.input_type!r}", "input_type")
        return asked


class SimilarityRequest(Body):
    """Body of POST /v1/similarity: the cosine of each of `queries` with each of `documents`."""

    queries: str | Texts
    documents: str | Texts
    model: str | None = None


class SearchRequest(Body):
    """Body of POST /v1/search."""

    query: str
    k: int | None = Field(None, description="a number of answers; 10 where it is left out")
    map: bool | None = Field(None, description="whether to say where query and answers are on the map, as `at`")
    model: str | None = None


def checked(items: list[Any], param: str) -> list[Any]:
    """The items. Refused where there are none, too many, or one is empty."""
    if not 1 <= len(items) <= MAX_ITEMS:
        raise Refused(400, f"{param} has {len(items)} items; 1 to {MAX_ITEMS} are possible", param)
    for at, item in enumerate(items):
        if not len(item):
            raise Refused(400, f"item {at} of {param} is empty", param)
    return items


def listed(given: str | list[str], param: str) -> list[str]:
    """One text or several, as several."""
    return checked([given] if isinstance(given, str) else given, param)


def side_of(model: str, name: str) -> Side:
    """The side that `model` embeds, one of the names of `name`. Refused with 404 for another."""
    by_name = {name + suffix: side for suffix, side in SIDES.items()}
    if model not in by_name:
        known = ", ".join(by_name)
        raise Refused(404, f"there is no model {model[:200]!r}; there are {known}", "model", "model_not_found")
    return by_name[model]


def check_tokens(lengths: Sequence[int]) -> None:
    """Refused for an item or a request of more tokens than the API allows."""
    longest = max(lengths, default=0)
    if longest > MAX_ITEM_TOKENS:
        raise Refused(400, f"an item has {longest:,} tokens; at most {MAX_ITEM_TOKENS:,}", "input")
    if sum(lengths) > MAX_TOKENS:
        raise Refused(400, f"the items have {sum(lengths):,} tokens; at most {MAX_TOKENS:,} together", "input")


def shortened(vectors: np.ndarray, dimensions: int | None) -> np.ndarray:
    """The first `dimensions` <= D values of `vectors` (n, D) float32, scaled to length 1 again; None: all of them."""
    if dimensions is None or dimensions == vectors.shape[1]:
        return vectors
    part = vectors[:, :dimensions]
    length = np.linalg.norm(part, axis=1, keepdims=True)
    short: np.ndarray = part / np.maximum(length, np.finfo(np.float32).tiny)
    return short


def embeddings(request: EmbeddingRequest, vectors: np.ndarray, cut: Container[int], tokens: int) -> dict[str, Any]:
    """The answer of `vectors` (n, D), for which the model read `tokens`. An item whose position is in `cut` was longer than
    the model takes, and says so by `"truncated": true`."""
    data = []
    for at, vector in enumerate(vectors):
        whole = np.ascontiguousarray(vector, "<f4")
        written = base64.b64encode(whole.tobytes()).decode() if request.encoding_format == "base64" else whole.tolist()
        said = {"truncated": True} if at in cut else {}
        data.append({"object": "embedding", "index": at, "embedding": written, **said})
    return {"object": "list", "data": data, "model": request.model, "usage": usage(tokens)}


def usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": tokens, "total_tokens": tokens}


def models(name: str, created: int, limit: dict[Side, int]) -> list[dict[str, Any]]:
    """What is served, by each of its names, with the side it embeds and the tokens it reads."""
    return [
        {
            "id": name + suffix,
            "object": "model",
            "created": created,
            "owned_by": "cpt-ray",
            "input_type": SPOKEN[side],
            "max_model_len": limit[side],
        }
        for suffix, side in SIDES.items()
    ]


def error(refused: Refused) -> dict[str, Any]:
    """The body of an error."""
    kind = {401: "authentication_error", 429: "rate_limit_error"}.get(refused.status, "invalid_request_error")
    kind = "server_error" if refused.status >= 500 else kind
    return {"error": {"message": str(refused), "type": kind, "param": refused.param, "code": refused.code}}
