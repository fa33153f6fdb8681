"""The log as JSON: every line an object, errors of the user and of others too."""

from __future__ import annotations

import json
import logging
from datetime import datetime

import pytest

from pipelines import cli


def test_lines_are_json_where_it_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(cli.LOGS, "json")
    cli.set_up_logging()
    logging.getLogger("cpt_ray").info('%d rows,\n"quoted" ünd 日本', 3)
    try:
        raise ValueError("of others")
    except ValueError:
        logging.getLogger("elsewhere").exception("it went wrong")
    assert cli.main(["no-such-pipeline"]) == 2
    first, second, third = map(json.loads, capsys.readouterr().err.splitlines())
    assert (first["message"], first["level"], first["logger"]) == ('3 rows,\n"quoted" ünd 日本', "INFO", "cpt_ray")
    assert datetime.fromisoformat(first["time"]).utcoffset().total_seconds() == 0
    assert "ValueError: of others" in second["error"]
    assert (third["level"], "no-such-pipeline" in third["message"]) == ("ERROR", True)


def test_lines_are_plain_otherwise(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv(cli.LOGS, raising=False)
    cli.set_up_logging()
    logging.getLogger("cpt_ray").info("a line")
    assert capsys.readouterr().err.rstrip().endswith("a line")


def test_a_defect_is_a_line_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Whoever reads lines of JSON gets the traceback in one; the exit code is that of any uncaught error."""
    monkeypatch.setenv(cli.LOGS, "json")
    monkeypatch.setattr(cli, "_start", lambda name, options: 1 // 0)
    assert cli.main(["search", "x"]) == 1
    (line,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (line["level"], "ZeroDivisionError" in line["error"]) == ("ERROR", True)
