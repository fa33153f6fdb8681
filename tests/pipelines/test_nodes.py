"""Three nodes of a Ray cluster on this machine, and what dies of them: nodes, drivers, the head. The bytes are those of a
run without Ray, whatever died and when, and every ledger is that run's."""

from __future__ import annotations

import itertools
import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from cpt_ray.artifacts import Manifest, Wanted, exchange, read_manifest, run_flow
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.dedup import clean, components, near, shuffle, verify
from cpt_ray.installed import distributions
from cpt_ray.model.options import ModelOptions, TokenizerOptions
from cpt_ray.model.tokenizer import train_tokenizer
from cpt_ray.pairs import across, batches_across, corpus, make
from cpt_ray.pairs.batches import ORDER
from cpt_ray.pairs.corpus import GATHER, Source, make_corpus
from cpt_ray.pairs.options import BatchOptions, CorpusOptions, SplitOptions
from cpt_ray.pairs.tokens import listed
from cpt_ray.serve.embed import EMBED, embed_table
from cpt_ray.serve.options import EmbedOptions
from cpt_ray.train import hard_negatives
from cpt_ray.train.options import MineOptions
from cpt_ray.web.warc import Exchange, SegmentWriter
from pipelines import code_pairs, embed, text_pairs
from pipelines.options.code_pairs import Steps as CodeSteps
from pipelines.options.text_pairs import Steps as TextSteps
from tests.model.written import write_model
from tests.pairs.test_batches_across import ids
from tests.ray_nodes import Driver, Nodes

