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
