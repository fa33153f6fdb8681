"""What a repository's history says of a function: the message of the last commit that changed it and little else.

A function's lines lead to that commit (`git blame`, blanks apart), its diff to the functions it changed. Merges, reverts,
the first commit and those of bots say nothing of one function. All is read from git's objects, without a checkout.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

import pyarrow as pa

from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.code import filters
from cpt_ray.code.grammars import grammar_of, language_of
from cpt_ray.code.options import MineOptions
from cpt_ray.code.sources import to_utf8
from cpt_ray.code.syntax import TooSlow, definitions, parse, parser_of
from cpt_ray.errors import UserError
from cpt_ray.masks import masked


@runtime_checkable
class Objects(Protocol):
    """A tree that has a history: what git's plumbing answers on its objects, and blobs by their ids."""

    def version(self) -> str: ...
    def plumbing(self, *words: str) -> bytes: ...
    def blobs(self, digests: Sequence[str]) -> Iterator[bytes | None]: ...


def with_messages(functions: pa.Table, tree: object, options: MineOptions) -> tuple[pa.Table, Ledger]:
    """`functions` of a tree with their column `message`.

    The ledger of `messages` counts the functions: `no_history` (what changed them is older than what is read, or there is
    none), `unreadable_history` (git cannot compare: a blob of long ago is absent, or damaged), `first_commit`, `merge`,
    `revert`, `bot`, `changes_more` than `history.functions`, `says_little`.
    """
    history = History(tree, options) if isinstance(tree, Objects) else None
    messages: list[str | None] = []
    reasons: list[str | None] = []
    for path, start, end in zip(
        *(functions[name].to_pylist() for name in ("path", "start_line", "end_line")), strict=True
    ):
        said, reason = history.of(path, start, end) if history else (None, "no_history")
        messages.append(None if said is None else masked(said, options.mask)[0])
        reasons.append(reason)
    place = functions.schema.get_field_index("message")
    table = functions.set_column(place, "message", pa.array(messages, pa.string()))
    return table, Ledger.count("messages", reasons)


class Commit(NamedTuple):
    """A commit as far as it matters here."""

    parents: int
    author: str
    address: str
    message: str


class History:
    """The last `options.history.commits` commits along the first parents, with what was merged into them."""

    def __init__(self, objects: Objects, options: MineOptions) -> None:
        self._objects, self._options = objects, options
        most = options.history.commits
        head = objects.version()
        line = self._words("rev-list", "--first-parent", f"--max-count={most + 1}", head)
        self._range = [head, *(f"^{oldest}" for oldest in line[most:])]
        self._age = {name: i for i, name in enumerate(self._words("rev-list", "--topo-order", *self._range))}
        self._said: dict[str, tuple[str | None, str | None]] = {}
        self._blamed: tuple[str, dict[int, str] | None] = ("", {})

    def of(self, path: str, start: int, end: int) -> tuple[str | None, str | None]:
        """(message, None) of the function in these lines of the path, or (None, why there is none)."""
        if self._blamed[0] != path:
            self._blamed = path, self._blame(path)
        lines = self._blamed[1]
        if lines is None:
            return None, UNREADABLE
        commits = {lines[line] for line in range(start, end + 1) if line in lines}
        if not commits:
            return None, "no_history"
        last = min(commits, key=self._age.__getitem__)
        if last not in self._said:
            self._said[last] = self._of_commit(last)
        return self._said[last]

    def _of_commit(self, name: str) -> tuple[str | None, str | None]:
        commit = self._commit(name)
        reason = reason_of(commit)
        if reason is not None:
            return None, reason
        try:
            more = self._changes_more(name, self._options.history.functions)
        except UserError:
            return None, UNREADABLE
        if more:
            return None, "changes_more"
        said = cleaned(commit.message)
        subject = said.partition("\n")[0]
        little = filters.prose_reason(said, subject, min_words=self._options.min_words)
        return (None, "says_little") if little else (said, None)

    def _commit(self, name: str) -> Commit:
        form = "--format=%P%x00%an%x00%ae%x00%B"
        text = self._objects.plumbing("rev-list", "--max-count=1", "--encoding=UTF-8", form, name)
        parents, author, address, message = text.partition(b"\n")[2].decode("utf-8", "replace").split("\0", 3)
        return Commit(len(parents.split()), author, address, message)

    def _blame(self, path: str) -> dict[int, str] | None:
        """The commit that wrote each line, counted from 1, as far as that is not older than what is read; None where git
        cannot compare."""
        try:
            told = self._objects.plumbing("blame", "--incremental", "--root", "-w", *self._range, "--", path)
        except UserError:
            return None
        lines: dict[int, str] = {}
        name = ""
        for line in told.decode("utf-8", "replace").split("\n"):
            if group := _GROUP.fullmatch(line):
                name = group[1]
                lines |= dict.fromkeys(range(int(group[2]), int(group[2]) + int(group[3])), name)
        return {at: name for at, name in lines.items() if name in self._age}

    def _changes_more(self, name: str, most: int) -> bool:
        """Whether a commit changes more than so many functions of the languages that are mined."""
        told = self._objects.plumbing("diff-tree", "-r", "-z", "--no-commit-id", "--no-renames", name).split(b"\0")
        files = [(meta.split(), _language(path)) for meta, path in zip(told[::2], told[1::2], strict=False)]
        files = [(meta, language) for meta, language in files if language in self._options.languages]
        changed = 0
        for meta, language in files[:MOST_FILES]:
            changed += self._changed(meta[2].decode(), meta[3].decode(), language)
            if changed > most:
                return True
        return len(files) > MOST_FILES

    def _changed(self, old: str, new: str, language: str) -> int:
        """How many functions of a file differ between these blobs, of which either may be none (0000...)."""
        if not new.strip("0"):
            return 0
        data = next(iter(self._objects.blobs([new])), None)
        if data is None or len(data) > self._options.max_file_bytes:
            return MOST_FILES
        if not old.strip("0"):
            return functions_in(data, language, [range(1, len(data) + 2)])
        told = self._objects.plumbing("diff", *_PLAIN, old, new).decode("utf-8", "replace")
        return functions_in(data, language, [_new_lines(at[1], at[2]) for at in _HUNK.finditer(told)])

    def _words(self, *words: str) -> list[str]:
        return self._objects.plumbing(*words).decode().split()


