"""The steps of the data path for people who live in Python and Ray Data; the command line stands on the same functions.

Two kinds of steps, as everywhere (`artifacts/stage.py`, `artifacts/exchange.py`):

1. What looks at a row alone (`read_archives`, `extract`, `mine`) takes a `ray.data.Dataset` and gives one, lazily, so that
   `filter`, `map_batches` and the rest of Ray Data may stand between. Rows that are dropped are gone without a count.
2. What must know of all rows (`clean`, `deduplicate`, `pair_texts`, `pair_code`) takes an artifact, Parquet files, which
   are read where they are, or a Dataset, which is stored as an artifact first; it publishes an artifact at `to`, with its
   ledger, found again when it is asked for again.

`extract` and `mine` publish an artifact too, if they are given paths and `to`. `Artifact.dataset()` leads back to Ray Data.
Datasets need a Ray session; steps that publish run on one if there is one, else here. Paths may be in a bucket.
"""

from __future__ import annotations

import dataclasses
import json
import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pyarrow as pa

from cpt_ray.artifacts import Ledger, Manifest, Stage, fingerprint, parquet, parts, read_manifest, read_table
from cpt_ray.artifacts.adopted import adopt, is_artifact, unlike
from cpt_ray.artifacts.parquet import read_batches, shards_of
from cpt_ray.artifacts.places import locate, remove, write
from cpt_ray.code.functions import FUNCTIONS, Origin, Source
from cpt_ray.code.functions import mine as mine_sources
from cpt_ray.code.options import MineOptions
from cpt_ray.dedup.clean import clean_documents
from cpt_ray.dedup.cluster import deduplicate as cluster_documents
from cpt_ray.dedup.explain import check_clusters
from cpt_ray.dedup.options import CleanOptions, DedupOptions
from cpt_ray.errors import UserError
from cpt_ray.pairs.decontaminate import Evaluation
from cpt_ray.pairs.make import make_code_pairs, make_text_pairs
from cpt_ray.pairs.options import DocstringOptions, NeighbourOptions, SplitOptions
from cpt_ray.web.archive import read_archive
from cpt_ray.web.extract import DOCUMENTS, EXTRACT, judge
from cpt_ray.web.options import ExtractOptions, NetworkOptions
from cpt_ray.web.record import Record
from cpt_ray.web.remote import Remote, is_remote
from cpt_ray.web.sources import Sources, find_sources

if TYPE_CHECKING:
    from ray.data import Dataset

RECORDS = pa.schema(
    [
        ("file", pa.string()),
        ("offset", pa.int64()),
        ("kind", pa.string()),
        ("url", pa.string()),
        ("status", pa.int32()),
        ("headers", pa.string()),
        ("body", pa.binary()),
        ("fetched_at", pa.timestamp("us", tz="UTC")),
        ("reason", pa.string()),
    ]
)
"""A record of an archive (`web.record.Record`); `headers` is a JSON object, `reason` is null if the record is sound."""
FILES = pa.schema([("group", pa.string()), ("path", pa.string()), ("content", pa.binary())])
"""A source file, for `mine`: `group` is its repository or distribution. A column `licence` (SPDX) is used if it is there."""
STORE = Stage("rows", version=1)
RECORDS_PER_BATCH = 256
_NETWORK = NetworkOptions()


@dataclass(frozen=True)
class Artifact:
    """A published artifact by its path."""

    path: str

    def __post_init__(self) -> None:
        # Ray's workers have working directories of their own.
        object.__setattr__(self, "path", _absolute(self.path))

    @property
    def manifest(self) -> Manifest:
        """What it holds, how it was made, and its ledger. UserError where nothing is published."""
        return read_manifest(self.path)

    def table(self, columns: list[str] | None = None) -> pa.Table:
        """All rows, in memory."""
        return read_table(self.path, columns)

    def dataset(self, columns: Sequence[str] | None = None) -> Dataset:
        """The rows as a Dataset: a block for each row group."""
        return _over(shards_of(parts(self.path)), partial(_read, columns=columns))


def read_archives(
    archive: str, *, options: ExtractOptions | None = None, network: NetworkOptions | None = None
) -> Dataset:
    """The records of WARC, WET and ARC files, columns RECORDS: of a folder, a list of paths or a URL. UserError for none."""
    network, most = network or _NETWORK, (options or ExtractOptions()).max_html_bytes
    files = find_sources(_absolute(archive), "", Remote(network)).files
    return _over([{"warc": name} for name in files], partial(_records, max_bytes=most, network=network))


def extract(
    source: Dataset | str, *, to: str | None = None, options: ExtractOptions | None = None
) -> Dataset | Artifact:
    """Documents (columns DOCUMENTS) of records, or of the archives in the folder `source`, which then need `to`."""
    options = options or ExtractOptions()
    if not isinstance(source, str):
        return source.map_batches(partial(_documents, options=options), batch_format="pyarrow", batch_size=None)
    if to is None:
        raise UserError("archives are extracted to an artifact", where="extract", fix="name a path: to=")
    made = Artifact(to)
    extract_archives(made.path, _absolute(source), options)
    return made


