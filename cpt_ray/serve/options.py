"""Options of embedding tables and of the HTTP service."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cpt_ray.model.options import Device, Inference, Side
from cpt_ray.options import How, Options

MAX_CHARACTERS = 20_000
"""Of a query, and of one text of /embed, where nobody says otherwise."""


class HttpOptions(Options):
    """Where the endpoint listens and what it lets in."""

    host: str = Field("127.0.0.1", description="address to listen on; 0.0.0.0 opens it to the network")
    port: int = Field(8080, ge=0, le=65535, description="0 takes a free one")
    max_body: int = Field(16 << 20, ge=1024, description="bytes of a request's body")
    max_texts: int = Field(256, ge=1, description="texts in one request to /embed")
    max_characters: int = Field(MAX_CHARACTERS, ge=1, description="characters of a query, or of one text of /embed")
    max_answers: int = Field(100, ge=1, description="answers of one search")
    max_waiting: int = Field(512, ge=1, description="requests that may wait for the model; further ones get 429")
    max_waiting_tokens: int = Field(1_000_000, ge=1, description="tokens that may wait, all requests together")
    batch_tokens: int = Field(8192, ge=1, description="tokens of all requests that are run through the model at once")
    body_seconds: float = Field(30, gt=0, description="in which a request's body must have come")
    token_ids: str | None = Field(
        None,
        description="vocabulary of the token ids in requests, one of tiktoken's, such as cl100k_base, which LangChain sends "
        "by itself; null: the model's own",
    )


class EmbedOptions(Options):
    """Which texts become vectors, and how."""

    text: str = Field("code", description="column with the texts")
    key: str = Field("function_id", description="column that identifies a row; it travels with the vector")
    side: Side = Field("y", description="x: queries and docstrings, y: documents and code")
    dtype: Literal["float32", "float16"] = Field(
        "float32", description="of the stored vectors; float16 takes half the room"
    )
    precision: Inference = Field(
        "auto", description="of the model's products; auto: the faster here, measured and kept"
    )
    device: How[Device] = Field("auto", description="where the model runs; auto: on a GPU where there is one")
    chunk_tokens: How[int] = Field(8192, ge=64, description="tokens run through the model at once, padding counted")
    rows_per_shard: int = Field(8192, ge=1, description="rows embedded and saved together; a kill loses at most these")
