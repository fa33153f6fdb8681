"""From a pair back to what its texts were read from, which is read again to see whether it still says the same.

A text pair leads to its document, the document to a WARC record by file and offset: the record is read by a seek and
extracted with the options that the documents were made with. A code pair leads to its function, the function to a file of
a repository at a commit or of an installed distribution, which is mined again.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from cpt_ray.artifacts import read_table
from cpt_ray.code.functions import Origin, Source, mine_source
from cpt_ray.code.options import MineOptions
from cpt_ray.code.positives import by_name, by_signature
from cpt_ray.code.repositories import opened
from cpt_ray.errors import UserError
from cpt_ray.inspect.lineage import Made, lineage
from cpt_ray.inspect.rows import Row, batches, rows_of
from cpt_ray.inspect.survey import order_of
from cpt_ray.installed import Distribution, distributions
from cpt_ray.web.archive import Place, read_at
from cpt_ray.web.extract import document
from cpt_ray.web.options import ExtractOptions, NetworkOptions
from cpt_ray.web.remote import Remote, base_name
from cpt_ray.web.sources import find_sources, join

_NETWORK = NetworkOptions()
Span = tuple[int, int]


@dataclass(frozen=True)
class Traced:
    """A pair and where it is from: `places` by name, in order. `same`: what stands there gives its texts again; if it does
    not, or cannot be read, `problem` says how."""

    pair: Row
    places: Mapping[str, str]
    problem: str | None = None

    @property
    def same(self) -> bool:
        return self.problem is None


def random_ids(path: str, count: int) -> list[str]:
    """So many ids of the pairs at `path`, the same every time: the first in the order of their hashes."""
    found: list[str] = []
    for batch in batches(path, ["pair_id"]):
        found = sorted([*found, *batch["pair_id"].to_pylist()], key=order_of)[:count]
    return found


def trace(
    path: str, ids: Collection[str], archive: str | None = None, network: NetworkOptions = _NETWORK
) -> Iterator[Traced]:
    """The pairs of these ids in the artifact at `path`, by where they stand.

    `archive` is where the WARC files are, if they are not beside the artifact or where they were read from. UserError for
    an id that no pair has, and where what the pairs were made of is not found.
    """
    made = lineage(path)
    pairs = rows_of(path, "pair_id", ids)
    if missing := sorted(set(ids) - set(pairs)):
        raise UserError(f"no pair {missing[0]!r}", where=path, fix="give a pair_id of this artifact")
    rows = made.inputs.get("rows")
    if rows is None:
        raise UserError("what these pairs were made of is not beside them", where=path, fix="put it back there")
    code = "function_id" in rows.manifest.columns
    sources = rows_of(rows.path, "function_id" if code else "doc_id", {pair["x_doc"] for pair in pairs.values()})
    if code:
        yield from _of_code(pairs.values(), sources, rows)
    else:
        yield from _of_text(pairs.values(), sources, rows, archive, Remote(network))


# --- text -------------------------------------------------------------------------------------------------------------


def _of_text(
    pairs: Iterable[Row], documents: Mapping[str, Row], rows: Made, archive: str | None, remote: Remote
) -> Iterator[Traced]:
    made = rows.of("documents")
    if made is None:
        raise UserError("the documents as extracted are not beside these", where=rows.path, fix="put them back there")
    raw = rows_of(made.path, "doc_id", documents.keys())
    options = _extract_options(made)
    separator = str(rows.manifest.params.get("separator", "\n\n"))
    files = _archive_files(made, archive, remote)
    of_file: dict[str, list[Row]] = defaultdict(list)
    for pair in pairs:
        of_file[documents[pair["x_doc"]]["warc_file"]].append(pair)
    for name in sorted(of_file):
        place = sorted(of_file[name], key=lambda pair: (documents[pair["x_doc"]]["warc_offset"], pair["x_start"]))
        for (offset, doc_id), of_document in itertools.groupby(
            place, key=lambda pair: (documents[pair["x_doc"]]["warc_offset"], pair["x_doc"])
        ):
            clean, text, problem = documents[doc_id], None, None
            if name not in files:
                problem = f"{name} is not in the archive"
            else:
                text, problem = _read_again(files[name], offset, raw.get(doc_id), options, remote)
            for pair in of_document:
                yield _text_place(pair, clean, text, separator, files.get(name, name), problem)


def _read_again(
    path: str, offset: int, row: Row | None, options: ExtractOptions, remote: Remote
) -> tuple[str | None, str | None]:
    """The text of the record at an offset, or what is wrong with it."""
    if row is None:
        return None, "its document is not among those extracted"
    (record,) = read_at(path, [Place(offset)], max_bytes=options.max_html_bytes, remote=remote)
    if record.reason is not None:
        return None, f"the record cannot be read: {record.reason}"
    again = document(record, row["url"], options).row
    if again is None or again["doc_id"] != row["doc_id"] or again["text"] != row["text"]:
        return None, "the record gives another text"
    return str(again["text"]), None


def _text_place(pair: Row, clean: Row, text: str | None, separator: str, path: str, problem: str | None) -> Traced:
    places = {"WARC file": path, "offset": str(clean["warc_offset"]), "URL": clean["url"], "document": clean["doc_id"]}
    for side in ("x", "y"):
        span = (pair[f"{side}_start"], pair[f"{side}_end"])
        places[f"{side}, characters of the document"] = f"{span[0]}-{span[1]}"
        if clean["text"][span[0] : span[1]] != pair[side]:
            problem = problem or f"{side} is not what its span holds"
        if text is not None and problem is None:
            there = span_before(span, clean["text"], text, separator)
            if there is None:
                problem = "the cleaned document is no part of the page"
            elif clean["text"] != text:
                places[f"{side}, characters of the page"] = f"{there[0]}-{there[1]}"
    return Traced(pair, places, problem)


def span_before(span: Span, clean: str, text: str, separator: str) -> Span | None:
    """Where a span of a text stood before paragraphs were taken out of it; None where `clean` did not come of `text`.

    What was taken out between its ends is within it there.
    """
    ends: list[int] = []
    shifts: list[int] = []
    at = was = 0
    before = iter(text.split(separator))
    for paragraph in clean.split(separator):
        for one in before:
            if one == paragraph:
                break
            was += len(one) + len(separator)
        else:
            return None
        ends.append(at + len(paragraph))
        shifts.append(was - at)
        at += len(paragraph) + len(separator)
        was += len(paragraph) + len(separator)
    first = next(shift for end, shift in zip(ends, shifts, strict=True) if span[0] <= end)
    last = next(shift for end, shift in zip(ends, shifts, strict=True) if span[1] <= end)
    return span[0] + first, span[1] + last


def _extract_options(made: Made) -> ExtractOptions:
    """The options that decide a document's text. Filters that read files do not, and the files may be gone."""
    params = dict(made.manifest.params)
    given = params.pop("filters", [])
    filters = [{name: v for name, v in one.items() if name != "files"} for one in given if not one["files"]]
    return ExtractOptions.model_validate({**params, "filters": filters})


