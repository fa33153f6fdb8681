"""Artifacts in a bucket: they appear by one write, are the same as in a folder, and one process builds them."""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import os
import random
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from obstore.fsspec import FsspecStore

from cpt_ray.artifacts import Ledger, Manifest, build, lease, parts, places, read_manifest, read_table, run_shards
from cpt_ray.artifacts.lease import Lease
from cpt_ray.artifacts.places import Changed, locate, put_over, read, write
from cpt_ray.errors import UserError

SCHEMA = pa.schema([("n", pa.int64())])
LATE = 1.5
"""Seconds of an answer for which nobody waits."""


def _square(shard: dict[str, int]) -> tuple[pa.Table, Ledger]:
    rows = [n * n for n in range(shard["start"], shard["start"] + 10)]
    return pa.table({"n": rows}, schema=SCHEMA), Ledger.of("numbers", read=10, kept=10)


def run(path: str, work: Any = _square, **changes: Any) -> Manifest:
    shards = [{"start": start} for start in range(0, 50, 10)]
    arguments = {"step": "squares", "version": 1, "params": {"p": 1}, "inputs": {"source": "abc"}} | changes
    return run_shards(path, shards=shards, work=work, schema=SCHEMA, unit="numbers", **arguments)


@pytest.fixture
def place(s3: str) -> str:
    return f"{s3}/{uuid.uuid4().hex}/squares"


def objects(path: str) -> set[str]:
    fs, target = locate(path)
    return {name.removeprefix(target + "/") for name in fs.find(target)}


def test_a_bucket_holds_what_a_folder_holds(tmp_path, place):
    """Equal rows, ledger, digest and bytes; nothing but the parts and the manifest stays; found again as done."""
    here, there = run(str(tmp_path / "squares")), run(place)
    assert read_table(place).equals(read_table(str(tmp_path / "squares")))
    assert (there.digest, there.ledger, there.rows) == (here.digest, here.ledger, here.rows)
    assert [file.path for file in there.files] == [file.path for file in here.files]
    fs, _ = locate(place)
    for name, local in zip(parts(place), parts(str(tmp_path / "squares")), strict=True):
        assert fs.cat_file(locate(name)[1]) == Path(local).read_bytes()
    assert objects(place) == {"manifest.json", *(file.place for file in there.files)}
    assert run(place, work=None) == there
    assert not fs.exists(f"{locate(place)[1].rpartition('/')[0]}/.squares.lease")


def test_another_identity_takes_the_place(place):
    """The manifest is put over the one before, whose files go; readers of either see whole artifacts."""
    first = run(place)
    second = run(place, params={"p": 2})
    assert read_manifest(place).identity == second.identity != first.identity
    assert objects(place) == {"manifest.json", *(file.place for file in second.files)}


def _run_or_die(path: str, start: int) -> None:
    def work(shard: dict[str, int]) -> tuple[pa.Table, Ledger]:
        if shard["start"] == start:
            os.kill(os.getpid(), signal.SIGKILL)
        return _square(shard)

    run(path, work)


def _publish_or_die(path: str) -> None:
    """Killed with all parts written, when the manifest is to be put."""
    from cpt_ray.artifacts import store

    store.put_over = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
    run(path)


@pytest.mark.parametrize("kill", [_publish_or_die, 20, 40], ids=["before the manifest", "in part 2", "in part 4"])
def test_a_kill_leaves_nothing_half_and_the_next_goes_on(place, monkeypatch, tmp_path, kill):
    """Until the manifest there is no artifact; the dead holder's lease is taken over; finished parts are not made again."""
    spawned = multiprocessing.get_context("spawn")
    given = (kill, (place,)) if callable(kill) else (_run_or_die, (place, kill))
    child = spawned.Process(target=given[0], args=given[1])
    child.start()
    child.join()
    assert child.exitcode == -signal.SIGKILL
    with pytest.raises(UserError, match="no finished artifact"):
        read_manifest(place)
    monkeypatch.setattr(lease, "LEASE", 0.2)
    made: list[int] = []

    def work(shard: dict[str, int]) -> tuple[pa.Table, Ledger]:
        made.append(shard["start"])
        return _square(shard)

    manifest = run(place, work)
    assert manifest.resumed
    assert made == [start for start in range(0, 50, 10) if not callable(kill) and start >= kill]
    assert manifest.digest == run(str(tmp_path / "undisturbed")).digest
    assert read_table(place).equals(read_table(str(tmp_path / "undisturbed")))
    # A file of a dead attempt may lie there, and is no part of the artifact.
    assert {"manifest.json", *(file.place for file in manifest.files)} <= objects(place)


def test_two_builders_of_one_artifact_are_refused(place, monkeypatch):
    """While the first renews its lease, the second is told who builds; afterwards it finds the artifact."""
    monkeypatch.setattr(lease, "BEAT", 0.05)
    with build(place, step="s", version=1, params={}) as work:
        with (
            pytest.raises(UserError, match=f"another process is building this artifact .process {os.getpid()}"),
            build(place, step="s", version=1, params={}),
        ):
            pass
        work.write("part-00000.parquet", pa.table({"n": [1]}, schema=SCHEMA))
        work.publish(Ledger.of("rows", read=1, kept=1), rows=1, schema=SCHEMA)
    with build(place, step="s", version=1, params={}) as work:
        assert work.done


