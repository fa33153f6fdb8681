#!/usr/bin/env bash
# What: aiohttp's client sends a GET a second time by itself when a kept-alive connection is closed instead of answered.
# Versions: aiohttp 3.14.5, Python 3.11.
# Expected: one session.get() is one request, or at least one that tracing (what rate limiters hook into) can see twice.
# Seen: the server logs the request twice within milliseconds; on_request_start fires once, and no public option turns
#   it off. A new connection that is closed is not retried.
# Why it matters: a crawler that keeps a Crawl-delay and counts its requests breaks the one and miscounts the other as
#   soon as a server closes kept connections on request (overload, many CGI hosts), and so does a "retries=0".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3.11 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check aiohttp==3.14.5
cat > "$work/twice.py" <<'PYTHON'
import asyncio
import inspect
import time

import aiohttp


async def main() -> None:
    log: list[tuple[float, str]] = []
    started: list[str] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
            except asyncio.IncompleteReadError:
                break
            log.append((time.monotonic(), path))
            if path == "/closes":
                break
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
        writer.close()

    async def on_start(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        started.append(params.url.path)

    trace = aiohttp.TraceConfig()
    trace.on_request_start.append(on_start)
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    base = "http://127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    async with aiohttp.ClientSession(trace_configs=[trace]) as session:
        for path in ("/opens", "/closes"):
            try:
                async with session.get(base + path) as response:
                    await response.read()
            except aiohttp.ServerDisconnectedError:
                print(path, "-> ServerDisconnectedError")
    paths = [path for _, path in log]
    apart = log[-1][0] - log[-2][0]
    options = [name for name in inspect.signature(aiohttp.ClientSession.__init__).parameters if "retr" in name]
    print("aiohttp", aiohttp.__version__)
    print("calls and on_request_start:", started)
    print("requests in the server's log:", paths, "the last two %.1f ms apart" % (apart * 1000))
    print("options of ClientSession about retries:", options)
    assert started == ["/opens", "/closes"], started
    assert paths == ["/opens", "/closes", "/closes"], paths
    assert options == [], options


asyncio.run(main())
PYTHON
"$work/venv/bin/python" "$work/twice.py"
echo "as stated: one call, two requests"
