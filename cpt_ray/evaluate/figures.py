"""The report's figures, as matplotlib Figures without pyplot: the same ones go into the HTML as SVG and to MLflow as
images.

Ink and grid are drawn in two marker colours, which `svg` replaces by CSS: the figures follow a light or a dark page.
"""

import io
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

INK, GRID = "#1b2027", "#d9dde3"
COLOURS = {"code": "#3567d6", "text": "#d9782d"}
ORDERED = ("#3567d6", "#d9782d", "#2a9d8f", "#8e5bd0", "#6b7280", "#b8336a")
OTHER = ("#2a9d8f", "#8e5bd0", "#6b7280")
HEAT = LinearSegmentedColormap.from_list("cpt_ray", ["#e7eefb", "#3567d6", "#16306f"])
TITLES = {"temperature": "initial temperature", "batch_size": "batch size (pairs)"}
MOST_LINES = 16
"""In a figure with a legend."""
MANY_POINTS = 40
"""Beyond so many a line is a running mean."""
FONT = "DejaVu Sans"  # what matplotlib measures with; the page shows its own

Rows = Sequence[Mapping[str, float]]


def curves(series: Mapping[str, Rows], columns: Sequence[str], title: str, label: str) -> Figure:
    """Columns of each series' rows over `step`: one line per series and column; a column that a row lacks is skipped
    there. Of a row for every step the line is the running mean, the values are faint behind it."""
    figure = Figure(figsize=(5.4, 3.1), layout="constrained")
    axes = figure.subplots()
    for number, (name, rows) in enumerate(series.items()):
        for style, column in zip(("-", "--", ":", "-."), columns, strict=False):
            points = [(row["step"], row[column]) for row in rows if row.get(column) is not None]
            if not points:
                continue
            steps, values = np.array(points, np.float64).T
            text = name if len(columns) == 1 else f"{name}: {_words(column)}"
            if len(points) > MANY_POINTS:  # batches of several sources jump from loss to loss
                axes.plot(steps, values, style, color=_colour(name, number), linewidth=0.6, alpha=0.25)
                values = running_mean(values, len(points) // MANY_POINTS)
            axes.plot(
                steps,
                values,
                style,
                color=_colour(name, number),
                label=text,
                linewidth=1.8,
                marker="o" if len(points) <= 15 else None,
                markersize=3.5,
            )
    _plain(axes, title, "step", label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    if axes.lines:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def running_mean(values: np.ndarray, reach: int) -> np.ndarray:
    """(n,) the mean of each value and of `reach` on both sides of it, as far as there are."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    at = np.arange(len(values))
    first, last = np.maximum(at - reach, 0), np.minimum(at + reach + 1, len(values))
    return (sums[last] - sums[first]) / (last - first)


class Line(NamedTuple):
    """A trial: its values by name, the pairs of its batch, its metrics by step."""

    values: Mapping[str, Any]
    batch_size: int
    rows: Rows


def sweep(trials: Sequence[tuple[Mapping[str, Any], float]], metric: str = "MRR") -> Figure:
    """(values by name, metric) of trials, best first: a heatmap where two things are varied and most of their combinations
    are there, else the metric over each of them."""
    names = list(trials[0][0])
    axes = [_sorted(values[name] for values, _ in trials) for name in names]
    if len(names) == 2 and len(axes[0]) * len(axes[1]) <= 2 * len(trials):
        return _heatmap(trials, names, axes, metric)
    figure = Figure(figsize=(0.6 + 3.2 * len(names), 3.1), layout="constrained")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name, several in zip(panels, names, axes, strict=True):
        numbers = all(_is_number(value) for value in several)
        at = {shown(value): value if numbers else place for place, value in enumerate(several)}
        points = [(at[shown(values[name])], score) for values, score in trials]
        panel.scatter(*zip(*points, strict=True), s=26, color=COLOURS["code"], alpha=0.75, linewidth=0)
        panel.scatter(*points[0], s=60, facecolor="none", edgecolor=INK, linewidth=1.2)
        if numbers and several[0] > 0 and several[-1] >= 20 * several[0]:
            panel.set_xscale("log")
        elif not numbers or len(several) <= 4:
            panel.set_xticks(list(at.values()), list(at))
        _plain(panel, "", _title(name), f"held-out {metric}" if panel is panels[0] else "")
    figure.suptitle(f"Sweep: held-out {metric}; the best is ringed", color=INK, fontsize=10.5)
    return figure


def _heatmap(
    trials: Sequence[tuple[Mapping[str, Any], float]], names: Sequence[str], of: Sequence[list[Any]], metric: str
) -> Figure:
    """Each trial's metric in its cell, the best bold."""
    rows, columns = of
    grid = np.full((len(rows), len(columns)), np.nan)
    for values, score in trials:
        grid[rows.index(values[names[0]]), columns.index(values[names[1]])] = score
    figure = Figure(figsize=(1.6 + 1.5 * len(columns), 1.3 + 0.85 * len(rows)), layout="constrained")
    axes = figure.subplots()
    best = trials[0][1]
    merit = grid if best == np.nanmax(grid) else -grid  # of a loss, the lowest is the darkest
    low, high = float(np.nanmin(merit)), float(np.nanmax(merit))
    axes.imshow(merit, cmap=HEAT, vmin=low - 0.25 * (high - low + 1e-9), vmax=high + 1e-9, aspect="auto")
    for row, column in np.ndindex(*grid.shape):
        value = float(grid[row, column])
        if not np.isnan(value):
            dark = merit[row, column] > low + 0.2 * (high - low)
            axes.text(
                column,
                row,
                f"{value:.3f}",
                ha="center",
                va="center",
                fontsize=12,
                color="#ffffff" if dark else "#16306f",
                fontweight="bold" if value == best else "normal",
            )
    axes.set_xticks(range(len(columns)), [shown(value) for value in columns])
    axes.set_yticks(range(len(rows)), [shown(value) for value in rows])
    _plain(axes, f"Sweep: held-out {metric}", _title(names[1]), _title(names[0]))
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return figure


def by_examples(trials: Sequence[Line], column: str, label: str) -> Figure:
    """`column` of trials' rows over the examples seen (step x batch size), which is what trials are equal in: a colour for
    each value of what is varied first, a kind of line for each of the others. The shade is from the lowest to the highest of
    a colour. Without a legend where there are too many lines to tell apart."""
    names = list(trials[0].values)
    first = _sorted(line.values[names[0]] for line in trials)
    others = _sorted(_rest(line, names) for line in trials)
    figure = Figure(figsize=(7.4, 4.0), layout="constrained")
    axes = figure.subplots()
    for number, value in enumerate(first):
        colour = ORDERED[number % len(ORDERED)]
        band: dict[float, list[float]] = {}
        for line in sorted(
            (line for line in trials if line.values[names[0]] == value), key=lambda one: others.index(_rest(one, names))
        ):
            points = [(row["step"] * line.batch_size, row[column]) for row in line.rows if column in row]
            for at, score in points:
                band.setdefault(at, []).append(score)
            axes.plot(
                *zip(*points, strict=True),
                ("-", "--", ":", "-.")[others.index(_rest(line, names)) % 4],
                color=colour,
                label=", ".join(shown(one) for one in line.values.values()),
                marker="o",
                markersize=3.5,
                linewidth=1.6,
            )
        seen = sorted(band)
        low, high = [min(band[at]) for at in seen], [max(band[at]) for at in seen]
        axes.fill_between(seen, low, high, color=colour, alpha=0.12, linewidth=0)
    _plain(axes, f"{label[:1].upper()}{label[1:]} by examples seen", "pairs seen", label)
    if len(trials) <= MOST_LINES:
        title = ", ".join(_words(name) for name in names)
        figure.legend(frameon=False, fontsize=8.5, labelcolor=INK, title=title, loc="outside right upper")
    return figure


def shown(value: Any) -> str:
    """A value of an option for people."""
    if isinstance(value, float):
        return f"{value:g}"
    return f"{value:,}" if _is_number(value) else value if isinstance(value, str) else json.dumps(value)


def _rest(line: Line, names: Sequence[str]) -> tuple[Any, ...]:
    """Its values but for the first."""
    return tuple(line.values[name] for name in names[1:])


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sorted(values: Iterable[Any]) -> list[Any]:
    """Each once: numbers by size, others by their text; tuples by what they hold."""

    def place(value: Any) -> Any:
        if isinstance(value, tuple):
            return [place(one) for one in value]
        return (0, value, "") if _is_number(value) else (1, 0, shown(value))

    return [value for value, _ in itertools.groupby(sorted(values, key=place))]


def _title(name: str) -> str:
    return TITLES.get(name, _words(name))


def funnel(stages: Sequence[tuple[str, int, int, Mapping[str, int]]]) -> Figure:
    """One bar per (name, read, kept, dropped by reason), as shares of what was read: kept first, then the largest
    reasons."""
    figure = Figure(figsize=(11, 0.75 + 0.42 * max(1, len(stages))), layout="constrained")
    axes = figure.subplots()
    for row, (_, read, kept, dropped) in enumerate(stages):
        left, whole = 0.0, max(read, 1)
        for shade, (reason, count) in enumerate([("kept", kept), *_largest(dropped, 4)]):
            width = count / whole
            colour = (
                COLOURS["code"]
                if reason == "kept"
                else ("#c9745d", "#d79a86", "#e2bcae", "#c8c8cc", "#c8c8cc")[shade - 1]
            )
            axes.barh(row, width, left=left, color=colour, height=0.62, linewidth=0)
            if width > 0.14:
                tint = "#ffffff" if reason == "kept" or shade == 1 else "#3a2a25"
                text = f"{count:,}" if reason == "kept" else f"{_words(reason)} {count:,}"
                if len(text) * 0.0078 < width:
                    axes.text(left + width / 2, row, text, ha="center", va="center", fontsize=8.5, color=tint)
            left += width
        axes.text(1.012, row, f"{kept:,} of {read:,}", va="center", fontsize=9, color=INK)
    axes.set_yticks(range(len(stages)), [_words(name) for name, *_ in stages])
    axes.set_xlim(0, 1.16)
    axes.set_ylim(len(stages) - 0.5, -0.6)
    _plain(axes, "What each step keeps (blue) and drops, by reason", "", "")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
    return figure


def similarities(right: Sequence[int], other: Sequence[int], title: str, name: str) -> Figure:
    """Counts of cosines in equal bins from -1 to 1, as shares: of queries with their own answers, and with others'."""
    figure = Figure(figsize=(5.4, 3.1), layout="constrained")
    axes = figure.subplots()
    edges = np.linspace(-1, 1, len(right) + 1)
    for counts, label, colour in ((other, "answers of others", OTHER[2]), (right, "its own answer", _colour(name, 0))):
        shares = np.array(counts) / max(1, sum(counts))
        axes.stairs(shares, edges, fill=True, color=colour, alpha=0.55, label=label)
    seen = np.flatnonzero(np.array(right) + np.array(other))
    if len(seen):
        axes.set_xlim(edges[seen[0]], edges[seen[-1] + 1])
    _plain(axes, title, "cosine of a query and ...", "share")
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def pairs_map(places: Sequence[tuple[float, float, float, float]], title: str, name: str) -> Figure:
    """Queries and their answers, each a dot at its place in a plane, joined by a line."""
    figure = Figure(figsize=(5.4, 4.2), layout="constrained")
    axes = figure.subplots()
    qx, qy, ax, ay = np.array(places, np.float64).reshape(-1, 4).T
    axes.plot(np.stack([qx, ax]), np.stack([qy, ay]), color=OTHER[2], linewidth=0.5, alpha=0.35)
    axes.plot(ax, ay, "o", color=_colour(name, 0), markersize=3.2, alpha=0.8, label="answers")
    axes.plot(qx, qy, "o", color=OTHER[1], markersize=3.2, alpha=0.8, label="queries")
    _plain(axes, title, "first principal component", "second")
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def scaling(series: Mapping[str, Mapping[int, Sequence[float]]], title: str, x: str, y: str) -> Figure:
    """A metric over a size on a doubling scale: for each series a dot for each repetition, a line through the means, and
    the last mean written. Every second series is dashed, in the colour of the one before."""
    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, (name, values) in enumerate(series.items()):
        sizes, colour = sorted(values), _colour(name, number // 2)
        means = [float(np.mean(values[size])) for size in sizes]
        axes.plot(sizes, means, "-" if number % 2 == 0 else "--", color=colour, linewidth=1.8, label=name)
        for size in sizes:
            axes.plot([size] * len(values[size]), values[size], "o", color=colour, markersize=4.5)
        axes.annotate(
            f"{means[-1]:.3f}",
            (sizes[-1], means[-1]),
            textcoords="offset points",
            xytext=(7, -3),
            fontsize=8.5,
            color=INK,
        )
    _plain(axes, title, x, y)
    shown = sorted({size for values in series.values() for size in values})
    axes.set_xscale("log", base=2)
    axes.set_xticks(shown, [f"{size:,}" for size in shown])
    axes.margins(x=0.1, y=0.08)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def contrast(groups: Mapping[str, Mapping[str, Sequence[float]]], title: str, x: str) -> Figure:
    """For each group one line of dots per setting, a dot for each repetition and a bar at their mean."""
    figure = Figure(figsize=(5.4, 1.2 + 0.65 * len(groups)), layout="constrained")
    axes = figure.subplots()
    for row, settings in enumerate(groups.values()):
        for number, (name, values) in enumerate(settings.items()):
            at = row + 0.32 * (number - (len(settings) - 1) / 2)
            colour = _colour(name, number)
            axes.plot(values, [at] * len(values), "o", color=colour, markersize=5, label=name if row == 0 else None)
            axes.plot([np.mean(values)] * 2, [at - 0.12, at + 0.12], color=colour, linewidth=2.2)
    _plain(axes, title, x, "")
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.4, -0.6)
    axes.margins(x=0.12)
    axes.grid(visible=False, axis="y")
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def intervals(
    groups: Mapping[str, Mapping[str, tuple[float, float, float]]], names: Sequence[str], title: str, zero: bool = False
) -> Figure:
    """For each group a dot (value) and a bar (low to high) for each of the names it has; their order gives their colours.
    `zero` draws the line of no difference."""
    height = 0.16 + 0.17 * len(names)
    figure = Figure(figsize=(11, 1.1 + (height + 0.12) * len(groups)), layout="constrained")
    axes = figure.subplots()
    for row, group in enumerate(groups.values()):
        for number, name in enumerate(names):
            if name not in group:
                continue
            value, low, high = group[name]
            at, colour = row + 0.62 * ((number + 0.5) / len(names) - 0.5), ORDERED[number % len(ORDERED)]
            axes.plot([low, high], [at, at], color=colour, linewidth=2.2, solid_capstyle="round", alpha=0.55)
            label = name if name not in axes.get_legend_handles_labels()[1] else None
            axes.plot([value], [at], "o", color=colour, markersize=5.5, label=label)
    if zero:
        axes.axvline(0, color=INK, linewidth=1)
    _plain(axes, title, "", "")
    axes.set_yticks(range(len(groups)), list(groups))
    axes.set_ylim(len(groups) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=8.5, labelcolor=INK, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def svg(figure: Figure, name: str) -> str:
    """The figure as an inline `<svg>` element without size, date or outer resource; `name` keeps ids apart on one
    page."""
    out = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        figure.savefig(out, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'(<svg\b[^>]*?) height="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg\b[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = text.replace(INK, "currentColor").replace(GRID, "var(--line)")
    # Ids such as axes_1 or text_3 are the same in each figure of a page; clip paths and markers are referred to.
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", text)
    return re.sub(rf"(['\"]){FONT}\1|{FONT}", "system-ui, sans-serif", text)


def svg_file(figure: Figure, name: str) -> str:
    """The same as a file of its own, as wide as drawn; it follows the reader's light or dark scheme by itself."""
    width = round(figure.get_figwidth() * 96)
    style = (
        f"<style>svg{{color:{INK};--line:{GRID}}}"
        "@media(prefers-color-scheme:dark){svg{color:#e4e7eb;--line:#3b424c}}</style>"
    )
    return re.sub(r"<svg\b[^>]*>", lambda tag: f'{tag[0][:-1]} width="{width}">{style}', svg(figure, name), count=1)


def _plain(axes: Axes, title: str, x: str, y: str) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, color=INK, pad=8, fontweight="bold")
    axes.set_xlabel(x, fontsize=9, color=INK)
    axes.set_ylabel(y, fontsize=9, color=INK)
    axes.tick_params(labelsize=8.5, colors=INK, length=3, color=GRID)
    axes.grid(color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(GRID)


def _colour(name: str, number: int) -> str:
    return COLOURS.get(name, OTHER[number % len(OTHER)])


def _words(name: str) -> str:
    return name.replace("heldout", "held-out").replace("_", " ")


def _largest(dropped: Mapping[str, int], n: int) -> list[tuple[str, int]]:
    """The n largest reasons, the rest summed as `other`."""
    ordered = sorted(dropped.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[n:])
    return ordered[:n] + ([("other", rest)] if rest else [])