NODE_KILLS = int(os.environ.get("NODE_KILLS", "20"))
DRIVER_KILLS = int(os.environ.get("DRIVER_KILLS", "50"))
PACKAGES = ("click", "jinja2", "markdown-it-py", "packaging", "rich", "docutils")
EXCHANGES = ("clean_documents", "document_clusters", "text_pairs", "code_pairs", "batches", "corpus", "hard_pairs")
"""The artifacts of the path that are made by exchanges, once `small` has been called."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]


def small(put: Callable[[Any, str, Any], None] = setattr) -> None:
    """So small that nothing is made as one table, most exchanges have several buckets, and tasks do all that they can."""
    put(make, "ONE_TABLE", {"text_pairs": 0, "code_pairs": 0})
    for room in (clean, corpus, batches_across, hard_negatives):
        put(room, "ONE_TABLE", 0)
    for room, name, value in (
        *((exchange, "BUCKET_ROWS", 400), (across, "ROWS_PER_PART", 100), (batches_across, "TOLD", 64)),
        *((near, "INLINE_KEYS", 0), (shuffle, "KEYS_PER_TASK", 100)),
        *((near, "INLINE_PAIRS", 10), (verify, "PAIRS_PER_SHARD", 40)),
        *((components, "SCIPY_EDGES", 10), (components, "EDGES_PER_PART", 40)),
        (hard_negatives, "DOCUMENTS_PER_PART", 100),
    ):
        put(room, name, value)
    torch.set_num_threads(1)  # as Ray has it for a task of one CPU: the last bits of vectors tell them


def write_archives(folder: Path) -> None:
    """Pages of five hosts in five segments; every fourth is nearly the page before, and each host has a line of its own."""
    rng = random.Random(5)
    words = ["".join(rng.choice("aeioubcdfglmnprst") for _ in range(rng.randrange(3, 9))) for _ in range(600)]
    folder.mkdir()
    writer = SegmentWriter(str(folder), software="test", max_records=16, max_bytes=1 << 30)
    text: list[str] = []
    for number in range(80):
        if number % 4:
            text = [" ".join(rng.choice(words) for _ in range(60)) + "." for _ in range(5)]
        else:
            text = [*text[:-1], *text[-1:], " ".join(rng.choice(words) for _ in range(6)) + "."]
        host = f"h{number % 5}.example"
        shared = f"This is the line that stands under every page of {host}, as a footer does on many sites of the web."
        html = "".join(f"<p>{paragraph}</p>" for paragraph in [*text, shared])
        body = f"<html><head><title>{number}</title></head><body><main>{html}</main></body></html>".encode()
        headers = (("Content-Type", "text/html; charset=utf-8"),)
        when = datetime(2026, 1, 1, 0, 0, number % 60, tzinfo=UTC)
        writer.write(Exchange(f"http://{host}/{number}", "fetched", when, 200, "OK", headers, body))
    writer.close()


def write_inputs(root: Path) -> None:
    """Archives and a model; the code is that of packages installed here."""
    write_archives(root / "archive")
    tokenizer = train_tokenizer([f"word{n:03d}" for n in range(300)], TokenizerOptions(vocabulary=400))
    options = ModelOptions(hidden_size=32, layers=1, heads=2, feedforward=64, context=64)
    write_model(str(root / "model"), tokenizer, options, tokens=len(tokenizer), x=16, y=24)


def path(root: Path, out: str) -> list[Wanted]:
    """All stages: extract, clean, deduplicate, pair; mine, deduplicate, pair; corpus, batches, hard negatives, vectors, index."""
    text = TextSteps.model_validate(
        {
            "extract": {"languages": (), "min_language_score": 0, "quality": {"min_words": 5}},
            "split": {"heldout_share": 0.2},
        }
    )
    code = CodeSteps.model_validate({"split": {"heldout_share": 0.2}})
    chosen = [one for one in distributions() if one.name in PACKAGES]
    shards = [shard for one in chosen for shard in code_pairs.installed_shards([one])]
    mined = code_pairs.flow(out, shards, code_pairs.mine_installed_shard, code, {"installed": "some"})
    read = text_pairs.flow(out, str(root / "archive"), text)
    order, gathered, pairs = f"{out}/batches", f"{out}/corpus", f"{out}/code_pairs"
    sources = {"text": Source(f"{out}/clean_documents", f"{out}/document_clusters", "doc_id", ("text",))}
    options = BatchOptions(batch_size=16, epochs=2, max_x_tokens=12, max_y_tokens=24)

    def batches() -> Manifest:
        inputs = {"pairs": read_manifest(pairs)}
        return batches_across.make_batches(order, pairs, listed(ids), options, inputs=inputs, split="train")

    def texts() -> Manifest:
        return make_corpus(gathered, sources, split=SplitOptions(), options=CorpusOptions())

    vectors = EmbedOptions(precision="fp32", rows_per_shard=100)
    sides = {side: f"{out}/{side}_vectors" for side in ("x", "y")}

    def side_of(side: str) -> Manifest:
        chosen = EmbedOptions(text=side, key="pair_id", side=side, precision="fp32", rows_per_shard=100)  # type: ignore[arg-type]
        return embed_table(sides[side], source=pairs, model=str(root / "model"), options=chosen)

    def harder() -> Manifest:
        window = MineOptions(first=1, last=30, margin=100.0)
        return hard_negatives.make_hard_pairs(f"{out}/hard_pairs", pairs=pairs, **sides, options=window)

    return [
        *read,
        *mined,
        Wanted(gathered, GATHER, texts),
        Wanted(order, ORDER, batches),
        *(Wanted(at, EMBED, partial(side_of, side)) for side, at in sides.items()),
        Wanted(f"{out}/hard_pairs", hard_negatives.NEGATIVES, harder),
        *embed.flow(out, f"{out}/functions", str(root / "model"), vectors),
    ]


def contents(out: str) -> dict[str, Any]:
    """Of every artifact below `out` its ledger and its files with their digests."""
    made = {}
    for name in sorted(os.listdir(out)):
        if not name.startswith(".") and os.path.exists(f"{out}/{name}/manifest.json"):
            manifest = read_manifest(f"{out}/{name}")
            files = {file.path: file.digest for file in manifest.files}
            made[name] = {"ledger": manifest.ledger, "files": files, "rows": manifest.rows}
    return made


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    started = Nodes()
    yield started
    started.kill_all()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Inputs, and in `calm` what becomes of them without Ray; afterwards all is as large as it was."""
    root, threads = tmp_path_factory.mktemp("nodes"), torch.get_num_threads()
    with pytest.MonkeyPatch.context() as patched:
        small(patched.setattr)
        write_inputs(root)
        made = run_flow(path(root, f"{root}/calm"))
        assert min(manifest.rows for manifest in made.values()) > 10
        yield root
    torch.set_num_threads(threads)


def same(root: Path, out: str) -> None:
    found, calm = contents(out), contents(f"{root}/calm")
    assert found.keys() == calm.keys()
    for name in calm:
        assert found[name] == calm[name], name
    assert set(os.listdir(out)) == set(os.listdir(f"{root}/calm"))


