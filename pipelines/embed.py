"""Embed a column of an artifact with a trained model, and index the vectors.

Vectors as Parquet, and an exact search index beside them.
"""

from __future__ import annotations

import posixpath

from pydantic import Field

from cpt_ray.artifacts import Manifest, Task, check, run_tasks
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.options import Options
from cpt_ray.serve.embed import EMBED, EmbedOptions, embed_table
from cpt_ray.serve.index import INDEX, build_index
from cpt_ray.serve.search import FUNCTION_COLUMNS
from pipelines import reads
from pipelines.cli import script
from pipelines.config import under
from pipelines.summary import print_artifacts

READS = {"source": "artifact", "trained": "trained"}


class PipelineOptions(Options):
    """Options of `cpt-ray embed`."""

    cluster: ClusterOptions = ClusterOptions()
    source: str = Field(description="an artifact with texts, such as outputs/demo/functions")
    trained: str = Field(description="the trained model's folder, such as outputs/demo/code_model")
    embed: EmbedOptions = EmbedOptions()
    columns: tuple[str, ...] = Field(tuple(FUNCTION_COLUMNS), description="columns of the source that answers show")
    output: str = Field("embed", description="folder under cluster.outputs; holds embeddings and index")


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Make the vectors and the index; returns the manifests by path."""
    reads.check_options(READS, options)
    out = options.cluster.folder(options.output)
    tasks = flow(out, options.source, options.trained, options.embed, options.columns)
    with connect(options.cluster) as resources, under("embed", EmbedOptions):
        check(tasks, resources)
        made = run_tasks(tasks)
    print_artifacts(made)
    return made


def flow(
    out: str, source: str, model: str, embed: EmbedOptions, columns: tuple[str, ...] = tuple(FUNCTION_COLUMNS)
) -> list[Task]:
    """`embeddings` and `index` under `out`."""
    vectors, index = posixpath.join(out, "embeddings"), posixpath.join(out, "index")
    shown = list(columns)
    return [
        Task(
            vectors,
            EMBED,
            lambda: embed_table(vectors, source=source, model=model, options=embed),
            (source,),
            columns=(embed.key, embed.text),
        ),
        Task(
            index,
            INDEX,
            lambda: build_index(index, embeddings=vectors, source=source, key=embed.key, columns=shown),
            (source, vectors),
            columns=(embed.key, *columns),
        ),
    ]


if __name__ == "__main__":
    script("embed")
