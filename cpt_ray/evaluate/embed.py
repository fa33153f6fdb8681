"""What is measured: a function from texts and their side to vectors."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from cpt_ray.errors import UserError
from cpt_ray.model.options import Side
from cpt_ray.ranking import Floats


class Embed(Protocol):
    """A frozen model: texts to L2-normalised float32 (N, D); the sides x and y have delimiters of their own."""

    def __call__(self, texts: list[str], side: Side) -> Floats: ...


def vectors(embed: Embed, texts: list[str], side: Side) -> Floats:
    """What `embed` gives. UserError for a vector that is not finite: compared with others it could look perfect."""
    found = embed(texts, side)
    if found.ndim != 2 or len(found) != len(texts):
        raise ValueError(f"embed gave {found.shape} for {len(texts)} texts")
    finite = np.isfinite(found.sum(axis=1, dtype=np.float64))
    if not finite.all():
        raise UserError(
            "a vector is not finite",
            where=f"{np.count_nonzero(~finite)} of {len(texts)} texts, as {texts[int(np.argmin(finite))][:60]!r}",
            fix="look for NaN in the model's weights",
        )
    return found


def checked(embed: Embed) -> Embed:
    """The same, whose vectors are looked at as by `vectors`."""

    def looked_at(texts: list[str], side: Side) -> Floats:
        return vectors(embed, texts, side)

    return looked_at


def remembered(embed: Embed) -> Embed:
    """The same, which embeds a text of a side once however often it is asked; all that it was asked stays in memory."""
    known: dict[Side, dict[str, int]] = {"x": {}, "y": {}}
    held: dict[Side, list[Floats]] = {"x": [], "y": []}

    def once(texts: list[str], side: Side) -> Floats:
        place = known[side]
        new = list(dict.fromkeys(text for text in texts if text not in place))
        if new:
            place |= {text: len(place) + number for number, text in enumerate(new)}
            held[side] = [np.concatenate([*held[side], embed(new, side)])]
        found: Floats = held[side][0][[place[text] for text in texts]]
        return found

    return once


def sentence_transformer(folder: str, device: str | None = None) -> Embed:
    """A folder of sentence-transformers as a frozen model: x by its `encode_query`, y by its `encode_document`."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise UserError("sentence-transformers is not installed", where=folder, fix="install it") from error
    model = SentenceTransformer(folder, device=device, local_files_only=True)

    def embed(texts: list[str], side: Side) -> Floats:
        encode = model.encode_query if side == "x" else model.encode_document
        found = encode(texts, batch_size=64, show_progress_bar=False, normalize_embeddings=True)
        return np.asarray(found, np.float32)

    return embed
