"""Common Crawl's two-level index: the blocks that `cluster.idx` leads to hold every entry of a domain, and few others."""

from __future__ import annotations

import gzip
import io
import json
import random
import re
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cpt_ray.errors import UserError
from cpt_ray.web import cluster_index
from cpt_ray.web.options import NetworkOptions
from cpt_ray.web.remote import Remote

HERE = NetworkOptions()


def key(url: str, time: str = "20260102000000") -> str:
    """As Common Crawl sorts its index: the host turned round, without www, an address as it is."""
    parts = urlsplit(url)
    host = re.sub(r"^www\d*\.", "", parts.hostname or "")
    turned = host if host.replace(".", "").isdigit() else ",".join(reversed(host.split(".")))
    port = f":{parts.port}" if parts.port else ""
    return f"{turned}{port}){parts.path} {time}"


def two_levels(folder: Path, entries: list[dict[str, object]], block: int, files: int = 2) -> str:
    """cdx-*.gz of blocks of so many entries, and cluster.idx; the name of the latter."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = sorted(f"{key(str(e['url']))} {json.dumps(e)}\n".encode() for e in entries)
    upper, share = [], -(-len(lines) // files)
    for number in range(files):
        data = b""
        own = lines[number * share : (number + 1) * share]
        for at in range(0, len(own), block):
            packed = gzip.compress(b"".join(own[at : at + block]))
            first = b" ".join(own[at].split(b" ")[:2]).decode()
            upper.append(f"{first}\tcdx-{number:05d}.gz\t{len(data)}\t{len(packed)}\t{len(upper) + 1}\n")
            data += packed
        (folder / f"cdx-{number:05d}.gz").write_bytes(data)
    (folder / "cluster.idx").write_text("".join(upper))
    return "cluster.idx"


def others(count: int) -> list[dict[str, object]]:
    rng = random.Random(1)
    pages = [f"http://{rng.choice('abcxyz')}{n}.example/{n}" for n in range(count)]
    return [
        {"url": url, "status": "200", "mime": "text/html", "filename": "f", "offset": "0", "length": "9"}
        for url in pages
    ]


LABEL = st.sampled_from(["a", "b", "a-b", "ab", "www", "www2", "z"])
HOST = st.lists(LABEL, min_size=1, max_size=4).map(".".join) | st.sampled_from(["1.2.3.4", "1.2.3.40", "4.3.2.1"])
URL = st.builds(
    lambda host, port, path: f"http://{host}{port}/{path}",
    HOST,
    st.sampled_from(["", ":8080"]),
    st.sampled_from(["", "x", "~y"]),
)


@given(st.lists(URL, min_size=1, max_size=60), HOST, st.integers(1, 4), st.integers(1, 400))
@settings(deadline=None)
def test_no_entry_of_a_domain_is_missed(urls: list[str], domain: str, block: int, piece: int) -> None:
    """Whatever stands beside it, however blocks are cut, and however the upper level is read."""
    keys = sorted(key(url, f"{n:014d}").encode() for n, url in enumerate(urls))
    by_key = {key(url, f"{n:014d}").encode(): url for n, url in enumerate(urls)}
    blocks = [keys[at : at + block] for at in range(0, len(keys), block)]
    upper = b"".join(one[0] + b"\tf\t%d\t1\t1\n" % n for n, one in enumerate(blocks))
    read: set[int] = set()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster_index, "_PIECE", piece)
        for low, high in cluster_index.spans(domain):
            read |= {int(line.split(b"\t")[2]) for line in cluster_index._between(io.BytesIO(upper), low, high)}
    hosts = {n: [urlsplit(by_key[one]).hostname or "" for one in keys] for n, keys in enumerate(blocks)}
    needed = {n for n, names in hosts.items() if any(name == domain or name.endswith(f".{domain}") for name in names)}
    assert needed <= read


def test_a_broken_upper_level_is_said_with_its_path(tmp_path: Path) -> None:
    """A line that leads nowhere would hide what it leads to."""
    path = tmp_path / "cluster.idx"
    path.write_text("example,a)/ 20260102000000\tcdx-00000.gz\tmany\t1\t1\n")
    for domains in (("a.example",), ()):
        with pytest.raises(UserError) as caught:
            cluster_index.shards([str(path)], domains, Remote(HERE))
        assert caught.value.where == str(path)