def test_who_lost_its_lease_does_not_publish(place, monkeypatch):
    """A builder that was taken for dead and wakes up again says so, and leaves what stands."""
    monkeypatch.setattr(lease, "BEAT", 3600.0)
    with build(place, step="s", version=1, params={"p": 1}) as slow:
        slow.write("part-00000.parquet", pa.table({"n": [1]}, schema=SCHEMA))
        monkeypatch.setattr(lease, "LEASE", 0.1)
        with build(place, step="s", version=1, params={"p": 2}) as quick:
            quick.write("part-00000.parquet", pa.table({"n": [2]}, schema=SCHEMA))
            made = quick.publish(Ledger.of("rows", read=1, kept=1), rows=1, schema=SCHEMA)
        with pytest.raises(UserError, match="published here meanwhile"):
            slow.publish(Ledger.of("rows", read=1, kept=1), rows=1, schema=SCHEMA)
    assert read_manifest(place) == made
    assert read_table(place)["n"].to_pylist() == [2]


def test_a_lost_lease_is_noticed_by_its_holder(place, monkeypatch):
    """The holder's next beat finds another's lease, and its check says so; it does not remove what is not its own."""
    monkeypatch.setattr(lease, "BEAT", 3600.0)
    fs, target = locate(place)
    mine = Lease(fs, target)
    mine.renew()
    mine.check()
    write(fs, mine.name, json.dumps({"holder": "another", "host": "elsewhere", "pid": 1}).encode())
    mine.renew()
    with pytest.raises(UserError, match="took over"):
        mine.check()
    mine.release()
    assert fs.exists(mine.name)


@pytest.fixture(params=["503", "late"])
def faulty(request, s3, monkeypatch) -> Iterator[list[int]]:
    """The server behind one that answers some requests with 503, or when nobody waits any more; half of the time they are
    carried out before. Returns how many it was asked, and how many it failed."""
    late = request.param == "late"
    behind = os.environ["AWS_ENDPOINT_URL"].removeprefix("http://")
    chosen, seen, lock = random.Random(0), [0, 0], threading.Lock()

    class Faulty(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def forward(self) -> None:
            with lock:
                seen[0] += 1
                fails, before = chosen.random() < (0.05 if late else 0.15), chosen.random() < 0.5
                seen[1] += fails
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            status, headers, answer = 503, [], b""
            if late and fails and before:
                time.sleep(LATE)
            if late or not (fails and before):
                with contextlib.closing(http.client.HTTPConnection(behind)) as server:
                    server.request(self.command, self.path, body, dict(self.headers))
                    found = server.getresponse()
                    status, headers, answer = found.status, found.getheaders(), found.read()
            if late and fails and not before:
                time.sleep(LATE)
            elif fails and not late:
                status, headers, answer = 503, [], b""
            self.send_response(status)
            for name, value in headers:
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            length = dict(headers).get("Content-Length") if self.command == "HEAD" else None
            self.send_header("Content-Length", length or str(len(answer)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = forward

        def log_message(self, *_: Any) -> None:
            pass

        def handle(self) -> None:
            with contextlib.suppress(OSError):  # who has waited for long enough is gone
                super().handle()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Faulty)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
    if late:
        options: Any = {"allow_http": True, "timeout": f"{LATE / 1.5:.1f}s"}
        monkeypatch.setattr(places, "_bucket", lambda scheme: FsspecStore(scheme, client_options=options))
    FsspecStore.clear_instance_cache()  # a client reads its endpoint once
    yield seen
    FsspecStore.clear_instance_cache()
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_store_that_fails_now_and_then_loses_nothing(tmp_path, place, faulty):
    """Every seventh request or so is answered 503, or every twentieth too late, some after they were carried out: the same
    artifact, once."""
    there = run(place)
    second = run(place, params={"p": 2})
    assert faulty[1] > 0
    assert there.digest == run(str(tmp_path / "one")).digest
    assert second.digest == run(str(tmp_path / "two"), params={"p": 2}).digest
    assert read_table(place).equals(read_table(str(tmp_path / "two")))


@pytest.mark.parametrize("scheme", ["s3", "memory"])
def test_one_of_several_writers_succeeds(s3, scheme):
    """Where nothing stands and over a version; the others are told."""
    fs, name = locate(f"{s3 if scheme == 's3' else 'memory://some'}/{uuid.uuid4().hex}")
    assert read(fs, name) is None
    first = put_over(fs, name, b"1", None)
    with pytest.raises(Changed):
        put_over(fs, name, b"2", None)
    second = put_over(fs, name, b"3", first)
    with pytest.raises(Changed):
        put_over(fs, name, b"4", first)
    assert read(fs, name) == (b"3", second)


def test_a_bucket_that_is_not_there_is_said(s3, monkeypatch):
    """No such bucket, and nobody who answers: in a line, without what the environment holds."""
    with pytest.raises(UserError, match="404 Not Found") as error:
        run("s3://another/squares")
    assert "secret" not in str(error.value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    FsspecStore.clear_instance_cache()
    with pytest.raises(UserError, match="does not do what was asked") as error:
        read_manifest(f"{s3}/squares")
    assert len(str(error.value).splitlines()) == 2
    FsspecStore.clear_instance_cache()


def test_what_writes_files_of_its_own_is_refused(place):
    """A step that does not tell which files it wrote cannot publish in a bucket."""
    with build(place, step="s", version=1, params={}) as work, pytest.raises(UserError, match="files of its own"):
        work.publish(Ledger.of("rows", read=1, kept=1), rows=1)
    assert places.read(*locate(f"{place}/manifest.json")) is None
