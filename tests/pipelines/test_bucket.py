"""The command in a bucket: the artifacts of a folder, byte for byte, from an archive that lies in a bucket too."""

from __future__ import annotations

import io
import random
import uuid
from pathlib import Path

import pytest
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from cpt_ray.artifacts import Manifest, parts, read_manifest, run_flow
from cpt_ray.artifacts.places import locate
from cpt_ray.pairs.batches_across import make_batches
from cpt_ray.pairs.corpus import make_corpus
from cpt_ray.pairs.options import BatchOptions, CorpusOptions, SplitOptions
from cpt_ray.pairs.tokens import listed
from pipelines import config, pretrain, reads, text_pairs

WORDS = [
    "rain",
    "river",
    "stone",
    "garden",
    "window",
    "letter",
    "music",
    "winter",
    "road",
    "bridge",
    "paper",
    "market",
    "ship",
    "cloud",
    "field",
]
LAYERS = ("documents", "clean_documents", "document_clusters", "text_pairs")


def write_archive(path: Path) -> None:
    """Twenty pages of four sites, some of them copies."""
    with path.open("wb") as sink:
        writer = WARCWriter(sink, gzip=True)
        for i in range(20):
            chosen = random.Random(i - (i % 5 == 4))
            said = [chosen.sample(WORDS, 3) for _ in range(40)]
            text = " ".join(f"The {a} of the {b} was seen by the {c} on day {j}." for j, (a, b, c) in enumerate(said))
            body = f"<html><body><article><h1>Page {i}</h1><p>{text}</p></article></body></html>".encode()
            headers = StatusAndHeaders("200 OK", [("Content-Type", "text/html; charset=utf-8")], protocol="HTTP/1.0")
            uri = f"https://site{i % 4}.example/page{i}"
            writer.write_record(
                writer.create_warc_record(uri, "response", payload=io.BytesIO(body), http_headers=headers)
            )


def here_only(options: text_pairs.PipelineOptions) -> dict[str, Manifest]:
    """Without Ray, shard by shard in this process."""
    return run_flow(text_pairs.flow(options.cluster.folder(options.output), options.archive, options))


@pytest.mark.parametrize("run", [here_only, pytest.param(text_pairs.run, marks=pytest.mark.slow)], ids=["here", "Ray"])
def test_text_pairs_in_a_bucket_are_those_of_a_folder(tmp_path, s3, run):
    """Every artifact of the path has the digest, and every part the bytes, that it has in a folder."""
    write_archive(tmp_path / "a.warc.gz")
    fs, target = locate(f"{s3}/archive/a.warc.gz")
    fs.pipe_file(target, (tmp_path / "a.warc.gz").read_bytes())
    made, bucket = {}, f"{s3}/out-{uuid.uuid4().hex}"
    for archive, outputs in ((str(tmp_path), str(tmp_path / "out")), (f"{s3}/archive", bucket)):
        overrides = [f"archive={archive}", f"cluster.outputs={outputs}", "output=text", "cluster.cpus=2"]
        options = config.load("text_pairs", text_pairs.PipelineOptions, overrides)
        made[outputs] = run(options)
    here, there = made.values()
    for name, one, two in zip(LAYERS, here, there, strict=True):
        assert one.endswith(name)
        assert two == f"{bucket}/text/{name}"
        assert read_manifest(two).digest == here[one].digest
        for local, remote in zip(parts(one), parts(two), strict=True):
            assert fs.cat_file(locate(remote)[1]) == Path(local).read_bytes()
    made_here, made_there = (f"{place}/text/text_pairs" for place in made)
    assert read_manifest(made_here).rows > 0
    reads.check("pairs", "pairs", made_there)
    for name, pairs in (("one", made_here), ("two", made_there)):
        inputs = {"pairs": read_manifest(pairs)}
        size = BatchOptions(batch_size=2, steps=2, homogeneous=False)
        encode = listed(lambda texts: [list(text.encode()) for text in texts])
        make_batches(str(tmp_path / name), pairs, encode, size, inputs=inputs, split="train")
    assert read_manifest(str(tmp_path / "one")).digest == read_manifest(str(tmp_path / "two")).digest
    for name, place in zip(("corpus", "corpus_of_bucket"), made, strict=True):
        reads.check("documents", "folder", f"{place}/text")
        sources = pretrain.corpus_sources(f"{place}/text", None)
        make_corpus(str(tmp_path / name), sources, split=SplitOptions(), options=CorpusOptions())
    assert read_manifest(str(tmp_path / "corpus")).rows > 0
    assert read_manifest(str(tmp_path / "corpus")).digest == read_manifest(str(tmp_path / "corpus_of_bucket")).digest
