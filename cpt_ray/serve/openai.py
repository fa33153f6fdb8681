"""`POST /v1/embeddings` and `GET /v1/models` in the shape of OpenAI's API, so that its clients work unchanged.

A model has two sides, which that API does not know. It stands under three names: `<name>` and `<name>-passage` embed
documents and code (y, as SentenceTransformer's default does), `<name>-query` embeds queries; `input_type` says it too.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from cpt_ray.model.options import Side

SIDES: dict[str, Side] = {"": "y", "-passage": "y", "-query": "x"}
MAX_ITEMS, MAX_ITEM_TOKENS, MAX_TOKENS = 2048, 8192, 300_000
"""Of one request, as the API has them."""


class Refused(Exception):
    """A request that is turned away: HTTP status, what is wrong, and the field that is."""

    def __init__(self, status: int, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status, self.param, self.code = status, param, code


class EmbeddingRequest(BaseModel):
    """Body of POST /v1/embeddings; `input_type` is NVIDIA's and Cohere's."""

    model_config = ConfigDict(extra="ignore", strict=True)
    input: str | list[str] | list[int] | list[list[int]]
    model: str
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(None, ge=1)
    input_type: Literal["query", "passage", "document", "search_query", "search_document"] | None = None
    user: str | None = None

    def texts(self) -> list[str | list[int]]:
        """The items of the input. Refused where there are none, too many, or one is empty."""
        given: Any = self.input
        items = [given] if isinstance(given, str) or (given and isinstance(given[0], int)) else list(given)
        if not 1 <= len(items) <= MAX_ITEMS:
            raise Refused(400, f"input has {len(items)} items; 1 to {MAX_ITEMS} are possible", "input")
        for at, item in enumerate(items):
            if not len(item):
                raise Refused(400, f"item {at} of input is empty", "input")
        return items

    def side(self, name: str) -> Side:
        """What the model's name or `input_type` asks for. Refused with 404 for a name that is not served."""
        by_name = {name + suffix: side for suffix, side in SIDES.items()}
        if self.model not in by_name:
            known = ", ".join(by_name)
            raise Refused(404, f"there is no model {self.model!r}; there are {known}", "model", "model_not_found")
        if self.input_type is None:
            return by_name[self.model]
        return "x" if self.input_type.endswith("query") else "y"


def check_tokens(lengths: Sequence[int]) -> None:
    """Refused for an item or a request of more tokens than the API allows."""
    longest = max(lengths, default=0)
    if longest > MAX_ITEM_TOKENS:
        raise Refused(400, f"an item has {longest:,} tokens; at most {MAX_ITEM_TOKENS:,}", "input")
    if sum(lengths) > MAX_TOKENS:
        raise Refused(400, f"the items have {sum(lengths):,} tokens; at most {MAX_TOKENS:,} together", "input")


def embeddings(request: EmbeddingRequest, vectors: np.ndarray, lengths: Sequence[int], limit: int) -> dict[str, Any]:
    """The answer. An item that was cut to the model's `limit` of tokens says so by `"truncated": true`."""
    data = []
    for at, (vector, length) in enumerate(zip(vectors, lengths, strict=True)):
        whole = np.ascontiguousarray(vector, "<f4")
        written = base64.b64encode(whole.tobytes()).decode() if request.encoding_format == "base64" else whole.tolist()
        cut = {"truncated": True} if length > limit else {}
        data.append({"object": "embedding", "index": at, "embedding": written, **cut})
    used = int(np.minimum(lengths, limit).sum())
    return {
        "object": "list",
        "data": data,
        "model": request.model,
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


def models(name: str, created: int) -> list[dict[str, Any]]:
    """What is served, by each of its names."""
    return [{"id": name + suffix, "object": "model", "created": created, "owned_by": "cpt-ray"} for suffix in SIDES]


def error(refused: Refused) -> dict[str, Any]:
    """The body of an error."""
    kind = "server_error" if refused.status >= 500 else "invalid_request_error"
    return {"error": {"message": str(refused), "type": kind, "param": refused.param, "code": refused.code}}
