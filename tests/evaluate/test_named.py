"""Labelled data by name: fetched once from a hub, which here is one on loopback, and read without it ever after."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs

import pytest

mteb = pytest.importorskip("mteb", reason="mteb is an extra: pip install 'cpt-ray[mteb]'")

from datasets import Dataset, DatasetDict  # noqa: E402

from cpt_ray.errors import UserError  # noqa: E402
from cpt_ray.evaluate.named import local, name_of  # noqa: E402
from cpt_ray.evaluate.tasks import digest  # noqa: E402
from cpt_ray.evaluate.tasks.beir import Beir  # noqa: E402
from cpt_ray.evaluate.tasks.classification import Classification  # noqa: E402
from cpt_ray.evaluate.tasks.paraphrase import Paraphrase  # noqa: E402
from cpt_ray.evaluate.tasks.similarity import Similarity  # noqa: E402

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where data by name is kept in this test."""
    monkeypatch.setattr("huggingface_hub.utils._cache_assets.HF_ASSETS_CACHE", str(tmp_path / "kept"))
    return tmp_path / "kept"


def _task(monkeypatch: pytest.MonkeyPatch, dataset: Any) -> list[str]:
    """What mteb is asked for, each a task with `dataset`."""
    asked: list[str] = []

    class Loaded:
        def load_data(self) -> None:
            self.dataset = dataset

    monkeypatch.setattr(mteb, "get_task", lambda name, **_: asked.append(name) or Loaded())
    return asked


def _search(subset: str) -> dict[str, Any]:
    corpus = [{"id": "d0", "title": "A", "text": "harbour\twall"}, {"id": "d1", "title": "", "text": "ship"}]
    queries = [{"id": "q0", "text": "wall"}]
    part = {
        "corpus": Dataset.from_list(corpus),
        "queries": Dataset.from_list(queries),
        "relevant_docs": {"q0": {"d0": 2}},
    }
    return {subset: {"test": part}}


