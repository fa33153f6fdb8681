"""Pairs as artifacts: made, checked against evaluation sets, split, written in parts sorted by pair_id."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import pyarrow as pa

from cpt_ray.artifacts import Ledger, Manifest, Stage, Work, fingerprint, parquet, parts, read_manifest, read_table
from cpt_ray.pairs.across import code_pairs_across, text_pairs_across
from cpt_ray.pairs.decontaminate import Evaluation, decontaminate
from cpt_ray.pairs.docstrings import code_pairs
from cpt_ray.pairs.neighbours import text_pairs
from cpt_ray.pairs.options import DocstringOptions, NeighbourOptions, SplitOptions
from cpt_ray.pairs.phases import clear_phases
from cpt_ray.pairs.schema import PAIRS, ROWS_PER_PART
from cpt_ray.pairs.splits import split_pairs

TEXT_PAIRS = Stage("text_pairs", version=5, gives=PAIRS, unit="documents", reads=("doc_id", "group", "text"))
CODE_PAIRS = Stage("code_pairs", version=5, gives=PAIRS, unit="functions", reads=("function_id", "group", "code"))

ONE_TABLE = {"text_pairs": 10_000, "code_pairs": 50_000}
"""Documents and functions that are made into pairs as one table, in memory. More, or longer ones (`parquet.is_small`), go
through exchanges, to the same rows."""
_TEXT: Mapping[str, Sequence[str]] = {"text_pairs": ("text",), "code_pairs": ("code",)}

Maker = Callable[[pa.Table, pa.Table], tuple[pa.Table, Ledger]]


def make_text_pairs(
    path: str, *, documents: str, clusters: str, neighbours: NeighbourOptions, split: SplitOptions
) -> Manifest:
    """Publish the neighbouring-text pairs of a documents artifact and its clusters artifact at `path`."""
    return _make(
        path,
        stage=TEXT_PAIRS,
        sources=(documents, clusters),
        columns=["doc_id", "group", "text"],
        make=lambda rows, known: text_pairs(rows, known, neighbours),
        across=partial(text_pairs_across, neighbours=neighbours),
        options={"neighbours": neighbours.result()},
        split=split,
    )


def make_code_pairs(
    path: str,
    *,
    functions: str,
    clusters: str,
    docstrings: DocstringOptions,
    split: SplitOptions,
    evaluation: Evaluation | None = None,
) -> Manifest:
    """Publish the (docstring, code) pairs of a functions artifact and its clusters artifact at `path`.

    Pairs that belong to `evaluation` (official test sets) are dropped by name.
    """
    return _make(
        path,
        stage=CODE_PAIRS,
        sources=(functions, clusters),
        columns=None,
        make=lambda rows, known: code_pairs(rows, known, docstrings, split),
        across=partial(code_pairs_across, docstrings=docstrings),
        options={"docstrings": docstrings.result()},
        split=split,
        evaluation=evaluation,
    )


def _make(
    path: str,
    *,
    stage: Stage,
    sources: tuple[str, str],
    columns: list[str] | None,
    make: Maker,
    across: Callable[..., Manifest],
    options: dict[str, object],
    split: SplitOptions,
    evaluation: Evaluation | None = None,
) -> Manifest:
    rows, clusters = sources
    inputs: dict[str, str | Manifest] = {"rows": read_manifest(rows), "clusters": read_manifest(clusters)}
    if evaluation is not None:
        inputs["evaluation"] = fingerprint([sorted(map(list, evaluation.files)), sorted(evaluation.hashes)])
    params = {**options, "split": split.result()}
    done = stage.begun(path, params=params, inputs=inputs) == "done"
    if not done and not parquet.is_small(parquet.shards_of(parts(rows)), ONE_TABLE[stage.name], _TEXT[stage.name]):
        last = {"params": params, "inputs": inputs, "split": split, "evaluation": evaluation}
        return across(path, stage, rows, clusters, **last)
    with stage.build(path, params=params, inputs=inputs) as work:
        if work.manifest is not None:
            clear_phases(path)
            return work.manifest
        pairs, ledger = make(read_table(rows, columns), read_table(clusters))
        if evaluation is not None:
            pairs, removed = decontaminate(pairs, evaluation)
            ledger += removed.renamed("decontamination")
        pairs, leaks = split_pairs(pairs, split)
        ledger += leaks.renamed("split")
        return publish_pairs(work, pairs, ledger)


def publish_pairs(work: Work, pairs: pa.Table, ledger: Ledger) -> Manifest:
    """Write a table of pairs (PAIRS, or with columns more) in parts and publish it, with how many each side has."""
    work.write_parts(pairs, ROWS_PER_PART)
    sides = pairs["split"].value_counts().to_pylist()
    extra = {"splits": {count["values"]: count["counts"] for count in sides}}
    return work.publish(ledger, rows=pairs.num_rows, schema=pairs.schema, extra=extra)
