"""The near layer: candidates by bands, for containment by single shingles too, exact comparisons of shingle sets,
components, and what stays of each.

Bands find what is alike as a whole. A page that a much longer one contains shares few values of its signature with it,
but every eighth of its shingles (`sample`), chosen by their hashes, is one that the longer page was asked for too.
"""

from __future__ import annotations

import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import xxhash

from cpt_ray.artifacts import Manifest, fingerprint, parquet
from cpt_ray.artifacts.places import locate, remove
from cpt_ray.dedup import bands, candidates, chains, shuffle, verify
from cpt_ray.dedup.components import components
from cpt_ray.dedup.corpus import Corpus
from cpt_ray.dedup.kernels import I64, U64
from cpt_ray.dedup.options import DedupOptions

INLINE_KEYS = 64_000_000
"""Up to this many keys (documents x bands, 512 MB) are grouped here and now; more are shuffled by tasks."""

INLINE_PAIRS = 500_000
"""Up to this many pairs are compared here and now; more become an artifact, computed by tasks."""

RAW = "shingles-"
"""Folders of raw shingle sets: this, the artifact that says where each set is, and the digest of what they hold."""


@dataclass(frozen=True)
class Source:
    """Where the text of the documents is, shard by shard, and where the phases are written.

    `inputs` is what the answer depends on. `known` holds the parts of old documents, which have no text here but whose
    sets lie in `known_raw`; they come after the shards.
    """

    shards: list[dict[str, Any]]
    text_column: str
    phases: str
    inputs: Mapping[str, Manifest]
    known: Sequence[str] = ()
    known_raw: Sequence[str] = ()


@dataclass(frozen=True)
class Near:
    """The near layer's answer, by node: matched [nodes] (-1: kept), label [nodes], and the evidence of the matched."""

    matched: I64
    label: I64
    similarity: npt.NDArray[np.float64]
    shared_bands: I64
    counts: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def empty() -> Near:
        none = np.zeros(0, np.int64)
        return Near(none, none, np.zeros(0), none)


def near_layer(corpus: Corpus, source: Source, options: DedupOptions) -> Near:
    """Candidates by bands, comparisons by sets, components, and what stays of each."""
    nodes = len(corpus.node_slot)
    by_bands = buckets(corpus, source, options)
    open_buckets = by_bands + sampled_buckets(corpus, options)
    wanted = np.unique(np.concatenate([b.slot for b in open_buckets] or [np.zeros(0, np.int64)]))
    compare = Comparison(_store(corpus, wanted, source, options), nodes, source, options)
    centre, member = _accepted_pairs(open_buckets, compare, nodes, options)
    label = components(nodes, centre, member, posixpath.join(source.phases, "components"))
    matched = chains.survivors_of(label, centre, member, compare, options.threshold)
    removed = np.flatnonzero(matched >= 0)
    similar = np.full(nodes, np.nan)
    similar[removed] = compare(matched[removed], removed)
    shared = np.full(nodes, -1, np.int64)
    shared[removed] = candidates.shared_bands(by_bands, nodes, matched[removed], removed)
    sizes = np.bincount(label, minlength=1) if nodes else np.zeros(1, np.int64)
    counts = {
        "documents_in_buckets": len(wanted),
        "pairs_compared": compare.compared,
        "pairs_accepted": len(centre),
        "largest_component": int(sizes.max()),
        "kept_in_chains": int(np.count_nonzero((sizes[label] > 1) & (matched < 0)) - np.count_nonzero(sizes > 1)),
    }
    return Near(matched, label, similar, shared, counts)


def buckets(corpus: Corpus, source: Source, options: DedupOptions) -> list[candidates.Buckets]:
    """The buckets of at least two nodes, by band: grouped here, or by tasks where the keys are too many for that."""
    if len(corpus.node_slot) * bands.shape(options)[0] <= INLINE_KEYS:
        return list(candidates.buckets_of(corpus.keys(options)))
    node_of = corpus.node_of()
    nodes_of = [node_of[slots] for slots in corpus.slot_of]
    return shuffle.bucket_artifacts(source.phases, corpus.parts, nodes_of, source.inputs, options)


def sampled_buckets(corpus: Corpus, options: DedupOptions) -> list[candidates.Buckets]:
    """The buckets of nodes that share a sampled shingle, a share of the shingles at a time; none without containment."""
    if options.measure != "containment":
        return []
    shares = 1 + int(corpus.counts[corpus.node_slot].sum()) // options.sample // INLINE_KEYS
    return [candidates.group(*corpus.samples(share, shares)) for share in range(shares)]


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
            verify.write_edges(path, pairs, self.nodes, self.store, self.source.inputs)
            shared = verify.read_edges(path)
        size = self.store.length
        return verify.similarity(shared, size[centre], size[member], self.options.measure)


def _store(corpus: Corpus, wanted: I64, source: Source, options: DedupOptions) -> verify.SetStore:
    """The shingle sets of the wanted nodes: written beside the signatures, or where the index has them."""
    path = posixpath.join(source.phases, "sets")
    store = write_sets_of(path, corpus, wanted, source, options)
    remove_raw(path, but=store.raw)
    node_of = corpus.node_of()
    for name, slots in zip(source.known, corpus.slot_of[len(source.shards) :], strict=True):
        table = parquet.read_table(name, ["set_part", "set_offset", "set_length"])
        nodes = node_of[slots]
        part, offset, length = (np.asarray(column)[nodes >= 0] for column in table.columns)
        store.place(nodes[nodes >= 0], part + len(store.raw), offset, length)
    store.raw += source.known_raw
    return store


def write_sets_of(path: str, corpus: Corpus, wanted: I64, source: Source, options: DedupOptions) -> verify.SetStore:
    """Write the sets of the wanted nodes that have text here, raw hashes beside `path`, and say where they are."""
    node_of = corpus.node_of(wanted)
    seen = {name: manifest.digest for name, manifest in source.inputs.items()}
    digest = fingerprint({"wanted": xxhash.xxh3_128_hexdigest(wanted.tobytes()), **seen})
    raw = posixpath.join(posixpath.dirname(path), f"{RAW}{posixpath.basename(path)}-{digest[:12]}")
    fs, folder = locate(raw)
    fs.makedirs(folder, exist_ok=True)
    lists, slot_of = [], corpus.slot_of[: len(source.shards)]
    for i, slots in enumerate(slot_of):
        rows = np.flatnonzero(node_of[slots] >= 0)
        lists.append(posixpath.join(raw, f"rows-{i:05d}.parquet"))
        parquet.write_table(lists[-1], pa.table({"row": pa.array(rows), "count": pa.array(corpus.counts[slots[rows]])}))
    verify.write_sets(
        path,
        raw,
        source_shards=source.shards,
        wanted=lists,
        inputs={**source.inputs, "wanted": digest},
        text_column=source.text_column,
        options=options,
    )
    return verify.SetStore.locate(path, raw, [node_of[slots] for slots in slot_of], len(corpus.node_slot))


def remove_raw(path: str, but: Sequence[str] = ()) -> None:
    """Remove the raw sets that belong to the artifact at `path`, but for the folder of these files."""
    fs, target = locate(path)
    current = posixpath.basename(posixpath.dirname(but[0])) if but else ""
    for name in fs.ls(posixpath.dirname(target), detail=False):
        base = posixpath.basename(name.rstrip("/"))
        if base.startswith(f"{RAW}{posixpath.basename(target)}-") and base != current:
            remove(fs, name)
