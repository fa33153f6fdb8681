"""What the last commit that changed a function says, on repositories made here."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cpt_ray.code.functions import MINE
from cpt_ray.code.history import Commit, cleaned, functions_in, reason_of
from cpt_ray.code.options import HistoryOptions, MineOptions
from cpt_ray.code.repositories import mine_repository_shard
from cpt_ray.pairs.docstrings import code_pairs
from cpt_ray.pairs.options import DocstringOptions
from pipelines.options.code_pairs import Steps

CODE = 'def {name}(x):\n    """Parse {name} from the text."""\n    y = x\n    return y\n'
OPTIONS = MineOptions(history=HistoryOptions(commits=100), mask=("email",))

Change = Callable[..., None]


@pytest.fixture
def change(tmp_path: Path) -> Change:
    """Commit files with a message, or run a command of git."""

    def run(*words: str, message: str = "", author: str = "somebody", **files: str) -> None:
        for name, text in files.items():
            (tmp_path / f"{name}.py").write_text(text)
        who = {f"GIT_{of}_{what}": author for of in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
        at = {f"GIT_{of}_DATE": "2031-01-01T00:00:00Z" for of in ("AUTHOR", "COMMITTER")}  # time tells no order
        environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **who, **at}
        commands = [["add", "-A"], ["commit", "-qm", message]] if message else [list(words)]
        for command in commands:
            subprocess.run(["git", *command], cwd=tmp_path, env=environment, check=True, capture_output=True)

    run("init", "-q", "-b", "main")
    return run


def messages(folder: Path, options: MineOptions = OPTIONS) -> tuple[dict[str, str | None], dict[str, int]]:
    """By function; and the ledger's reasons, which must balance."""
    shards = [{"repository": str(folder), "commit": "main", "group": "g", "slice": [i, 2]} for i in range(2)]
    found: dict[str, str | None] = {}
    dropped: dict[str, int] = {}
    for shard in shards:
        table, ledger = mine_repository_shard(shard, options)
        count = ledger.check("mine").units["messages"]
        assert (count.read, ledger.kept) == (table.num_rows, table.num_rows)
        found |= dict(zip(table["name"].to_pylist(), table["message"].to_pylist(), strict=True))
        dropped = {name: dropped.get(name, 0) + n for name, n in count.dropped.items()} | {
            name: n for name, n in dropped.items() if name not in count.dropped
        }
    return found, dropped


def test_a_blob_of_long_ago_that_is_absent_is_counted(change: Change, tmp_path: Path) -> None:
    """As in a partial clone: the function is mined, and that its history cannot be read is said."""
    change(message="Begin", a=CODE.format(name="one"))
    old = subprocess.run(["git", "rev-parse", "HEAD:a.py"], cwd=tmp_path, check=True, capture_output=True, text=True)
    change(message="Read the text twice where it is short", a=CODE.format(name="one").replace("y = x", "y = x + x"))
    blob = old.stdout.strip()
    (tmp_path / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    assert messages(tmp_path) == ({"one": None}, {"unreadable_history": 1})


def test_the_last_commit_that_changed_a_function_and_little_else(change: Change, tmp_path: Path) -> None:
    names = ("dates", "times", "sizes", "zones", "years", "weeks")
    base = {name: CODE.format(name=name) for name in names}
    change(message="Begin with all that there is", **base)
    better = {name: text.replace("y = x", "y = x.strip()") for name, text in base.items()}
    change(
        message="fix(dates): spaces around a date are no part of it (#12)\n\nSee a@example.org\n\nSigned-off-by: b <b@example.org>",
        dates=better["dates"],
    )
    change(message="Spaces around times are no part of them", author="helper[bot]", times=better["times"])
    change(
        message="Three functions at once strip their text",
        sizes=better["sizes"],
        zones=better["zones"],
        years=better["years"],
    )
    indented = better["dates"].replace("    return", "    return ")  # blanks alone change nothing
    change(message="Format the code of dates", dates=indented, weeks=base["weeks"] + "\n\n# The end.\n")
    found, dropped = messages(tmp_path)
    told = "spaces around a date are no part of it\n\nSee <email>"
    assert found == {**dict.fromkeys(names), "dates": told}
    assert dropped == {"bot": 1, "changes_more": 3, "first_commit": 1}
    three = OPTIONS.model_copy(update={"history": HistoryOptions(commits=100, functions=3)})
    assert messages(tmp_path, three)[0]["years"] == "Three functions at once strip their text"
    few = OPTIONS.model_copy(update={"history": HistoryOptions(commits=2)})
    assert messages(tmp_path, few)[1] == {"changes_more": 3, "no_history": 3}


def test_what_is_merged_is_said_by_its_own_commit(change: Change, tmp_path: Path) -> None:
    """Also where the branch has more commits than are read of the line that it joined."""
    change(message="Begin with all that there is", dates=CODE.format(name="dates"), times=CODE.format(name="times"))
    change("checkout", "-qb", "side")
    change(
        message="Dates may have spaces around them", dates=CODE.format(name="dates").replace("y = x", "y = x.strip()")
    )
    change("checkout", "-q", "main")
    change(message="Times are read from the right", times=CODE.format(name="times").replace("y = x", "y = x[::-1]"))
    change("merge", "-q", "--no-ff", "-m", "Merge branch side", "side")
    found, dropped = messages(tmp_path)
    assert found == {"dates": "Dates may have spaces around them", "times": "Times are read from the right"}
    assert dropped == {}
    change("revert", "--no-edit", "HEAD~1")
    found, dropped = messages(tmp_path)
    assert (found["dates"], dropped) == ("Dates may have spaces around them", {"revert": 1})


def test_a_shallow_clone_ends_where_it_ends(change: Change, tmp_path: Path) -> None:
    change(message="Begin with all that there is", dates=CODE.format(name="dates"))
    change(
        message="Dates may have spaces around them", dates=CODE.format(name="dates").replace("y = x", "y = x.strip()")
    )
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", "--depth=1", f"file://{tmp_path}", str(clone)], check=True)
    assert messages(clone)[1] == {"first_commit": 1}
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "dates.py").write_text(CODE.format(name="dates"))
    table, ledger = mine_repository_shard({"repository": str(plain), "group": "g"}, OPTIONS)
    assert (table["message"].to_pylist(), ledger.units["messages"].dropped) == ([None], {"no_history": 1})


