"""Texts to vectors with a trained model: what evaluation, search and serving call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch

from cpt_ray.model.delimiters import Delimiters, Side
from cpt_ray.model.encoder import Encoder, chunks_by_tokens, collate
from cpt_ray.model.tokenizer import encode
from cpt_ray.model.weights import ModelInfo, ModelOptions, load_backbone, load_model, load_tokenizer


class Embedder:
    """A trained model, loaded once; sorts by length, fills chunks by tokens, gives rows back in the order asked for."""

    def __init__(
        self,
        folder: str,
        *,
        device: str = "cpu",
        chunk_tokens: int = 8192,
        bf16: bool = False,
        untrained: ModelInfo | None = None,
    ) -> None:
        """`untrained` reads the weights of a language model as they are, before any contrastive training: a baseline.
        It gives the limits that such a folder does not state."""
        self.encoder, self.tokenizer, self.info = (
            load_model(folder) if untrained is None else _untrained(folder, untrained)
        )
        self.encoder.to(device)
        self.encoder.autocast = bf16
        self.device, self.chunk_tokens = device, chunk_tokens

    @property
    def dimension(self) -> int:
        return self.encoder.dimension

    def embed(self, texts: Iterable[str], side: Side) -> np.ndarray:
        """(n, D) float32, L2-normalised; `side` is "x" for queries and docstrings, "y" for documents and code."""
        most = self.info.max_x_tokens if side == "x" else self.info.max_y_tokens
        wanted = list(texts)
        if not wanted:
            return np.empty((0, self.dimension), np.float32)
        ids = encode(self.tokenizer, wanted, most)
        return self.embed_ids([self.encoder.delimiters.wrap(row, side) for row in ids])

    @torch.inference_mode()
    def embed_ids(self, sequences: list[np.ndarray]) -> np.ndarray:
        """(n, D) float32 of delimited sequences."""
        out = np.empty((len(sequences), self.dimension), np.float32)
        lengths = np.fromiter((len(sequence) for sequence in sequences), np.int64, len(sequences))
        for rows in chunks_by_tokens(lengths, max(self.chunk_tokens, int(lengths.max(initial=1)))):
            ids, last = collate([sequences[row] for row in rows], self.encoder.delimiters)
            vectors = self.encoder(ids.to(self.device), last.to(self.device))
            out[rows] = vectors.float().cpu().numpy()
        return out


def _untrained(folder: str, info: ModelInfo) -> tuple[Encoder, Any, ModelInfo]:
    tokenizer = load_tokenizer(folder)
    backbone = load_backbone(ModelOptions(init=folder), len(tokenizer), seed=0)
    return Encoder(backbone, Delimiters.of(tokenizer)).eval(), tokenizer, info
