"""A page about an artifact: the way from record to row, how its values are spread, and rows as a person reads them.

It is one HTML file that asks nothing of any host, also not by what a page in the corpus may hold: all text is escaped, and
its policy allows no script and no address.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray import __version__
from cpt_ray.artifacts import Sampler, examples, parts
from cpt_ray.artifacts.examples import Example, Examples
from cpt_ray.artifacts.places import locate, write
from cpt_ray.dedup.signatures import read_batches, shards_of
from cpt_ray.inspect.lineage import Made, lineage
from cpt_ray.inspect.survey import MOST_SHARES, Histogram, Survey, kind_of, survey, unit_histogram

KEPT = 20
"""Rows shown where they are whole documents or functions; of pairs the whole sample is."""


class Bar(NamedTuple):
    """A column of a histogram: from, to, rows, and height in percent of the highest."""

    low: str
    high: str
    rows: int
    height: float


class Drawn(NamedTuple):
    """A histogram as the page has it."""

    name: str
    note: str
    bars: list[Bar]


class Reason(NamedTuple):
    """Rows dropped for one reason, and examples of them."""

    name: str
    rows: int
    share: float
    examples: tuple[Example, ...]


class Step(NamedTuple):
    """One unit of one artifact: a line of the funnel; the share kept is in percent."""

    artifact: str
    unit: str
    read: int
    kept: int
    share: float
    reasons: list[Reason]


def write_page(path: str, to: str) -> None:
    """Write the page about the artifact at `path` into the file `to` (any fsspec URI), whole or not at all."""
    text = page(path)
    fs, target = locate(to)
    write(fs, target, text.encode("utf-8", "replace"))


def page(path: str) -> str:
    """The page about the artifact at `path`; UserError where it holds no documents, functions or pairs."""
    from jinja2 import Environment, StrictUndefined

    kind = kind_of(path)
    made = lineage(path)
    found = survey(path, kind)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"words": lambda name: name.replace("_", " "), "count": lambda n: f"{n:,}"}
    template = environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))
    return template.render(
        made=made,
        kind=kind,
        found=found,
        funnel=funnel(made),
        missing=[
            f"{one.name}: {name}" for one in made.flow() for name in one.manifest.inputs if name not in one.inputs
        ],
        figures=[drawn(one) for one in [*found.histograms, *_similarities(made)] if one.rows],
        shares={name: _shares(counts.most_common(MOST_SHARES), found.rows) for name, counts in found.shares.items()},
        several={name: len(counts) for name, counts in found.shares.items()},
        sample=found.sample if kind.name == "pairs" else found.sample[:KEPT],
        origins=_origins(made, found) if kind.name == "pairs" else {},
        version=__version__,
    )


def funnel(made: Made) -> list[Step]:
    """Every unit of every artifact on the way, in order."""
    steps = []
    flow = [one for one in made.flow() if not one.on_the_way]
    units = [(one, unit, count) for one in flow for unit, count in one.manifest.balance.units.items()]
    for one, unit, count in units:
        shown = dropped_of(one) if count.dropped else {}
        reasons = [
            Reason(reason, rows, 100 * rows / max(1, count.read), shown.get((unit, reason), ()))
            for reason, rows in sorted(count.dropped.items(), key=lambda item: (-item[1], item[0]))
        ]
        steps.append(Step(one.name, unit, count.read, count.kept, 100 * count.kept / max(1, count.read), reasons))
    return steps


def dropped_of(made: Made) -> Examples:
    """Examples of what a step dropped; of duplicates, those that its table names, beside what was kept for them."""
    if made.manifest.step != "clusters":
        return examples.read(made.path)
    sampler = Sampler()
    removed: dict[str, tuple[str, str, float]] = {}
    for shard in shards_of(parts(made.path)):
        for batch in read_batches(shard, ["doc_id", "kept", "matched_id", "similarity", "layer"]):
            gone = batch.filter(pc.invert(batch["kept"])).to_pylist()
            for row in gone:
                sampler.add("documents", f"{row['layer']}_duplicate", row["doc_id"])
                removed[row["doc_id"]] = (row["layer"], row["matched_id"], row["similarity"])
    shown = [one.key for held in sampler.examples.values() for one in held]
    texts = texts_of(made, {*shown, *(removed[key][1] for key in shown)})
    beside = Sampler()
    for key in shown:
        layer, kept, similarity = removed[key]
        about = {"similarity": f"{similarity:.3f}", "kept": kept}
        sides = {"x": texts.get(key, ""), "y": texts.get(kept, "")}
        beside.add("documents", f"{layer}_duplicate", key, **about, **sides)
    return beside.examples


def texts_of(clusters: Made, wanted: Collection[str]) -> dict[str, str]:
    """Of documents or functions that were clustered, the texts that were compared."""
    signed = clusters.inputs.get("signatures")
    source = signed.inputs.get("documents") if signed else None
    if signed is None or source is None:
        return {}
    names = [str(signed.manifest.params[name]) for name in ("id_column", "text_column")]
    found: dict[str, str] = {}
    for shard in shards_of(parts(source.path)):
        for batch in read_batches(shard, names):
            there = batch.filter(pc.is_in(batch[names[0]], value_set=pa.array(sorted(wanted), pa.string())))
            found.update(zip(there[names[0]].to_pylist(), there[names[1]].to_pylist(), strict=True))
    return found


def drawn(histogram: Histogram) -> Drawn:
    """A histogram's bars and what is said beside it."""
    cut = histogram.cut()
    whole = cut.edges[-1] > 1
    edges = [f"{edge:,.0f}" if whole else f"{edge:.2f}" for edge in cut.edges]
    most = max(1, int(cut.counts.max()))
    bars = [
        Bar(low, high, rows, 100 * rows / most)
        for low, high, rows in zip(edges[:-1], edges[1:], cut.counts.tolist(), strict=True)
    ]
    tenth, half, ninth = (histogram.below(share) for share in (0.1, 0.5, 0.9))
    form = "{:,.0f}" if whole else "{:.2f}"
    said = ", ".join(
        f"{name} up to {form.format(v)}" for name, v in (("a tenth", tenth), ("half", half), ("90%", ninth))
    )
    return Drawn(histogram.name, f"mean {form.format(histogram.mean)}; {said}", bars)


def _shares(counts: list[tuple[str, int]], rows: int) -> list[tuple[str, int, float, float]]:
    return [(name, count, 100 * count / max(1, rows), 100 * count / counts[0][1]) for name, count in counts]


def _similarities(made: Made) -> list[Histogram]:
    """Of duplicates that were removed on the way, how alike they are to what stayed."""
    clusters = made.of("clusters")
    if clusters is None or "similarity" not in clusters.manifest.columns:
        return []
    return [unit_histogram("similarity of removed duplicates", clusters.path, "similarity")]


def _origins(made: Made, found: Survey) -> Mapping[str, dict[str, Any]]:
    """Of the sample's documents or functions, title and place: {id: {column: value}}."""
    rows = made.inputs.get("rows")
    if rows is None:
        return {}
    names = rows.manifest.columns
    id_column = next((name for name in ("doc_id", "function_id") if name in names), None)
    if id_column is None:
        return {}
    shown = [name for name in ("title", "url", "qualname", "path", "version") if name in names]
    wanted = pa.array(sorted({row["x_doc"] for row in found.sample if row.get("x_doc")}), pa.string())
    origins = {}
    for shard in shards_of(parts(rows.path)):
        for batch in read_batches(shard, [id_column, *shown]):
            for row in batch.filter(pc.is_in(batch[id_column], value_set=wanted)).to_pylist():
                origins[row.pop(id_column)] = row
    return origins
