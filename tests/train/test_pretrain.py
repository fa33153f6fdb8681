"""Language modelling: the loss's gradient, packing, and that it learns and resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from safetensors import safe_open
from torch.nn import functional as F
from transformers import AutoConfig, AutoModelForCausalLM

from cpt_ray.artifacts import Ledger, build, parts, read_manifest
from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.weights import load_language_model
from cpt_ray.pairs.batches import BatchReader
from cpt_ray.train import packing
from cpt_ray.train.options import PackOptions, PretrainOptions
from cpt_ray.train.packing import build_windows, in_order, pack
from cpt_ray.train.pretrain import TokenLoss, _windows, check_head, check_logits, pretrain

SMALL = ModelOptions(hidden_size=32, layers=2, heads=2, feedforward=64, context=64)


def encode(texts: list[str]) -> list[list[int]]:
    return [list(text.encode()) for text in texts]


def texts(count: int = 200) -> pa.Table:
    return pa.table({"id": [f"{i:03d}" for i in range(count)], "text": [f"text number {i}" for i in range(count)]})


def test_token_loss_equals_cross_entropy() -> None:
    """Value and both gradients, over several tiles, in float64; scaled by what comes from above."""
    torch.manual_seed(0)
    hidden = torch.randn(700, 16, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(50, 16, dtype=torch.float64, requires_grad=True)
    right = torch.randint(0, 50, (700,))
    loss = TokenLoss.apply(hidden, weight, right, torch.float64)
    (loss * 3).backward()
    got = hidden.grad.clone(), weight.grad.clone()
    hidden.grad = weight.grad = None
    expected = F.cross_entropy(hidden @ weight.T, right)
    (expected * 3).backward()
    assert torch.allclose(loss, expected, atol=1e-12)
    assert torch.allclose(got[0], hidden.grad, atol=1e-14)
    assert torch.allclose(got[1], weight.grad, atol=1e-13)


def packed(folder: Path, texts: pa.Table, encode: Any, options: PackOptions) -> tuple[list[pa.Table], Ledger]:
    ordered = [in_order(texts, options.seed)]
    tables, ledger = pack(ordered, texts.num_rows, encode, 256, options, str(folder / "tokens"))
    return list(tables), ledger


def test_packing_loses_no_token_and_does_not_depend_on_order(tmp_path: Path) -> None:
    """Windows are the texts, each followed by the end token, in one stream without gaps; shuffled input gives the same."""
    options = PackOptions(context=16, batch_size=4)
    tables, ledger = packed(tmp_path, texts(), encode, options)
    table = pa.concat_tables(tables)
    ledger.check("test")
    windows = table["ids"].to_pylist()
    assert {len(window) for window in windows} == {16}
    written = [token for ids in encode(texts()["text"].to_pylist()) for token in [*ids, 256]]
    assert len(windows) == len(written) // 16 // 4 * 4
    counts = np.bincount(np.concatenate(windows), minlength=257)
    assert (np.bincount(written, minlength=257) - counts).clip(max=0).sum() == 0
    shuffled = texts().take(np.random.default_rng(0).permutation(200))
    assert pa.concat_tables(packed(tmp_path, shuffled, encode, options)[0]).equals(table)


@pytest.mark.parametrize("steps", [None, 7])
def test_texts_that_go_through_an_exchange_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, steps: int | None
) -> None:
    """However they are cut into files: the windows and the ledger are those of one table, and nothing is left of the way."""
    options, table = PackOptions(context=16, batch_size=4, steps=steps, seed=3), texts(2000)
    published = []
    for name, rows, one_table in (("one", 2000, 10**6), ("some", 700, 300), ("many", 90, 1999)):
        monkeypatch.setattr(packing, "ONE_TABLE", one_table)
        corpus, out = str(tmp_path / f"{name}-corpus"), str(tmp_path / name)
        with build(corpus, step="corpus", version=1, params={}) as work:
            work.write_parts(table, rows)
            work.publish(Ledger.of("texts", read=2000, kept=2000), rows=2000, schema=table.schema)
        made = build_windows(out, corpus, encode, 256, options, {"corpus": read_manifest(corpus)})
        published.append(([Path(part).read_bytes() for part in parts(out)], made.ledger, made.extra))
        assert not Path(f"{out}.phases").exists()
    assert published[0] == published[1] == published[2]


def test_packing_reads_only_what_the_steps_need(tmp_path: Path) -> None:
    options = PackOptions(context=16, batch_size=4, steps=3)
    seen = []

    def counted(batch: list[str]) -> list[list[int]]:
        seen.append(len(batch))
        return encode(batch)

    tables, ledger = packed(tmp_path, texts(5000), counted, options)
    assert len(tables) == 3
    assert sum(seen) < 1000
    assert ledger.check("test").units["texts"].dropped["not_reached"] == 5000 - sum(seen)
    with pytest.raises(UserError, match="fill"):
        packed(tmp_path, texts(2), encode, PackOptions(context=64, batch_size=4))


def test_pretraining_learns_resumes_and_writes_a_standard_folder(corpus: Any, tokenizer: str, tmp_path: Path) -> None:
    """Loss falls; a run killed after step 7 gives the same metrics; transformers reads the folder."""
    options = PretrainOptions(
        workers=0, engine="reference", precision="fp32", learning_rate=1e-2, checkpoint_every=5, micro_batch_tokens=64
    )

    def at(name: str) -> dict[str, str]:
        given = {"windows": corpus["windows"], "heldout": corpus["windows"], "tokenizer": tokenizer}
        return given | {"out": str(tmp_path / name / "out"), "scratch": str(tmp_path / name / "scratch")}

    whole = pretrain(options, SMALL, **at("whole"))
    assert whole.metrics[-1]["heldout_loss"] < whole.metrics[0]["heldout_loss"] - 1

    def stop(step: int, metrics: dict[str, float]) -> None:
        if step == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pretrain(options, SMALL, **at("killed"), on_metrics=stop)
    resumed = pretrain(options, SMALL, **at("killed"))
    assert [row["loss"] for row in resumed.metrics[1:]] == [row["loss"] for row in whole.metrics[1:]]
    model = AutoModelForCausalLM.from_pretrained(resumed.model, dtype=torch.float32)
    ids = torch.tensor([list(b"abcde is abcde.")])
    assert float(model(ids, labels=ids).loss) < 4.5


@pytest.mark.parametrize(
    ("changes", "key"),
    [({"workers": 3}, "windows.batch_size"), ({"micro_batch_tokens": 16}, "pretrain.micro_batch_tokens")],
)
def test_impossible_options_are_refused(corpus: Any, tokenizer: str, places: Any, changes: Any, key: str) -> None:
    with pytest.raises(UserError) as caught:
        pretrain(PretrainOptions(**changes), SMALL, windows=corpus["windows"], tokenizer=tokenizer, **places)
    assert caught.value.where == key


HEADS = {
    "gpt2": {},
    "llama": {},
    "codegen": {"rotary_dim": 4},
    "granite": {"logits_scaling": 4.0},
    "cohere": {"logit_scale": 0.25},
    "gemma2": {"final_logit_softcapping": 30.0},
}


@pytest.mark.parametrize("kind", HEADS)
def test_logits_that_are_not_the_heads_alone_are_refused(kind: str) -> None:
    """By the configuration, which names its key, and by the model itself; the loss would silently be another."""
    sizes = {"vocab_size": 97, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    config = AutoConfig.for_model(kind, **sizes, **HEADS[kind], pad_token_id=None)
    model = AutoModelForCausalLM.from_config(config).eval()
    if kind in ("gpt2", "llama", "codegen"):
        check_logits(config, "here")
        check_head(model, "here")
        return
    (key,) = HEADS[kind]
    with pytest.raises(UserError, match=key):
        check_logits(config, "here")
    if kind != "gemma2":  # so small a model has logits that are far from the cap
        with pytest.raises(UserError, match="head"):
            check_head(model, "here")


def test_pretraining_looks_at_the_configuration_first(corpus: Any, tokenizer: str, places: Any, tmp_path: Path) -> None:
    sizes = {"vocab_size": 257, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    AutoConfig.for_model("granite", **sizes, logits_scaling=4.0).save_pretrained(tmp_path)
    model = ModelOptions(init=str(tmp_path))
    with pytest.raises(UserError, match="logits_scaling") as caught:
        pretrain(PretrainOptions(workers=0), model, windows=corpus["windows"], tokenizer=tokenizer, **places)
    assert caught.value.where == str(tmp_path)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize("stage", [None, 0, 1, 2, 3])
def test_tied_weights_are_written_once_under_every_engine(
    corpus: Any, tokenizer: str, places: Any, architecture: Any, stage: Any
) -> None:
    """Embedding and head are one weight: not empty under ZeRO-3, not stored twice elsewhere. transformers and the next
    pretraining read what was trained: the held-out loss is the one that was logged."""
    options = PretrainOptions(
        workers=0,
        engine="reference" if stage is None else "deepspeed",
        zero_stage=stage or 0,
        precision="fp32",
        steps=2,
        micro_batch_tokens=256,
    )
    small = SMALL.model_copy(update={"architecture": architecture})
    given = {"windows": corpus["windows"], "heldout": corpus["windows"], "tokenizer": tokenizer}
    result = pretrain(options, small, **given, **places)
    with safe_open(Path(result.model, "model.safetensors"), "pt") as weights:
        sizes = [weights.get_slice(name).get_shape() for name in weights.keys()]  # noqa: SIM118 - it is no mapping
    assert sizes.count([257, 32]) == 1
    assert all(all(size) for size in sizes)
    windows = _windows(BatchReader(corpus["windows"])[0])
    for model in (
        AutoModelForCausalLM.from_pretrained(result.model, dtype=torch.float32),
        load_language_model(ModelOptions(init=result.model), 257, seed=0),
    ):
        with torch.no_grad():
            loss = model(windows, labels=windows).loss
        assert float(loss) == pytest.approx(result.metrics[-1]["heldout_loss"], abs=1e-5)