def test_messages_are_pairs_of_a_source_of_their_own(change: Change, tmp_path: Path) -> None:
    """Off by default, and then no commit is read."""
    change(message="Begin with all that there is", dates=CODE.format(name="dates"), times=CODE.format(name="times"))
    change(
        message="Dates may have spaces around them", dates=CODE.format(name="dates").replace("y = x", "y = x.strip()")
    )
    shard = {"repository": str(tmp_path), "commit": "main", "group": "g"}
    table, ledger = mine_repository_shard(shard, MineOptions())
    assert table["message"].null_count == 2
    assert "messages" not in ledger.units
    table, _ = mine_repository_shard(shard, OPTIONS)
    assert table.schema.equals(MINE.gives)
    pairs, ledger = code_pairs(table, None, DocstringOptions(further=("commit",)))
    (row,) = (row for row in pairs.to_pylist() if row["source"] == "code_commit")
    assert row["x"] == "Dates may have spaces around them"
    assert "x.strip()" in row["y"]
    assert ledger.to_dict() == {"functions": {"read": 4, "kept": 3, "dropped": {"no_message": 1}}}
    with pytest.raises(ValueError, match=r"mine\.history\.commits"):
        Steps(docstrings=DocstringOptions(further=("commit",)))


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("feat(parser)!: Read dates (#12)", "Read dates"),
        ("[core] Read dates, fixes #12\n", "Read dates"),
        ("Fix gh-12: read dates in C#7", "read dates in C#7"),
        ("Read dates\r\n\r\nThey were\r\nleft out.\r\n", "Read dates\n\nThey were\nleft out."),
        ("Read dates\n\nhttps://example.org/1\n\nWhy: because.", "Read dates\n\nWhy: because."),
        (
            "Read dates\n\nThey were left out.\n\nFixes: 12\nCo-authored-by: a <b>\n  and c\n",
            "Read dates\n\nThey were left out.",
        ),
        ("Read dates\n\n(cherry picked from commit 12)\ngit-svn-id: 1\n", "Read dates"),
    ],
)
def test_messages_are_cleaned(message: str, said: str) -> None:
    assert cleaned(message) == said


@pytest.mark.parametrize(
    ("commit", "reason"),
    [
        (Commit(0, "a", "a@b.c", "Begin"), "first_commit"),
        (Commit(2, "a", "a@b.c", "Read dates"), "merge"),
        (Commit(1, "a", "a@b.c", "Merge pull request #1"), "merge"),
        (Commit(1, "a", "a@b.c", 'Revert "Read dates"'), "revert"),
        (Commit(1, "dependabot[bot]", "1+x@users.noreply.example.org", "Bump it"), "bot"),
        (Commit(1, "a", "release-bot@b.c", "Bump it"), "bot"),
        (Commit(1, "Abbott", "robot.smith@b.c", "Merged dates are read"), None),
    ],
)
def test_who_says_nothing_of_one_function(commit: Commit, reason: str | None) -> None:
    assert reason_of(commit) == reason


def test_functions_that_a_change_is_in() -> None:
    """The innermost; what was taken out between two lines is in what holds both."""
    source = b"def f():\n    def g():\n        return 1\n    return g\ndef h():\n    return 2\n"
    assert functions_in(source, "python", [range(3, 4)]) == 1
    assert functions_in(source, "python", [range(4, 5), range(6, 7)]) == 2
    assert functions_in(source, "python", [range(5, 5)]) == 0  # taken out between f and h
    assert functions_in(source, "python", [range(6, 6)]) == 1
