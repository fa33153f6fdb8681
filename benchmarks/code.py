"""Mining source files: megabytes a second of CPU by language, beside parsing alone and, for Python, stdlib `ast`.

Run as `make bench-code`, or with folders of sources: `python benchmarks/code.py FOLDER ...`. Without any it reads the
Python installed here and what `npm pack` and `apt-get download` give for the packages below, unpacked into a temporary
folder; a package that cannot be had is left out. One process, one thread, CPU time, the best of RUNS over the same bytes
in memory; `git` is the same files from a repository of one commit to a Parquet file, CPU time of git included, and
`2 processes` how much sooner two processes are through with its shards than one is (a quiet machine has to be given),
and `CPU of 2` what they take together of what one takes. `function_parser` is how many times as fast mining from memory is as
CodeSearchNet's parser, over the first megabyte of the same files or what it gets through in half a minute; it runs in its own
environment (`make bench-env`), or in that of `--peers PYTHON`.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import platform
import random
import subprocess
import sysconfig
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path

import pyarrow.parquet as pq
from code_packages import listed, unpack
from processes import in_own_process
from rich.console import Console
from rich.table import Table

from cpt_ray.code.functions import Origin, Source, mine
from cpt_ray.code.grammars import GRAMMARS, language_of
from cpt_ray.code.options import MineOptions
from cpt_ray.code.repositories import mine_repository_shard
from cpt_ray.code.syntax import TooSlow, definitions, parse, parser_of

HERE = Path(__file__).parent
RESULT = HERE / "results" / "code.json"
PACKAGES = """
npm lodash
npm express
npm mocha
npm rxjs
npm three
npm vue
npm react-dom
npm react-native
npm effect
npm tldraw
npm native-base
npm @blueprintjs/core
npm react-native-paper
npm react-native-screens
npm react-native-vision-camera
npm react-native-gesture-handler
npm @stripe/stripe-react-native
npm expo-modules-core
npm expo-updates
npm com.cysharp.unitask
npm com.neuecc.unirx
debian ruby-activesupport
debian ruby-activerecord
debian ruby-sequel
debian ruby-actionpack
debian rubocop
debian php-symfony-http-kernel
debian php-symfony-console
debian php-doctrine-orm
debian phpunit
debian phpmyadmin
debian wordpress
debian golang-golang-x-tools-dev
debian golang-1.19-src
debian librust-syn-dev
debian librust-rayon-dev
debian librust-tokio-dev
debian libeigen3-dev
debian nlohmann-json3-dev
debian openjdk-17-source
"""
MOST_BYTES = int(os.environ.get("MOST_BYTES", 20_000_000))
RUNS = 2
SHARD_BYTES, SHARDS = 3_000_000, 24
"""What two processes share: so many shards of about that size, the same again where there are fewer, as a build has many.
Of two halves by the hash of their paths the longer one has up to 55 % of the work."""
BENCH_PYTHON = HERE.parent / ".venv-bench" / "bin" / "python"
PEER_BYTES = 1_000_000
PEER_LANGUAGES = ("python", "java", "go", "javascript", "php", "ruby")
OPTIONS = MineOptions(languages=tuple(GRAMMARS))


def packages(folder: Path) -> list[Path]:
    """The packages that can be had here, unpacked below `folder`, and the installed Python."""
    unpack(listed(PACKAGES), folder)
    return [folder, Path(sysconfig.get_paths()["stdlib"])]


def sources(folders: list[Path]) -> dict[str, list[Source]]:
    """Files by language, those that the rules on paths and headers leave, at most MOST_BYTES of each in a fixed order."""
    found: dict[str, list[Source]] = defaultdict(list)
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            language = language_of(file.name)
            if language and file.is_file() and not file.is_symlink() and "site-packages" not in file.parts:
                found[language].append(Source(str(file.relative_to(folder)), file.read_bytes()))
    for language, files in found.items():
        random.Random(0).shuffle(files)
        size, kept = 0, []
        for source in files:
            if size < MOST_BYTES and mine([source], Origin("g", "", ""), OPTIONS)[1].units["files"].kept:
                kept.append(source)
                size += len(source.data or b"")
        found[language] = kept
    return found


def fastest(work: Callable[[], object], runs: int = RUNS) -> float:
    """Seconds of CPU of the best run, of this process and of those it waited for."""
    best = float("inf")
    for _ in range(runs):
        begun = os.times()
        work()
        ended = os.times()
        best = min(best, sum(ended[:4]) - sum(begun[:4]))
    return best


def _commit(folder: Path, files: list[Source]) -> None:
    for i, source in enumerate(files):
        name = folder / f"{i // 1000}" / f"f{i}{os.path.splitext(source.path)[1]}"
        name.parent.mkdir(parents=True, exist_ok=True)
        name.write_bytes(source.data or b"")
    identity = ["-c", "user.name=bench", "-c", "user.email=bench@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "all"], ["repack", "-adq"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def _mine_git(folder: str, part: int, of: int) -> float:
    """Seconds of CPU, git's included."""
    begun = os.times()
    shard = {"repository": folder, "commit": "HEAD", "group": "g", "slice": [part, of]}
    table, _ = mine_repository_shard(shard, OPTIONS)
    with tempfile.TemporaryDirectory() as out:
        pq.write_table(table, Path(out) / "part.parquet", compression="zstd")
    ended = os.times()
    return sum(ended[:4]) - sum(begun[:4])


