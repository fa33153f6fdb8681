"""Weights in standard folders: new from a configuration, from a hub id or folder, and out again.

A saved folder holds what `AutoModel.from_pretrained` and `AutoTokenizer.from_pretrained` read, `cpt_ray.json` with what
they do not know (delimiters, pooling, token limits, temperature), and the module files that let
`SentenceTransformer(folder)` give the same vectors by `encode_query` (side x) and `encode_document` (side y).
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, cast

import torch
import xxhash
from pydantic import ValidationError
from safetensors import SafetensorError
from tokenizers import Tokenizer
from torch import Tensor
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import logging as transformers_logging

from cpt_ray.artifacts.places import link
from cpt_ray.artifacts.store import MANIFEST, read_manifest
from cpt_ray.compat.transformers import commit_of, kernel_of, says_no_kernel
from cpt_ray.errors import UserError, first_line
from cpt_ray.model.decoder import check_config, check_decoder, text_config, text_decoder
from cpt_ray.model.delimiters import ADDED, Delimiters
from cpt_ray.model.encoder import Encoder
from cpt_ray.model.options import ModelOptions, Side
from cpt_ray.model.start import seeded
from cpt_ray.options import Options

PAD = "<|pad|>"
INFO = "cpt_ray.json"

# A head that is left out on purpose is no news, and neither is a bar for loading a few files.
transformers_logging.set_verbosity_error()
transformers_logging.disable_progress_bar()


class ModelInfo(Options):
    """What cpt_ray.json says of a trained model."""

    format: int = 1
    delimiters: dict[str, list[int]]
    pooling: Literal["last_delimiter"] = "last_delimiter"
    max_x_tokens: int
    max_y_tokens: int
    temperature: float
    embedding_dimension: int


def configuration(options: ModelOptions, vocabulary: int) -> Any:
    """The configuration of a new model, as transformers has it."""
    if options.hidden_size % options.heads:
        raise UserError(
            f"hidden_size {options.hidden_size} is not a multiple of heads {options.heads}",
            where="model.heads",
            fix="choose a number of heads that divides hidden_size",
        )
    if options.architecture == "llama" and options.hidden_size // options.heads % 2:
        raise UserError(
            f"heads are {options.hidden_size // options.heads} wide, and rotary positions turn pairs of numbers",
            where="model.heads",
            fix="choose hidden_size and heads such that a head's width is even, or architecture=gpt2",
        )
    tokens = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    if options.architecture == "gpt2":
        config = AutoConfig.for_model(
            "gpt2",
            vocab_size=vocabulary,
            n_positions=options.context,
            n_embd=options.hidden_size,
            n_layer=options.layers,
            n_head=options.heads,
            n_inner=options.feedforward,
            # The same function as GPT-2's gelu_new in one fused kernel, which saves a third of the activations.
            activation_function="gelu_pytorch_tanh",
            initializer_range=options.initializer_range,
            **tokens,
        )
    else:
        config = AutoConfig.for_model(
            "llama",
            vocab_size=vocabulary,
            max_position_embeddings=options.context,
            hidden_size=options.hidden_size,
            num_hidden_layers=options.layers,
            num_attention_heads=options.heads,
            num_key_value_heads=options.heads,
            intermediate_size=options.feedforward or -(-options.hidden_size * 8 // 3 // 32) * 32,
            tie_word_embeddings=True,
            initializer_range=options.initializer_range,
            **tokens,
        )
    _set_dropout(config, options.dropout)
    return config


def config_of(model: ModelOptions, vocabulary: int) -> Any:
    """The configuration of the model that the options name, new or not; its weights are not read."""
    return configuration(model, vocabulary) if model.init == "new" else _configuration_at(model.init)


def _configuration_at(init: str) -> Any:
    """UserError where there is none, or where it shows that its model cannot be trained."""
    try:
        config = AutoConfig.from_pretrained(**_place(init), trust_remote_code=False)
    except (ImportError, KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(
            f"no weights can be read, not even their configuration: {first_line(error)}", where=init, fix=_FIX_INIT
        ) from error
    check_config(config, init)
    return config


def new_language_model(options: ModelOptions, vocabulary: int, seed: int) -> PreTrainedModel:
    """A causal language model with fresh weights (fp32), equal for equal options and seed."""
    config = configuration(options, vocabulary)
    try:
        with seeded(seed):
            return AutoModelForCausalLM.from_config(config, dtype=torch.float32, **_kernel(options))
    except (ImportError, ValueError) as error:
        raise _not_read(options, error) from error


def load_language_model(options: ModelOptions, vocabulary: int, seed: int) -> PreTrainedModel:
    """`new_language_model`, or the language model at `options.init` in fp32."""
    if options.init == "new":
        return new_language_model(options, vocabulary, seed)
    model = _pretrained(AutoModelForCausalLM, options)
    check_decoder(cast(PreTrainedModel, model.base_model), options.init)
    return model


def load_backbone(options: ModelOptions, vocabulary: int, seed: int) -> PreTrainedModel:
    """The decoder without its head, fp32; a head that the folder holds is not loaded."""
    if options.init == "new":
        return cast(PreTrainedModel, new_language_model(options, vocabulary, seed).base_model)
    decoder = text_decoder(_pretrained(AutoModel, options))
    check_decoder(decoder, options.init)
    return decoder


def load_tokenizer(folder: str) -> Any:
    """The tokenizer at a hub id or folder; remote code is never run. UserError where it is none of the Rust library's."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(**_place(folder), trust_remote_code=False)
    except (AttributeError, ImportError, KeyError, OSError, TypeError, ValueError) as error:
        raise UserError(f"no tokenizer can be read: {first_line(error)}", where=folder, fix=_FIX_INIT) from error
    if not isinstance(getattr(tokenizer, "backend_tokenizer", None), Tokenizer):
        raise UserError(
            f"this tokenizer ({type(tokenizer).__name__}) is written in Python: it has no tokenizer.json to put delimiters"
            " into",
            where=folder,
            fix="give a model whose tokenizer is one of the tokenizers library",
        )
    return tokenizer


