"""Deduplication of documents, functions and pairs alike: exact, then MinHash, verified, explained."""

from cpt_ray.dedup.cluster import CLUSTERS, deduplicate
from cpt_ray.dedup.explain import explain
from cpt_ray.dedup.index import write_index
from cpt_ray.dedup.options import DedupOptions, Preference
from cpt_ray.dedup.signatures import write_signatures

__all__ = ["CLUSTERS", "DedupOptions", "Preference", "deduplicate", "explain", "write_index", "write_signatures"]
