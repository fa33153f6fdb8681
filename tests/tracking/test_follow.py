"""Every step of a growing metrics file reaches the listener exactly once."""

from __future__ import annotations

import io
import json
import os

import pytest

from cpt_ray.tracking import follow as module
from cpt_ray.tracking.follow import Growing, follow


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


def test_what_is_read_grows_as_the_file_does(tmp_path, monkeypatch):
    """A long run is looked at every second: each byte is read once, not all of them each time."""
    path, growing, read = tmp_path / "metrics.jsonl", Growing(str(tmp_path / "metrics.jsonl")), []

    class Counted(io.FileIO):
        def read(self, size=-1):
            read.append(len(data := super().read(size)))
            return data

    monkeypatch.setattr(module, "open", Counted, raising=False)
    assert growing.lines() == []
    for step in range(200):
        _write(path, [step])
        assert [json.loads(line)["step"] for line in growing.lines()] == [step]
        assert growing.lines() == []
    assert sum(read) == path.stat().st_size


@pytest.mark.parametrize("rows", [1, 3, 30])
def test_a_file_in_its_place_is_read_from_its_beginning(tmp_path, rows):
    """A resumed run puts another file there, shorter or longer than what was read of the first."""
    path, other = tmp_path / "metrics.jsonl", tmp_path / "metrics.tmp"
    growing = Growing(str(path))
    _write(path, range(3))
    assert len(growing.lines()) == 3
    _write(other, range(100, 100 + rows))
    os.replace(other, path)
    assert [json.loads(line)["step"] for line in growing.lines()] == [*range(100, 100 + rows)]


def test_a_file_cut_short_is_read_from_its_beginning(tmp_path):
    path = tmp_path / "metrics.jsonl"
    growing = Growing(str(path))
    _write(path, range(3))
    assert len(growing.lines()) == 3
    _write(path, [7], mode="w")
    assert [json.loads(line)["step"] for line in growing.lines()] == [7]


def test_a_line_is_read_when_it_has_its_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    growing = Growing(str(path))
    path.write_bytes(b'{"step": 1}\n{"st')
    assert growing.lines() == [b'{"step": 1}\n']
    path.write_bytes(b'{"step": 1}\n{"step": 2}\n')
    assert growing.lines() == [b'{"step": 2}\n']
