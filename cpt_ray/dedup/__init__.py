"""Deduplication of documents, functions and pairs alike: exact, then MinHash, verified, explained."""

from cpt_ray.dedup.b_bit import estimate, write_b_bits
from cpt_ray.dedup.clean import CLEAN, CleanOptions, clean_documents
from cpt_ray.dedup.cluster import CLUSTER, CLUSTERS, deduplicate
from cpt_ray.dedup.datasketch_lsh import from_datasketch, to_datasketch
from cpt_ray.dedup.explain import explain
from cpt_ray.dedup.index import write_index
from cpt_ray.dedup.options import DedupOptions, Preference
from cpt_ray.dedup.signatures import write_signatures

__all__ = [
    "CLEAN",
    "CLUSTER",
    "CLUSTERS",
    "CleanOptions",
    "DedupOptions",
    "Preference",
    "clean_documents",
    "deduplicate",
    "estimate",
    "explain",
    "from_datasketch",
    "to_datasketch",
    "write_b_bits",
    "write_index",
    "write_signatures",
]
