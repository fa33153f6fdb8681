"""The flow of `cpt-ray code-pairs`: source files become functions, clusters and pairs."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("code_pairs")  # ends here, before the imports below, which may take seconds

import dataclasses
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from cpt_ray import artifacts
from cpt_ray.artifacts import Ledger, Manifest, Wanted
from cpt_ray.code import github
from cpt_ray.code.functions import FUNCTIONS, MINE, mine_shard
from cpt_ray.code.options import CloneOptions, MineOptions
from cpt_ray.code.repositories import endings, mine_listed_shard, shards_of
from cpt_ray.code.tree import stem_of
from cpt_ray.dedup.cluster import CLUSTER, deduplicate
from cpt_ray.errors import UserError
from cpt_ray.installed import Distribution, distributions, fingerprint
from cpt_ray.pairs.decontaminate import Evaluation, benchmark_files
from cpt_ray.pairs.make import CODE_PAIRS, make_code_pairs

from . import flows
from .options.code_pairs import PipelineOptions, RepositoryOptions, Steps

_NO_OPTIONS = CloneOptions()
SHARD_BYTES = 8_000_000
"""Source bytes in a shard: about a second of parsing, so that a kill loses little and progress moves."""


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Make the pairs and what lies before them; returns the manifests by path."""
    out = options.cluster.folder(options.output)
    check_test_urls(options.test_urls)
    repositories = (*options.repositories, *listed(options.repository_list))
    if repositories:
        with github.looked_up(posixpath.join(out, "github.json"), options.clone) as hub:
            shards = repository_shards(repositories, options.mine, options.clone, hub)
        work, inputs = mine_listed_shard, None
    else:
        found = packages(options.site_packages)
        shards, work, inputs = installed_shards(found), mine_installed_shard, {"installed": fingerprint(found)}
    return flows.make(flow(out, shards, work, options, inputs), options.cluster)


def flow(
    out: str,
    shards: Sequence[Mapping[str, Any]],
    work: Any,
    steps: Steps,
    inputs: Mapping[str, str] | None = None,
) -> list[Wanted]:
    """`functions`, `function_clusters` and `code_pairs` under `out`."""
    functions, clusters, pairs = (posixpath.join(out, n) for n in ("functions", "function_clusters", "code_pairs"))
    mine = dataclasses.replace(MINE, run=work)
    return [
        Wanted(
            functions,
            mine,
            lambda: mine.map(
                functions,
                params=steps.mine,
                inputs=inputs or {"repositories": _digest(shards)},
                shards=shards,
                options=steps.mine,
                extra={"repositories": _where(shards)},
            ),
        ),
        Wanted(
            clusters,
            CLUSTER,
            lambda: deduplicate(clusters, functions, id_column="function_id", text_column="code", options=steps.dedup),
            (functions,),
            columns=("function_id", "code", *steps.dedup.columns),
        ),
        Wanted(
            pairs,
            CODE_PAIRS,
            lambda: make_code_pairs(
                pairs,
                functions=functions,
                clusters=clusters,
                docstrings=steps.docstrings,
                split=steps.split,
                evaluation=_evaluation(steps.test_urls),
            ),
            (functions, clusters),
        ),
    ]