def save_language_model(model: PreTrainedModel, tokenizer: Any, folder: str, state: Mapping[str, Tensor]) -> None:
    """The standard files of a causal language model with the weights `state`, and its tokenizer."""
    model.save_pretrained(folder, state_dict=dict(state))
    _finish_weights(model, folder)
    tokenizer.save_pretrained(folder)


def save_model(encoder: Encoder, tokenizer: Any, info: ModelInfo, folder: str, state: Mapping[str, Tensor]) -> None:
    """Write the encoder with the weights `state` (names as in `encoder.backbone.state_dict()`) to `folder`.

    A tokenizer without any special token gets one for padding (`_padded`), and the embeddings a row for it.
    """
    tokenizer = _padded(tokenizer)
    with _room_for(encoder.backbone, dict(state), len(tokenizer)) as weights:
        encoder.backbone.save_pretrained(folder, state_dict=weights)
    _finish_weights(encoder.backbone, folder)
    tokenizer.save_pretrained(folder)
    Path(folder, INFO).write_text(json.dumps(info.model_dump(), indent=1) + "\n")
    _write_sentence_transformer(folder, tokenizer, info)


def _finish_weights(model: PreTrainedModel, folder: str) -> None:
    """What `save_pretrained` leaves undone: the attention kernel, which its own configuration is read with but never
    written, and the mode of the weights, which only the owner could read whatever the umask."""
    path = Path(folder, "config.json")
    if kernel_of(model) == "eager":  # others are chosen anew, by the machine
        _write(path, json.loads(path.read_text()) | {"attn_implementation": "eager"})
    for weights in Path(folder).glob("*.safetensors"):
        weights.chmod(path.stat().st_mode)


def read_info(folder: str) -> ModelInfo:
    """What the folder of a trained model says of itself. UserError where it says nothing, or what is not known here."""
    path = Path(folder, INFO)
    if not path.exists():
        raise UserError(
            f"this is not a trained model: it has no {INFO}", where=folder, fix="give a folder that training wrote"
        )
    try:
        return ModelInfo.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        what = " ".join([INFO, *map(str, first["loc"]), first["msg"]])
        raise UserError(f"this trained model cannot be read: {what}", where=folder, fix=_FIX_TRAINED) from None


