"""Every family of causal decoders that transformers knows, tiny: trained a step, published, opened in every way.

    python benchmarks/decoders.py [family ...]

prints what became of each. A family is trained contrastively on the reference engine, and its published folder opened by
`Embedder`, `AutoModel`, `SentenceTransformer` and MLflow's pyfunc entry, whose vectors must agree within 1e-5 and give the
held-out loss that training logged; it is pretrained as well, and the logged loss is asked of `AutoModelForCausalLM`. What
cannot be trained has to be refused with a UserError before the first step.
"""

from __future__ import annotations

import collections
import contextlib
import re
import sys
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from huggingface_hub.errors import StrictDataclassError
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import CONFIG_MAPPING, AutoModel, AutoModelForCausalLM, PreTrainedTokenizerFast
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from cpt_ray.compat.transformers import kernel_of
from cpt_ray.errors import UserError
from cpt_ray.model.embedder import Embedder
from cpt_ray.model.options import ModelOptions
from cpt_ray.pairs.batches import BatchReader, build_batches
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.tokens import listed
from cpt_ray.serve.pyfunc import _load_pyfunc
from cpt_ray.train.collectives import Workers
from cpt_ray.train.grad_cache import Pairs
from cpt_ray.train.loop import train_model
from cpt_ray.train.loss import Embedded
from cpt_ray.train.losses.infonce import InfoNCE
from cpt_ray.train.options import PackOptions, PretrainOptions, TrainOptions
from cpt_ray.train.packing import build_windows
from cpt_ray.train.pretrain import pretrain

FAMILIES = sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
AGREE = 1e-5
TEXTS = ["parse a date", "x", "def f(x):\n    return {1: [x]}", "longer than most " * 3]
LARGEST = 3_000_000
"""Parameters; a configuration that cannot be made smaller would only take time."""