def _where(shards: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """By group, the path and the commit of its repository, which lead back to it; installed packages have their names."""
    return {shard["group"]: [shard["repository"], shard["commit"]] for shard in shards if "repository" in shard}


def installed_shards(found: Sequence[Distribution]) -> list[dict[str, Any]]:
    """The files of the distributions in order, cut into shards of about SHARD_BYTES of source each.

    A shard is `{"sources": [...]}`, a source what `mine_shard` takes: some or all files of one distribution.
    """
    shards: list[dict[str, Any]] = []
    room = 0
    for distribution in found:
        about = {"group": distribution.name, "version": distribution.version, "licence": distribution.licence}
        current: list[list[str]] | None = None
        for file in distribution.files:
            if room <= 0:
                shards.append({"sources": []})
                room, current = SHARD_BYTES, None
            if current is None:
                current = []
                shards[-1]["sources"].append({**about, "files": current})
            current.append([distribution.absolute(file), file.path])
            room -= file.size
    return shards


def mine_installed_shard(shard: Mapping[str, Any], options: MineOptions) -> tuple[pa.Table, Ledger]:
    """The functions of all sources of a shard."""
    tables, ledger = [FUNCTIONS.empty_table()], Ledger.empty()
    for source in shard["sources"]:
        table, counts = mine_shard(source, options)
        tables.append(table)
        ledger += counts
    return pa.concat_tables(tables), ledger


def listed(name: str) -> list[RepositoryOptions]:
    """The repositories of a list: a path or URL a line, then perhaps a revision; what follows a `#` is a remark."""
    found = []
    for number, line in enumerate(_lines(name) if name else [], 1):
        words = re.sub(r"(^|\s)#.*", "", line).split()
        if len(words) > 2:
            raise UserError(
                "more than a path and a revision", where=f"{name}, line {number}", fix="one repository a line"
            )
        if words:
            found.append(RepositoryOptions(path=words[0], commit=words[1] if len(words) == 2 else "HEAD"))
    if name and not found:
        raise UserError("no repository in the list", where=f"repository_list: {name}", fix="give a path or URL a line")
    return found


def _lines(name: str) -> list[str]:
    """The lines of a text file, UTF-8 with or without a mark of it. UserError for another."""
    try:
        return Path(name).read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(f"this is no UTF-8: {error}", where=name, fix="write the file as UTF-8") from error


def repository_shards(
    repositories: Sequence[RepositoryOptions],
    mine: MineOptions,
    clone: CloneOptions = _NO_OPTIONS,
    hub: github.GitHub | None = None,
) -> list[dict[str, Any]]:
    """The shards of each repository, at the commit its revision names now, or as its files are now.

    `hub` knows those that are named `github:owner/name`; of several names of one repository the first counts.

    One that cannot be read is a shard with its `problem` and the `fix`; UserError where that is so for all of them, and where
    two would be one group, since groups are what splits keep apart.
    """
    shards: list[dict[str, Any]] = []
    found = _listed(repositories, hub or github.GitHub(clone))
    for (one, listed, unlisted), group in zip(found, _groups([one for one, *_ in found]), strict=True):
        path = one.path if "://" in one.path else str(Path(one.path).absolute())
        about: dict[str, Any] = {"group": group, "licence": one.licence, **listed}
        try:
            if unlisted is not None:
                raise unlisted
            shards += shards_of(path, one.commit, mine, about, clone)
        except UserError as problem:
            if len(repositories) == 1:
                raise
            about |= {"problem": problem.what, "fix": problem.fix}
            shards.append({"repository": path, "commit": "", "version": "", **about})
    if all("problem" in shard for shard in shards):
        raise UserError(
            f"none of the {len(shards)} repositories can be read; the first: {shards[0]['problem']}",
            where=f"repositories: {shards[0]['repository']}",
            fix="give git repositories with commits that they hold, folders, or archives",
        )
    return shards


def _listed(
    repositories: Sequence[RepositoryOptions], hub: github.GitHub
) -> list[tuple[RepositoryOptions, dict[str, Any], UserError | None]]:
    """The repositories with URLs instead of names, what GitHub says of them, and why it says nothing."""
    found: list[tuple[RepositoryOptions, dict[str, Any], UserError | None]] = []
    seen: set[tuple[str, str]] = set()
    for one in repositories:
        if not one.path.startswith(github.SCHEME):
            found.append((one, {}, None))
            continue
        try:
            listing, problem = hub.listing(one.path), None
        except UserError as error:
            listing, problem = github.unasked(one.path), error
        commit = f"refs/heads/{listing.branch}" if listing.branch and one.commit == "HEAD" else one.commit
        if (listing.url.lower(), commit) in seen:
            continue
        seen.add((listing.url.lower(), commit))
        known = {"stars": listing.stars, "forks": listing.forks, "licence": listing.licence}
        listed = {"listed": known} if listing.stars is not None else {}
        found.append((one.model_copy(update={"path": listing.url, "commit": commit}), listed, problem))
    return found


def _groups(repositories: Sequence[RepositoryOptions]) -> list[str]:
    """The groups given, else the shortest ends of the paths that tell all repositories apart."""
    paths = [[part for part in _parts(one.path) if part not in (".git", "/")] for one in repositories]
    names = [[*path[:-1], stem_of(path[-1], (".git", *endings()))] if path else ["repository"] for path in paths]
    depths = [2 if "://" in one.path else 1 for one in repositories]  # owner/name, as forges and benchmarks call them
    while True:
        groups = [one.group or "/".join(n[-d:]) for one, n, d in zip(repositories, names, depths, strict=True)]
        times = Counter(groups)
        again = [i for i, g in enumerate(groups) if not repositories[i].group and times[g] > 1]
        longer = [i for i in again if depths[i] < len(names[i])]
        if not again:
            return groups
        if not longer:
            raise UserError(
                "two repositories are one group", where=f"repositories: {groups[again[0]]}", fix="give a group"
            )
        for i in longer:
            depths[i] += 1


def _parts(path: str) -> Sequence[str]:
    if "://" not in path:
        return Path(path).absolute().parts
    try:
        url = urlsplit(path)
    except ValueError:  # said where it is opened
        return path.split("/")
    return [url.hostname or "", *filter(None, url.path.split("/"))]


def packages(site_packages: Sequence[str]) -> list[Distribution]:
    """What is installed here and in the folders `site_packages`. UserError for the first of them that holds nothing."""
    for name in site_packages:
        if not any(metadata.distributions(path=[name])):
            raise UserError(
                "no installed package is there",
                where=f"site_packages: {name}",
                fix="give a folder of packages and their .dist-info, such as .venv/lib/python3.11/site-packages",
            )
    return distributions([*sys.path, *site_packages])


def check_test_urls(test_urls: Sequence[str]) -> None:
    """UserError for the first that is no file."""
    for name in test_urls:
        if not Path(name).is_file():
            raise UserError("no such file", where=f"test_urls: {name}", fix="give text files with one URL a line")


def _evaluation(test_urls: Sequence[str]) -> Evaluation | None:
    if not test_urls:
        return None
    files: frozenset[tuple[str, str]] = frozenset()
    check_test_urls(test_urls)
    for name in test_urls:
        files |= benchmark_files(_lines(name), name)
    return Evaluation(files=files)


def _digest(shards: Sequence[Mapping[str, Any]]) -> str:
    return artifacts.fingerprint(
        [
            [shard["group"], shard["version"], shard["licence"], shard.get("slice"), shard.get("listed")]
            for shard in shards
        ]
    )
