"""Deduplication, phase by phase: signatures -> exact layer -> candidates -> sets -> comparisons -> clusters.

Every costly phase is an artifact of its own under `<out>.phases`, so a killed run goes on from the last finished part.
What lies between them is a pure function of those artifacts and is computed again. The result depends on the documents
and the options alone: not on their order, on how they are cut into files, or on the number of workers.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import fsspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cpt_ray.artifacts import Ledger, Manifest, build, fingerprint, parquet, parts, read_manifest
from cpt_ray.dedup import bands, candidates, chains, kernels, signatures, survivors, verify
from cpt_ray.dedup.components import components
from cpt_ray.dedup.kernels import I64, U64
from cpt_ray.dedup.options import DedupOptions
from cpt_ray.errors import UserError

VERSION = 1
INLINE_PAIRS = 500_000
"""Up to this many pairs are compared here and now; more become an artifact, computed by tasks."""

RAW = "shingles-"
"""Folders of raw shingle sets: this and the digest of what they hold."""

CLUSTERS = pa.schema(
    [
        pa.field("doc_id", pa.string()),
        pa.field("cluster_id", pa.string()),
        pa.field("kept", pa.bool_()),
        pa.field("matched_id", pa.string()),
        pa.field("similarity", pa.float32()),
        pa.field("shared_bands", pa.int16()),
        pa.field("layer", pa.string()),
        pa.field("rule", pa.string()),
    ]
)


def deduplicate(
    out: str,
    documents: str | Sequence[str],
    *,
    id_column: str = "doc_id",
    text_column: str = "text",
    options: DedupOptions | None = None,
) -> Manifest:
    """Cluster the documents of an artifact (or of Parquet files) and publish the clusters table at `out`.

    One row per document id, sorted by it: its cluster, whether it is kept, and for a removed one the kept document it
    matches with the evidence. The phases stay in `<out>.phases` and may be removed.
    """
    options = options or DedupOptions()
    phases = out.rstrip("/") + ".phases"
    signed = signatures.write_signatures(
        posixpath.join(phases, "signatures"),
        documents,
        id_column=id_column,
        text_column=text_column,
        options=options,
    )
    with build(out, step="clusters", version=VERSION, params=options, inputs={"signatures": signed}) as work:
        if work.manifest is not None:
            return work.manifest
        corpus = Corpus.load(posixpath.join(phases, "signatures"), options)
        near = Near.empty()
        if options.near:
            files, _ = signatures.source_files(documents)
            source = Source(signatures.shards_of(files), text_column, phases, signed)
            near = near_layer(corpus, source, options)
        table, ledger, counts = clusters_table(corpus, near, options)
        parquet.write_table(posixpath.join(work.path, "part-00000.parquet"), table)
        cut = dict(zip(("bands", "rows"), bands.shape(options), strict=True)) if options.near else {}
        return work.publish(ledger, rows=table.num_rows, schema=CLUSTERS, extra={**cut, **counts})


@dataclass(frozen=True)
class Corpus:
    """All documents in the order of the survivor rule; a document's number in it is its slot.

    doc_id [slots] string; keeper [slots] int64: the best slot of equal content (its own for the first, and for a
    document without words); words [slots]; invalid: how many held bytes that are no UTF-8; keys [nodes, bands] uint64
    and node_slot [nodes]: the first of each content that has words; slot_of[shard][row]: -1 for a repeated id; counts
    [slots]: shingles with repeats; repeated: rows whose id had been seen.
    """

    doc_id: pa.StringArray
    keeper: I64
    words: I64
    counts: I64
    keys: U64
    node_slot: I64
    slot_of: list[I64]
    repeated: int
    invalid: int

    @property
    def rows(self) -> int:
        return len(self.doc_id) + self.repeated

    @staticmethod
    def load(path: str, options: DedupOptions) -> Corpus:
        """Read the signatures' small columns, rank, find equal content, then cut the rest's signatures into bands."""
        names = parts(path)
        light = [name for name in read_manifest(path).columns if name not in ("signature", "shingle_count")]
        tables = [parquet.read_table(name, [*light, "shingle_count"]) for name in names]
        if not tables:
            raise UserError("there are no documents to deduplicate", where=path, fix="check the step before")
        sizes = [table.num_rows for table in tables]
        table = pa.concat_tables(tables)
        order = survivors.best_first(table, options)
        ids = table.column("doc_id").combine_chunks().take(pa.array(order))
        first = _first_of_each(ids)
        order, ids = order[first], ids.filter(pa.array(first))
        slot_of_row = np.full(table.num_rows, -1, np.int64)
        slot_of_row[order] = np.arange(len(order))
        words = np.asarray(table["words"])[order].astype(np.int64)
        keeper = _first_equal(np.asarray(table["content_0"])[order], np.asarray(table["content_1"])[order], words)
        node_slot = np.flatnonzero((keeper == np.arange(len(keeper))) & (words > 0))
        slot_of = np.split(slot_of_row, np.cumsum(sizes)[:-1])
        invalid = int(np.count_nonzero(np.asarray(table["flags"]) & kernels.INVALID_UTF8))
        counts = np.asarray(table["shingle_count"])[order].astype(np.int64)
        keys = _keys(names, slot_of, node_slot, len(order), options)
        return Corpus(ids, keeper, words, counts, keys, node_slot, slot_of, table.num_rows - len(order), invalid)


def _first_of_each(ids: pa.StringArray) -> npt.NDArray[np.bool_]:
    """[rows] bool: False where the same id stands further up."""
    codes = np.asarray(ids.dictionary_encode().indices)
    first = np.zeros(len(codes), bool)
    first[np.unique(codes, return_index=True)[1]] = True
    return first


def _first_equal(a: U64, b: U64, words: I64) -> I64:
    """[slots] int64: the smallest slot of equal content; a document without words is equal to none."""
    keeper = np.arange(len(a), dtype=np.int64)
    chosen = np.flatnonzero(words > 0)
    order = chosen[np.lexsort((chosen, b[chosen], a[chosen]))]
    if len(order):
        new = np.r_[True, (a[order[1:]] != a[order[:-1]]) | (b[order[1:]] != b[order[:-1]])]
        keeper[order] = order[np.maximum.accumulate(np.where(new, np.arange(len(new)), 0))]
    return keeper


def _keys(names: Sequence[str], slot_of: Sequence[I64], node_slot: I64, slots: int, options: DedupOptions) -> U64:
    """[nodes, bands] uint64; one part's signatures are in memory at a time."""
    if not options.near:
        return np.zeros((0, 0), np.uint64)
    count, rows = bands.shape(options)
    node_of = np.full(slots + 1, -1, np.int64)
    node_of[node_slot] = np.arange(len(node_slot))
    keys = np.empty((len(node_slot), count), np.uint64)
    for name, part_slots in zip(names, slot_of, strict=True):
        matrix = signatures.signature_matrix(parquet.read_table(name, ["signature"]).column("signature"))
        nodes = node_of[part_slots]
        keys[nodes[nodes >= 0]] = bands.band_keys(matrix[nodes >= 0], count, rows)
    return keys


