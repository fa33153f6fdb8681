"""Kinds of index: a new one is one file, is chosen by `index.kind`, and is opened by what the manifest says."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import cpt_ray.serve.indexes
from cpt_ray.artifacts import run_flow
from cpt_ray.artifacts.manifest import File
from cpt_ray.errors import UserError
from cpt_ray.kinds import kinds, one_of
from cpt_ray.model.weights import weights_identity
from cpt_ray.options import Options
from cpt_ray.serve.index import read_index
from cpt_ray.serve.indexes.exact import Exact
from cpt_ray.serve.options import EmbedOptions
from cpt_ray.serve.search import search
from pipelines import config, embed
from pipelines.search import open_index
from tests.serve.serve_samples import functions

SIGNS = '''
"""A kind that a user has added."""
from __future__ import annotations
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from cpt_ray.serve.indexes import VECTORS, Index, Kind


@dataclass(frozen=True)
class SignsIndex(Index):
    signs: Any

    def search(self, queries, k):
        import numpy as np
        scores = (np.where(queries > 0, 1, -1)[:, : self.signs.shape[1]] @ self.signs.T).astype(np.float32)
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, rows, 1), rows


class Signs(Kind):
    """Only the signs of the first dimensions."""

    kind: Literal["signs"] = "signs"
    dimensions: int = 8

    def build(self, folder):
        import numpy as np
        vectors = np.load(Path(folder, VECTORS))
        np.save(Path(folder, "signs.npy"), np.where(vectors[:, : self.dimensions] > 0, 1, -1))
        Path(folder, VECTORS).unlink()

    def open(self, folder, rows, model):
        import numpy as np
        return SignsIndex(rows, model, np.load(Path(folder, "signs.npy")))
'''


def test_a_new_index_is_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, publish: Callable[..., str], model_folder: str
) -> None:
    """Typed and told apart by `kind`; built, published and searched as all others are; its options are its identity."""
    (tmp_path / "signs.py").write_text(SIGNS)
    monkeypatch.setattr(cpt_ray.serve.indexes, "__path__", [*cpt_ray.serve.indexes.__path__, str(tmp_path)])
    assert set(kinds("cpt_ray.serve.indexes")) == {"exact", "hnsw", "signs"}

    class Chosen(Options):
        index: one_of("cpt_ray.serve.indexes") = Exact()  # type: ignore[valid-type]

    assert config.validate(Chosen, {}).index == Exact()
    assert set(config.keys(Chosen)) == {"index"}
    kind = config.validate(Chosen, {"index": {"kind": "signs", "dimensions": 16}}).index
    source, out = publish("functions", functions(0, 12)), str(tmp_path / "out")
    made = run_flow(embed.flow(out, source, model_folder, EmbedOptions(), kind=kind))[f"{out}/index"]
    assert made.extra["index"] == {"kind": "signs", "dimensions": 16, "rows_per_part": 250_000}
    assert not Path(out, "index", "part-00000", "vectors.npy").exists()
    opened, embedder = open_index(out, None, model_folder, "cpu")
    assert type(opened).__name__ == "SignsIndex"
    assert opened.model == weights_identity(model_folder)
    first, *rest = search("a name", opened, embedder.embed, 5)
    assert len(rest) == 4
    assert first.score == float(int(first.score)) >= rest[0].score
    assert first.name.startswith("Class.name_")
    wider = kind.model_copy(update={"dimensions": 32})
    other = run_flow(embed.flow(out, source, model_folder, EmbedOptions(), kind=wider))[f"{out}/index"]
    assert other.identity != made.identity
    monkeypatch.undo()
    with pytest.raises(UserError, match=r"of a kind that is not here.*signs") as caught:
        read_index(f"{out}/index")
    assert "exact" in caught.value.fix


def test_an_index_of_an_earlier_version_is_refused(
    tmp_path: Path, publish: Callable[..., str], model_folder: str
) -> None:
    """Its files lie otherwise; and of one of today no file may be gone."""
    out = str(tmp_path / "out")
    made = run_flow(embed.flow(out, publish("functions", functions(0, 5)), model_folder, EmbedOptions()))[
        f"{out}/index"
    ]
    assert [file.path for file in made.files] == ["part-00000/rows.arrow", "part-00000/vectors.npy"]
    Path(out, "index", "part-00000", "rows.arrow").unlink()
    with pytest.raises(UserError, match="gone") as caught:
        read_index(f"{out}/index")
    assert "rows.arrow" in str(caught.value.where)
    before = made.model_copy(update={"files": [File(path="rows.parquet", size=1, digest="0")]})
    Path(out, "index", "manifest.json").write_text(before.model_dump_json())
    with pytest.raises(UserError, match="earlier version"):
        read_index(f"{out}/index")
