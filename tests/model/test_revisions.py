"""A hub id is the commit that its revision is now: a local cache as the hub library lays it out stands for the hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from cpt_ray.errors import UserError
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.weights import new_language_model, pinned, save_language_model

OLD, NEW = "a" * 40, "b" * 40
ASKED = """
import sys
import torch
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.weights import load_backbone, load_language_model, load_tokenizer, pinned, weights_identity
from cpt_ray.errors import UserError

for init, revision in (("owner/name", None), ("owner/name", "v1"), ("owner/name@v1", None), ("owner/name", "%s")):
    model = pinned(ModelOptions(init=init, revision=revision))
    assert pinned(model) == model
    first = next(load_language_model(model, 300, 0).parameters())
    assert torch.equal(next(load_backbone(model, 300, 0).parameters()), first)
    load_tokenizer(model.init)
    print(weights_identity(model.init), float(first.sum()))
try:
    pinned(ModelOptions(init="owner/name", revision="v2"))
except UserError as error:
    print(error.where)
"""


def test_a_hub_id_is_known_by_its_commit(tmp_path: Path) -> None:
    """main and v1 are two commits with other weights: each is loaded, and known, as itself; a revision that is not there
    is named."""
    home = tmp_path / "models--owner--name"
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocab={"a": 0}, merges=[])))
    sums = {}
    for seed, (commit, name) in enumerate(((OLD, "v1"), (NEW, "main"))):
        model = new_language_model(ModelOptions(hidden_size=32, heads=2, layers=1), 300, seed=seed)
        save_language_model(model, tokenizer, str(home / "snapshots" / commit), model.state_dict())
        (home / "refs").mkdir(exist_ok=True)
        (home / "refs" / name).write_text(commit)
        sums[commit] = float(next(model.parameters()).detach().sum())
    there = {**os.environ, "HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    asked = subprocess.run([sys.executable, "-c", ASKED % OLD], env=there, capture_output=True, text=True, check=False)
    assert asked.returncode == 0, asked.stderr
    *lines, refused = asked.stdout.strip().splitlines()[-5:]
    found = [(identity, pytest.approx(float(total))) for identity, total in (line.split() for line in lines)]
    assert found == [(f"owner/name@{commit}", sums[commit]) for commit in (NEW, OLD, OLD, OLD)]
    assert refused == "owner/name@v2"


@pytest.mark.parametrize("init", ["new", "folder"])
def test_only_a_hub_id_has_revisions(tmp_path: Path, init: Any) -> None:
    given = str(tmp_path) if init == "folder" else init
    assert pinned(ModelOptions(init=given)).init == given
    with pytest.raises(UserError) as caught:
        pinned(ModelOptions(init=given, revision="v1"))
    assert caught.value.where == "model.revision"


def test_new_weights_are_new_whatever_lies_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that happens to be called "new" holds no weights of ours."""
    (tmp_path / "new").mkdir()
    monkeypatch.chdir(tmp_path)
    assert pinned(ModelOptions()).init == "new"


def test_two_revisions_of_one_hub_id_are_refused() -> None:
    """One would be ignored without a word; twice the same is no contradiction."""
    with pytest.raises(UserError, match=r"v1.*v2") as caught:
        pinned(ModelOptions(init="owner/name@v1", revision="v2"))
    assert caught.value.where == "model.revision"
    assert pinned(ModelOptions(init=f"owner/name@{OLD}", revision=OLD)).init == f"owner/name@{OLD}"