@dataclass(frozen=True)
class Source:
    """Where the text of the documents is, shard by shard, and where the phases are written."""

    shards: list[dict[str, Any]]
    text_column: str
    phases: str
    signed: Manifest


@dataclass(frozen=True)
class Near:
    """The near layer's answer, by node: matched [nodes] (-1: kept), label [nodes], and the evidence of the matched."""

    matched: I64
    label: I64
    similarity: npt.NDArray[np.float64]
    counts: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def empty() -> Near:
        return Near(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))


def near_layer(corpus: Corpus, source: Source, options: DedupOptions) -> Near:
    """Candidates by bands, comparisons by sets, components, and what stays of each."""
    nodes = len(corpus.node_slot)
    open_buckets = list(candidates.buckets_of(corpus.keys))
    wanted = np.unique(np.concatenate([b.slot for b in open_buckets] or [np.zeros(0, np.int64)]))
    compare = Comparison(_store(corpus, wanted, source, options), nodes, source, options)
    centre, member = _accepted_pairs(open_buckets, compare, nodes, options)
    label = components(nodes, centre, member)
    matched = chains.survivors_of(label, centre, member, compare, options.threshold)
    removed = np.flatnonzero(matched >= 0)
    similar = np.full(nodes, np.nan)
    similar[removed] = compare(matched[removed], removed)
    sizes = np.bincount(label, minlength=1) if nodes else np.zeros(1, np.int64)
    counts = {
        "documents_in_buckets": len(wanted),
        "pairs_compared": compare.compared,
        "pairs_accepted": len(centre),
        "largest_component": int(sizes.max()),
        "kept_in_chains": int(np.count_nonzero((sizes[label] > 1) & (matched < 0)) - np.count_nonzero(sizes > 1)),
    }
    return Near(matched, label, similar, counts)


