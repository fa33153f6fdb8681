"""A trained model as mteb takes it, so that its tasks and boards measure ours as they measure everybody's:

    mteb.evaluate(Encoder("outputs/demo/text_model"), mteb.get_benchmark("MTEB(Code, v1)"))

mteb says of each text whether it is a query (side x) or a document (side y). Where it says neither, as in classification,
clustering and similarity, texts are of side y, which is the default route of the folder in sentence-transformers: so both
ways of giving a model to mteb give the same numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cpt_ray.errors import UserError
from cpt_ray.model.embedder import Embedder
from cpt_ray.model.options import Inference
from cpt_ray.model.weights import weights_identity
from cpt_ray.ranking import Floats

try:
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.types import PromptType
except ImportError as error:
    raise UserError("mteb is not installed", fix="pip install 'cpt-ray[mteb]'") from error

if TYPE_CHECKING:
    from collections.abc import Iterable


class Encoder(AbsEncoder):  # type: ignore[misc]
    """mteb's `EncoderProtocol` over a model folder."""

    def __init__(
        self,
        model_name: str,
        revision: str | None = None,
        *,
        device: str | None = None,
        precision: Inference = "fp32",
        **_: Any,
    ) -> None:
        """`model_name` is the folder; its content is the revision, which mteb's cache of results goes by."""
        folder = Path(model_name).absolute()
        self.embedder = Embedder(str(folder), device=device or "auto", precision=precision)
        backbone = self.embedder.encoder.backbone
        self.mteb_model_meta = ModelMeta(
            loader=None,
            name=f"cpt-ray/{folder.name}",
            revision=revision or weights_identity(str(folder)),
            release_date=None,
            languages=None,
            n_parameters=sum(weights.numel() for weights in backbone.parameters()),
            memory_usage_mb=None,
            max_tokens=self.embedder.limit("y"),
            embed_dim=self.embedder.dimension,
            license=None,
            open_weights=None,
            public_training_code=None,
            public_training_data=None,
            framework=["PyTorch", "Sentence Transformers", "safetensors"],
            similarity_fn_name="cosine",
            use_instructions=False,
            training_datasets=None,
        )

    def encode(self, inputs: Iterable[dict[str, Any]], *, prompt_type: Any = None, **_: Any) -> Floats:
        """(N, D) float32, L2-normalised, of the batches' texts in their order."""
        texts = [text for batch in inputs for text in batch["text"]]
        if not texts:
            return np.zeros((0, self.embedder.dimension), np.float32)
        return self.embedder.embed(texts, "x" if prompt_type == PromptType.query else "y")
