"""The model card of an export: what it was trained on, how, what was measured, its limits, and how to load it.

It is `README.md` of the model's folder, in the form that model hubs read (YAML in front, Markdown below). It says nothing
that depends on the machine or the hour, so the same training writes the same card.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cpt_ray.artifacts import Count, Manifest, parts, read_manifest
from cpt_ray.artifacts.parquet import read_table
from cpt_ray.model.weights import ModelInfo

NAME = "README.md"
MOST = 25
"""Rows of the table of sources; the rest is summed."""
UNKNOWN = "not stated"


@dataclass(frozen=True)
class Data:
    """What a pairs artifact holds: (source, licence) -> training pairs, pairs by split, its ledger and digest."""

    sources: Mapping[tuple[str, str], int]
    splits: Mapping[str, int]
    ledger: Mapping[str, Count]
    digest: str

    @staticmethod
    def of(path: str) -> Data:
        """Counted over the parts, one at a time."""
        manifest = read_manifest(path)
        named: list[str] = [name for name in ("source", "licence", "split") if name in manifest.columns]
        sources: Counter[tuple[str, str]] = Counter()
        splits: Counter[str] = Counter()
        for part in parts(path):
            grouped = read_table(part, named).group_by(named).aggregate([([], "count_all")])
            for row in grouped.to_pylist():
                split, count = row.get("split") or "train", row["count_all"]
                splits[split] += count
                if split == "train":
                    sources[row.get("source") or UNKNOWN, row.get("licence") or UNKNOWN] += count
        return Data(sources, splits, manifest.balance.units, manifest.digest)


@dataclass(frozen=True)
class Facts:
    """What a card is written from. `figures` were measured among `heldout` pairs, of the weights after `step` steps."""

    name: str
    info: ModelInfo
    architecture: str
    recipe: Mapping[str, Any]
    step: int
    figures: Mapping[str, float] = field(default_factory=dict)
    heldout: int = 0
    data: Data | None = None


def write(folder: str, facts: Facts) -> None:
    """Write the card into the model's folder."""
    Path(folder, NAME).write_text(card(facts), encoding="utf-8")


def card(facts: Facts) -> str:
    """The card, Markdown."""
    info = facts.info
    pieces = [
        "---\nlibrary_name: sentence-transformers\npipeline_tag: sentence-similarity\n"
        "tags: [sentence-transformers, feature-extraction, sentence-similarity, cpt-ray]\n---",
        f"# {facts.name}",
        f"Texts and code to vectors of {info.embedding_dimension:,} numbers and length 1: {facts.architecture}, trained on "
        "pairs by contrast within the batch (arXiv 2201.10005). A text has one of two sides: **x** for queries and "
        "docstrings, **y** for documents and code.",
        "## How to load it",
        LOAD,
        f"A text is cut after {info.max_x_tokens:,} tokens of side x, {info.max_y_tokens:,} of side y. Scores are cosines: "
        "they order answers to one question, and do not compare across questions or models.",
        "## Data",
        *_data(facts.data),
        "## Recipe",
        _table(["what", "value"], [[name.replace("_", " "), _shown(value)] for name, value in facts.recipe.items()]),
        "`manifest.json` beside this file has every option, and the digests of batches, held-out pairs and first weights.",
        "## Figures",
        *_figures(facts),
        "## Limits",
        "\n".join(f"- {limit}" for limit in LIMITS),
    ]
    return "\n\n".join(pieces) + "\n"


LOAD = """```python
from sentence_transformers import SentenceTransformer

model = SentenceTransformer("this folder")
queries = model.encode_query(["parse an ISO date"])  # side x
documents = model.encode_document(["def parse(text): ..."])  # side y
```

```python
from cpt_ray.model.embedder import Embedder

embed = Embedder("this folder").embed
queries, documents = embed(["parse an ISO date"], "x"), embed(["def parse(text): ..."], "y")
```

sentence-transformers strips blanks around a text; `Embedder` does not."""

LIMITS = (
    "It knows the languages, natural and programming, of the data above, and what they are about; of others nothing is "
    "promised.",
    "The data was not searched for personal or offensive content: what it says of people may be in the vectors.",
    "Held-out pairs come from the same sources as the training pairs (no project or site is on both sides), so other texts "
    "are harder: measure on your own (`cpt-ray evaluate suite=...`).",
    "Training for search moves similarity of sentences the other way (arXiv 2201.10005).",
    "The licences are those of the texts it was trained on; what follows for the weights is not said here.",
)


def _data(data: Data | None) -> list[str]:
    if data is None:
        return ["Not told to the training."]
    ordered = sorted(data.sources.items(), key=lambda item: (-item[1], item[0]))
    rows = [[source, licence, f"{count:,}"] for (source, licence), count in ordered[:MOST]]
    if rest := ordered[MOST:]:
        rows.append([f"{len(rest):,} more", "", f"{sum(count for _, count in rest):,}"])
    rows.append(["**all**", "", f"**{sum(data.sources.values()):,}**"])
    held = ", ".join(f"{count:,} {split}" for split, count in sorted(data.splits.items()) if split != "train")
    counted = [
        [
            unit,
            f"{count.read:,}",
            f"{count.kept:,}",
            _dropped(count.dropped),
        ]
        for unit, count in data.ledger.items()
    ]
    return [
        _table(["source", "licence", "training pairs"], rows, right=(2,)),
        f"Beside them {held or 'no held-out'} pairs, which were not trained on. What became of what was read:",
        _table(["unit", "read", "kept", "dropped"], counted, right=(1, 2)),
        f"Digest of the pairs: `{data.digest}`.",
    ]


def _dropped(reasons: Mapping[str, int]) -> str:
    """The largest first."""
    ordered = sorted(reasons.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{_words(why)} {count:,}" for why, count in ordered)


def _figures(facts: Facts) -> list[str]:
    if not facts.figures:
        return ["None were measured in training."]
    rows = [[_words(name), f"{value:.3f}"] for name, value in facts.figures.items()]
    return [
        _table(["figure", "value"], rows, right=(1,)),
        f"After {facts.step:,} steps; each of {facts.heldout:,} held-out x searched among their y.",
    ]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    rule = ["---:" if at in right else "---" for at in range(len(head))]
    lines = [head, rule, *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """A text that ends no cell, whatever it holds."""
    return " ".join(text.split()).replace("|", "\\|")


def _words(name: str) -> str:
    return name.removeprefix("heldout_").replace("_at_", "@").replace("_", " ").replace("mrr", "MRR")


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def recipe(order: Manifest, train: Mapping[str, Any], steps: int, temperature: float) -> dict[str, Any]:
    """What decides most, from the order's manifest and the options of training."""
    batch = int(order.params["batch_size"])
    chosen = (
        "loss",
        "learning_rate",
        "schedule",
        "warmup",
        "weight_decay",
        "precision",
        "mask_false_negatives",
        "best",
        "seed",
    )
    return {
        "pairs in a batch": batch,
        "steps": steps,
        "pairs seen": batch * steps,
        "first temperature": train["temperature"],
        "last temperature": temperature,
        **{name: train[name] for name in chosen if train.get(name) is not None},
    }
