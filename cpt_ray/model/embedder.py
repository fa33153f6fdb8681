"""Texts to vectors with a trained model: what evaluation, search and serving call."""

from __future__ import annotations

import functools
import logging
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cpt_ray.compat.transformers import multiply_for_inference
from cpt_ray.errors import UserError
from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.encoder import Encoder, chunks_by_tokens, collate
from cpt_ray.model.encoding import encoder
from cpt_ray.model.options import Inference, Side
from cpt_ray.model.precision import Shape, measured
from cpt_ray.model.tokenizer import encode
from cpt_ray.model.weights import ModelInfo, existing, load_backbone, load_model, load_tokenizer
from cpt_ray.pairs.tokens import Encode

Text = str | Sequence[int]
"""A text, or its token ids."""

CACHED_TOKENS = 1024
"""Tokens run at once on a CPU: their activations stay in a core's cache (11 % faster than 8,192 with 4 layers of 256)."""
FEW = 32
"""Fewer texts are encoded one by one: to open the tokenizer once more, for their words, takes 0.2 s."""
PARALLEL = ("gpt2", "llama", "qwen2")
"""`model_type` of decoders whose forward pass changes nothing in the model."""

log = logging.getLogger("cpt_ray")


def _side_by_side(run: Callable[[np.ndarray], None], chunks: Sequence[np.ndarray], threads: int) -> None:
    """Run chunks on `threads` threads, each with operations of one thread: nobody waits for another at the end of each
    operation, as within one chunk they would, and that costs most where cores are busy with other work too."""
    try:
        with ThreadPoolExecutor(threads, "embed", lambda: torch.set_num_threads(1)) as pool:
            for _ in pool.map(run, chunks):
                pass
    finally:
        torch.set_num_threads(threads)  # what those threads set is the default of threads that come later


def device_of(wanted: str) -> str:
    """The device that is meant: "auto" is a GPU where there is one. UserError for a GPU that is not there."""
    there = torch.cuda.is_available()
    if wanted == "auto":
        return "cuda" if there else "cpu"
    if wanted.startswith("cuda") and not there:
        raise UserError("this machine has no GPU that PyTorch can use", where="device", fix="use device=auto or cpu")
    return wanted


class Embedder:
    """A trained model, loaded once; sorts by length, fills chunks by tokens, gives rows back in the order asked for."""

    def __init__(
        self,
        folder: str,
        *,
        device: str = "auto",
        chunk_tokens: int = 8192,
        precision: Inference = "fp32",
        untrained: ModelInfo | None = None,
    ) -> None:
        """`device`: "auto" (a GPU where there is one), "cpu", or a name that torch knows.

        `precision`: "fp32", "bf16" (matrix products), or "auto" (the faster of both here, which is measured).

        `untrained` reads the weights of a language model as they are, before any contrastive training: a baseline. It
        gives the limits that such a folder does not state.
        """
        device = device_of(device)
        self.encoder, self.tokenizer, self.info = (
            load_model(folder) if untrained is None else _untrained(folder, untrained)
        )
        self.encoder.to(device)
        if precision == "auto":
            shape = shape_of(self.encoder.backbone.config, self.info)
            choice = measured(shape, device, torch.get_num_threads())
            log.info("%s: precision %s", folder, choice)
            self.precision = choice.precision
        else:
            self.precision = precision
        self.encoder.autocast = self.precision == "bf16"
        if device == "cpu" and not self.encoder.autocast:
            multiply_for_inference(self.encoder)
        self.device, self.chunk_tokens = device, chunk_tokens

    @functools.cached_property
    def _encode(self) -> Encode:
        return encoder(self.tokenizer)

    @property
    def dimension(self) -> int:
        return self.encoder.dimension

    def limit(self, side: Side) -> int:
        """Tokens of a text of this side, without delimiters; what lies beyond them is cut off."""
        return self.info.max_x_tokens if side == "x" else self.info.max_y_tokens

    def embed(self, texts: Iterable[Text], side: Side) -> np.ndarray:
        """(n, D) float32, L2-normalised; `side` is "x" for queries and docstrings, "y" for documents and code.

        A text is cut after `limit(side)` tokens; `lengths` says which were.
        """
        return self.embed_ids(self.wrap(self.token_ids(texts, self.limit(side)), side))

    def lengths(self, texts: Iterable[Text]) -> np.ndarray:
        """(n,) int64 tokens of each whole text: those above `limit(side)` are cut when they are embedded."""
        return np.array([len(row) for row in self.token_ids(texts)], np.int64)

    def wrap(self, rows: Iterable[Sequence[int]], side: Side) -> list[np.ndarray]:
        """Token ids cut after `limit(side)` and put between the delimiters of `side`: what `embed_ids` takes."""
        most = self.limit(side)
        return [self.encoder.delimiters.wrap(row[:most], side) for row in rows]

    def token_ids(self, texts: Iterable[Text], most: int = sys.maxsize) -> list[Sequence[int]]:
        """The first `most` token ids of each text; those that came as ids are as they came. UserError for ids that are not of
        the vocabulary."""
        given = list(texts)
        written = [text for text in given if isinstance(text, str)]
        if len(written) < FEW:
            encoded = iter(encode(self.tokenizer, written, most) if written else [])
        else:
            encoded = iter(self._encode(pa.array(written, pa.large_string()), most).to_pylist())
        found: list[Sequence[int]] = [next(encoded) if isinstance(text, str) else text for text in given]
        if len(written) < len(given):
            known = len(self.tokenizer)
            for row in found:
                if row and not 0 <= min(row) <= max(row) < known:
                    raise UserError(f"a token id is not of this model's {known:,}", fix="use the model's own tokenizer")
        return found

    def embed_ids(self, sequences: list[np.ndarray]) -> np.ndarray:
        """(n, D) float32 of delimited sequences."""
        out = np.empty((len(sequences), self.dimension), np.float32)
        lengths = np.fromiter((len(sequence) for sequence in sequences), np.int64, len(sequences))
        at_once = self.chunk_tokens if self.device != "cpu" else min(self.chunk_tokens, CACHED_TOKENS)
        chunks = chunks_by_tokens(lengths, max(at_once, int(lengths.max(initial=1))))

        def run(rows: np.ndarray) -> None:
            ids, last = collate([sequences[row] for row in rows], self.encoder.delimiters)
            with torch.inference_mode():
                vectors = self.encoder(ids.to(self.device), last.to(self.device))
            out[rows] = vectors.float().cpu().numpy()

        threads = torch.get_num_threads()
        if self.device == "cpu" and 1 < threads <= len(chunks) and self._stateless():
            _side_by_side(run, chunks, threads)
        else:
            for rows in chunks:
                run(rows)
        return out

    def _stateless(self) -> bool:
        """Whether forward passes may run side by side: rotary factors that go by length are kept in the model."""
        config = self.encoder.backbone.config
        rotary = getattr(config, "rope_parameters", None) or {}
        return config.model_type in PARALLEL and rotary.get("rope_type", "default") == "default"


def shape_of(config: Any, info: ModelInfo) -> Shape:
    """What embedding multiplies: for choosing its precision."""
    return Shape.of(config, sequence=max(info.max_x_tokens, info.max_y_tokens), trained=False)


def _untrained(folder: str, info: ModelInfo) -> tuple[Encoder, Any, ModelInfo]:
    tokenizer = load_tokenizer(folder)
    backbone = load_backbone(existing(folder), len(tokenizer), seed=0)
    return Encoder(backbone, Delimiters.of(tokenizer)).eval(), tokenizer, info
