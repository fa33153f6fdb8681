"""Options of the tokenizer, of a model and of its first weights."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from cpt_ray.options import How, Options

Side = Literal["x", "y"]
Device = Literal["auto", "cpu", "cuda"]
Inference = Literal["auto", "fp32", "bf16"]
"""Precision of a model that is used and not trained; auto: the faster of both here, which is measured."""


class TokenizerOptions(Options):
    """How the tokenizer of a new model is trained."""

    vocabulary: int = Field(8192, ge=260, le=1 << 20, description="number of token ids, at most (few texts give fewer)")
    min_frequency: int = Field(2, ge=1, description="a merge needs this many occurrences")
    max_token_characters: int = Field(24, ge=1, description="longest token, in bytes")


class StartOptions(Options):
    """What is done to the initial weights before the first step; by default nothing."""

    reset_layers: int = Field(0, ge=0, description="layers, counted from the top, that get new weights")
    embedding_std: float | None = Field(
        None, gt=0, description="centre the token embeddings and scale them to this deviation; null: as they are"
    )
    closing_scale: float = Field(1.0, ge=0, description="factor on the embeddings of the closing delimiters")
    attention_scale: float = Field(1.0, ge=0, description="factor on the query and key projections of every layer")


class ModelOptions(Options):
    """Which decoder, and where its first weights come from."""

    init: How[str] = Field(
        "new", description="'new', or a hub id or folder of any causal language model of transformers"
    )
    revision: How[str | None] = Field(
        None,
        description="branch, tag or commit of a hub id; null: main. It is resolved to a commit before anything starts",
    )
    architecture: Literal["gpt2", "llama"] = Field("llama", description="of a new model")
    hidden_size: int = Field(256, ge=8, description="width, and the dimension of the embedding")
    layers: int = Field(4, ge=1, description="decoder layers of a new model")
    heads: int = Field(4, ge=1, description="attention heads of a new model")
    feedforward: int | None = Field(
        None, ge=8, description="inner width; null: 4 x hidden (gpt2), 8/3 x hidden (llama)"
    )
    context: int = Field(256, ge=8, description="longest sequence of a new model, delimiters counted")
    initializer_range: float = Field(0.02, gt=0, description="standard deviation of a new model's weights")
    dropout: float = Field(0.0, ge=0, lt=1, description="put into the model's configuration, whatever it says")
    start: StartOptions = StartOptions()
    attention: How[Literal["auto", "sdpa", "eager", "flash_attention_2"]] = Field(
        "auto", description="attention kernel; auto: sdpa where the architecture has it, else eager"
    )