def test_a_search_of_mteb_is_asked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the layout of BEIR; a subset by its name; a text keeps its tabs."""
    asked = _task(monkeypatch, _search("default"))
    task = Beir(folder="mteb:CosQA")
    assert task.title == "CosQA"
    assert task.items() == [("wall", "A harbour\twall")]
    assert task.fixed()["chance"]["ndcg_at_10"] > 0
    assert len(digest(task)) == 32
    assert asked == ["CosQA"]
    both = _search("python") | _search("go")
    _task(monkeypatch, both)
    with pytest.raises(UserError, match="subsets python, go") as caught:
        Beir(folder="mteb:CodeSearchNetRetrieval").texts()
    assert caught.value.where == "mteb:CodeSearchNetRetrieval"
    assert Beir(folder="mteb:CodeSearchNetRetrieval/go").texts() == ["A harbour\twall", "ship"]


def test_similarity_and_classes_of_mteb(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = {"score": [1.0, 4.5], "sentence1": ["a\tb", "c"], "sentence2": ["d", "e\nf"]}
    _task(monkeypatch, DatasetDict({"test": Dataset.from_dict(rows)}))
    task = Similarity(file="mteb:STS12")
    assert task.title == "STS12 test"
    assert task.items() == [("a b\nd", "1"), ("c\ne f", "4.5")]
    rows = {"text": ["one", "two"], "label": [0, 1]}
    _task(monkeypatch, DatasetDict({name: Dataset.from_dict(rows) for name in ("train", "test")}))
    assert Classification(folder="mteb:Banking").items() == [("one", "0"), ("two", "1")]


def test_the_library_datasets_from_a_folder(tmp_path: Path) -> None:
    """Splits become parts, a single one ten folds; columns by their usual names, others are said."""
    for name, rows in {
        "subj/train": [{"text": "one", "label": 1}],
        "split/train": [{"sentence": "one", "label": 1, "idx": 0}],
        "split/validation": [{"sentence": "two", "label": 0, "idx": 1}],
        "split/test": [{"sentence": "three", "label": 1, "idx": 2}],
        "pairs/train": [{"sentence1": "one", "sentence2": "two", "label": 1}],
        "pairs/test": [{"sentence1": "three", "sentence2": "four", "label": 0}],
        "odd/train": [{"question": "one", "label": 1}],
    }.items():
        path = tmp_path / f"{name}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [path.name for path in Classification(folder=f"datasets:{tmp_path}/subj").files()] == ["all.tsv"]
    task = Classification(folder=f"datasets:{tmp_path}/split")
    assert [path.name for path in task.files()] == ["train.tsv", "test.tsv", "dev.tsv"]
    assert (task.title, task.items()) == ("split", [("three", "1")])
    assert Paraphrase(folder=f"datasets:{tmp_path}/pairs").items() == [("three\nfour", "0")]
    with pytest.raises(UserError, match="no text or sentence"):
        Classification(folder=f"datasets:{tmp_path}/odd").files()
    with pytest.raises(UserError, match="use mteb"):
        Beir(folder=f"datasets:{tmp_path}/subj").files()


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("data/search/cosqa", "cosqa"),
        ("mteb:CosQA", "CosQA"),
        ("mteb:CodeSearchNetRetrieval/python", "CodeSearchNetRetrieval/python"),
        ("datasets:SetFit/subj@ab12", "subj"),
        ("datasets:nyu-mll/glue#mrpc", "glue#mrpc"),
    ],
)
def test_names_in_a_table(address: str, name: str) -> None:
    assert name_of(address) == name


SHA = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
configs:
- config_name: default
  data_files: [{split: test, path: data/test.jsonl}]
- config_name: corpus
  data_files: [{split: corpus, path: corpus.jsonl}]
- config_name: queries
  data_files: [{split: queries, path: queries.jsonl}]
---
"""
HELD = {
    "mteb/sts12-sts": {
        "data/test.jsonl": [{"score": 1.5, "sentence1": "a ship", "sentence2": "a boat"}],
    },
    "CoIR-Retrieval/cosqa": {
        "README.md": CARD,
        "corpus.jsonl": [{"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate(["def f(): pass", "x"])],
        "queries.jsonl": [{"_id": "q0", "text": "a function"}, {"_id": "q1", "text": "of another split"}],
        "data/test.jsonl": [{"query-id": "q0", "corpus-id": "d0", "score": 1}],
    },
    "SetFit/subj": {
        "train.jsonl": [{"text": "it rains", "label": 0}, {"text": "lovely", "label": 1}],
        "test.jsonl": [{"text": "dull", "label": 1}],
    },
}
ASK = """
from cpt_ray.evaluate.tasks.beir import Beir
from cpt_ray.evaluate.tasks.classification import Classification
from cpt_ray.evaluate.tasks.similarity import Similarity
for task in Similarity(file="mteb:STS12"), Beir(folder="mteb:CosQA"), Classification(folder="datasets:SetFit/subj"):
    print(task.title, task.items(), task.texts())
"""
SAID = """\
STS12 test [('a ship\\na boat', '1.5')] ['a ship', 'a boat']
CosQA [('a function', 'def f(): pass')] ['def f(): pass', 'x']
subj [('dull', '1')] ['it rains', 'lovely']
"""


class Hub(BaseHTTPRequestHandler):
    """What the clients of the hub ask of it: what a repository holds, and the files."""

    def do_GET(self) -> None:
        where = self.path.partition("?")[0].split("/")
        name = "/".join(where[3:5] if where[1] == "api" else where[2:4])
        files = {
            path: (text if isinstance(text, str) else "".join(json.dumps(row) + "\n" for row in text)).encode()
            for path, text in HELD.get(name, {}).items()
        }
        if not files:
            self._answer({"error": "none"}, status=404)
        elif where[1] == "api" and (len(where) == 5 or where[5] == "revision"):
            about = {"id": name, "sha": SHA, "private": False, "gated": False, "disabled": False, "tags": []}
            self._answer({**about, "downloads": 0, "likes": 0, "siblings": [{"rfilename": path} for path in files]})
        elif where[1] == "api":
            folders = {str(above) for path in files for above in PurePosixPath(path).parents} - {"."}
            rows: dict[str, Any] = {path: {"type": "directory", "path": path, "oid": "0"} for path in sorted(folders)}
            for path, text in files.items():
                rows[path] = {"type": "file", "path": path, "size": len(text), "oid": "1"}
            if where[5] == "paths-info":
                asked = self.rfile.read(int(self.headers["Content-Length"])).decode()
                self._answer([rows[path] for path in parse_qs(asked)["paths"] if path in rows])
            else:
                below, deep = "/".join(where[7:]) or ".", "recursive=true" in self.path.lower()
                inside = [path for path in rows if below in map(str, PurePosixPath(path).parents)]
                self._answer([rows[path] for path in inside if deep or str(PurePosixPath(path).parent) == below])
        elif "/".join(where[6:]) in files:
            self._answer(files["/".join(where[6:])], ETag=f'"{zlib.crc32(files["/".join(where[6:])]):x}"')
        else:
            self._answer({"error": "none"}, status=404, **{"X-Error-Code": "EntryNotFound"})

    do_POST = do_HEAD = do_GET

    def _answer(self, what: Any, status: int = 200, **headers: str) -> None:
        body = what if isinstance(what, bytes) else json.dumps(what).encode()
        self.send_response(status)
        for name, value in {**headers, "X-Repo-Commit": SHA, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_hub_is_asked_once_and_never_again(hub: str, tmp_path: Path, kept: Path) -> None:
    """By the real mteb and datasets in a fresh process; then the same where there is no hub. Without both it is said how."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HOME": str(tmp_path), "HF_ASSETS_CACHE": str(kept)}
    environment = {name: value for name, value in environment.items() if "PROXY" not in name.upper()}
    asked = partial(subprocess.run, [sys.executable, "-c", ASK], capture_output=True, text=True, cwd=tmp_path)
    first = asked(env={**environment, "HF_ENDPOINT": hub})
    assert (first.returncode, first.stdout) == (0, SAID), first.stderr
    assert Beir(folder="mteb:CosQA").items() == [("a function", "def f(): pass")]
    assert Classification(folder="datasets:SetFit/subj").texts() == ["it rains", "lovely"]


def test_no_hub_and_nothing_kept_is_said(monkeypatch: pytest.MonkeyPatch, kept: Path) -> None:
    """And nothing half is kept."""

    class Nowhere:
        def load_data(self) -> None:
            raise ConnectionError("no route")

    monkeypatch.setattr(mteb, "get_task", lambda *_, **__: Nowhere())
    for _ in range(2):
        with pytest.raises(UserError, match="ConnectionError: no route") as caught:
            local("mteb:STS12", "similarity")
        assert caught.value.where == "mteb:STS12"
    assert not [path for path in kept.rglob("*") if path.is_file() or path.name.startswith("tmp")]
