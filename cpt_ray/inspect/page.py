"""A page about an artifact: the way from record to row, how its values are spread, and rows as a person reads them.

It is one HTML file that asks nothing of any host, also not by what a page in the corpus may hold: all text is escaped, and
its policy allows no script and no address.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow.compute as pc

from cpt_ray import __version__
from cpt_ray.artifacts import Sampler, examples
from cpt_ray.artifacts.examples import Example, Examples
from cpt_ray.artifacts.ledger import parts_of_rows
from cpt_ray.artifacts.places import locate, write
from cpt_ray.inspect.lineage import Made, lineage
from cpt_ray.inspect.rows import Row, batches, rows_of
from cpt_ray.inspect.survey import MOST_SHARES, Histogram, Survey, kind_of, survey, unit_histogram

if TYPE_CHECKING:
    from jinja2 import Template

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


class Part(NamedTuple):
    """The rows of one value of a column: how many are there and some of them, how many of each reason were dropped (None: the
    step does not count them by this column) and some of those."""

    value: str
    kept: int
    dropped: Mapping[str, int] | None
    rows: Sequence[Row]
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
    kind = kind_of(path)
    made = lineage(path)
    found, told = survey(path, kind), examples.rows_of(path)
    return template("page.html.j2").render(
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
        each={name: parts for name in kind.each if (parts := _parts(name, found, told))},
        origins=_origins(made, found) if kind.name == "pairs" else {},
        version=__version__,
    )


def template(name: str) -> Template:
    """A template of this folder: what is put into it is escaped, and what it lacks is an error."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "words": lambda name: name.replace("_", " "),
        "count": lambda n: f"{n:,}",
        "percent": percent,
    }
    return environment.from_string(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def percent(share: float) -> str:
    """Two digits, and 100 % as it is."""
    return f"{share:.0f}%" if share >= 99.5 else f"{share:.2g}%"


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
    for batch in batches(made.path, ["doc_id", "kept", "matched_id", "similarity", "layer"]):
        for row in batch.filter(pc.invert(batch["kept"])).to_pylist():
            about = {"similarity": f"{row['similarity']:.3f}", "kept": row["matched_id"]}
            sampler.add("documents", f"{row['layer']}_duplicate", row["doc_id"], **about)
    shown = [(place, one.key, one.texts) for place, held in sampler.examples.items() for one in held]
    texts = texts_of(made, {name for _, key, about in shown for name in (key, about["kept"])})
    beside = Sampler()
    for place, key, about in shown:
        beside.add(*place, key, **about, x=texts.get(key, ""), y=texts.get(about["kept"], ""))
    return beside.examples


def texts_of(clusters: Made, wanted: Collection[str]) -> dict[str, str]:
    """Of documents or functions that were clustered, the texts that were compared."""
    signed = clusters.inputs.get("signatures")
    source = signed.inputs.get("documents") if signed else None
    if signed is None or source is None:
        return {}
    key, text = (str(signed.manifest.params[name]) for name in ("id_column", "text_column"))
    return {name: row[text] for name, row in rows_of(source.path, key, wanted, [text]).items()}


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


def _parts(column: str, found: Survey, told: Sequence[Mapping[str, Any]]) -> list[Part]:
    """The values of a column that most rows had, when the step that made them began, by what is `told` beside its parts."""
    counts = {value: one for (_, of, value), one in parts_of_rows(told).items() if of == column}
    shown: dict[str, list[Example]] = defaultdict(list)
    place = examples.having(column, "")
    for (_, reason), held in examples.from_rows(row for row in told if "shown" in row).items():
        if reason.startswith(place):
            shown[reason.removeprefix(place)] += held
    kept = found.shares.get(column, Counter())
    read = {value: counts[value].read if value in counts else kept[value] for value in {*kept, *counts, *shown}}
    values = sorted(read, key=lambda value: (-read[value], value))[:MOST_SHARES]
    rows = found.each.get(column, {})
    return [
        Part(
            value,
            kept[value],
            _most_first(counts[value].dropped) if value in counts else None,
            rows.get(value, ()),
            tuple(sorted(shown[value])[:KEPT]),
        )
        for value in values
    ]


def _most_first(dropped: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(dropped.items(), key=lambda item: (-item[1], item[0])))


def _shares(counts: list[tuple[str, int]], rows: int) -> list[tuple[str, int, float, float]]:
    return [(name, count, 100 * count / max(1, rows), 100 * count / counts[0][1]) for name, count in counts]


def _similarities(made: Made) -> list[Histogram]:
    """Of duplicates that were removed on the way, how alike they are to what stayed."""
    clusters = made.of("clusters")
    if clusters is None or "similarity" not in clusters.manifest.columns:
        return []
    return [unit_histogram("similarity of removed duplicates", clusters.path, "similarity")]


def _origins(made: Made, found: Survey) -> Mapping[str, Row]:
    """Of the sample's documents or functions, title and place: {id: {column: value}}."""
    rows = made.inputs.get("rows")
    if rows is None:
        return {}
    names = rows.manifest.columns
    id_column = next((name for name in ("doc_id", "function_id") if name in names), None)
    if id_column is None:
        return {}
    shown = [name for name in ("title", "url", "qualname", "path", "version") if name in names]
    return rows_of(rows.path, id_column, {row["x_doc"] for row in found.sample if row.get("x_doc")}, shown)