def _seconds(folder: str, workers: int, of: int, rounds: int) -> tuple[float, float]:
    """Wall clock and CPU of a repository's shards, `rounds` times, by processes that each take the next one."""
    mined = partial(_mine_git, folder, of=of)
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(mined, [0] * workers))  # they load what they need
        begun = time.perf_counter()
        cpu = sum(pool.map(mined, [*range(of)] * rounds))
        return time.perf_counter() - begun, cpu


def _of_two(folder: str, size: int) -> dict[str, object]:
    """How much sooner two processes are through with the shards of `size` bytes than one, and at what CPU."""
    of = max(1, round(size / SHARD_BYTES))
    (alone, spent), (together, both) = (_seconds(folder, workers, of, math.ceil(SHARDS / of)) for workers in (1, 2))
    return {"2 processes": round(alone / together, 2), "CPU of 2": round(both / spent, 3)}


def _parse(language: str, files: list[bytes]) -> None:
    for data in files:
        try:
            parse(parser_of(language), data)
        except TooSlow:
            continue


def _count(language: str, files: list[bytes]) -> None:
    for data in files:
        definitions(parse(parser_of(language), data), data, GRAMMARS[language])


def _ast(files: list[bytes]) -> None:
    """What one would write with `ast`: every documented function and its docstring."""
    for data in files:
        try:
            tree = ast.parse(data)
        except SyntaxError:
            continue
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                ast.get_docstring(node)


def _beside_peer(language: str, files: list[Source], peers: Path) -> dict[str, object]:
    """How many times as fast we are as function_parser over the files it got through, and what it found in them."""
    size, some = 0, []
    for source in files:
        if size < PEER_BYTES:
            some.append(source)
            size += len(source.data or b"")
    with tempfile.TemporaryDirectory() as folder:
        names = [Path(folder, f"f{i}{os.path.splitext(source.path)[1]}") for i, source in enumerate(some)]
        for name, source in zip(names, some, strict=True):
            name.write_bytes(source.data or b"")
        listed = Path(folder, "files.json")
        listed.write_text(json.dumps([str(name) for name in names]))
        grammar = GRAMMARS[language]
        script = str(HERE / "code_peers" / "peers.py")
        found = in_own_process(str(peers), script, language, grammar.module, grammar.entry, str(listed))
    done = some[: found["files"]]
    ours = fastest(lambda: mine(done, Origin("g", "", ""), OPTIONS))
    peer_size = sum(len(source.data or b"") for source in done) / 1e6
    return {
        "function_parser": round(found["seconds"] / max(ours, 0.01), 1),
        "function_parser MB/s": round(peer_size / max(found["seconds"], 0.01), 3),
        "function_parser documented": found["documented"],
        "documented there": mine(done, Origin("g", "", ""), OPTIONS)[0].num_rows,
    }


def run(folders: list[Path], peers: Path) -> list[dict[str, object]]:
    rows = []
    for language, files in sorted(sources(folders).items()):
        data = [source.data or b"" for source in files]
        size = sum(map(len, data)) / 1e6
        if size < 0.1:
            continue
        table, ledger = mine(files, Origin("g", "", ""), OPTIONS)
        row: dict[str, object] = {
            "language": language,
            "files": len(files),
            "MB": round(size, 1),
            "functions": ledger.units["functions"].read,
            "pairs": table.num_rows,
            "mine MB/s": round(size / fastest(lambda files=files: mine(files, Origin("g", "", ""), OPTIONS)), 2),
            "parse MB/s": round(size / fastest(lambda name=language, data=data: _parse(name, data)), 2),
            "parse and count MB/s": round(size / fastest(lambda name=language, data=data: _count(name, data)), 2),
        }
        with tempfile.TemporaryDirectory() as temporary:
            _commit(Path(temporary), files)
            row["git MB/s"] = round(size / fastest(lambda folder=temporary: _mine_git(folder, 0, 1)), 2)
            row |= _of_two(temporary, sum(map(len, data)))
        if language in PEER_LANGUAGES and peers.exists():
            row |= _beside_peer(language, files, peers)
        if language == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row["ast MB/s"] = round(size / fastest(lambda data=data: _ast(data)), 2)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--peers", default=BENCH_PYTHON, type=Path, metavar="PYTHON", help="of the peers' environment")
    given = parser.parse_args()
    if not given.peers.exists():
        print(f"no peers: {given.peers} is not there (make bench-env)")
    with tempfile.TemporaryDirectory() as temporary:
        rows = run(given.folders or packages(Path(temporary)), given.peers)
    names = (
        "language",
        "MB",
        "functions",
        "pairs",
        "git MB/s",
        "mine MB/s",
        "parse MB/s",
        "parse and count MB/s",
        "ast MB/s",
        "2 processes",
        "CPU of 2",
        "function_parser",
    )
    shown = Table(*names)
    for row in rows:
        shown.add_row(*(str(row.get(name, "")) for name in names))
    Console().print(shown)
    versions = {grammar.module: metadata.version(grammar.module.replace("_", "-")) for grammar in GRAMMARS.values()}
    about = {"machine": platform.processor() or platform.machine(), "cores": os.cpu_count(), "versions": versions}
    RESULT.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