MOST: dict[int, str] = {
    300: r"(.*_)?vocab_size(_per_layer_input)?|n_?vocab|vocabulary_size",
    32: r"hidden_size|d_model|n_embd|dim|model_dim|emb_dim|width|embed_dim|embedding_size|attention_hidden_size|hidden_dim"
    r"|dim_model|word_embed_proj_dim|projection_dim|decoder_hidden_size|inner_dim|lru_width|attention_dim|d_embed"
    r"|cross_attention_hidden_size|hidden_size_per_layer_input|moe_latent_size|image_size",
    2: r"num_hidden_layers|n_layers?|num_layers|(num_)?(en|de)coder_layers|depth|num_blocks|mtp_num_layers"
    r"|num_nextn_predict_layers|(.*_)?key_value_heads|(n|kv_n|num)_(kv_)?heads_kv|n_kv_heads|kv_n_heads|.*_kv_heads"
    r"|multi_query_group_num|num_experts_per_tok(en)?|moe_top_?k|moe_k|top_k_experts|experts_per_token",
    4: r"(.*_)?attention_heads|n_heads?|num_heads|num_query_heads|index_n_heads|linear_num_(value|key)_heads|rotary_dim"
    r"|rope_head_dim|(num|n_routed|num_local|moe_num|num_routed|n)_experts|mamba_dt_rank|time_step_rank",
    8: r"(.*_)?head_(dim|size)|mamba_(n|num)_heads|n_mamba_heads|mamba_d_head|mamba_headdim|(mamba_)?d_state|(ssm_|mamba_)?"
    r"state_size|d_kv|kv_channels|patch_size",
    16: r".*lora_rank|(.*_)?sliding_window|attention_window_size|(.*_)?window_size|(.*_)?chunk_size",
    64: r"(.*_)?intermediate_size|(.*_)?ffn_dim|n_inner|d_ff|dff|feed_forward_size|(feed_forward|ffn)_hidden_size|dim_ff"
    r"|feedforward_dim|inner_size|mamba_d_ssm|(original_)?max_position_embeddings|n_positions|max_seq_len|seq_length|n_ctx"
    r"|context_length|max_sequence_length",
    1: r"n_shared_experts|num_shared_experts|n_group|topk_group|num_expert_groups?|first_k_dense_replace"
    r"|moe_num_shared_experts",
}
"""The most that a tiny model has of what its configuration names so."""
OWN: dict[str, dict[str, Any]] = {
    "hunyuan_v1_dense": {"head_dim": 8},
    "hunyuan_v1_moe": {"head_dim": 8},
    "ministral": {"head_dim": 8},
    "nemotron": {"head_dim": 8, "num_key_value_heads": 2},
    "doge": {"keep_window_size": 64},
    "longcat_flash": {"qk_head_dim": 16, "expert_ffn_hidden_size": 32, "ffn_hidden_size": 64, "zero_expert_num": 2},
    "reformer": {"is_decoder": True, "axial_pos_embds": False},
    "recurrent_gemma": {"block_types": ["recurrent", "attention"]},
    "xlnet": {"d_head": 8},
    "mamba2": {"num_heads": 8, "head_dim": 8, "expand": 2},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"]},
    "xmod": {"default_language": "en_XX"},
    "bamba": {"attn_layer_indices": [1]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"]},
    "jamba": {"attn_layer_offset": 1, "attn_layer_period": 2, "expert_layer_offset": 1, "expert_layer_period": 2},
    "nemotron_h": {"layers_block_type": ["mamba", "attention"]},
}
"""What that alone does not get right, by family."""


def tiny(family: str) -> Any:
    """A small configuration of the family."""
    settings = _small(CONFIG_MAPPING[family]().to_dict())
    for key in ("model_type", "transformers_version", "architectures", "dtype"):
        settings.pop(key, None)
    return CONFIG_MAPPING[family](**settings | OWN.get(family, {}))


def _small(settings: dict[str, Any]) -> dict[str, Any]:
    small: dict[str, Any] = {}
    for key, value in settings.items():
        small[key] = value
        if isinstance(value, dict) and key not in ("id2label", "label2id", "rope_parameters"):
            small[key] = _small(value)
        elif key.endswith(("_token_id", "_token_index")):
            small[key] = [1] if isinstance(value, list) else 1 if isinstance(value, int) and value >= 0 else value
        elif isinstance(value, int) and not isinstance(value, bool) and value > 0:
            small[key] = min(value, next((most for most, names in MOST.items() if re.fullmatch(names, key)), value))
    depth = next((key for key in ("num_hidden_layers", "n_layer", "num_layers") if small.get(key)), None)
    layers, before = (small[depth], settings[depth]) if depth else (2, 0)
    for key, value in small.items():
        if isinstance(value, list) and len(value) > layers and ("layer" in key or len(value) == before):
            kinds = list(dict.fromkeys(value)) if all(isinstance(one, str) for one in value) else value
            small[key] = (kinds * layers)[:layers]
        elif key == "per_layer_config" and isinstance(value, dict):
            small[key] = {index: one for index, one in value.items() if not str(index).isdigit() or int(index) < layers}
    if "kv_lora_rank" in small and "num_key_value_heads" in small:  # latent attention: one key head for each of a query
        small["num_key_value_heads"] = small["num_attention_heads"]
    return small


@dataclass(frozen=True)
class Outcome:
    """What became of a family: `embedding` and `language` are "ok", or why not; `apart` is how far the vectors differ."""

    family: str
    embedding: str
    language: str = ""
    kernel: str = ""
    apart: float = 0.0


@dataclass(frozen=True)
class Corpus:
    """A tokenizer of bytes, pairs in batches, held-out pairs and windows."""

    tokenizer: str
    batches: str
    heldout: str
    windows: str

    @staticmethod
    def make(folder: Path) -> Corpus:
        alphabet = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|end|>"]
        backend = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(alphabet)}, merges=[]))
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        words = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|end|>", pad_token="<|end|>")
        found = Corpus(*(str(folder / name) for name in ("tokenizer", "batches", "heldout", "windows")))
        words.save_pretrained(found.tokenizer)
        number = pa.array(np.arange(24), pa.uint64())
        x = [f"{i} a word" for i in range(24)]
        y = [f"the word {i}" + " more" * (i % 4) for i in range(24)]
        ids = [f"{i:02d}" for i in range(24)]
        pairs = pa.table(
            {"pair_id": ids, "source": ["toy"] * 24, "x": x, "y": y}
            | {"x_hash": number, "y_hash": number, "cluster": number}
        )

        def encode(texts: list[str]) -> list[list[int]]:
            return [one.ids for one in backend.encode_batch(texts)]

        limits = {"max_x_tokens": 24, "max_y_tokens": 32, "steps": 1, "batch_size": 8}
        build_batches(found.batches, pairs.slice(0, 16), listed(encode), BatchOptions(**limits), {})
        build_batches(found.heldout, pairs.slice(16), listed(encode), BatchOptions(**limits), {})
        texts = pa.table({"id": ids, "text": [f"{a} is {b}" for a, b in zip(x, y, strict=True)]})
        build_windows(found.windows, texts, encode, 256, PackOptions(context=16, batch_size=8, steps=1), {})
        return found