def mine(files: Dataset, *, options: MineOptions | None = None) -> Dataset:
    """Documented functions (columns FUNCTIONS) of source files (columns FILES)."""
    run = partial(_functions, options=options or MineOptions())
    return files.map_batches(run, batch_format="pyarrow", batch_size=None)


def clean(documents: Dataset | Artifact | str, *, to: str, options: CleanOptions | None = None) -> Artifact:
    """Documents without older captures of their URL and without the paragraphs that a host repeats."""
    made = Artifact(to)
    clean_documents(made.path, _artifact(documents, made, DOCUMENTS), options=options)
    return made


def deduplicate(
    rows: Dataset | Artifact | str,
    *,
    to: str,
    id_column: str = "doc_id",
    text_column: str = "text",
    options: DedupOptions | None = None,
) -> Artifact:
    """The duplicate clusters of texts, by id: `cluster_id`, `kept`, and what a removed one matches."""
    made = Artifact(to)
    source = _artifact(rows, made, _columns(pa.null(), id_column, text_column))
    cluster_documents(made.path, source, id_column=id_column, text_column=text_column, options=options)
    return made


def pair_texts(
    documents: Dataset | Artifact | str,
    clusters: Artifact | str,
    *,
    to: str,
    neighbours: NeighbourOptions | None = None,
    split: SplitOptions | None = None,
) -> Artifact:
    """Neighbouring pieces of the kept documents as pairs (columns PAIRS), each of a side of the split."""
    made = Artifact(to)
    make_text_pairs(
        made.path,
        documents=_artifact(documents, made, _columns(pa.string(), "doc_id", "group", "text")),
        clusters=_clusters(clusters),
        neighbours=neighbours or NeighbourOptions(),
        split=split or SplitOptions(),
    )
    return made


def pair_code(
    functions: Dataset | Artifact | str,
    clusters: Artifact | str,
    *,
    to: str,
    docstrings: DocstringOptions | None = None,
    split: SplitOptions | None = None,
    evaluation: Evaluation | None = None,
) -> Artifact:
    """(docstring, code) of the kept functions as pairs (columns PAIRS), without those of `evaluation`."""
    made = Artifact(to)
    make_code_pairs(
        made.path,
        functions=_artifact(functions, made, FUNCTIONS),
        clusters=_clusters(clusters),
        docstrings=docstrings or DocstringOptions(),
        split=split or SplitOptions(),
        evaluation=evaluation,
    )
    return made


def store(rows: Dataset, *, to: str) -> Artifact:
    """The rows of a Dataset as an artifact: a part for each block, in the order of their content, so that the same blocks
    are the same artifact in whichever order they came."""
    made = Artifact(to)
    beside = made.path.rstrip("/") + ".blocks"
    told = rows.map_batches(partial(_write_block, folder=beside), batch_format="pyarrow", batch_size=None)
    blocks = sorted((row["path"], row["columns"]) for row in told.iter_rows() if row["rows"])
    if not blocks:
        raise UserError("the Dataset has no rows", where=to, fix="look at what stands before it")
    schema = parquet.read_schema(blocks[0][0])
    if others := [path for path, columns in blocks if columns != blocks[0][1]]:
        raise UserError(
            f"blocks of different columns: {unlike(schema, parquet.read_schema(others[0]))}",
            where=to,
            fix="give all the same types; a column of nothing but None has the type null",
        )
    content = fingerprint([posixpath.basename(path) for path, _ in blocks])
    dataclasses.replace(STORE, gives=schema, run=_read_block).map(
        made.path, shards=[{"path": path} for path, _ in blocks], params={}, inputs={"content": content}
    )
    remove(*locate(beside))
    return made


def extract_archives(
    path: str,
    archive: str,
    options: ExtractOptions,
    network: NetworkOptions = _NETWORK,
    sources: Sources | None = None,
) -> Manifest:
    """Publish the documents of an archive at `path`, a part for each of its files."""
    files = (sources or find_sources(archive, "", Remote(network))).files
    return EXTRACT.map(
        path,
        params=options,
        inputs={"archive": _identity(archive, files)},
        shards=[{"warc": name} for name in files],
        options=options,
        network=network,
        extra={"archive": _absolute(archive)},
    )


def _identity(archive: str, files: Sequence[str]) -> str:
    """The digest of a crawl artifact; of somebody else's archives names and sizes stand for their content, and on a web
    server, where files of one name do not change, names alone."""
    if is_remote(files[0]):
        return fingerprint([urlsplit(name).path for name in files])
    fs, root = locate(archive)
    if fs.exists(posixpath.join(root, "manifest.json")):
        return read_manifest(archive).digest
    names = [locate(name)[1] for name in files]
    return fingerprint([[posixpath.relpath(name, root), fs.size(name)] for name in names])


