"""Serving: `cpt-ray serve` beside a FastAPI endpoint around SentenceTransformer.encode, on the same weights and clients.

Run as `make bench-serve`. Both are processes of their own on loopback, in fp32, with as many threads as there are processors.
The peer is run in both usual manners, a thread for each request (`def`) and one request at a time (`async def`); it is asked
as ours is, in the shape of OpenAI's API, by the same clients in the same order. First each answers until it is warm and the
vectors are compared. Then 32 clients ask as fast as they are answered, in turns between the servers: texts per second, and
per second of the server's processors (a peer of many threads takes a larger share of a machine that others use too). Then
requests come at random times, half as many as the faster peer had managed: the 99th percentile of what each took.
With `--requests 100000` so many more follow, and what our server holds meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import metadata
from pathlib import Path

import aiohttp
import numpy as np
import psutil
from embed import fresh_model, functions
from rich.console import Console
from rich.table import Table

from cpt_ray.evaluate.report import machine

RESULT = Path(__file__).parent / "results" / "serve.json"
CLIENTS = 32
ROOT = Path(__file__).parent.parent

INFINITY = [
    "--url-prefix",
    "/v1",
    "--served-model-name",
    "model",
    "--engine",
    "torch",
    "--device",
    "cpu",
    "--dtype",
    "float32",
]

PEER = """
import sys
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer

model, app = SentenceTransformer(sys.argv[1], device="cpu"), FastAPI()


class Asked(BaseModel):
    input: list[str]
    model: str


def answered(asked):
    vectors = model.encode_document(asked.input).tolist()
    return {"data": [{"index": at, "embedding": vector} for at, vector in enumerate(vectors)]}


if sys.argv[3] == "threads":
    @app.post("/v1/embeddings")
    def embeddings(asked: Asked):
        return answered(asked)
else:
    @app.post("/v1/embeddings")
    async def embeddings(asked: Asked):
        return answered(asked)

