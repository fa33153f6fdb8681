"""Why one document was kept or removed, from the clusters table alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import parquet, parts, read_manifest
from cpt_ray.dedup.cluster import CLUSTERS
from cpt_ray.errors import UserError


def explain(clusters: str, doc_id: str) -> dict[str, Any]:
    """Why a document was kept or removed: its row of the clusters table and the other members of its cluster.

    Raises UserError when this is no clusters table, or has no such document.
    """
    check_clusters(clusters)
    found = _rows(clusters, "doc_id", doc_id).to_pylist()
    if not found:
        raise UserError(f"no document {doc_id!r} in these clusters", where=clusters, fix="check the id")
    row: dict[str, Any] = found[0]
    cluster, manifest = _rows(clusters, "cluster_id", row["cluster_id"]), read_manifest(clusters)
    row["threshold"] = manifest.params["threshold"]
    row["measure"] = manifest.params["measure"]
    row["bands"] = manifest.extra.get("bands")
    row["members"] = cluster.num_rows
    row["kept_members"] = cluster.filter(cluster["kept"])["doc_id"].to_pylist()[:20]
    row["sentence"] = _sentence(row)
    return row


def check_clusters(path: str) -> None:
    """UserError unless this is a clusters artifact."""
    if "matched_id" not in read_manifest(path).columns:
        raise UserError("this is no clusters artifact", where=path, fix="give one, as outputs/demo/document_clusters")


def _rows(clusters: str, column: str, value: str) -> pa.Table:
    """The rows with this value, of all parts (one in memory at a time)."""
    tables = (parquet.read_table(name) for name in parts(clusters))
    found = (t.filter(pc.equal(t[column], value)) for t in tables)
    return pa.concat_tables([CLUSTERS.empty_table(), *found], promote_options="default")


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