def run(family: str, corpus: Corpus, folder: Path) -> Outcome:
    """Train, publish and open one family."""
    torch.manual_seed(0)
    try:
        config = tiny(family)
        with torch.device("meta"):
            size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
        if size > LARGEST:
            return Outcome(family, "not tried: no tiny model of it")
        model = AutoModelForCausalLM.from_config(config)
        with contextlib.suppress(AttributeError, TypeError, ValueError):  # ours to refuse
            model(input_ids=torch.arange(1, 5)[None])
    except (
        AttributeError,
        ImportError,
        IndexError,
        KeyError,
        RuntimeError,
        StrictDataclassError,
        TypeError,
        ValueError,
    ):
        return Outcome(family, "not tried: no tiny model of it")
    model.save_pretrained(folder / "init")
    PreTrainedTokenizerFast.from_pretrained(corpus.tokenizer).save_pretrained(folder / "init")
    init = ModelOptions(init=str(folder / "init"))
    try:
        kernel, apart = _embedding(init, corpus, folder)
        embedding = "ok" if apart <= AGREE else f"differs by {apart:.1e}"
    except UserError as error:
        kernel, apart, embedding = "", 0.0, f"refused: {error.what}"
    try:
        language = _language(init, corpus, folder)
    except UserError as error:
        language = f"refused: {error.what}"
    return Outcome(family, embedding, language, kernel, apart)


