"""Figures of experiments, and figures as files."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from cpt_ray.evaluate.figures import MANY_POINTS, contrast, curves, running_mean, scaling, svg_file


def test_a_file_stands_alone_and_is_the_same_each_time() -> None:
    """Well-formed, with a width, ink for both schemes, and nothing from outside."""

    def drawn() -> str:
        return svg_file(scaling({"a": {64: [0.1, 0.2], 256: [0.3]}}, "Size", "pairs", "MRR"), "size")

    text = drawn()
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert int(root.attrib["width"]) > 300
    assert "prefers-color-scheme:dark" in text
    assert "--line:" in text
    assert text.count("currentColor") > 5
    assert text.count("http") == 2  # the two name spaces
    assert drawn() == text


def test_every_repetition_and_every_mean_is_drawn() -> None:
    """A dot for each value; the means are lines or bars; sizes stand by their value, whatever their order."""
    [axes] = scaling({"a": {256: [0.25, 0.75], 64: [0.25, 0.25, 0.25]}}, "t", "x", "y").axes
    line, *dots = axes.lines
    assert [list(line.get_xdata()), list(line.get_ydata())] == [[64, 256], [0.25, 0.5]]
    assert sorted(len(one.get_xdata()) for one in dots) == [2, 3]
    assert [text.get_text() for text in axes.texts] == ["0.500"]

    [axes] = contrast({"a": {"on": [1, 3], "off": [2]}, "b": {"on": [5], "off": [6]}}, "t", "x").axes
    assert [list(line.get_xdata()) for line in axes.lines[::2]] == [[1, 3], [2], [5], [6]]
    assert [list(line.get_xdata()) for line in axes.lines[1::2]] == [[2, 2], [2, 2], [5, 5], [6, 6]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["on", "off"]


def test_two_figures_on_a_page_share_no_colour_or_id() -> None:
    """Lines of one figure differ in colour, and ids carry the figure's name."""
    figure = curves({"one": [{"step": 0, "m": 1.0}], "two": [{"step": 0, "m": 2.0}]}, ["m"], "t", "y")
    assert len({line.get_color() for line in figure.axes[0].lines}) == 2
    root = ElementTree.fromstring(svg_file(figure, "loss"))
    assert all(each.attrib["id"].startswith("loss-") for each in root.iter() if "id" in each.attrib)


def test_a_line_of_many_steps_is_a_running_mean() -> None:
    """Of as many values on either side as there are, up to `reach`; the values stay, faint, behind it."""
    values = np.random.default_rng(0).normal(size=101)
    wanted = [values[max(at - 3, 0) : at + 4].mean() for at in range(101)]
    assert running_mean(values, 3) == pytest.approx(wanted)
    rows = [{"step": step, "m": float(value)} for step, value in enumerate(values)]
    [axes] = curves({"one": rows}, ["m"], "t", "y").axes
    faint, line = axes.lines
    assert list(faint.get_ydata()) == list(values)
    assert line.get_ydata() == pytest.approx(running_mean(values, 101 // MANY_POINTS))
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one"]
