"""Options of deduplication; what changes an artifact's content, and nothing else."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cpt_ray.options import Options

MEASURED = ("length", "words")
"""Criteria that are no columns of the documents: they are measured from the text."""


class Preference(Options):
    """One criterion of the survivor rule."""

    column: str = Field(description="a column of the documents, or one of length (bytes), words")
    prefer: Literal["high", "low"] = Field(default="high", description="which end survives; a missing one never does")


class DedupOptions(Options):
    """What counts as a duplicate, and which of the duplicates stays."""

    shingle: Literal["word", "character"] = Field(default="word", description="what an n-gram is made of")
    ngram: int = Field(default=5, ge=1, le=64, description="units in a shingle")
    permutations: int = Field(default=128, ge=2, le=1024, description="length of a MinHash signature")
    scheme: Literal["affine32", "one-permutation"] = Field(
        default="affine32",
        description="affine32 equals datasketch's signatures; one-permutation is faster, for long texts",
    )
    seed: int = Field(default=1, ge=0, lt=1 << 32, description="seed of the permutations (datasketch's)")
    threshold: float = Field(default=0.8, gt=0, le=1, description="similarity from which two documents are duplicates")
    measure: Literal["jaccard", "containment"] = Field(
        default="jaccard", description="jaccard, or the share of the removed document's shingles that the kept one has"
    )
    sample: int = Field(
        default=8,
        ge=1,
        description="containment: one shingle in so many, by its hash, is looked up too, which bands cannot replace; 1: all",
    )
    false_negative_weight: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="bands and rows: how much a missed pair weighs against a needless comparison",
    )
    bands: int | None = Field(default=None, ge=1, description="bands of the signature; null derives bands and rows")
    rows: int | None = Field(default=None, ge=1, description="signature values in a band; null derives bands and rows")
    near: bool = Field(default=True, description="false stops after the exact layer")
    stars: int = Field(default=4, ge=1, description="documents of a bucket that its others are compared with, at most")
    survivors: tuple[Preference, ...] = Field(
        default=(Preference(column="length"),),
        description="which duplicate is kept, by these columns in order; then by content hash and id",
    )

    @model_validator(mode="after")
    def _bands_fit(self) -> DedupOptions:
        if (self.bands is None) != (self.rows is None):
            raise ValueError("bands and rows are given together, or neither is")
        if self.bands is not None and self.rows is not None and self.bands * self.rows > self.permutations:
            raise ValueError(
                f"bands * rows = {self.bands * self.rows} exceeds permutations = {self.permutations}:"
                " lower one of them or raise permutations"
            )
        return self

    def result(self, *besides: str) -> dict[str, Any]:
        """As of all options, without those of containment where it is not measured: what was made before there were any
        is still known."""
        return super().result(*besides, *(() if self.measure == "containment" else ("sample",)))

    @field_validator("survivors")
    @classmethod
    def _each_once(cls, survivors: tuple[Preference, ...]) -> tuple[Preference, ...]:
        names = [one.column for one in survivors]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"{twice[0]} is named twice, and is decided by the first")
        return survivors

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns of the documents that the survivor rule reads."""
        return tuple(p.column for p in self.survivors if p.column not in MEASURED)

    @property
    def rule(self) -> str:
        """The survivor rule in one line, as the clusters table names it."""
        return ", ".join([f"{p.prefer} {p.column}" for p in self.survivors] + ["low content_hash", "low id"])


class ParagraphOptions(Options):
    """Which paragraphs are a host's own furniture."""

    min_documents: int | None = Field(
        default=10, ge=2, description="pages of one host that hold a paragraph before it goes; null: none goes"
    )
    min_share: float = Field(default=0.5, ge=0, le=1, description="and the share of the host's pages that hold it")
    min_words: int = Field(default=4, ge=1, description="shorter paragraphs stay: headings such as Parameters")
    separator: str = Field(
        default="\n\n", min_length=1, description="what stands between two paragraphs; a line break: lines"
    )


class CleanOptions(ParagraphOptions):
    """What documents lose before they are compared."""

    once_per_url: bool = Field(
        default=True, description="of several captures of a URL, in whatever archives, only the latest stays"
    )