def _accepted_pairs(
    open_buckets: list[candidates.Buckets], compare: Comparison, nodes: int, options: DedupOptions
) -> tuple[I64, I64]:
    """(centre, member) of all accepted star edges, distinct and sorted."""
    accepted = np.zeros(0, np.uint64)
    for _ in range(options.stars):
        edges = [bucket.stars() for bucket in open_buckets]
        if not any(len(centre) for centre, _ in edges):
            break
        pairs = np.unique(np.concatenate([candidates.unique_pairs(c, m, nodes) for c, m in edges]))
        good = compare(*candidates.split(pairs, nodes)) >= options.threshold
        accepted = np.union1d(accepted, pairs[good])
        open_buckets = [
            bucket.without(good[np.searchsorted(pairs, c.astype(np.uint64) * np.uint64(nodes) + m.astype(np.uint64))])
            for bucket, (c, m) in zip(open_buckets, edges, strict=True)
        ]
    return candidates.split(accepted, nodes)


class Comparison:
    """Similarity of any pairs of nodes, each computed once; many new ones at a time become an artifact."""

    def __init__(self, store: verify.SetStore, nodes: int, source: Source, options: DedupOptions) -> None:
        self.store, self.nodes, self.source, self.options = store, nodes, source, options
        self.known = np.zeros(0, np.uint64)
        self.value = np.zeros(0)
        self.artifacts = 0

    @property
    def compared(self) -> int:
        return len(self.known)

    def __call__(self, centre: I64, member: I64) -> npt.NDArray[np.float64]:
        """[pairs] float64; centre is the better of the two."""
        codes = centre.astype(np.uint64) * np.uint64(max(self.nodes, 1)) + member.astype(np.uint64)
        new = np.setdiff1d(codes, self.known)
        if len(new):
            known = np.r_[self.known, new]
            order = np.argsort(known, kind="stable")
            self.value = np.r_[self.value, self._compute(new)][order]
            self.known = known[order]
        return self.value[np.searchsorted(self.known, codes)]

    def _compute(self, pairs: U64) -> npt.NDArray[np.float64]:
        centre, member = candidates.split(pairs, self.nodes)
        if len(pairs) <= INLINE_PAIRS:
            shared = self.store.shared(centre, member)
        else:
            path = posixpath.join(self.source.phases, f"edges-{self.artifacts:02d}")
            self.artifacts += 1
            inputs: Mapping[str, str | Manifest] = {"signatures": self.source.signed}
            verify.write_edges(path, pairs, self.nodes, self.store, inputs)
            shared = verify.read_edges(path)
        size = self.store.length
        return verify.similarity(shared, size[centre], size[member], self.options.measure)


def _store(corpus: Corpus, wanted: I64, source: Source, options: DedupOptions) -> verify.SetStore:
    """The shingle sets of the wanted nodes, written beside the signatures."""
    node_of = np.full(len(corpus.doc_id) + 1, -1, np.int64)
    node_of[corpus.node_slot[wanted]] = wanted
    digest = fingerprint({"wanted": xxhash.xxh3_128_hexdigest(wanted.tobytes()), "signatures": source.signed.digest})
    raw = posixpath.join(source.phases, f"{RAW}{digest[:12]}")
    lists = []
    for i, slots in enumerate(corpus.slot_of):
        rows = np.flatnonzero(node_of[slots] >= 0)
        name = posixpath.join(raw, f"rows-{i:05d}.parquet")
        table = pa.table({"row": pa.array(rows), "count": pa.array(corpus.counts[slots[rows]])})
        fs, target = fsspec.core.url_to_fs(raw)
        fs.makedirs(target, exist_ok=True)
        parquet.write_table(name, table)
        lists.append(name)
    path = posixpath.join(source.phases, "sets")
    verify.write_sets(
        path,
        raw,
        source_shards=source.shards,
        wanted=lists,
        inputs={"signatures": source.signed, "wanted": digest},
        text_column=source.text_column,
        options=options,
    )
    _remove_older(source.phases, raw)
    return verify.SetStore.locate(path, raw, [node_of[slots] for slots in corpus.slot_of], len(corpus.node_slot))


def _remove_older(phases: str, current: str) -> None:
    """The raw sets of other parameters are of no use once these are complete."""
    fs, folder = fsspec.core.url_to_fs(phases)
    for name in fs.ls(folder, detail=False):
        base = posixpath.basename(name.rstrip("/"))
        if base.startswith(RAW) and base != posixpath.basename(current):
            fs.rm(name, recursive=True)