def test_nodes_killed_in_every_stage(root: Path, nodes: Nodes) -> None:
    """A node dies at a random moment in each stage, over and over; nobody has to run anything again."""
    rng, took, hits = random.Random(11), dict[str, float](), list[str]()
    began, rounds, deaths = 0.0, 0, list[threading.Thread]()

    def start(wanted: Wanted) -> None:
        nonlocal began
        began, name = time.monotonic(), os.path.basename(wanted.path)
        ended.clear()
        if name in took:
            # A stage that has always ended before its node died is met earlier.
            latest = took[name] if name in hits else took[name] / 2 ** max(0, rounds - 1)
            deaths.append(threading.Thread(target=die, args=(name, rng.uniform(0, latest))))
            deaths[-1].start()

    def die(name: str, after: float) -> None:
        if not ended.wait(after):
            hits.append(name)
            nodes.kill(rng)

    def end(wanted: Wanted, _: Manifest) -> None:
        ended.set()
        for death in deaths:
            death.join()
        deaths.clear()
        took.setdefault(os.path.basename(wanted.path), time.monotonic() - began)

    ended = threading.Event()
    with connect(nodes.options):
        since = time.monotonic()
        while len(hits) < NODE_KILLS or (rounds < 9 and not set(hits) >= set(took) - {"index"}):
            out = f"{root}/round-{rounds}"
            run_flow(path(root, out), began=start, ended=end)
            same(root, out)
            print(f"round {rounds}: {len(hits)} nodes killed so far, {time.monotonic() - since:.0f} s", flush=True)
            rounds += 1
    print(f"{len(hits)} nodes killed in {rounds - 1} runs: {hits}; seconds undisturbed: {took}")
    assert set(hits) >= set(took) - {"index"}


def drive(root: Path, out: str, address: str, only: Sequence[str], joined: Any) -> None:
    """The driver: join the cluster, if there is one, and make what is wanted of the path."""
    small()
    wanted = [one for one in path(root, out) if os.path.basename(one.path) in only]
    with connect(ClusterOptions(address=address)) if address else nullcontext():
        joined.set()
        run_flow(wanted)


def beside_calm(root: Path, out: str, without: str) -> None:
    """All artifacts of the undisturbed run but one, as links: what it is made of has the same name and bytes."""
    os.makedirs(out)
    for name in os.listdir(f"{root}/calm"):
        if not name.startswith(without) and not name.startswith("."):
            os.symlink(f"{root}/calm/{name}", f"{out}/{name}")


@pytest.mark.parametrize(("nodes_of", "kills_of"), [("nodes", DRIVER_KILLS // 5), ("", DRIVER_KILLS)])
def test_drivers_killed_in_exchanges(root: Path, request: pytest.FixtureRequest, nodes_of: str, kills_of: int) -> None:
    """SIGKILL of the driver of a cluster, whose tasks may live a little longer, or of one that does all itself; and the same
    again at once, until one comes through."""
    rng, kills, took = random.Random(3), dict.fromkeys(EXCHANGES, 0), dict[str, float]()
    address = request.getfixturevalue(nodes_of).address if nodes_of else ""
    for turn in itertools.count():
        name, out = EXCHANGES[turn % len(EXCHANGES)], f"{root}/driver-{nodes_of}{turn}"
        beside_calm(root, out, name)
        for _ in range(4 if name in took else 0):
            if not Driver(drive, root, out, address, [name]).killed_after(rng.uniform(0, took[name])):
                break
            kills[name] += 1
        driver = Driver(drive, root, out, address, [name])
        driver.joined.wait(120)
        began = time.monotonic()
        assert driver.ends(600) == 0, (name, turn)
        took.setdefault(name, time.monotonic() - began)
        assert contents(out)[name] == contents(f"{root}/calm")[name], (name, turn)
        assert not [left for left in os.listdir(out) if left.endswith((".building", ".tmp"))], (name, turn)
        print(f"turn {turn}: drivers killed: {json.dumps(kills)}", flush=True)
        if sum(kills.values()) >= kills_of:
            break


def test_the_head_killed(root: Path) -> None:
    """With the head everything is gone, the driver too; on a new cluster the same command goes on."""
    for number, seconds in enumerate((2.0, 9.0, 20.0)):
        out, everything = f"{root}/head-{number}", [os.path.basename(one.path) for one in path(root, "x")]
        first = Nodes()
        driver = Driver(drive, root, out, first.address, everything)
        assert driver.joined.wait(120)
        time.sleep(seconds)
        first.kill_all()
        began = time.monotonic()
        assert driver.ends(300) not in (None, 0)
        print(
            f"head killed after {seconds} s: the driver ended {time.monotonic() - began:.1f} s later, {driver.process.exitcode=}"
        )
        kept = {name: os.stat(f"{out}/{name}/manifest.json").st_mtime for name in contents(out)}
        second = Nodes()
        try:
            assert Driver(drive, root, out, second.address, everything).ends(600) == 0
        finally:
            second.kill_all()
        same(root, out)
        assert all(os.stat(f"{out}/{name}/manifest.json").st_mtime == at for name, at in kept.items())
