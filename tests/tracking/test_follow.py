"""Every step of a growing metrics file reaches the listener exactly once."""

from __future__ import annotations

import json

import pytest

from cpt_ray.tracking.follow import follow


def _write(path, steps, mode="a", end="\n"):
    with path.open(mode) as sink:
        for step in steps:
            sink.write(json.dumps({"step": step, "loss": step / 2}) + end)


def test_each_step_once_although_the_file_is_rewritten(tmp_path):
    """A resumed run rewrites the file from its checkpoint on; the listener hears no step twice, and the last line too."""
    path, heard = tmp_path / "metrics.jsonl", []
    _write(path, [1, 2])
    with follow(str(path), lambda step, row: heard.append((step, row["loss"])), seconds=0.01):
        _write(path, [3])
        _write(path, [1, 2, 3, 4, 5], mode="w")
    assert heard == [(step, step / 2) for step in (1, 2, 3, 4, 5)]


def test_a_line_cut_short_waits_for_its_end(tmp_path):
    """A line without its end is half written."""
    path, heard = tmp_path / "metrics.jsonl", []
    _write(path, [7], end="")
    with follow(str(path), lambda step, row: heard.append(step), seconds=0.01):
        pass
    assert heard == []


def test_what_the_listener_raises_is_not_lost(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(path, [1])

    def fails(step, row):
        raise ValueError("no such metric")

    with pytest.raises(ValueError, match="no such metric"), follow(str(path), fails, seconds=0.01):
        pass