def clusters_table(corpus: Corpus, near: Near, options: DedupOptions) -> tuple[pa.Table, Ledger, dict[str, int]]:
    """The clusters table sorted by doc_id, its ledger, and what the manifest counts."""
    slots = len(corpus.doc_id)
    matched = np.where(corpus.keeper == np.arange(slots), -1, corpus.keeper)
    exact = matched >= 0
    similarity = np.where(exact, 1.0, np.nan)
    shared = np.full(slots, -1, np.int64)
    component = corpus.keeper.copy()
    near_removed = np.zeros(slots, bool)
    if len(near.matched):
        node_of = np.full(slots, -1, np.int64)
        node_of[corpus.node_slot] = np.arange(len(corpus.node_slot))
        # A copy of a removed document is removed by what removed that one: matched_id always names a kept document.
        node = node_of[corpus.keeper]
        by = np.where(node >= 0, near.matched[node], -1)
        near_removed = by >= 0
        matched[near_removed] = corpus.node_slot[by[near_removed]]
        similarity[near_removed] = near.similarity[node[near_removed]]
        shared[near_removed] = np.count_nonzero(
            corpus.keys[node[near_removed]] == corpus.keys[by[near_removed]], axis=1
        )
        component = np.where(node >= 0, corpus.node_slot[near.label[node]], component)
    order = np.asarray(pc.sort_indices(corpus.doc_id)).astype(np.int64)
    cluster_first = np.full(slots, slots, np.int64)
    np.minimum.at(cluster_first, component[order], np.arange(slots))
    layer = np.full(slots, "", object)
    layer[exact], layer[near_removed] = "exact", "near"
    rule = np.full(slots, options.rule, object)
    rule[corpus.words == 0] = NO_WORDS
    kept = matched < 0
    ids = corpus.doc_id
    table = pa.table(
        [
            ids.take(pa.array(order)),
            ids.take(pa.array(order[cluster_first[component[order]]])),
            pa.array(kept[order]),
            ids.take(pa.array(matched[order], mask=kept[order])),
            pa.array(similarity[order].astype(np.float32), mask=kept[order]),
            pa.array(shared[order].astype(np.int16), mask=shared[order] < 0),
            pa.array(layer[order], pa.string(), mask=kept[order]),
            pa.array(rule[order], pa.string()),
        ],
        schema=CLUSTERS,
    )
    near_count, exact_count = int(near_removed.sum()), int((exact & ~near_removed).sum())
    ledger = Ledger.of(
        "documents",
        read=corpus.rows,
        kept=int(kept.sum()),
        dropped={
            "exact_duplicate": exact_count,
            "near_duplicate": near_count,
            "repeated_id": corpus.repeated,
        },
    )
    counts = {
        "clusters": len(np.unique(component)),
        "without_words": int(np.count_nonzero(corpus.words == 0)),
        "with_invalid_utf8": corpus.invalid,
        **near.counts,
    }
    return table, ledger, counts


NO_WORDS = "no words: kept, compared with nothing"
"""The rule of a document without any word (empty, blank, no text): whether it is of use is decided elsewhere."""


def explain(clusters: str, doc_id: str) -> dict[str, Any]:
    """Why a document was kept or removed: its row of the clusters table and the other members of its cluster.

    Raises UserError when the table has no such document.
    """
    for name in parts(clusters):
        table = parquet.read_table(name)
        found = table.filter(pc.equal(table["doc_id"], doc_id))
        if not found.num_rows:
            continue
        row = found.to_pylist()[0]
        cluster = table.filter(pc.equal(table["cluster_id"], row["cluster_id"]))
        manifest = read_manifest(clusters)
        row["threshold"] = manifest.params["threshold"]
        row["measure"] = manifest.params["measure"]
        row["bands"] = manifest.extra.get("bands")
        row["members"] = cluster.num_rows
        row["kept_members"] = cluster.filter(cluster["kept"])["doc_id"].to_pylist()[:20]
        row["sentence"] = _sentence(row)
        return row
    raise UserError(f"no document {doc_id!r} in these clusters", where=clusters, fix="check the id")


def _sentence(row: Mapping[str, Any]) -> str:
    if row["kept"]:
        alone = row["members"] == 1
        return f"{row['doc_id']} is kept" + (": nothing is like it" if alone else f", in a cluster of {row['members']}")
    if row["layer"] == "exact":
        return f"{row['doc_id']} is removed: after normalisation it equals {row['matched_id']}, kept by: {row['rule']}"
    return (
        f"{row['doc_id']} is removed: {row['measure']} with {row['matched_id']} is {row['similarity']:.4f}"
        f" (threshold {row['threshold']}), {row['shared_bands']} of {row['bands']} bands equal, kept by: {row['rule']}"
    )
