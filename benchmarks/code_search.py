"""Search of held-out functions by their documentation, a row a language: BM25 and chance, and a trained model beside them.

    python benchmarks/code_search.py [outputs/code/code_pairs] [--trained outputs/train/model] [--candidates 1000]

takes the held-out pairs of a `cpt-ray code-pairs` artifact, whose repositories are in no training pair, and draws
candidates of each language apart, as the paper does: each documentation is a query, one function is its answer.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console
from rich.table import Table

from cpt_ray.code.grammars import GRAMMARS, language_of
from cpt_ray.evaluate.embed import Embed
from cpt_ray.evaluate.options import CandidateOptions
from cpt_ray.evaluate.search import compare
from cpt_ray.pairs.splits import HELDOUT, read_side

FEWEST = 20
"""Fewer candidates tell nothing."""


def by_language(pairs: pa.Table) -> dict[str, pa.Table]:
    """The pairs of each language, by the endings of their paths."""
    rows: dict[str, list[int]] = defaultdict(list)
    for i, path in enumerate(pairs["path"].to_pylist()):
        rows[language_of(path or "") or ""].append(i)
    return {language: pairs.take(pa.array(rows[language])) for language in GRAMMARS if len(rows[language]) >= FEWEST}


def run(pairs: str, options: CandidateOptions, models: Mapping[str, Embed]) -> list[dict[str, Any]]:
    rows = []
    for language, held in by_language(read_side(pairs, HELDOUT)).items():
        found = compare(held, options, models)
        about = {"language": language, "repositories": len(held["group"].unique()), **found.pop("setting")}
        rows.append({**about, **{name: scores["mrr"] for name, scores in found.items()}})
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", nargs="?", default="outputs/demo/code_pairs")
    parser.add_argument("--trained")
    parser.add_argument("--candidates", type=int, default=1000)
    parser.add_argument("--blocks", type=int, default=3)
    parser.add_argument("--group-share", type=float, default=0.05)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if not Path(given.pairs, "manifest.json").is_file():
        print(f"no pairs at {given.pairs}: make run, or cpt-ray code-pairs, gives some")
        return
    models: dict[str, Embed] = {}
    if given.trained:
        from cpt_ray.model.embedder import Embedder

        models["model"] = Embedder(given.trained).embed
    rows = run(
        given.pairs,
        CandidateOptions(candidates=given.candidates, blocks=given.blocks, group_share=given.group_share),
        models,
    )
    shown = Table(
        "language",
        "repositories",
        "pairs",
        "candidates",
        "queries",
        *(f"{name} MRR" for name in (*models, "bm25", "chance")),
    )
    for row in rows:
        figures = [f"{row[name]:.3f}" for name in (*models, "bm25", "chance")]
        shown.add_row(
            row["language"], *(str(row[n]) for n in ("repositories", "pairs", "candidates", "queries")), *figures
        )
    Console().print(shown)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