def _archive_files(documents: Made, archive: str | None, remote: Remote) -> dict[str, str]:
    """Paths of the archive's files by their names."""
    selected, extra = documents.inputs.get("selected"), documents.manifest.extra.get("archive")
    if selected is not None and not archive:
        names = read_table(selected.path, ["file"])["file"].unique().to_pylist()
        return {base_name(name): join(str(extra), name) for name in names}
    beside = documents.inputs.get("archive")
    places = [archive] if archive else [beside.path if beside else None, extra]
    for place in filter(None, places):
        try:
            return {base_name(name): name for name in find_sources(place, "", remote).files}
        except UserError:
            continue
    raise UserError(
        "the archive of these pairs is not where it was",
        where=str(places[-1] or documents.path),
        fix="give archive=<folder of WARC files>",
    )


# --- code -------------------------------------------------------------------------------------------------------------


def _of_code(pairs: Iterable[Row], functions: Mapping[str, Row], rows: Made) -> Iterator[Traced]:
    options = MineOptions.model_validate(rows.manifest.params)
    repositories: Mapping[str, Sequence[str]] = rows.manifest.extra.get("repositories") or {}
    of_group: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for pair in pairs:
        function = functions[pair["x_doc"]]
        of_group[function["group"], function["version"]].append(pair)
    for (group, version), several in sorted(of_group.items()):
        again: dict[str, tuple[str, str | None]] = {}
        left = sorted(several, key=lambda pair: (pair["path"], pair["x_start"]))
        for place, contents in _sources((group, version), {pair["path"] for pair in left}, repositories, options):
            for pair in left:
                function = functions[pair["x_doc"]]
                problem = _mined_again(pair, function, contents.get(function["path"]), options)
                if problem is None or pair["pair_id"] not in again:
                    again[pair["pair_id"]] = place, problem
            left = [pair for pair in left if again[pair["pair_id"]][1] is not None]
            if not left:
                break
        for pair in sorted(several, key=lambda pair: (pair["path"], pair["x_start"])):
            function = functions[pair["x_doc"]]
            place, problem = again[pair["pair_id"]]
            places = {
                "repository": place,
                "commit or version": version,
                "path": function["path"],
                "lines": f"{function['start_line']}-{function['end_line']}",
                "function": f"{function['qualname']} ({function['function_id']})",
                "licence": function["licence"],
            }
            yield Traced(pair, places, problem)


