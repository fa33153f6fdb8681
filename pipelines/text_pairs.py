"""The flow of `cpt-ray text-pairs`: archives become documents, clusters and pairs."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("text_pairs")  # ends here, before the imports below, which may take seconds

import os
import posixpath

from cpt_ray.artifacts import Manifest, Wanted, check_flow, fingerprint, read_manifest, run_flow
from cpt_ray.artifacts.places import locate
from cpt_ray.cluster import connect
from cpt_ray.dedup.clean import CLEAN, clean_documents
from cpt_ray.dedup.cluster import CLUSTER, deduplicate
from cpt_ray.errors import UserError
from cpt_ray.pairs.make import TEXT_PAIRS, make_text_pairs
from cpt_ray.web.archive import endings
from cpt_ray.web.extract import DOCUMENTS, EXTRACT
from cpt_ray.web.options import ExtractOptions

from .options.text_pairs import PipelineOptions, Steps
from .summary import print_artifacts


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Make the pairs and what lies before them; returns the manifests by path."""
    archive_files(options.archive)
    wanted = flow(options.cluster.folder(options.output), options.archive, options)
    with connect(options.cluster) as resources:
        check_flow(wanted, resources)
        made = run_flow(wanted)
    print_artifacts(made)
    return made


def flow(out: str, archive: str, steps: Steps) -> list[Wanted]:
    """`documents` (as extracted), `clean_documents`, `document_clusters` and `text_pairs` (of the clean ones) under
    `out`."""
    raw, clean, clusters, pairs = (
        posixpath.join(out, name) for name in ("documents", "clean_documents", "document_clusters", "text_pairs")
    )
    return [
        Wanted(raw, EXTRACT, lambda: extract(raw, archive, steps.extract)),
        Wanted(clean, CLEAN, lambda: clean_documents(clean, raw, options=steps.clean), (raw,), gives=DOCUMENTS),
        Wanted(
            clusters,
            CLUSTER,
            lambda: deduplicate(clusters, clean, id_column="doc_id", text_column="text", options=steps.dedup),
            (clean,),
            columns=("doc_id", "text", *steps.dedup.columns),
        ),
        Wanted(
            pairs,
            TEXT_PAIRS,
            lambda: make_text_pairs(
                pairs, documents=clean, clusters=clusters, neighbours=steps.neighbours, split=steps.split
            ),
            (clean, clusters),
        ),
    ]


def archive_files(archive: str) -> list[str]:
    """The archive's files by name in its file system, sorted; UserError when there are none."""
    fs, root = locate(archive)
    files = sorted(name for name in fs.find(root) if name.endswith(endings()))
    if not files:
        fix = "give a crawl artifact or a folder of archives"
        raise UserError("no WARC, WET or ARC files here", where=f"archive={archive}", fix=fix)
    return files


def extract(path: str, archive: str, options: ExtractOptions) -> Manifest:
    """The documents artifact of an archive, a part for each of its files."""
    fs, root = locate(archive)
    files = archive_files(archive)
    if fs.exists(posixpath.join(root, "manifest.json")):
        source = read_manifest(archive).digest
    else:  # somebody else's archives: their names and sizes stand for their content
        source = fingerprint([[posixpath.relpath(name, root), fs.size(name)] for name in files])
    return EXTRACT.map(
        path,
        params=options,
        inputs={"archive": source},
        shards=[{"warc": fs.unstrip_protocol(name) if "://" in archive else name} for name in files],
        options=options,
        extra={"archive": archive if "://" in archive else os.path.abspath(archive)},
    )
