"""The same records in any order and any cut into files, to a folder or a bucket, are the same Parquet where it is content
that orders rows: clusters, pairs, batches and the language model's corpus."""

from __future__ import annotations

import io
import random
import uuid
from pathlib import Path

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from cpt_ray.artifacts import parts, read_manifest, run_flow
from cpt_ray.artifacts.places import locate
from cpt_ray.dedup import clean
from cpt_ray.pairs import batches_across, corpus, make
from cpt_ray.pairs.batches_across import make_batches
from cpt_ray.pairs.corpus import make_corpus
from cpt_ray.pairs.options import BatchOptions, CorpusOptions, SplitOptions
from cpt_ray.pairs.splits import TRAIN
from cpt_ray.pairs.tokens import listed
from pipelines import config, pretrain, text_pairs
from tests.pipelines.test_bucket import WORDS


def pages() -> list[tuple[str, str, str]]:
    """(url, time, html) of pages of five sites: each third is fetched twice, each fifth is nearly a copy of another."""
    found = []
    for i in range(30):
        chosen = random.Random(i - (i % 5 == 4))
        said = [chosen.sample(WORDS, 3) for _ in range(40)]
        text = " ".join(f"The {a} of the {b} was seen by the {c} on day {j}." for j, (a, b, c) in enumerate(said))
        rest = " ".join(f"Whoever saw the {a} had a {b} at home, and {c} too." for a, b, c in said)
        for day in range(1 + (i % 3 == 0)):
            html = f"<html><body><article><h1>Page {i}</h1><p>{text}</p><p>{rest} {day}</p></article></body></html>"
            found.append((f"https://site{i % 5}.example/page{i}", f"2026-11-0{day + 1}T00:00:00Z", html))
    return found


def write_archives(folder: Path, order: list[int], files: int) -> None:
    folder.mkdir()
    found = pages()
    for number in range(files):
        with (folder / f"{number}.warc.gz").open("wb") as sink:
            writer = WARCWriter(sink, gzip=True)
            for at in order[number::files]:
                uri, fetched, html = found[at]
                headers = StatusAndHeaders(
                    "200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.0"
                )
                record = writer.create_warc_record(
                    uri,
                    "response",
                    payload=io.BytesIO(html.encode()),
                    http_headers=headers,
                    warc_headers_dict={"WARC-Date": fetched},
                )
                writer.write_record(record)


def of_content(root: str, archive: Path) -> dict[str, list[bytes]]:
    """The bytes of every part of what content orders."""
    options = config.load(
        "text_pairs",
        text_pairs.PipelineOptions,
        [f"archive={archive}", f"cluster.outputs={root}", "output=text", "split.heldout_share=0.4"],
    )
    made = run_flow(text_pairs.flow(options.cluster.folder(options.output), options.archive, options))
    (pairs,) = (path for path in made if path.endswith("text_pairs"))
    assert made[pairs].rows > 20
    sources = pretrain.corpus_sources(f"{root}/text", None)
    make_corpus(f"{root}/corpus", sources, split=SplitOptions(heldout_share=0.4), options=CorpusOptions(seed=3))
    size = BatchOptions(batch_size=4, steps=3, homogeneous=False)
    encode = listed(lambda texts: [list(text.encode()) for text in texts])
    make_batches(f"{root}/batches", pairs, encode, size, inputs={"pairs": read_manifest(pairs)}, split=TRAIN)
    paths = [f"{root}/{name}" for name in ("text/document_clusters", "text/text_pairs", "corpus", "batches")]
    found = {}
    for path in paths:
        fs = locate(path)[0]
        found[path.removeprefix(root)] = [fs.cat_file(locate(part)[1]) for part in parts(path)]
    return found


@pytest.mark.parametrize("tables", [True, False], ids=["tables", "exchanges"])
def test_neither_order_nor_cut_nor_place_shows(
    tmp_path: Path, s3: str, monkeypatch: pytest.MonkeyPatch, tables: bool
) -> None:
    """One file, three, and seven; in one order and in others."""
    if not tables:
        monkeypatch.setattr(clean, "ONE_TABLE", 5)
        monkeypatch.setattr(make, "ONE_TABLE", dict.fromkeys(make.ONE_TABLE, 5))
        monkeypatch.setattr(corpus, "ONE_TABLE", 5)
        monkeypatch.setattr(batches_across, "ONE_TABLE", 5)
    records = len(pages())
    found = []
    for number, files in enumerate((1, 3, 7)):
        order = list(range(records))
        random.Random(number).shuffle(order)
        write_archives(archive := tmp_path / f"archive-{number}", order, files)
        found.append(of_content(str(tmp_path / f"out-{number}"), archive))
    found.append(of_content(f"{s3}/{uuid.uuid4().hex}", tmp_path / "archive-1"))
    for name in found[0]:
        assert all(one[name] == found[0][name] for one in found), name
