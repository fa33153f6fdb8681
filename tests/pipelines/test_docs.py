"""The commands of README.md and docs/ are what these say they are."""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from cpt_ray.artifacts import read_manifest
from pipelines import cli
from tests.serve.conftest import model_folder

__all__ = ["model_folder"]

ROOT = Path(cli.__file__).parents[1]
PAGE = (ROOT / "docs" / "analyst.md").read_text(encoding="utf-8")
WORDS = ["harbour", "lantern", "orchard", "copper", "violin", "glacier", "saddle", "pepper", "compass", "thunder"]


def _words(command: str, **given: str) -> list[str]:
    """The command's words, each `<placeholder>` replaced."""
    return shlex.split(re.sub(r"<(.*?)>", lambda found: given.get(found[1], "given"), command), comments=True)


def _commands() -> Iterator[tuple[str, str]]:
    """(page, what follows `cpt-ray`) of all fenced blocks, over as many lines as a command takes; and of what stands in a
    sentence with a key or a placeholder."""
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))):
        text = page.read_text(encoding="utf-8").replace("\\\n", "")
        blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        for block in (block for language, block in blocks if not language):
            for begun in re.finditer(r"^(?:[A-Z_]+=\w+ )?(?:\.venv/bin/)?cpt-ray (.*)", block, re.MULTILINE):
                command, rest = begun[1], block[begun.end() :]
                while command.partition(" #")[0].count("'") % 2:
                    line, _, rest = rest.removeprefix("\n").partition("\n")
                    command += " " + line
                yield page.name, command
        for command in re.findall(r"`cpt-ray ([^`]*[=<][^`]*)`", text):
            yield page.name, command


@pytest.mark.parametrize(("page", "command"), [*_commands()])
def test_every_command_composes(
    page: str, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its keys are keys of the pipeline, and its values are taken."""
    monkeypatch.setenv("CPT_RAY_OUTPUTS", "/outputs")
    assert cli.main([*_words(command), "--print-config"]) == 0, page
    assert capsys.readouterr().out


def test_every_python_block_is_python() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        ast.parse(block)


def _labelled(root: Path) -> Path:
    """Every folder that suite=text reads, a few rows each."""
    for name in ("cranfield", "xquad-en"):
        folder = root / "search" / name
        (folder / "qrels").mkdir(parents=True)
        for kind in ("corpus", "queries"):
            rows = [json.dumps({"_id": f"{i}", "text": f"{word} {kind}"}) + "\n" for i, word in enumerate(WORDS)]
            (folder / f"{kind}.jsonl").write_text("".join(rows))
        judged = "".join(f"{i}\t{i}\t1\n" for i in range(len(WORDS)))
        (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
    lines = "label\ttext\n" + "".join(f"{i % 2}\t{WORDS[i % 10]} {'bad' if i % 2 else 'good'} {i}\n" for i in range(40))
    for name, parts in (("MR", ["all"]), ("CR", ["all"]), ("SST2", ["train", "test"]), ("TREC", ["train", "test"])):
        (root / "classification" / name).mkdir(parents=True)
        for part in parts:
            (root / "classification" / name / f"{part}.tsv").write_text(lines)
    pairs = "".join(f"{i % 6}\t{word}\t{WORDS[i * 3 % 10]} {word}\n" for i, word in enumerate(WORDS))
    (root / "similarity" / "STSB").mkdir(parents=True)
    (root / "similarity" / "STSB" / "test.tsv").write_text("score\tsentence1\tsentence2\n" + pairs)
    return root


def test_which_model_is_better_as_it_is_written(
    model_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its three commands, one after the other: two suites with intervals, and a page that compares them."""
    monkeypatch.chdir(tmp_path)
    section = PAGE.partition("## Which model is better")[2].partition("\n## ")[0]
    commands = re.findall(r"^cpt-ray (.*)$", section, re.MULTILINE)
    assert [command.split()[0] for command in commands] == ["evaluate", "evaluate", "compare"]
    given = {"one model": model_folder, "another": model_folder, "folder": str(_labelled(tmp_path / "data"))}
    for command in commands:
        assert cli.main(_words(command, **given)) == 0, command
    rows = read_manifest("outputs/one_suite").extra["rows"]
    assert {row["kind"] for row in rows} == {"beir", "health", "classification", "sentiment", "similarity"}
    assert all("low" in row for row in rows if row["method"] == "model" and row["kind"] != "health")
    assert "health (its queries are not told apart)" in capsys.readouterr().out
    assert (tmp_path / "comparison.html").read_text().count("no sure difference") >= 7
