"""The page in a real browser: a query is typed and answered, and nothing is asked of another host."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from cpt_ray.serve.exact import ExactIndex
from cpt_ray.serve.http import API_KEY, make_app
from cpt_ray.serve.listen import bound, server
from cpt_ray.serve.options import HttpOptions
from tests.serve.serve_samples import functions, unit
from tests.serve.toy import Toy

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
INDEX = ExactIndex(functions(0, 20), "", unit(np.random.default_rng(0).standard_normal((20, 4))))


class Page:
    """A tab, spoken to by the DevTools protocol; `asked` are the addresses that it has loaded."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._number, self.asked = socket, 0, []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": params})
        while True:
            got = json.loads((await self._socket.receive(timeout=60)).data)
            if got.get("method") == "Network.requestWillBeSent":
                self.asked.append(got["params"]["request"]["url"])
            if got.get("id") == self._number:
                return got["result"]

    async def value(self, expression: str) -> Any:
        return (await self.call("Runtime.evaluate", expression=expression))["result"].get("value")

    async def until(self, expression: str) -> None:
        while not await self.value(expression):
            await asyncio.sleep(0.05)

    async def typed(self, element: str, text: str) -> None:
        await self.value(
            f"document.getElementById('{element}').focus(), document.getElementById('{element}').value = ''"
        )
        await self.call("Input.insertText", text=text)
        enter = {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"}
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, **enter)


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_a_search_is_typed_and_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a key that is asked for; places, scores and the map are shown; a refusal is said; markup stays text."""
    monkeypatch.setenv(API_KEY, "key")

    async def conversation(profile: str) -> None:
        own = bound("127.0.0.1", 0)
        address = f"http://127.0.0.1:{own.getsockname()[1]}/"
        app = make_app(Toy(), INDEX, HttpOptions(), name="toy")
        listening = server(app)
        serving = asyncio.create_task(listening.serve([own]))
        flags = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
        ]
        quiet = asyncio.subprocess.DEVNULL
        browser = await asyncio.create_subprocess_exec(BROWSER, *flags, "about:blank", stdout=quiet, stderr=quiet)
        try:
            async with asyncio.timeout(120), aiohttp.ClientSession() as session:
                while not (told := Path(profile, "DevToolsActivePort")).exists() or not told.read_text().strip():
                    await asyncio.sleep(0.05)
                port = told.read_text().split()[0]
                async with session.get(f"http://127.0.0.1:{port}/json") as tabs:
                    tab = next(tab for tab in await tabs.json() if tab["type"] == "page")
                async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                    await used(Page(socket), address)
        finally:
            browser.terminate()
            await browser.wait()
            listening.should_exit = True
            await serving
            app.state.endpoint.close()

    async def used(page: Page, address: str) -> None:
        await page.call("Network.enable")
        await page.call("Page.navigate", url=address)
        await page.until("document.getElementById('key') && !document.getElementById('key').hidden")
        assert "API key" in await page.value("document.getElementById('said').textContent")
        await page.value("document.getElementById('key').value = 'key'")
        await page.typed("q", "<b>dates</b>")
        await page.until("document.querySelectorAll('#answers li').length === 10")
        first = await page.value("document.querySelector('#answers li').textContent")
        assert "Class.name_" in first
        assert "pkg/mod" in first
        assert await page.value("document.querySelectorAll('svg .answer').length") == 10
        assert await page.value("document.querySelectorAll('svg .cross').length") == 1
        assert await page.value("document.querySelectorAll('svg .row').length") == 20
        assert await page.value("document.querySelector('main b') === null")
        await page.typed("q", "q" * 20_001)
        await page.until("document.getElementById('said').className === 'wrong'")
        assert "characters" in await page.value("document.getElementById('said').textContent")
        assert page.asked
        assert all(url.startswith((address, "data:", "about:")) for url in page.asked), page.asked

    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        asyncio.run(conversation(profile))
