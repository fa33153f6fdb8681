"""Which part of a model of transformers is its decoder of texts, how long and wide that is, and whether it is one.

A multimodal model keeps its decoder beside an encoder of images or sound, and its configuration beside theirs
(`text_config`). Only the decoder is taken: the rest would be carried along for nothing.
"""

from __future__ import annotations

import inspect
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from cpt_ray.compat.transformers import has_processor, kernel, kernel_of
from cpt_ray.errors import UserError, first_line

LENGTHS = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "keep_window_size")
"""Keys by which configurations name their longest sequence; others are mapped to the first by transformers. Doge has a last
one: of longer sequences it drops keys, and which ones goes by the longest text of a batch."""
FIX = "give a causal language model, such as those of GPT-2, GPT-NeoX, Llama or Qwen2"


def text_config(config: Any) -> Any:
    """The configuration of the decoder of texts: of most models the configuration itself."""
    try:
        return config.get_text_config()
    except ValueError:  # several: none of them is a decoder that stands alone
        return config


def text_decoder(model: PreTrainedModel) -> PreTrainedModel:
    """The decoder of texts in a model without head: of most models the model itself."""
    if text_config(model.config) is model.config:
        return model
    found = model.get_decoder()
    return found if isinstance(found, PreTrainedModel) else model


def width_of(config: Any) -> int:
    """Width of the last hidden state. OPT-350m's kind projects it back to the width of its word embeddings."""
    config = text_config(config)
    return int(getattr(config, "word_embed_proj_dim", None) or config.hidden_size)


def inner_of(config: Any) -> int:
    """Inner width of the feed-forward layers, of the widest where they differ, as in Gemma 3n; four times the width where it
    is not named, as in GPT-2."""
    config = text_config(config)
    named = (getattr(config, key, None) for key in ("intermediate_size", "n_inner", "ffn_dim"))
    size = next((size for size in named if size), 4 * config.hidden_size)
    return int(max(size) if isinstance(size, list | tuple) else size)


def context_of(config: Any) -> int:
    """Longest sequence, in tokens, in which a text has the vector it has alone; very many where there is no limit.

    Beyond the length that its model was first trained with, longrope has other factors for the whole batch: a vector would
    depend on the texts beside it, so that length is the limit.
    """
    config = text_config(config)
    named = [getattr(config, key, None) for key in LENGTHS]
    limit = min((length for length in named if isinstance(length, int) and length > 0), default=1 << 30)
    rotary = getattr(config, "rope_parameters", None) or {}
    for one in [
        rotary,
        *(part for part in rotary.values() if isinstance(part, dict)),
    ]:  # some have them by kind of layer
        if one.get("rope_type") == "longrope":
            first = one.get("original_max_position_embeddings") or getattr(
                config, "original_max_position_embeddings", None
            )
            limit = min(limit, int(first or limit))
    return limit


def check_config(config: Any, init: str) -> None:
    """UserError for what a configuration alone shows to be no decoder that can be trained, before weights are read."""
    if getattr(config, "is_encoder_decoder", False):
        raise UserError(
            f"this model ({config.model_type}) is an encoder with a decoder, not a causal decoder", where=init, fix=FIX
        )
    if (quantised := getattr(config, "quantization_config", None)) is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised.quant_method
        raise UserError(
            f"these weights are quantised ({getattr(method, 'value', method)}), which cannot be trained",
            where=init,
            fix="give the weights before quantisation, or save them dequantised",
        )
    if has_processor(text_config(config).model_type):
        raise UserError(
            f"this model ({config.model_type}) reads more than texts, and has no decoder of texts that stands alone",
            where=init,
            fix=FIX,
        )
    if not isinstance(getattr(text_config(config), "hidden_size", None), int):
        raise UserError(f"this configuration ({config.model_type}) names no width", where=init, fix=FIX)


@torch.no_grad()
def check_decoder(model: PreTrainedModel, init: str) -> None:
    """UserError where a text's states change with what follows it or stands beside it, or are not as wide as told.

    We pass no mask, so padding and batch mates would change them. `model` is on CPU, whole, without its head.
    """
    check_config(model.config, init)
    own = kernel_of(model)
    try:
        count = cast(torch.nn.Embedding, model.get_input_embeddings()).num_embeddings
        ids = torch.stack([torch.arange(1, 9), torch.arange(11, 3, -1)]) % count
        # Without a mask, as we run it; with one, as sentence-transformers does.
        padding = {"attention_mask": torch.tensor([[1] * 4 + [0] * 4, [1] * 8])}
        masked = padding if "attention_mask" in inspect.signature(model.forward).parameters else {}
        with kernel(model, "eager" if own == "flash_attention_2" else own):  # that one needs a GPU
            alone, beside, padded = (
                model(input_ids=part, use_cache=False, **more).last_hidden_state.float()
                for part, more in ((ids[:1, :4], {}), (ids, {}), (ids, masked))
            )
    except (AttributeError, ImportError, KeyError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            f"this model ({model.config.model_type}) cannot be run on token ids: {first_line(error)}",
            where=init,
            fix=FIX,
        ) from error
    if alone.shape != (1, 4, width_of(model.config)):
        raise UserError(
            f"this model's states are {tuple(alone.shape)} for 4 tokens, not 4 of the width {width_of(model.config)} that"
            " its configuration names",
            where=init,
            fix=FIX,
        )
    # Rounding moves them by some 1e-6.
    if not all((alone - other[:1, :4]).abs().max() <= 1e-4 * alone.abs().max() for other in (beside, padded)):
        raise UserError(
            "this model looks at what follows a token, or at the texts beside its own: it is not a causal decoder",
            where=init,
            fix=FIX,
        )