def _embedding(init: ModelOptions, corpus: Corpus, folder: Path) -> tuple[str, float]:
    """Attention kernel, and the largest difference between the ways to open the model, and from the logged loss."""
    from sentence_transformers import SentenceTransformer

    options = TrainOptions(workers=0, engine="reference", precision="fp32", chunk_tokens=128)
    places = {"out": str(folder / "model"), "scratch": str(folder / "scratch")}
    result = train_model(options, init, batches=corpus.batches, heldout=corpus.heldout, **places)
    embedder = Embedder(result.model, device="cpu")
    theirs = SentenceTransformer(result.model, device="cpu")
    plain = AutoModel.from_pretrained(result.model, dtype=torch.float32).eval()
    apart = 0.0
    for side, call in (("x", theirs.encode_query), ("y", theirs.encode_document)):
        ours = embedder.embed(TEXTS, side)  # type: ignore[arg-type]
        apart = max(apart, float(np.abs(ours - call(TEXTS)).max()))
        for text, vector in zip(TEXTS, ours, strict=True):
            row = embedder.tokenizer(text, add_special_tokens=False)["input_ids"][: embedder.limit(side)]  # type: ignore[arg-type]
            ids = torch.from_numpy(embedder.encoder.delimiters.wrap(row, side))[None]  # type: ignore[arg-type]
            with torch.no_grad():
                state = plain(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
            apart = max(apart, float(np.abs(torch.nn.functional.normalize(state, dim=0).numpy() - vector).max()))
    apart = max(
        apart, float(np.abs(np.asarray(_load_pyfunc(result.model).predict(TEXTS)) - embedder.embed(TEXTS, "x")).max())
    )
    pairs = Pairs.of(BatchReader(corpus.heldout)[0], embedder.encoder.delimiters)
    x, y = (torch.from_numpy(embedder.embed_ids(side)) for side in (pairs.x, pairs.y))
    tau = torch.tensor(-np.log(result.temperature), dtype=torch.float32)
    alone = Workers.alone()
    loss = float(InfoNCE()(Embedded(x, y, y[:0], tau, pairs.keys(alone.device), alone)).value)
    # The loss is of cosines over a temperature of 0.07, so it is held to ten times as much.
    apart = max(apart, abs(loss - result.metrics[-1]["heldout_loss"]) / 10)
    return kernel_of(embedder.encoder.backbone), apart


def _language(init: ModelOptions, corpus: Corpus, folder: Path) -> str:
    """ "ok" where transformers gives the pretrained model the loss that was logged, and we read it as first weights."""
    options = PretrainOptions(workers=0, engine="reference", precision="fp32", micro_batch_tokens=1024)
    places = {"out": str(folder / "language"), "scratch": str(folder / "scratch-language")}
    windows = {"windows": corpus.windows, "heldout": corpus.windows, "tokenizer": corpus.tokenizer}
    result = pretrain(options, init, **windows, **places)
    ids = torch.tensor(BatchReader(corpus.windows)[0]["ids"].to_pylist())
    model = AutoModelForCausalLM.from_pretrained(result.model, dtype=torch.float32).eval()
    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), ids[:, 1:].reshape(-1))
    apart = abs(float(loss) - result.metrics[-1]["heldout_loss"])
    return "ok" if apart <= 1e-4 else f"loss differs by {apart:.1e}"


def table(outcomes: list[Outcome]) -> str:
    """Markdown: the families by what became of them."""
    reasons: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for one in outcomes:
        plain = tuple(
            re.sub(r" \([^)]*\)|by key=.*", "", what).split(":")[:2] for what in (one.embedding, one.language)
        )
        reasons[":".join(plain[0]), ":".join(plain[1])].append(
            f"{one.family}*" if one.kernel == "eager" else one.family
        )
    rows = [
        f"| {len(names)} | {embedding} | {language} | {', '.join(names)} |"
        for (embedding, language), names in sorted(reasons.items(), key=lambda item: -len(item[1]))
    ]
    return "\n".join(
        ["| families | embedding | language model | which (*: eager attention) |", "|---|---|---|---|", *rows]
    )


def main(families: list[str]) -> list[Outcome]:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    outcomes = []
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Corpus.make(Path(scratch, "corpus"))
        for family in families or FAMILIES:
            try:
                one = run(family, corpus, Path(scratch, family))
            except Exception as error:  # noqa: BLE001 - this is what the table is to show
                what = (str(error).strip().splitlines() or [""])[0][:120]
                one = Outcome(family, f"FAILED: {type(error).__name__} {what}")
            print(f"{one.family:24} {one.kernel:6} {one.apart:.0e}  {one.embedding} | {one.language}", file=sys.stderr)
            outcomes.append(one)
    print(table(outcomes))
    return outcomes


if __name__ == "__main__":
    bad = [one for one in main(sys.argv[1:]) if not one.embedding.startswith(("ok", "refused", "not tried"))]
    sys.exit(f"{len(bad)} families failed" if bad else 0)
