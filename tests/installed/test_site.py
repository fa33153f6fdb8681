"""The documentation site of the installed distributions."""

from __future__ import annotations

import functools
import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.artifacts import run_shards
from cpt_ray.installed import site
from cpt_ray.installed.distributions import Distribution, SourceFile
from cpt_ray.installed.options import SiteOptions
from cpt_ray.installed.server import serve_pages, serve_site
from cpt_ray.installed.site import DISALLOWED, PAGES, render_shard, robots_txt, site_shards, sitemaps

WORDS = "This module explains at some length what it is good for and how it is used by others. " * 6


@pytest.fixture
def installed(tmp_path: Path) -> list[Distribution]:
    """Two small distributions, one requiring the other."""
    found = []
    for name, requires, count in (("big", ("small",), 12), ("small", (), 2)):
        files = []
        for i in range(count):
            path = f"{name}/m{i}.py"
            text = f'"""{name} {i}. {WORDS}"""\n' if i != 1 else "x = 1\n" * 100
            (tmp_path / path).parent.mkdir(exist_ok=True)
            (tmp_path / path).write_text(text)
            files.append(SourceFile(path, len(text)))
        found.append(Distribution(name, "1.0", "MIT", f"The {name} one.", requires, str(tmp_path), tuple(files)))
    return found


def pages_of(found: list[Distribution], options: SiteOptions) -> dict[str, tuple[str, str]]:
    pages = {}
    for shard in site_shards(found, options):
        table, ledger = render_shard(json.loads(json.dumps(shard)), options)
        ledger.check("site")
        assert table.schema == PAGES
        pages |= {row["path"]: (row["group"], row["html"]) for row in table.to_pylist()}
    return pages


def test_pages_of_a_site(installed: list[Distribution]) -> None:
    """A home page, one page per distribution and per documented module, and a private page each, in their groups."""
    pages = pages_of(installed, SiteOptions(shards=2))
    assert {"/", "/big/", "/small/", "/small/small.m0.html", f"{DISALLOWED}big/"} <= pages.keys()
    assert "/big/big.m1.html" not in pages
    assert {group for group, _ in pages.values()} == {"", "big", "small"}
    assert 'href="/small/"' in pages["/big/"][1]
    assert f'href="{DISALLOWED}big/"' in pages["/big/big.m0.html"][1]
    links = set(re.findall(r'href="(/[^"#]*)', "".join(body for _, body in pages.values())))
    assert links - pages.keys() <= {"/python/"}, "every link leads to a page"


def test_ledger_accounts_for_every_file(installed: list[Distribution]) -> None:
    """Files read = pages + those without enough docstring + those beyond the budget."""
    options = SiteOptions(max_pages=4, shards=1)
    (shard,) = site_shards(installed, options)
    _, ledger = render_shard(shard, options)
    count = ledger.check("site").units["modules"]
    assert count.read == 14
    assert count.kept <= 4
    assert set(count.dropped) == {"over_budget", "too_little_docstring"}


def test_shards_do_not_show(installed: list[Distribution]) -> None:
    """The pages are the same for any number of shards and any order of the inventory."""
    one = pages_of(installed, SiteOptions(shards=1, max_pages=8))
    assert pages_of(list(reversed(installed)), SiteOptions(shards=7, max_pages=8)) == one
    assert len(one) > 5


def test_bytes_do_not_depend_on_the_hash_seed(installed: list[Distribution]) -> None:
    """Equal input, equal bytes, in any process."""
    code = (
        "import sys, json; from cpt_ray.installed.distributions import Distribution; from cpt_ray.installed.site import *\n"
        "o = SiteOptions(shards=1); found = [Distribution.from_dict(d) for d in json.load(sys.stdin)]\n"
        "print(render_shard(site_shards(found, o)[0], o)[0].to_pylist())"
    )
    asked = json.dumps([d.to_dict() for d in installed])
    seen = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            input=asked,
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1
    assert "big.m0" in next(iter(seen))


@given(st.lists(st.integers(0, 50), max_size=12), st.integers(1, 200))
def test_fair_share(sizes: list[int], total: int) -> None:
    """The share is the largest that fits: it keeps to the total, and one more would not."""
    share = site._fair_share(sizes, total)
    assert sum(min(size, share) for size in sizes) <= total
    if share < max(sizes, default=0):
        assert sum(min(size, share + 1) for size in sizes) > total


def test_sitemaps_list_every_allowed_page_once() -> None:
    """The index names the sitemaps; together they name each page once, and nothing disallowed."""
    paths = [f"/p/{i}.html" for i in range(25)] + [f"{DISALLOWED}p/"]
    found = sitemaps(paths, per_file=10)
    index = re.findall(r"<loc>http://[^/]+(/[^<]+)</loc>", found["/sitemap.xml"])
    assert sorted(index) == ["/sitemap-0.xml", "/sitemap-1.xml", "/sitemap-2.xml"]
    listed = re.findall(r"<url><loc>http://[^/]+(/[^<]+)</loc>", "".join(found[path] for path in index))
    assert sorted(listed) == sorted(paths[:-1])
    assert f"Disallow: {DISALLOWED}" in robots_txt()


def test_server_serves_and_logs() -> None:
    """Pages, robots.txt and sitemaps over HTTP on loopback; every request is on record; 404 for the rest."""
    with serve_pages({"/": "<p>home ü</p>", "/a/": "<p>a</p>"}) as served:
        assert served.base_url.startswith("http://127.0.0.1:")
        with urllib.request.urlopen(f"{served.base_url}/") as answer:
            assert answer.read().decode() == "<p>home ü</p>"
            assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
        urllib.request.urlopen(f"{served.base_url}/robots.txt").close()
        urllib.request.urlopen(f"{served.base_url}/sitemap.xml").close()
        with pytest.raises(urllib.error.HTTPError, match="404"):
            urllib.request.urlopen(f"{served.base_url}/none")
        assert served.requests == ["/", "/robots.txt", "/sitemap.xml", "/none"]
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"{served.base_url}/", timeout=2)


def test_a_taken_port_is_an_error_not_a_hang() -> None:
    """Asking for a port in use fails at once."""
    started = time.monotonic()
    with (
        serve_pages({}) as served,
        pytest.raises(OSError, match="address"),
        serve_pages({}, int(served.address.rpartition(":")[2])),
    ):
        pass
    assert time.monotonic() - started < 60


def test_rendered_as_an_artifact_and_served(installed: list[Distribution], tmp_path: Path) -> None:
    """The shards run through run_shards, and what it publishes is what is served."""
    options = SiteOptions(shards=2)
    path = str(tmp_path / "site")
    manifest = run_shards(
        path,
        step="site",
        version=1,
        params=options,
        inputs={"installed": "x"},
        shards=site_shards(installed, options),
        work=functools.partial(render_shard, options=options),
        schema=PAGES,
        unit="modules",
    )
    with serve_site(path) as served, urllib.request.urlopen(f"{served.base_url}/small/small.m0.html") as answer:
        assert b"small 0." in answer.read()
    assert manifest.rows == len(pages_of(installed, options))
