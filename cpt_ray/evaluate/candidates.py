"""Which held-out pairs stand together in one search: the paper's setting of 1,000 candidates (one answer, 999
distractors).

A block is a set of n pairs; each x is a query, all n y are its candidates. Blocks are disjoint and drawn by content:
pairs are walked in the order of a seeded hash of their `pair_id`, so neither the order of the rows nor the worker
count matters. A pair joins a block unless

- its x or y text already stands there on either side (the query's own text, or two right answers),
- a duplicate of its document stands there (same cluster, other document),
- its own document stands there (x_doc; neighbouring pieces are each other's right answers),
- its group (site, distribution, repository) already fills its share.

Where a source is too small for n such pairs, the last two rules are loosened step by step, and the block says so:
first further pairs of a document are let in when `document_gap` characters lie between them, then the share of a
group doubles.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import xxhash

from cpt_ray.artifacts.stage import Stage
from cpt_ray.errors import UserError
from cpt_ray.evaluate.options import CandidateOptions


@dataclass(frozen=True)
class Block:
    """Row numbers (n,) int64 into the table, in the order drawn; the largest number of pairs taken from one group;
    pairs beyond a document's first."""

    rows: np.ndarray
    largest_group: int
    repeated_documents: int


@dataclass
class _Draft:
    """A block while it is filled."""

    rows: list[int] = field(default_factory=list)
    texts: set[int] = field(default_factory=set)
    groups: Counter[str] = field(default_factory=Counter)
    document_of_cluster: dict[int, str] = field(default_factory=dict)
    spans: dict[str, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))
    repeated: int = 0


def draw(pairs: pa.Table, options: CandidateOptions) -> list[Block]:
    """Blocks from a pairs table (columns pair_id, group, x_hash, y_hash, cluster, x_doc, x_start, x_end, y_start,
    y_end), best filled first.

    All blocks but the first hold exactly `options.candidates` pairs; the first may hold fewer, when there are no
    more. Raises UserError when fewer than two pairs can stand together.
    """
    columns = {
        name: pairs.column(name).to_pylist()
        for name in ("pair_id", "group", "x_hash", "y_hash", "cluster", "x_doc", "x_start", "x_end", "y_start", "y_end")
    }
    key = [(xxhash.xxh3_64_intdigest(pair_id.encode(), options.seed), pair_id) for pair_id in columns["pair_id"]]
    waiting = sorted(range(len(key)), key=key.__getitem__)
    blocks: list[Block] = []
    for _ in range(options.blocks):
        draft = _Draft()
        for per_group, repeat in _rules(options):
            for row in waiting:
                if len(draft.rows) == options.candidates:
                    break
                _consider(draft, row, columns, per_group, options.document_gap if repeat else 0)
            taken = set(draft.rows)
            waiting = [row for row in waiting if row not in taken]
            if len(draft.rows) == options.candidates:
                break
        if len(draft.rows) < (options.candidates if blocks else 2):
            break
        blocks.append(Block(np.array(draft.rows, np.int64), max(draft.groups.values()), draft.repeated))
    if not blocks:
        raise UserError(
            f"{pairs.num_rows} held-out pairs give no two candidates that are not duplicates",
            fix="hold out more groups, or look at the ledger of the pairs for what was dropped",
        )
    return blocks


def _rules(options: CandidateOptions) -> Iterator[tuple[int, bool]]:
    """(pairs allowed per group, further pairs of a document allowed), from strict to loose."""
    per_group = max(1, int(options.group_share * options.candidates))
    yield per_group, False
    yield per_group, True
    while per_group < options.candidates:
        per_group *= 2
        yield per_group, True


def _consider(draft: _Draft, row: int, columns: dict[str, list], per_group: int, document_gap: int) -> None:
    """Add the row to the draft if the rules let it in; `document_gap` 0 means one pair per document."""
    x, y, cluster = columns["x_hash"][row], columns["y_hash"][row], columns["cluster"][row]
    document, group = columns["x_doc"][row], columns["group"][row]
    if x == y or x in draft.texts or y in draft.texts or draft.groups[group] >= per_group:
        return
    if draft.document_of_cluster.get(cluster, document) != document:
        return
    start = min(columns["x_start"][row], columns["y_start"][row])
    end = max(columns["x_end"][row], columns["y_end"][row])
    others = draft.spans.get(document, [])
    if others and (not document_gap or any(start < b + document_gap and a < end + document_gap for a, b in others)):
        return
    draft.repeated += bool(others)
    draft.rows.append(row)
    draft.texts |= {x, y}
    draft.groups[group] += 1
    draft.document_of_cluster[cluster] = document
    draft.spans[document].append((start, end))


EVALUATE = Stage("evaluation", version=2, unit="pairs", reads=("x", "y", "split"))
