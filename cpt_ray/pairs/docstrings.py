"""Code pairs: x is what a function's docstring says, y its implementation without the docstring.

The paper (arXiv 2201.10005, section 2) pairs a function's top-level docstring with its implementation. Taken whole, a
docstring lists the parameters that the signature spells out again, which no one types into a search box; the summary,
its first paragraph, is what a query looks like and what CodeSearchNet measures. It is the default for x.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import pyarrow as pa

from cpt_ray.artifacts.examples import Sampler, having
from cpt_ray.artifacts.ledger import Ledger
from cpt_ray.code.positives import by_message, by_name, by_signature
from cpt_ray.pairs.options import DocstringOptions, SplitOptions
from cpt_ray.pairs.schema import CANDIDATES, Claimed, Cluster, Pair, pairs_table, survivors
from cpt_ray.pairs.splits import HELDOUT, side
from cpt_ray.words import text_hash

# :class:`~torch.Tensor` and :func:`text <target>`; ``code``; `text <url>`_; *emphasis*; [text](url); L{target}
# What may stand before a role's first colon is taken along, or each colon of a long row would be begun at.
_ROLE = re.compile(
    r"(?P<before>(?<![\w:+.-])(?:[\w+.-]|:(?![a-z]))*+):[a-z][\w:+.-]*:`(?P<short>[~!]?)(?P<text>[^`<]*+)(?P<target><[^`>]*+>)?`"
)
_LINK = re.compile(r"`([^`<]++)<[^`>]*+>`__?")
_QUOTED = re.compile(r"(`{1,2})([^`]+)\1_?")
_EMPHASIS = re.compile(r"(?<![\w*/])(\*{1,2})(?=\w)([^*\n]+?)(?<=[\w.,:;!?)])\1(?![\w*])")
_STRONG = re.compile(r"(?<!\w)__(?=\S)([^_\n]+)__(?!\w)")
_MARKDOWN_LINK = re.compile(r"!?\[([^\[\]]+)\]\([^()\s]*\)")
_EPYDOC = re.compile(r"\b[A-Z]\{([^{}<>]+)(?:<[^{}<>]*>)?\}")
# Two underscores around one word are a name of Python's before they are Markdown.
_SPECIAL = {name for kind in (object, type, int, float, list, dict, set, bytes, property) for name in dir(kind)} | {
    f"__{word}__"
    for word in [
        "enter",
        "exit",
        "aenter",
        "aexit",
        "await",
        "aiter",
        "anext",
        "next",
        "del",
        "delete",
        "get",
        "set",
        "set_name",
        "getattr",
        "setattr",
        "missing",
        "fspath",
        "call",
        "main",
        "all",
        "file",
        "name",
        "path",
        "version",
        "author",
        "future",
        "annotations",
        "builtins",
        "debug",
        "slots",
        "match_args",
        "post_init",
        "array",
        "copy",
        "deepcopy",
        "getstate",
        "setstate",
        "reversed",
        "length_hint",
        "spec",
        "loader",
        "package",
        "cached",
        "qualname",
        "wrapped",
        "bytes",
    ]
}


class Further(NamedTuple):
    """A kind of further pair: the column it needs besides the code, its texts, and what it lacks where it has none."""

    column: str
    texts: Callable[[Mapping[str, Any]], tuple[str, str] | None]
    lacks: str


FURTHER = {
    "name": Further("name", by_name, "name_of_one_word"),
    "signature": Further("signature", by_signature, "no_signature"),
    "commit": Further("message", by_message, "no_message"),
}
NONE_HELD_OUT = SplitOptions(heldout_share=0)


def code_pairs(
    functions: pa.Table, clusters: pa.Table | None, options: DocstringOptions, split: SplitOptions = NONE_HELD_OUT
) -> tuple[pa.Table, Ledger]:
    """Pairs (PAIRS) of a FUNCTIONS table and the clusters of its code (None: nothing is known to be a duplicate).

    Dropped: `duplicate` (its cluster keeps another), `same_text` (x and y equal those of another), `x_repeated`, and of
    further pairs `name_of_one_word`, `no_signature`, `no_message` and `further_of_heldout`, of groups that `split` holds
    out; the ledger counts a function for each pair that it might be.
    """
    functions = functions.sort_by("function_id")
    known = survivors(functions["function_id"], clusters)
    claimed = Claimed(options.max_per_x)
    pairs: list[Pair] = []
    reasons: list[str | None] = []
    dropped = Sampler()
    wanted = functions.select(needed(options))
    for row, cluster_id, kept, size in zip(wanted.to_pylist(), *known, strict=True):
        for one in positives(row, options, split):
            reason = (one.lacks or claimed.refused(one.x_hash, one.y_hash)) if kept else "duplicate"
            reasons.append(reason)
            if reason is None:
                pairs.append(_pair(row, one, (cluster_id, size)))
            else:
                dropped.add("functions", reason, row["function_id"], _parts(row), path=row["path"], x=one.x, y=one.y)
    return pairs_table(pairs), Ledger.count("functions", reasons).showing(dropped)


def needed(options: DocstringOptions) -> list[str]:
    """The columns of functions that pairs are made of, the id first."""
    more = [FURTHER[kind].column for kind in options.further]
    place = ["path", "start_line", "end_line"]
    return ["function_id", "group", *place, "language", "code", "licence", options.side_x, *more]


def _parts(row: Mapping[str, Any]) -> list[str]:
    """By what examples of what is dropped are kept apart besides the reason."""
    return [having(name, row[name]) for name in ("language", "licence")]


class Positive(NamedTuple):
    """A pair that a function might be, of its source; `lacks` says why it is none."""

    source: str
    x: str
    y: str
    x_hash: int
    y_hash: int
    lacks: str | None = None


def positives(row: dict[str, Any], options: DocstringOptions, split: SplitOptions) -> list[Positive]:
    """What may be pairs of a function: its documentation with its code, and the further ones. Of one x, by y's hash.

    Further ones are to learn from: what is held out asks as people ask, by documentation alone.
    """
    x = plain(row[options.side_x]) if options.plain else row[options.side_x]
    found = [Positive(options.source, x, row["code"], text_hash(x), text_hash(row["code"]))]
    for kind in options.further:
        texts = FURTHER[kind].texts(row)
        x, y = texts or ("", row["code"])
        lacks = None if texts else FURTHER[kind].lacks
        if side(row["group"], split) == HELDOUT:
            lacks = "further_of_heldout"
        found.append(Positive(f"{options.source}_{kind}", x, y, text_hash(x), text_hash(y), lacks))
    return sorted(found, key=lambda one: (one.x_hash, one.y_hash)) if options.further else found


def candidates(
    rows: Iterable[dict[str, Any]], clusters: Iterable[Cluster], options: DocstringOptions, split: SplitOptions
) -> tuple[pa.Table, Ledger]:
    """Of one shard's kept functions, by function_id: the pairs (CANDIDATES) that may be pairs of the whole corpus.

    Which functions share an x is known of the whole alone; but what is not among the first `max_per_x` of its shard is not
    among those of the corpus (`x_repeated`). `copies` are the later functions of the shard with the same texts.
    """
    claimed = Claimed(options.max_per_x)
    copies: Counter[tuple[int, int]] = Counter()
    pairs: list[Pair] = []
    dropped = Sampler()
    beyond: Counter[str] = Counter()
    for row, cluster in zip(rows, clusters, strict=True):
        for one in positives(row, options, split):
            texts = (one.x_hash, one.y_hash)
            reason = one.lacks or claimed.refused(*texts)
            if reason not in (None, "same_text"):
                beyond[str(reason)] += 1
                dropped.add(
                    "functions", str(reason), row["function_id"], _parts(row), path=row["path"], x=one.x, y=one.y
                )
                continue
            if reason is None:
                pairs.append(_pair(row, one, cluster))
            copies[texts] += 1
    table = pairs_table(pairs)
    hashes = zip(table["x_hash"].to_pylist(), table["y_hash"].to_pylist(), strict=True)
    later = pa.array([copies[texts] - 1 for texts in hashes], pa.int32())
    ledger = Ledger.of("functions", read=copies.total() + beyond.total(), kept=copies.total(), dropped=beyond)
    return table.append_column("copies", later).cast(CANDIDATES), ledger.showing(dropped)


def duplicates(rows: Iterable[dict[str, Any]], options: DocstringOptions, split: SplitOptions) -> Ledger:
    """Functions whose cluster keeps another: one for each pair that it might be."""
    dropped, count = Sampler(), 0
    for row in rows:
        count += 1 + len(options.further)
        if dropped.wants("functions", "duplicate", row["function_id"], _parts(row)):
            for one in positives(row, options, split):
                dropped.add(
                    "functions", "duplicate", row["function_id"], _parts(row), path=row["path"], x=one.x, y=one.y
                )
    return Ledger.of("functions", read=count, kept=0, dropped={"duplicate": count}).showing(dropped)


def plain(text: str) -> str:
    """`text` without the markup of reST, Markdown and epydoc: roles, links, quoted code, emphasis."""
    if "`" in text:
        text = _ROLE.sub(_target, text)
        text = _LINK.sub(lambda link: link[1].rstrip() or link[1][0], text)
        text = _QUOTED.sub(r"\2", text)
    if "](" in text:
        text = _MARKDOWN_LINK.sub(r"\1", text)
    if "{" in text:
        text = _EPYDOC.sub(r"\1", text)
    if "__" in text:
        text = _STRONG.sub(lambda word: word[0] if word[0] in _SPECIAL else word[1], text)
    return _EMPHASIS.sub(r"\2", text) if "*" in text else text


def _target(role: re.Match[str]) -> str:
    text = role["text"].rstrip() if role["target"] else role["text"]
    return role["before"] + (text.rpartition(".")[2] if role["short"] == "~" else text)


def _pair(row: dict[str, Any], one: Positive, cluster: Cluster) -> Pair:
    lines = (row["start_line"], row["end_line"])
    return Pair(
        kind="code",
        source=one.source,
        group=row["group"],
        x=one.x,
        y=one.y,
        cluster_id=cluster[0],
        cluster_size=cluster[1],
        x_doc=row["function_id"],
        y_doc=row["function_id"],
        x_span=lines,
        y_span=lines,
        path=row["path"],
        line=row["start_line"],
        licence=row["licence"],
    )