def load_model(folder: str) -> tuple[Encoder, Any, ModelInfo]:
    """(encoder, tokenizer, info) of a folder written by `save_model`; fp32, in evaluation mode, by the attention kernel
    that config.json names, or the fastest that the architecture has. UserError where it is none, or is damaged."""
    info = read_info(folder)
    try:
        backbone = AutoModel.from_pretrained(folder, dtype=torch.float32)
    except (ImportError, OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise UserError(
            f"this trained model cannot be read: {first_line(error)}", where=folder, fix=_FIX_TRAINED
        ) from error
    encoder = Encoder(backbone, Delimiters.from_dict(info.delimiters))
    return encoder.eval(), load_tokenizer(folder), info


def weights_identity(init: str) -> str:
    """What the weights at `init` are: the digest of a published folder's manifest, a hash over the files of any other
    folder, and for a hub id the id itself, which names a commit once it is `pinned`."""
    folder = Path(init)
    if not folder.is_dir():
        return init
    if (folder / MANIFEST).exists():
        return read_manifest(init).digest
    digest = xxhash.xxh3_128()
    for name in sorted(path for path in folder.iterdir() if path.is_file()):
        digest.update(f"{name.name}\0{name.stat().st_size}\0".encode())
        with name.open("rb") as source:
            hashlib.file_digest(source, lambda: digest)
    return digest.hexdigest()


def absolute(init: str) -> str:
    """`init` for a process with another working directory, as Ray's are: a folder's whole path, a hub id as it is."""
    return os.path.abspath(init) if os.path.isdir(init) else init


def pinned(model: ModelOptions) -> ModelOptions:
    """`model` whose `init` is the same weights for ever and for every process: "new", a folder's whole path, or a hub id
    with the commit that its revision is now, as `owner/name@commit`. UserError where there is no such revision,
    or two are named."""
    if model.init == "new" or os.path.isdir(model.init):
        if model.revision is not None:
            raise UserError(
                f"only a hub id has revisions, and this is {'new' if model.init == 'new' else 'a folder'}",
                where="model.revision",
                fix="leave it out, or give a hub id",
            )
        return model if model.init == "new" else model.model_copy(update={"init": absolute(model.init)})
    name, _, given = model.init.partition("@")
    if given and model.revision not in (None, given):
        raise UserError(
            f"init names the revision {given}, and revision {model.revision}",
            where="model.revision",
            fix="leave one of them out",
        )
    revision = model.revision or given or "main"
    if not COMMIT.fullmatch(revision):
        try:
            revision = commit_of(name, revision)
        except (OSError, ValueError) as error:
            raise UserError(
                f"no weights can be read: {first_line(error)}", where=f"{name}@{revision}", fix=_FIX_INIT
            ) from error
    return model.model_copy(update={"init": f"{name}@{revision}", "revision": None})


def existing(place: str) -> ModelOptions:
    """Options that name the weights in a folder, be it called "new", or at a hub id with the commit that it is now."""
    return pinned(ModelOptions(init=absolute(place)))


def _place(init: str) -> dict[str, str]:
    """How `from_pretrained` is told of a folder, of a hub id, or of a hub id with its revision."""
    name, _, revision = (init, "", "") if os.path.isdir(init) else init.partition("@")
    return {"pretrained_model_name_or_path": name} | ({"revision": revision} if revision else {})


COMMIT = re.compile(r"[0-9a-f]{40}")
_FIX_INIT = "give a hub id, a folder written by save_pretrained, or init=new"
_FIX_TRAINED = "fetch it anew, read it with the version of cpt-ray that made it, or train it again"


def _pretrained(kind: Any, options: ModelOptions) -> PreTrainedModel:
    config = _configuration_at(options.init)
    for part in {id(part): part for part in (config, text_config(config))}.values():
        _set_dropout(part, options.dropout)
    try:
        model = kind.from_pretrained(
            **_place(options.init), config=config, dtype=torch.float32, trust_remote_code=False, **_kernel(options)
        )
    except (ImportError, OSError, RuntimeError, SafetensorError, ValueError) as error:
        raise _not_read(options, error) from error
    for name, weight in model.named_parameters():
        if not torch.isfinite(weight).all():
            raise UserError(f"the initial weights hold NaN or infinity in {name}", where=options.init, fix=_FIX_INIT)
    return model


def _kernel(options: ModelOptions) -> dict[str, str]:
    """Without a word transformers takes what config.json names, or sdpa where the architecture has it, or eager."""
    return {} if options.attention == "auto" else {"attn_implementation": options.attention}


def _not_read(options: ModelOptions, error: Exception) -> UserError:
    """What an error of transformers means: the attention kernel is not to be had, or the weights are not."""
    if says_no_kernel(error):
        return UserError(
            f"attention={options.attention} is not to be had: {first_line(error)}",
            where="model.attention",
            fix="use eager" if options.attention == "sdpa" else "use auto",
        )
    if isinstance(error, ImportError):
        return UserError(
            f"a package is missing that these weights need: {first_line(error)}",
            where=options.init,
            fix="install it, or give other weights",
        )
    return UserError(f"no weights can be read: {first_line(error)}", where=options.init, fix=_FIX_INIT)


def _set_dropout(config: Any, rate: float) -> None:
    """Dropout goes by a dozen names; those with a number are set, those that the configuration lacks stay away."""
    for name, value in list(config.to_dict().items()):
        if (
            ("dropout" in name or name.endswith("_pdrop"))
            and isinstance(value, int | float)
            and not isinstance(value, bool)
        ):
            setattr(config, name, rate)


def _padded(tokenizer: Any) -> Any:
    """The tokenizer, or a copy of it that has a token to pad with.

    That token must be a special one: a token of the vocabulary would be cut out of every text that holds it, before its
    merges. Which one does not matter, since what stands in the padding is never looked at.
    """
    if tokenizer.pad_token_id is not None:
        return tokenizer
    padded = copy.deepcopy(tokenizer)
    special = [token for token in (padded.eos_token, *padded.all_special_tokens) if token is not None]
    padded.add_special_tokens({"pad_token": special[0] if special else PAD})
    return padded


@contextmanager
def _room_for(backbone: PreTrainedModel, state: dict[str, Tensor], tokens: int) -> Iterator[dict[str, Tensor]]:
    """`state` with a row of zeros in the token embeddings for each of the `tokens` beyond them; the configuration says
    so within the block."""
    # The sizes are those of `state`: under ZeRO-3 the backbone's own weights are empty here.
    embeddings = backbone.get_input_embeddings().weight  # type: ignore[union-attr]
    name = next(name for name, weight in backbone.named_parameters() if weight is embeddings)
    config = text_config(backbone.config)
    before, missing = config.vocab_size, tokens - len(state[name])
    if missing > 0:
        rows = state[name].new_zeros(missing, state[name].shape[1])
        state = {**state, name: torch.cat([state[name], rows])}
        config.vocab_size = tokens
    try:
        yield state
    finally:
        config.vocab_size = before


def _write_sentence_transformer(folder: str, tokenizer: Any, info: ModelInfo) -> None:
    """A Router with one Transformer per side. The sides differ in their tokenizer alone: its post-processor puts the
    delimiter ids around the ids after truncation, which no prompt string could do. The weights are hard links."""
    base = "sentence_transformers."
    routes: dict[str, tuple[Side, int]] = {"query": ("x", info.max_x_tokens), "document": ("y", info.max_y_tokens)}
    for route, (side, most) in routes.items():
        inner = Path(folder, f"{route}_0_Transformer")
        inner.mkdir(exist_ok=True)
        for weights in Path(folder).glob("*.safetensors*"):
            link(weights, inner / weights.name)
        shutil.copy(Path(folder, "config.json"), inner / "config.json")
        tokenizer.save_pretrained(inner)
        _delimit(inner / "tokenizer.json", info.delimiters[side])
        settings = json.loads((inner / "tokenizer_config.json").read_text())
        settings |= {"model_max_length": most + ADDED, "padding_side": "right", "truncation_side": "right"}
        # As in `tokenizer.encode`: a special token's name in a text is plain text.
        settings["split_special_tokens"] = True
        _write(inner / "tokenizer_config.json", settings)
        _write(
            inner / "sentence_bert_config.json",
            {
                "transformer_task": "feature-extraction",
                "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
                "module_output_name": "token_embeddings",
            },
        )
    _write(
        Path(folder, "router_config.json"),
        {
            "types": {f"{route}_0_Transformer": f"{base}base.modules.transformer.Transformer" for route in routes},
            "structure": {route: [f"{route}_0_Transformer"] for route in routes},
            "parameters": {"default_route": "document", "allow_empty_key": True, "route_mappings": {}},
        },
    )
    modules = [
        ("", "base.modules.router.Router", None),
        (
            "1_Pooling",
            "sentence_transformer.modules.pooling.Pooling",
            {"embedding_dimension": info.embedding_dimension, "pooling_mode": "lasttoken", "include_prompt": True},
        ),
        ("2_Normalize", "base.modules.normalize.Normalize", {}),
    ]
    for path, _kind, settings in modules:
        if settings is not None:
            Path(folder, path).mkdir(exist_ok=True)
            _write(Path(folder, path, "config.json"), settings)
    listed = [{"idx": i, "name": str(i), "path": p, "type": base + kind} for i, (p, kind, _) in enumerate(modules)]
    _write(Path(folder, "modules.json"), listed)
    _write(
        Path(folder, "config_sentence_transformers.json"),
        {
            "model_type": "SentenceTransformer",
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )


def _delimit(path: Path, ids: list[int]) -> None:
    """Replace the post-processor of a tokenizer.json by one that puts `ids` around a text."""
    content = json.loads(path.read_text())
    names = ["opening", "closing"]
    content["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [_special("opening"), {"Sequence": {"id": "A", "type_id": 0}}, _special("closing")],
        "pair": [
            _special("opening"),
            {"Sequence": {"id": "A", "type_id": 0}},
            {"Sequence": {"id": "B", "type_id": 0}},
            _special("closing"),
        ],
        "special_tokens": {
            name: {"id": name, "ids": [one], "tokens": [name]} for name, one in zip(names, ids, strict=True)
        },
    }
    path.write_text(json.dumps(content, ensure_ascii=False))


def _special(name: str) -> dict[str, Any]:
    return {"SpecialToken": {"id": name, "type_id": 0}}


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