UNREADABLE = "unreadable_history"
MOST_FILES = 20
"""A commit that touches more source files than that is about none of them."""
_PLAIN = ("-U0", "-w", "--no-ext-diff", "--no-color", "--diff-algorithm=myers")
_GROUP = re.compile(r"([0-9a-f]{40,64}) \d+ (\d+) (\d+)")
_HUNK = re.compile(r"^@@ -\S+ \+(\d+)(?:,(\d+))? @@", re.MULTILINE)


def _language(path: bytes) -> str:
    return language_of(os.fsdecode(path)) or ""


def _new_lines(first: str, count: str | None) -> range:
    """Of a hunk; an empty range at the line behind what was taken out."""
    start, rows = int(first), int(count or 1)
    return range(start, start + rows) if rows else range(start + 1, start + 1)


def functions_in(data: bytes, language: str, lines: Sequence[range]) -> int:
    """How many functions of a file hold one of these changes and no function that does."""
    source = to_utf8(data, language)
    if source is None:
        return 0
    read_by, grammar = grammar_of(language, source)
    try:
        found = definitions(parse(parser_of(read_by), source), source, grammar)
    except TooSlow:
        return 0
    spans = [(one.first.start_point.row + 1, one.last.end_point.row + 1, one.last.end_byte) for one in found]
    changed = [span for span in spans if any(at.start <= span[1] and span[0] < at.stop for at in lines)]
    return sum(not inner or inner[2] > span[2] for span, inner in zip(changed, [*changed[1:], None], strict=False))


MOST_CHARS = 10_000
_BOT = re.compile(r"(?i)\[bot\]|(?<![a-z])bot(?![a-z])|dependabot|renovate|github-actions|pre-commit-ci|greenkeeper")
_MERGE = re.compile(r"(?i)merge\b")
_REVERT = re.compile(r"(?i)(?:revert|reapply|back ?out)\b")
_KIND = re.compile(
    r"(?i)(?:(?:feat|fix|docs?|style|refactor|perf|test|build|ci|chore)(?:\([^)\n]*\))?!?:|\[[^\]\n]{1,40}\])\s*"
)
_NUMBER = re.compile(
    r"(?i)[ \t]?\(?(?<!\w)(?:(?:(?:close|fixe?|resolve)[sd]?|see|refs?|issues?|pr|bug)[: ]{0,2})?"
    r"(?:gh-|#|\w{1,40}/\w{1,40}#)\d+\)?:?"
)
_LONE_URL = re.compile(r"^[ \t]*\S+://\S+[ \t]*$", re.MULTILINE)
_TRAILERS = frozenset(["fixes", "closes", "resolves", "refs", "ref", "cc", "bug", "link", "issue", "see"])


def reason_of(commit: Commit) -> str | None:
    """Why a commit says nothing of one function, by who made it and what it is called."""
    if commit.parents == 0:
        return "first_commit"
    if commit.parents > 1 or _MERGE.match(commit.message):
        return "merge"
    if _REVERT.match(commit.message):
        return "revert"
    return "bot" if _BOT.search(commit.author) or _BOT.search(commit.address) else None


def cleaned(message: str) -> str:
    """Subject, a blank line and body of a commit's message, without its kind (`fix(x):`), numbers of issues, addresses that
    stand alone, and the trailers at its end (Signed-off-by: and others)."""
    subject, _, body = message[:MOST_CHARS].replace("\r\n", "\n").strip().partition("\n")
    kind = _KIND.match(subject)
    subject = _NUMBER.sub("", subject[kind.end() :] if kind else subject).strip(" \t,;:-")
    paragraphs = re.split(r"\n[ \t]*\n", _LONE_URL.sub("", body))
    while paragraphs and all(_is_trailer(line) for line in paragraphs[-1].split("\n")):
        paragraphs.pop()
    told = [_NUMBER.sub("", part).strip() for part in paragraphs]
    return "\n\n".join([subject, *filter(None, told)])


def _is_trailer(line: str) -> bool:
    """`Token: value` as git has it, a line that goes on with one, or none."""
    token, colon, _ = line.partition(":")
    if not line.strip() or line.startswith((" ", "(cherry picked from")):
        return True
    return bool(colon) and (token.lower() in _TRAILERS or ("-" in token and token.replace("-", "").isalnum()))
