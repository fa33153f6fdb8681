"""Options of pairs, splits, the corpus and the training order."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from cpt_ray.options import Options


class NeighbourOptions(Options):
    """How documents are cut into neighbouring pieces."""

    source: str = Field("text", description="name of this source of pairs, for the mixing weights of the batches")
    min_chars: int = Field(100, ge=1, description="characters a piece has at least")
    max_chars: int = Field(
        500, ge=2, description="characters a piece has at most, and about four fifths of it; at least twice min_chars"
    )
    overlapping: bool = Field(False, description="pair every piece with the next, so that inner pieces are used twice")
    boilerplate_documents: int = Field(
        3, ge=2, description="a line in this many documents of a group is boilerplate; pieces stop at it"
    )
    boilerplate_chars: int = Field(
        40, ge=1, description="shorter lines (headings such as Parameters) may repeat freely"
    )
    max_similarity: float = Field(
        0.7, gt=0, le=1, description="pairs with more of their words in common (Jaccard) say the same twice"
    )
    min_letters: float = Field(0.5, ge=0, le=1, description="share of letters in the visible characters of a piece")

    @model_validator(mode="after")
    def _room(self) -> Self:
        if self.max_chars < 2 * self.min_chars:
            raise ValueError(f"max_chars ({self.max_chars}) must be at least twice min_chars ({self.min_chars})")
        return self


class DocstringOptions(Options):
    """How code pairs are made of documented functions."""

    source: str = Field("code", description="name of this source of pairs, for the mixing weights of the batches")
    side_x: Literal["summary", "docstring"] = Field(
        "summary", description="x: the docstring's first paragraph on one line, or the whole docstring"
    )
    further: tuple[Literal["name", "signature", "commit"], ...] = Field(
        (),
        description="more pairs of the same functions, each a source of its own (code_name, code_signature,"
        " code_commit): the words of its name and the code without it; its signature and its body; what the last commit that"
        " changed it says, as far as mine.history reads, and its code",
    )
    plain: bool = Field(True, description="take reST and Markdown markup out of x: a query has none")
    max_per_x: int = Field(
        4, ge=1, description="functions that may share one x; a text that describes many describes none of them"
    )


class SplitOptions(Options):
    """Which groups are held out."""

    seed: int = Field(0, ge=0, description="another seed holds other groups out")
    heldout_share: float = Field(0.1, ge=0, lt=1, description="share of the groups (not of the rows) held out")
    always_train: tuple[str, ...] = Field(
        ("python",), description="groups that are never held out; python is the standard library"
    )


class CorpusOptions(Options):
    """Which texts a language model is trained on."""

    seed: int = Field(0, ge=0, description="seed of the order")
    max_characters: int = Field(4000, ge=1, description="characters taken of one text, from its start")
    max_texts: int = Field(200_000, ge=1, description="texts in the corpus, at most; the first of the order")


class BatchOptions(Options):
    """How pairs are ordered into global batches."""

    batch_size: int = Field(512, ge=2, description="pairs in one global batch, over all workers")
    epochs: float = Field(1.0, gt=0, description="passes over the pairs; ignored when `steps` is given")
    steps: int | None = Field(None, ge=1, description="number of global batches; null: from `epochs`")
    seed: int = Field(0, ge=0, description="seed of the order")
    max_x_tokens: int = Field(62, ge=1, description="x is truncated to this many tokens, delimiters not counted")
    max_y_tokens: int = Field(126, ge=1, description="y is truncated to this many tokens, delimiters not counted")
    homogeneous: bool = Field(True, description="all pairs of a batch come from one source")
    hard_negatives: int = Field(
        0, ge=0, description="of each pair, from the columns hard and hard_hash; pairs with fewer are dropped"
    )
    weights: dict[str, float] = Field(
        default_factory=dict, description="share of each source in the pairs drawn; empty: in proportion to its size"
    )
    rehydrate: int = Field(
        1,
        ge=1,
        description="a pair comes in an epoch as often as its duplicate cluster has documents, so often at most; 1: once",
    )

    def result(self, *besides: str) -> dict[str, Any]:
        """As of all options, without `rehydrate` where it does nothing: what was made before there was any is still known."""
        return super().result(*besides, *(() if self.rehydrate > 1 else ("rehydrate",)))

    @model_validator(mode="after")
    def _positive_weights(self) -> Self:
        if any(weight < 0 for weight in self.weights.values()) or (self.weights and not any(self.weights.values())):
            raise ValueError("weights must be 0 or more, and one of them more than 0")
        return self
