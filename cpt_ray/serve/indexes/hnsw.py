"""Approximate search by a graph of neighbours (HNSW: Malkov and Yashunin 2016; usearch), scored exactly (serve/graph.py)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from cpt_ray.serve.indexes import Index, Kind, open_vectors

if TYPE_CHECKING:
    import pyarrow as pa


class Hnsw(Kind):
    """A graph of neighbours on disk for each part: a share of the vectors is looked at, most of the nearest are found."""

    kind: Literal["hnsw"] = "hnsw"
    values: Literal["int8", "float16", "float32", "binary"] = Field(
        "int8",
        description="of the vectors in the graph (binary: their signs); what it finds is scored by the vectors themselves",
    )
    breadth: int = Field(64, ge=10, description="vectors that a search keeps in view: more find more and take longer")
    links: int = Field(16, ge=4, le=128, description="neighbours of a vector in the graph")
    build_breadth: int = Field(128, ge=10, description="as breadth, while the graph is built")

    def build(self, folder: str) -> dict[str, Any]:
        """The graph, and the share of the ten nearest that it finds."""
        from cpt_ray.serve.graph import build, recall

        vectors = open_vectors(folder)
        build(folder, vectors, values=self.values, links=self.links, breadth=self.build_breadth)
        return recall(folder, vectors, self.breadth)

    def open(self, folder: str, rows: pa.Table, model: str) -> Index:
        from cpt_ray.serve.graph import GraphIndex

        return GraphIndex(rows, model, open_vectors(folder), folder, self.breadth)