uvicorn.run(app, port=int(sys.argv[2]), log_level="critical")
"""


def one_side(folder: str, to: str) -> str:
    """The documents' side of a model as sentence-transformers 3 has one, which is what infinity-emb 0.0.78 brings: it knows
    neither routers nor what later versions write."""
    shutil.copytree(os.path.join(folder, "document_0_Transformer"), to)
    width = json.loads(Path(to, "config.json").read_text())["hidden_size"]
    names = ("Transformer", "Pooling", "Normalize")
    places = ("", "1_Pooling", "2_Normalize")
    modules = [
        {"idx": at, "name": str(at), "path": place, "type": f"sentence_transformers.models.{name}"}
        for at, (name, place) in enumerate(zip(names, places, strict=True))
    ]
    tokenizer = json.loads(Path(to, "tokenizer_config.json").read_text())
    written = {
        "modules.json": modules,
        "sentence_bert_config.json": {"max_seq_length": 128, "do_lower_case": False},
        "tokenizer_config.json": {**tokenizer, "tokenizer_class": "PreTrainedTokenizerFast"},
        "1_Pooling/config.json": {
            "word_embedding_dimension": width,
            "pooling_mode_lasttoken": True,
            "pooling_mode_mean_tokens": False,
        },
    }
    for place in places[1:]:
        Path(to, place).mkdir()
    for name, value in written.items():
        Path(to, name).write_text(json.dumps(value))
    return to


def requests(texts: list[str], seed: int) -> Iterator[list[str]]:
    """Mostly one text, now and then up to eight; from a few words to a whole function."""
    rng = np.random.default_rng(seed)
    while True:
        count = 1 if rng.random() < 0.8 else int(rng.integers(2, 9))
        chosen = [texts[i] for i in rng.integers(0, len(texts), count)]
        yield [text[: int(rng.integers(10, 600))].strip() or "x" for text in chosen]


@contextmanager
def running(command: list[str], port: int) -> Iterator[psutil.Process]:
    """The server, from when it listens until it is told to stop."""
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        else:
            raise SystemExit(f"it does not start: {' '.join(command)}")
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


async def ask(session: aiohttp.ClientSession, port: int, texts: list[str]) -> list[list[float]]:
    body = {"input": texts, "model": "model"}
    async with session.post(f"http://127.0.0.1:{port}/v1/embeddings", json=body) as answer:
        if answer.status != 200:
            raise SystemExit(f"{answer.status}: {(await answer.text())[:200]}")
        return [item["embedding"] for item in (await answer.json())["data"]]


async def saturated(port: int, texts: list[str], seconds: float, seed: int) -> tuple[float, float]:
    """(texts, requests) per second with all clients asking again as soon as they are answered."""
    order, done, count = requests(texts, seed), 0, 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        end = time.perf_counter() + seconds

        async def client() -> None:
            nonlocal done, count
            while time.perf_counter() < end:
                asked = next(order)
                await ask(session, port, asked)
                done, count = done + len(asked), count + 1

        started = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CLIENTS)))
        took = time.perf_counter() - started
    return done / took, count / took


async def at_rate(port: int, texts: list[str], rate: float, seconds: float, seed: int) -> list[float]:
    """Seconds of each request, of so many that begin per second at random times."""
    rng, order, took = np.random.default_rng(seed), requests(texts, seed), []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def one(asked: list[str]) -> None:
            started = time.perf_counter()
            await ask(session, port, asked)
            took.append(time.perf_counter() - started)

        begun, due, tasks = time.perf_counter(), 0.0, []
        while (due := due + rng.exponential(1 / rate)) < seconds:
            await asyncio.sleep(max(0.0, begun + due - time.perf_counter()))
            tasks.append(asyncio.create_task(one(next(order))))
        await asyncio.gather(*tasks)
    return took


async def measure(servers: dict[str, tuple[int, psutil.Process]], texts: list[str], seconds: float) -> list[dict]:
    """Rows of the result."""
    async with aiohttp.ClientSession() as session:
        sample = [text[:600] for text in texts[:16]]
        vectors = {name: np.array(await ask(session, port, sample)) for name, (port, _) in servers.items()}
    for name, found in vectors.items():
        if (difference := float(np.abs(found - vectors["ours"]).max())) > 1e-4:
            raise SystemExit(f"the vectors of {name} differ by {difference:.2g}: the times cannot be compared")
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in servers}
    spent = dict.fromkeys(servers, 0.0)
    for number in range(4):  # the first warms up
        for name, (port, process) in servers.items():
            before = sum(process.cpu_times()[:2])
            rates[name].append(await saturated(port, texts, seconds if number else 3.0, number))
            spent[name] += sum(process.cpu_times()[:2]) - before if number else 0.0
    per_cpu = {name: sum(rate for rate, _ in found[1:]) * seconds / spent[name] for name, found in rates.items()}
    best = {name: max(found[1:]) for name, found in rates.items()}
    peer = max((name for name in servers if name != "ours"), key=lambda name: best[name])
    half = best[peer][1] / 2
    tails: dict[str, list[float]] = {name: [] for name in ("ours", peer)}
    for number in range(3):
        for name in tails:
            tails[name] += await at_rate(servers[name][0], texts, half, seconds, 10 + number)
    p99 = {name: float(np.percentile(found, 99)) * 1000 for name, found in tails.items()}
    rows = [
        row(f"{CLIENTS} clients, mixed lengths", "texts/s", best["ours"][0], name, best[name][0])
        for name in servers
        if name != "ours"
    ]
    rows += [row("the same", "texts/CPU s", per_cpu["ours"], name, per_cpu[name]) for name in servers if name != "ours"]
    used = {name: spent[name] / 3 / seconds for name in servers}
    rows += [row("the same", "processors in use", used["ours"], name, used[name]) for name in servers if name != "ours"]
    rows.append(row(f"{half:.0f} requests/s, half of the peer's most", "p99 ms", p99["ours"], peer, p99[peer]))
    return rows


async def memory(port: int, process: psutil.Process, texts: list[str], looks: list[int]) -> list[dict]:
    """What the server holds after so many requests, those of `requests` with texts of at most 60 characters: it is requests
    that may leave something behind."""
    order, count, held = requests([text[:60] for text in texts], 30), 0, dict.fromkeys(looks, 0.0)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def client() -> None:
            nonlocal count
            while count < looks[-1]:
                count += 1
                number = count
                await ask(session, port, next(order))
                if number in held:
                    held[number] = process.memory_info().rss / 2**20

        await asyncio.gather(*(client() for _ in range(CLIENTS)))
    first = held[looks[0]]
    return [row(f"resident after {look:,} requests", "MiB", held[look], f"after {looks[0]:,}", first) for look in looks]


def row(case: str, metric: str, ours: float, peer: str | None, theirs: float) -> dict:
    """One line of the result."""
    return {
        "case": case,
        "metric": metric,
        "ours_value": round(ours, 2),
        "peer": peer,
        "peer_value": round(theirs, 2),
        "ratio": round(ours / theirs, 2),
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement")
    parser.add_argument("--requests", type=int, default=0, help="look at the memory over so many, which takes minutes")
    parser.add_argument("--infinity", help="infinity-emb's program, infinity_emb, in an environment of its own")
    given = parser.parse_args()
    seconds = given.seconds
    texts = functions(512)
    with tempfile.TemporaryDirectory() as scratch:
        folder, script = os.path.join(scratch, "model"), Path(scratch, "peer.py")
        fresh_model(folder, texts)
        script.write_text(PEER)
        ports = [free_port() for _ in range(4)]
        ours = [sys.executable, "-m", "pipelines.serve", f"trained={folder}", "index=null", "precision=fp32"]
        peer = [sys.executable, str(script), folder]
        plain = one_side(folder, os.path.join(scratch, "side"))
        infinity = [given.infinity, "v2", "--model-id", plain, "--port", str(ports[3]), *INFINITY]
        with (
            running([*ours, f"http.port={ports[0]}"], ports[0]) as first,
            running([*peer, str(ports[1]), "threads"], ports[1]) as second,
            running([*peer, str(ports[2]), "serial"], ports[2]) as third,
            running(infinity, ports[3]) if given.infinity else nullcontext() as fourth,
        ):
            worker = max(first.children(recursive=True), key=lambda one: one.memory_info().rss)
            servers = {
                "ours": (ports[0], worker),
                "FastAPI and encode, a thread each": (ports[1], second),
                "FastAPI and encode, one at a time": (ports[2], third),
            }
            if fourth is not None:
                servers["infinity-emb"] = (ports[3], fourth)
            rows = asyncio.run(measure(servers, texts, seconds))
            if given.requests:
                looks = sorted({max(1, given.requests * part // 100) for part in (1, 10, 25, 50, 100)})
                rows += asyncio.run(memory(ports[0], worker, texts, looks))
    versions = {"python": platform.python_version()}
    versions |= {
        name: metadata.version(name)
        for name in ("torch", "transformers", "sentence-transformers", "fastapi", "uvicorn", "starlette")
    }
    result = {"area": "serve", "machine": machine(), "versions": versions, "rows": rows}
    table = Table("case", "metric", "ours", "peer", "theirs", "ratio", box=None)
    for each in rows:
        table.add_row(*("" if value is None else str(value) for value in each.values()))
    Console(width=140).print(table)
    RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