def _over(shards: Sequence[Mapping[str, Any]], run: Any) -> Dataset:
    """A Dataset of the tables that `run` gives for each shard."""
    import ray.data

    items = [{"shard": json.dumps(shard)} for shard in shards]
    dataset = ray.data.from_items(items, override_num_blocks=max(len(items), 1))
    return dataset.map_batches(run, batch_format="pyarrow", batch_size=1)


def _read(batch: pa.Table, *, columns: Sequence[str] | None) -> Iterator[pa.Table]:
    for shard in batch["shard"].to_pylist():
        yield from read_batches(json.loads(shard), columns)


def _records(batch: pa.Table, *, max_bytes: int, network: NetworkOptions) -> Iterator[pa.Table]:
    for shard in batch["shard"].to_pylist():
        rows: list[dict[str, Any]] = []
        for record in read_archive(json.loads(shard)["warc"], max_bytes=max_bytes, remote=Remote(network)):
            rows.append({**dataclasses.asdict(record), "headers": json.dumps(dict(record.headers))})
            if len(rows) == RECORDS_PER_BATCH:
                yield pa.Table.from_pylist(rows, schema=RECORDS)
                rows = []
        yield pa.Table.from_pylist(rows, schema=RECORDS)


def _documents(batch: pa.Table, *, options: ExtractOptions) -> pa.Table:
    _must_have(batch, RECORDS, "extract")
    records = (
        Record(**{**row, "headers": json.loads(row["headers"])}) for row in batch.select(RECORDS.names).to_pylist()
    )
    rows = (judge(record, options).row for record in records)
    return pa.Table.from_pylist([row for row in rows if row is not None], schema=DOCUMENTS)


def _functions(batch: pa.Table, *, options: MineOptions) -> pa.Table:
    _must_have(batch, FILES, "mine")
    of: dict[tuple[str, str], list[Source]] = {}
    licences = batch["licence"].to_pylist() if "licence" in batch.column_names else [""] * batch.num_rows
    for group, path, content, licence in zip(*(batch[name].to_pylist() for name in FILES.names), licences, strict=True):
        of.setdefault((group, licence or ""), []).append(Source(path, content))
    tables = [mine_sources(files, Origin(group, "", licence), options)[0] for (group, licence), files in of.items()]
    return pa.concat_tables([FUNCTIONS.empty_table(), *tables])


def _must_have(batch: pa.Table, schema: pa.Schema, step: str) -> None:
    if missing := [name for name in schema.names if name not in batch.column_names]:
        there = ", ".join(batch.column_names)
        raise UserError(f"{step} reads the column {missing[0]!r}, which is not there", where=step, fix=f"of: {there}")


def _write_block(batch: pa.Table, *, folder: str) -> pa.Table:
    """The block as a file that has its content's name."""
    columns, content = str(batch.schema.remove_metadata()), parquet.encoded(batch)
    path = posixpath.join(folder, f"{parquet.digest_of(content)}.parquet")
    if batch.num_rows:
        fs, target = locate(path)
        fs.makedirs(posixpath.dirname(target), exist_ok=True)
        write(fs, target, content)
    return pa.table({"path": [path], "rows": [batch.num_rows], "columns": [columns]})


def _read_block(shard: Mapping[str, Any]) -> tuple[pa.Table, Ledger]:
    table = parquet.read_table(shard["path"])
    return table, Ledger.of("rows", read=len(table), kept=len(table))


def as_artifact(rows: Dataset | Artifact | str, to: Artifact) -> str:
    """The path of an artifact of these rows, of which that at `to` is to be made: of a Dataset, or of Parquet files, one
    beside it."""
    beside = to.path.rstrip("/") + ".rows"
    if not isinstance(rows, str | Artifact):
        return store(rows, to=beside).path
    path = _path(rows)
    if not is_artifact(path):
        adopt(beside, source=path)
        return beside
    return path


def _artifact(rows: Any, to: Artifact, needed: pa.Schema) -> str:
    """The path of an artifact of these rows, which has the columns `needed`, and text where they are strings."""
    path = as_artifact(rows, to)
    there = read_manifest(path).columns
    if missing := [name for name in needed.names if name not in there]:
        raise UserError(f"no column {missing[0]!r}", where=path, fix=f"it has {', '.join(there)}")
    for name in (field.name for field in needed if pa.types.is_string(field.type)):
        # A column of nulls alone may have no other type, but there must be some text.
        if there[name] not in ("string", "large_string", *(() if name == "text" else ("null",))):
            raise UserError(f"the column {name!r} is {there[name]}, and not text", where=path, fix="cast it to string")
    return path


def _clusters(clusters: Artifact | str) -> str:
    """The path of clusters. UserError where these are none."""
    check_clusters(path := _path(clusters))
    return path


def _path(artifact: Artifact | str) -> str:
    return artifact.path if isinstance(artifact, Artifact) else _absolute(artifact)


def _absolute(path: str) -> str:
    return path if "://" in path else os.path.abspath(os.path.expanduser(path))


def _columns(kind: pa.DataType, *names: str) -> pa.Schema:
    """Columns of a type; of null where any will do."""
    return pa.schema([(name, kind) for name in names])
