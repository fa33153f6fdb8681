"""Archives on a web server, whole or by an index: the same rows as here, and no byte read that nobody asked for."""

from __future__ import annotations

import gzip
import http.server
import json
import random
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cpt_ray.artifacts import read_manifest, read_table
from cpt_ray.errors import UserError
from cpt_ray.inspect.trace import random_ids, trace
from cpt_ray.web import cluster_index
from cpt_ray.web.archive import Place, read_archive, read_at
from cpt_ray.web.index import SELECTED, select, select_shard
from cpt_ray.web.options import NetworkOptions, SelectOptions
from cpt_ray.web.remote import RangeFile, Remote
from cpt_ray.web.sources import find_sources
from cpt_ray.web.warc import Exchange, SegmentWriter, committed
from pipelines import text_pairs
from pipelines.options.text_pairs import Steps
from tests.web.test_cluster_index import others, two_levels

HERE = NetworkOptions(allow_private=("127.0.0.0/8",), backoff=0.0, retries=2)
HOST = "url_host"
SOME = ["river", "stone", "garden", "letter", "window"]
STEPS = Steps.model_validate({"extract": {"quality": {"min_words": 5}}, "neighbours": {"max_similarity": 1}})


@dataclass
class Served:
    """A server of a folder: what was sent of each file, and what answers are prepared before the right one."""

    url: str = ""
    sent: Counter[str] = field(default_factory=Counter)
    before: list[str] = field(default_factory=list)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """Byte ranges of the files below `tmp_path`; of `before`, the first says how the next answer goes wrong."""
    found = Served()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            trouble = found.before.pop(0) if found.before else ""
            file = tmp_path / self.path.lstrip("/")
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            if trouble.startswith("redirect "):
                return self._answer(302, {"Location": trouble.split(" ")[1]})
            if trouble == "busy":
                return self._answer(503, {"Retry-After": "0"})
            if not file.is_file():
                return self._answer(404, {})
            data = file.read_bytes()
            if trouble == "whole" or asked is None:
                return self._answer(200, {}, data)
            start, end = int(asked[1]), min(int(asked[2]) + 1, len(data))
            if start >= len(data):
                return self._answer(416, {"Content-Range": f"bytes */{len(data)}"})
            found.sent[file.name] += end - start
            span = {"Content-Range": f"bytes {start}-{end - 1}/{len(data)}"}
            return self._answer(206, span, data[start:end], cut=trouble == "cut")

        def _answer(self, status: int, headers: dict[str, str], body: bytes = b"", cut: bool = False) -> None:
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body[: len(body) // 2] if cut else body)
            self.close_connection = cut

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found.url = f"http://127.0.0.1:{server.server_port}/"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def crawl(tmp_path: Path) -> list[dict[str, object]]:
    """Two archives below crawl/, 40 pages of 4 hosts, and their entries as an index has them."""
    (tmp_path / "crawl").mkdir()
    writer = SegmentWriter(str(tmp_path / "crawl"), software="test/1", max_records=20, max_bytes=10**9)
    entries = []
    for number in range(40):
        host = ("a.example", "www.a.example", "b.example", "nota.example")[number % 4]
        words = random.Random(number)
        some = lambda: " ".join(words.choice(["river", "stone", "garden", "letter", "window"]) for _ in range(20))  # noqa: B023, E731
        body = "".join(f"<p>This is what the {n}th {some()} of number {number} says.</p>" for n in range(8))
        kind = "text/html" if number % 10 else "application/pdf"
        exchange = Exchange(
            f"http://{host}/{number}",
            "fetched",
            datetime(2026, 1, 2, tzinfo=UTC),
            200,
            "OK",
            (("Content-Type", kind),),
            f"<html><body><main>{body}</main></body></html>".encode(),
            b"GET / HTTP/1.1\r\n\r\n",
        )
        writer.write(exchange)
    writer.close()
    for path in sorted((tmp_path / "crawl").iterdir()):
        records = list(read_archive(str(path)))
        starts = [record.offset for record in records] + [path.stat().st_size]
        for record, end in zip(records, starts[1:], strict=True):
            if record.kind == "response":
                number = int(record.url.rpartition("/")[2])
                entries.append(
                    {
                        "url": record.url,
                        "mime": "text/html",
                        "mime-detected": "text/html" if number % 10 else "application/pdf",
                        "status": "404" if number == 21 else "200",
                        "languages": "deu" if number % 7 == 0 else "eng,fra",
                        "filename": f"crawl/{path.name}",
                        "offset": str(record.offset),
                        "length": str(end - record.offset),
                    }
                )
        assert len(list(committed(str(path)))) == 20
    return entries


def cdxj(tmp_path: Path, entries: list[dict[str, object]], name: str = "cdx-00000.gz") -> str:
    lines = "".join(f"example,a)/ 20260102000000 {json.dumps(entry)}\n" for entry in entries)
    (tmp_path / name).write_bytes(gzip.compress(lines.encode()))
    return name


def columnar(tmp_path: Path, entries: list[dict[str, object]], rows: int = 10) -> str:
    by_domain = sorted(entries, key=lambda entry: (domain(entry), str(entry["url"])))
    table = pa.table(
        {
            "url_surtkey": [f"surt {entry['url']}" * 500 for entry in by_domain],  # not asked for, and large
            "url": [entry["url"] for entry in by_domain],
            f"{HOST}_name": [str(entry["url"]).split("/")[2] for entry in by_domain],
            f"{HOST}_registered_domain": [domain(entry) for entry in by_domain],
            "fetch_status": pa.array([int(str(entry["status"])) for entry in by_domain], pa.int16()),
            "content_mime_type": [entry["mime"] for entry in by_domain],
            "content_mime_detected": [entry["mime-detected"] for entry in by_domain],
            "content_languages": [entry["languages"] for entry in by_domain],
            "warc_filename": [entry["filename"] for entry in by_domain],
            "warc_record_offset": pa.array([int(str(entry["offset"])) for entry in by_domain], pa.int32()),
            "warc_record_length": pa.array([int(str(entry["length"])) for entry in by_domain], pa.int32()),
        }
    )
    pq.write_table(
        table,
        tmp_path / "part-0.parquet",
        row_group_size=rows,
        compression="none",
        write_statistics=[f"{HOST}_registered_domain"],
    )
    return "part-0.parquet"


def domain(entry: dict[str, object]) -> str:
    return str(entry["url"]).split("/")[2].removeprefix("www.")


QUERY = SelectOptions(domains=("a.example",), languages=("eng",))


def wanted(entry: dict[str, object]) -> bool:
    """QUERY, written down once more."""
    good = entry["mime-detected"] == "text/html" and entry["status"] == "200"
    return good and domain(entry) == "a.example" and "eng" in str(entry["languages"])


def run(out: Path, archive: str, query: SelectOptions = QUERY) -> None:
    for one in text_pairs.flow(str(out), archive, STEPS, query, HERE, find_sources(archive, query.base, Remote(HERE))):
        one.make()


@given(st.lists(st.tuples(st.integers(0, 320), st.integers(-1, 200)), max_size=20), st.integers(0, 100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)
def test_a_range_file_is_the_file(tmp_path: Path, served: Served, steps: list[tuple[int, int]], ahead: int) -> None:
    """Whatever is read from wherever, also in a window, of which nothing outside is read."""
    data = bytes(range(256)) + b"end"
    (tmp_path / "data").write_bytes(data)
    remote = Remote(HERE)
    for start, end in ((0, None), (10, 200)):
        served.sent.clear()
        file = RangeFile(remote, served.url + "data", start, end, ahead)
        for at, size in steps:
            at = max(at, start)
            file.seek(at)
            stop = len(data) if end is None else end
            assert file.read(size) == (data[at:stop] if size < 0 else data[at : min(at + size, stop)])
            assert file.tell() == max(at, min(len(data) if size < 0 else at + size, stop, len(data)))


def test_only_the_bytes_asked_for(tmp_path: Path, served: Served, crawl: list[dict[str, object]]) -> None:
    """By CDXJ: of the archives exactly the records' bytes; the documents are those of these URLs read here."""
    run(tmp_path / "out", served.url + cdxj(tmp_path, crawl))
    chosen = [entry for entry in crawl if wanted(entry)]
    assert 5 < len(chosen) < 20
    sent = sum(count for name, count in served.sent.items() if name.endswith(".warc.gz"))
    assert sent == sum(int(str(entry["length"])) for entry in chosen)
    found = read_table(str(tmp_path / "out" / "documents"))
    run(tmp_path / "here", str(tmp_path / "crawl"))
    here = {row["url"]: row for row in read_table(str(tmp_path / "here" / "documents")).to_pylist()}
    assert found.to_pylist() == [here[str(entry["url"])] for entry in sorted(chosen, key=lambda one: str(one["url"]))]
    read_manifest(str(tmp_path / "out" / "selected")).balance.check("selected")
    path = str(tmp_path / "out" / "text_pairs")
    served.sent.clear()
    assert [one.problem for one in trace(path, random_ids(path, 20), network=HERE)] == [None] * 20
    assert served.sent


def test_a_columnar_index_chooses_the_same(tmp_path: Path, served: Served, crawl: list[dict[str, object]]) -> None:
    """And of it neither other columns nor row groups of other domains are read."""
    lines, table = cdxj(tmp_path, crawl), columnar(tmp_path, crawl)
    one, two = (tmp_path / name / "selected" for name in ("lines", "table"))
    first = select(str(one), [served.url + lines], options=QUERY, network=HERE)
    served.sent.clear()
    second = select(str(two), [served.url + table], options=QUERY, network=HERE)
    assert read_table(str(one)).equals(read_table(str(two)))
    assert read_table(str(one)).num_rows == sum(map(wanted, crawl))
    assert first.ledger == second.ledger
    assert served.sent["part-0.parquet"] < (tmp_path / table).stat().st_size / 2
    alone = served.sent["part-0.parquet"]
    served.sent.clear()
    everywhere = SelectOptions(languages=("eng",))
    select(str(tmp_path / "every"), [served.url + table], options=everywhere, network=HERE)
    assert served.sent["part-0.parquet"] > alone


def test_only_the_blocks_of_the_domain_are_read(
    tmp_path: Path, served: Served, crawl: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is chosen is what the whole index chooses; of both levels a small part is asked of the server."""
    monkeypatch.setattr(cluster_index, "_PIECE", 1024)
    entries = crawl + others(3000)
    two_levels(tmp_path / "indexes", entries, block=2)
    (tmp_path / "cc-index.paths.gz").write_bytes(
        gzip.compress(b"indexes/cdx-00000.gz\nindexes/cdx-00001.gz\nindexes/cluster.idx\nindexes/metadata.yaml\n")
    )
    found = find_sources(served.url + "cc-index.paths.gz", "", Remote(HERE))
    assert found.by_index
    by_blocks = select(str(tmp_path / "blocks"), found.files, options=QUERY, network=HERE)
    sent = dict(served.sent)
    select(str(tmp_path / "whole"), [served.url + cdxj(tmp_path, entries)], options=QUERY, network=HERE)
    assert read_table(str(tmp_path / "blocks")).equals(read_table(str(tmp_path / "whole")))
    assert read_table(str(tmp_path / "blocks")).num_rows == sum(map(wanted, crawl)) > 5
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "indexes").iterdir()}
    blocks = sum(count for name, count in sent.items() if name.startswith("cdx-"))
    assert 0 < blocks < 0.1 * (sizes["cdx-00000.gz"] + sizes["cdx-00001.gz"])
    assert sent["cluster.idx"] < 0.5 * sizes["cluster.idx"]
    by_blocks.balance.check("blocks")
    everything = SelectOptions(count=10_000)
    select(str(tmp_path / "all"), found.files, options=everything, network=HERE)
    select(str(tmp_path / "all-lines"), [str(tmp_path / "cdx-00000.gz")], options=everything, network=HERE)
    assert read_table(str(tmp_path / "all")).equals(read_table(str(tmp_path / "all-lines")))
    nothing = select(str(tmp_path / "none"), found.files, options=SelectOptions(domains=("aaa.aaa",)), network=HERE)
    assert nothing.rows == 0


def test_lists_of_paths(tmp_path: Path, served: Served, crawl: list[dict[str, object]]) -> None:
    """As Common Crawl has them: relative to the server's root; a list of an index leads to the index."""
    names = [f"crawl/{path.name}" for path in sorted((tmp_path / "crawl").iterdir())]
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists" / "warc.paths.gz").write_bytes(
        gzip.compress("\n".join([*names, "crawl/x.warc.wat.gz"]).encode())
    )
    run(tmp_path / "out", served.url + "lists/warc.paths.gz")
    run(tmp_path / "here", str(tmp_path / "crawl"))
    documents = [read_table(str(tmp_path / name / "documents")) for name in ("out", "here")]
    assert documents[0].equals(documents[1])
    total = sum(path.stat().st_size for path in (tmp_path / "crawl").iterdir())
    assert sum(served.sent[path.name] for path in (tmp_path / "crawl").iterdir()) < 1.1 * total
    columnar(tmp_path, crawl)
    (tmp_path / "subset=warc").mkdir()
    (tmp_path / "part-0.parquet").rename(tmp_path / "subset=warc" / "part-0.parquet")
    listed = "subset=robotstxt/part-0.parquet\nsubset=warc/part-0.parquet\n"
    (tmp_path / "lists" / "cc-index-table.paths.gz").write_bytes(gzip.compress(listed.encode()))
    found = find_sources(served.url + "lists/cc-index-table.paths.gz", "", Remote(HERE))
    assert found == ([served.url + "subset=warc/part-0.parquet"], True, served.url)
    with pytest.raises(UserError, match="no WARC"):
        find_sources(served.url + "page.html", "", Remote(HERE))
    with pytest.raises(UserError, match="rows of an artifact, and no archives"):
        find_sources(str(tmp_path / "out" / "documents"), "", Remote(HERE))


def test_what_is_chosen_does_not_depend_on_the_index(tmp_path: Path, crawl: list[dict[str, object]]) -> None:
    """Neither on its order, nor on how it is cut; and the ledger says what became of every entry."""
    query = SelectOptions(count=7)
    some = []
    for number, order in enumerate((crawl, crawl[::-1])):
        pieces = [order[:13], order[13:14], order[14:]] if number else [order]
        files = [str(tmp_path / cdxj(tmp_path, piece, f"{number}-{n}.cdxj.gz")) for n, piece in enumerate(pieces)]
        made = select(str(tmp_path / f"out{number}"), files, options=query, network=HERE)
        made.balance.check("selected")
        some.append(read_table(str(tmp_path / f"out{number}")))
    assert some[0].equals(some[1])
    assert some[0].num_rows == 7
    urls = set(some[0]["url"].to_pylist())
    more = select(str(tmp_path / "more"), files, options=SelectOptions(count=12), network=HERE)
    assert urls < set(read_table(str(tmp_path / "more"))["url"].to_pylist())
    assert more.rows == 12


def test_what_is_chosen_is_the_same_in_a_bucket(tmp_path: Path, crawl: list[dict[str, object]], s3: str) -> None:
    """As documents are, which are extracted from it there."""
    files, query = [str(tmp_path / cdxj(tmp_path, crawl))], SelectOptions(count=7)
    places = (str(tmp_path / "out"), f"{s3}/{tmp_path.name}/out")
    here, there = (select(place, files, options=query, network=HERE) for place in places)
    assert there.digest == here.digest
    assert read_table(places[1]).equals(read_table(places[0]))


def test_old_indexes_and_broken_lines(tmp_path: Path) -> None:
    """CDX with and without a header; a line that is no entry is counted."""
    text = (
        " CDX N b a m s k r M S V g\n"
        "example,a)/1 20260102000000 http://a.example/1 text/html 200 X - - 100 0 one.warc.gz\n"
        "example,a)/2 20260102000000 http://a.example/2 text/html 200 X - - 100\n"
        "\n"
        'example,a)/3 20260102000000 {"url": "http://a.example/3", "mime": "text/html", "status": "200", "offset": "5"}\n'
        'example,a)/4 20260102000000 {"url": "http://a.example/4", "mime": "text/html", "status": "301", "filename": "f", "offset": "5", "length": "6"}\n'
    )
    (tmp_path / "a.cdx").write_text(text)
    table, ledger = select_shard({"index": str(tmp_path / "a.cdx")}, SelectOptions(), HERE)
    assert table.schema == SELECTED
    assert table["url"].to_pylist() == ["http://a.example/1"]
    assert ledger.check("a").units["entries"].dropped == {"malformed": 2, "status": 1}


@pytest.mark.parametrize(
    "wrong", [{"url": None}, {"url": "http://[a/"}, {"filename": None}, {"offset": -1}, {"length": 0}]
)
def test_a_row_that_is_no_entry_costs_itself_alone(
    tmp_path: Path, crawl: list[dict[str, object]], wrong: dict[str, object]
) -> None:
    """Of a columnar index as of lines: it is counted, and the others are read."""
    path = tmp_path / columnar(tmp_path, crawl)
    table = pq.read_table(path)
    whole, _ = select_shard({"index": str(path)}, SelectOptions(), HERE)
    names = {"filename": "warc_filename", "offset": "warc_record_offset", "length": "warc_record_length"}
    for key, value in wrong.items():
        name = names.get(key, key)
        table = table.set_column(
            table.schema.get_field_index(name),
            name,
            pa.array([value, *table[name].to_pylist()[1:]], table.schema.field(name).type),
        )
    pq.write_table(table.drop_columns([f"{HOST}_name"]), path)
    found, ledger = select_shard({"index": str(path)}, SelectOptions(), HERE)
    assert ledger.check("a").units["entries"].dropped["malformed"] == 1
    assert len(whole) - 1 <= len(found) <= len(whole)


@pytest.mark.parametrize("damage", ["cut", "overwritten", "gone"])
@pytest.mark.parametrize("kind", ["lines", "columns"])
def test_a_damaged_index_is_said_with_its_path(
    tmp_path: Path, crawl: list[dict[str, object]], kind: str, damage: str
) -> None:
    """It might hold anything: half of it is not taken for the whole."""
    path = tmp_path / (cdxj(tmp_path, crawl) if kind == "lines" else columnar(tmp_path, crawl))
    data = path.read_bytes()
    if damage == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif damage == "overwritten":
        path.write_bytes(data[:200] + b"\xff" * 100 + data[300:-40] + b"\xff" * 20 + data[-20:])
    else:
        path.unlink()
    with pytest.raises(UserError) as caught:
        select_shard({"index": str(path)}, SelectOptions(), HERE)
    assert caught.value.where == str(path)


def test_private_addresses_are_refused(served: Served, tmp_path: Path) -> None:
    """By default, also where a redirect leads to one; the option allows networks and no others."""
    (tmp_path / "data").write_bytes(b"x" * 100)
    with pytest.raises(UserError, match="no public address"):
        Remote(NetworkOptions()).read(served.url + "data", 0, 10)
    with pytest.raises(UserError, match="no public address"):
        Remote(NetworkOptions()).read(served.url.replace("127.0.0.1", "localhost") + "data", 0, 10)
    served.before = ["redirect http://10.0.0.1/data"]
    with pytest.raises(UserError, match="no public address"):
        Remote(HERE).read(served.url + "data", 0, 10)
    served.before = ["redirect http://[a/data"]
    with pytest.raises(UserError, match="leads to no URL"):
        Remote(HERE).read(served.url + "data", 0, 10)
    served.before = ["redirect /data"]
    assert Remote(HERE).read(served.url + "elsewhere", 0, 10) == (b"x" * 10, 100)
    served.before = ["redirect /data"] * 10
    with pytest.raises(UserError, match="too many redirects"):
        Remote(HERE).read(served.url + "data", 0, 10)


@pytest.mark.parametrize("host", ["", "[a", "a..b", f"{'a' * 64}.example", "a:99999", "u:p@a"])
def test_a_url_that_leads_nowhere_is_said(host: str) -> None:
    url = f"http://{host}/crawl.warc.gz"
    with pytest.raises(UserError) as caught:
        Remote(HERE).read(find_sources(url, "", Remote(HERE)).files[0], 0, 1)
    assert caught.value.where == url.replace("u:p@", "***@")  # no password in a message


def test_a_server_in_trouble(served: Served, tmp_path: Path) -> None:
    """Busy or cut off: asked again, and said when it stays so. One that sends the whole file is not read."""
    (tmp_path / "data").write_bytes(b"0123456789")
    remote = Remote(HERE)
    for trouble in (["busy"], ["cut"], ["busy", "cut"]):
        served.before = list(trouble)
        assert remote.read(served.url + "data", 2, 6) == (b"2345", 10)
    served.before = ["cut"] * 5
    with pytest.raises(UserError, match=r"of 4 bytes|broke"):
        remote.read(served.url + "data", 2, 6)
    served.before = ["busy"] * 5
    with pytest.raises(UserError, match=r"status 503|not answer"):
        remote.read(served.url + "data", 2, 6)
    served.before = ["whole"]
    with pytest.raises(UserError, match="no range"):
        remote.read(served.url + "data", 2, 6)
    served.before = []
    with pytest.raises(FileNotFoundError):
        remote.read(served.url + "nothing", 0, 1)


def test_records_that_are_not_where_the_index_says(
    tmp_path: Path, served: Served, crawl: list[dict[str, object]]
) -> None:
    """Each costs itself, by reason."""
    entry = crawl[0]
    url, offset, length = served.url + str(entry["filename"]), int(str(entry["offset"])), int(str(entry["length"]))
    places = [Place(offset, length), Place(offset + 1, length), Place(offset, length // 2), Place(10**9, 10)]
    found = [record.reason for record in read_at(url, places, remote=Remote(HERE))]
    assert found[0] is None
    assert None not in found[1:]
    (missing,) = read_at(served.url + "gone.warc.gz", [Place(0, 10)], remote=Remote(HERE))
    assert missing.reason == "not_found"