def _sources(
    of: tuple[str, str], paths: Collection[str], repositories: Mapping[str, Sequence[str]], options: MineOptions
) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Where the files of a group and version may stand, and what stands there: first what has the group's name, then what
    holds repositories by their names, as a Parquet does; a git repository, which may be far away or gone, is one alone."""
    for name in sorted(repositories, key=lambda name: name != of[0]):
        path, commit = repositories[name]
        unnamed = name == of[0] or len(repositories) == 1
        if commit and not unnamed:
            continue
        yield path, _of_repository(path, commit, of, unnamed, paths, options)
    yield f"{of[0]} {of[1]}, installed", _of_distribution(*of, paths)


def _mined_again(pair: Row, function: Row, data: bytes | None, options: MineOptions) -> str | None:
    """What is wrong with a function read again, None if it is the same."""
    if data is None:
        return "its file is not there"
    origin = Origin(function["group"], function["version"], function["licence"])
    again = mine_source(Source(function["path"], data), origin, options)
    found = next((row for row in again.rows if row["function_id"] == function["function_id"]), None)
    if found is None:
        return "its file has no such function"
    further = [texts[1] for texts in (by_name(found), by_signature(found)) if texts]
    same = (found["code"], found["docstring"]) == (function["code"], function["docstring"])
    return None if same and pair["y"] in (found["code"], *further) else "it reads otherwise"


def _of_repository(
    path: str, commit: str, of: tuple[str, str], unnamed: bool, paths: Collection[str], options: MineOptions
) -> dict[str, bytes]:
    """Files by their paths; where a tree holds several repositories, those `of` one alone (its group and version), and where
    it names none, all if it is what is meant (`unnamed`)."""
    with opened(path, commit) as tree:
        wanted = [
            entry
            for entry in tree.entries()
            if entry.path in paths
            and entry.reason is None
            and (unnamed if entry.origin is None else entry.origin[:2] == of)
        ]
        return {
            entry.path: data for entry, data in tree.contents(wanted, options.max_file_bytes) if isinstance(data, bytes)
        }


def _of_distribution(group: str, version: str, paths: Collection[str]) -> dict[str, bytes]:
    one = _installed().get((group, version))
    found: dict[str, bytes] = {}
    if one is None:
        return found
    for file in one.files:
        if file.path in paths:
            with open(one.absolute(file), "rb") as source:
                found[file.path] = source.read()
    return found


@cache
def _installed() -> dict[tuple[str, str], Distribution]:
    return {(one.name, one.version): one for one in distributions()}
