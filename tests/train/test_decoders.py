"""Every decoder family of transformers: what is published opens everywhere with the figures it was trained with, and what
cannot be trained is refused before the first step. A dozen in the default run, all of them with -m slow."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.decoders import FAMILIES, Corpus, run

pytest.importorskip("sentence_transformers")
DOZEN = {
    *("bloom", "codegen", "deepseek_v3", "gemma2", "gemma3", "gpt_neox", "gptj", "mamba", "mixtral", "opt", "qwen3"),
    *("bert", "git", "phi3"),
}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    return Corpus.make(tmp_path_factory.mktemp("corpus"))


@pytest.mark.parametrize(
    "family", [pytest.param(one, marks=() if one in DOZEN else (pytest.mark.slow,)) for one in FAMILIES]
)
def test_a_family_works_or_is_refused(family: str, corpus: Corpus, tmp_path: Path) -> None:
    """By contrastive training and by pretraining; nothing but a UserError ends either, and only before the first step."""
    found = run(family, corpus, tmp_path)
    assert found.embedding.startswith(("ok", "refused", "not tried")), found
    assert found.language.startswith(("ok", "refused")) or found.embedding.startswith("not tried"), found
    for name, outcome in (("model", found.embedding), ("language", found.language)):
        if outcome.startswith("refused"):
            assert not (tmp_path / name / "model.safetensors").exists()
            assert '"step": 1' not in (_metrics(tmp_path / name / "metrics.jsonl"))
    if family in DOZEN - {"bert", "git"}:
        assert found.embedding == "ok"


def _metrics(path: Path) -> str:
    return path.read_text() if path.exists() else ""
