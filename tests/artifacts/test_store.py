"""Artifacts appear whole or not at all, are found again by identity, and go on after a kill."""

from __future__ import annotations

import errno
import hashlib
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest
from pydantic import Field

from cpt_ray.artifacts import (
    Ledger,
    LedgerError,
    Sampler,
    build,
    examples,
    parts,
    read_manifest,
    read_table,
    run_shards,
)
from cpt_ray.artifacts.parquet import write_table
from cpt_ray.artifacts.places import CUT, locate, make_room, write, writing
from cpt_ray.artifacts.shards import _Done, _told
from cpt_ray.artifacts.store import part_name
from cpt_ray.errors import UserError
from cpt_ray.options import How, Options

SCHEMA = pa.schema([("n", pa.int64())])


def _square(shard: dict[str, int]) -> tuple[pa.Table, Ledger]:
    rows = [n * n for n in range(shard["start"], shard["stop"]) if n % 3]
    read = shard["stop"] - shard["start"]
    return (
        pa.table({"n": rows}, schema=SCHEMA),
        Ledger.of("numbers", read=read, kept=len(rows), dropped={"threes": read - len(rows)}),
    )


def _square_or_die(shard: dict[str, int]) -> tuple[pa.Table, Ledger]:
    if shard["start"] == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return _square(shard)


def _run(path: Path, work=_square, **changes):
    shards = [{"start": s, "stop": s + 10} for s in range(0, 50, 10)]
    arguments = {"step": "squares", "version": 1, "params": {"p": 1}, "inputs": {"source": "abc"}} | changes
    return run_shards(str(path), shards=shards, work=work, schema=SCHEMA, unit="numbers", **arguments)


def _bytes(path: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(path.rglob("*.parquet"))}


def _dropped_with_examples(shard: dict[str, int]) -> tuple[pa.Table, Ledger]:
    dropped = Sampler()
    for n in range(20):
        for reason in "abcdefghij":
            dropped.add("numbers", reason, f"{shard['start']} {n}", text=f"{shard['start']} {n} {reason} " * 70)
    counts = dict.fromkeys("abcdefghij", 20)
    return SCHEMA.empty_table(), Ledger.of("numbers", read=200, kept=0, dropped=counts).showing(dropped)


def _run_shown(path: Path, count: int):
    about = {"step": "shown", "version": 1, "params": {}, "inputs": {}, "schema": SCHEMA}
    return run_shards(str(path), shards=[{"start": n} for n in range(count)], work=_dropped_with_examples, **about)


def test_what_shards_tell_is_not_held(tmp_path):
    """Each shows 200 KB of what it dropped; all together shall be no more than a few of them."""
    _run_shown(tmp_path / "first", 1)  # what is imported on the way is no part of it
    tracemalloc.start()
    try:
        manifest = _run_shown(tmp_path / "shown", 60)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert manifest.balance.units["numbers"].read == 60 * 200
    assert len(examples.rows_of(str(tmp_path / "shown"))) == 10 * examples.MOST


def test_shards_are_added_up_in_their_order():
    """In whichever they came: the units of a ledger stand as along the step."""
    told = [
        {
            "ledger": Ledger.of(unit, read=n, kept=n).whole(),
            "rows": n,
            "file": {"path": str(n), "size": 0, "digest": ""},
        }
        for n, unit in enumerate("cab")
    ]
    for order in itertools.permutations(range(3)):
        done = _Done()
        for index in order:
            assert index not in done
            done.take(index, told[index])
            assert index in done
        assert (list(done.ledger.units), done.rows, [file.path for file in done.files]) == ([*"cab"], 3, [*"012"])


def test_publishes_parts_manifest_and_ledger(tmp_path):
    """What is read back is what the shards returned, and the manifest counts it."""
    manifest = _run(tmp_path / "squares")
    assert read_table(str(tmp_path / "squares"))["n"].to_pylist() == [n * n for n in range(50) if n % 3]
    assert manifest.rows == 33
    assert manifest.balance.units["numbers"].dropped == {"threes": 17}
    assert [Path(p).name for p in parts(str(tmp_path / "squares"))] == [f"part-{i:05d}.parquet" for i in range(5)]
    assert sorted(os.listdir(tmp_path / "squares")) == ["manifest.json", *(f"part-{i:05d}.parquet" for i in range(5))]


def test_a_second_build_does_nothing(tmp_path):
    """With equal step, version, parameters and inputs the work is never called again."""

    def never(shard):
        raise AssertionError("called again")

    first = _run(tmp_path / "squares")
    assert _run(tmp_path / "squares", work=never) == first


@pytest.mark.parametrize("change", [{"params": {"p": 2}}, {"inputs": {"source": "xyz"}}, {"version": 2}])
def test_a_change_builds_again(tmp_path, change):
    """A new parameter, input or version makes a new artifact in place of the old one."""
    first = _run(tmp_path / "squares")
    second = _run(tmp_path / "squares", **change)
    assert second.identity != first.identity
    assert read_manifest(str(tmp_path / "squares")).identity == second.identity


def test_kill_resumes_and_ends_byte_equal(tmp_path):
    """SIGKILL in shard 2: the two finished parts are kept, and the end is byte-equal to an undisturbed run."""
    killed = multiprocessing.get_context("fork").Process(target=_run, args=(tmp_path / "a", _square_or_die))
    killed.start()
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "a").exists()
    kept = tmp_path / "a.building" / "part-00001.parquet"
    stamp = kept.stat().st_mtime_ns
    manifest = _run(tmp_path / "a")
    assert manifest.resumed
    assert (tmp_path / "a" / kept.name).stat().st_mtime_ns == stamp
    undisturbed = _run(tmp_path / "b")
    assert _bytes(tmp_path / "a") == _bytes(tmp_path / "b")
    assert manifest.digest == undisturbed.digest


TOUCHES = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.scandir", "shutil.rmtree", "shutil.move"}


def _die_at(touch: int, root: Path) -> None:
    """SIGKILL at the `touch`-th time from here on that this process is about to touch a file below `root`."""
    seen = 0

    def hook(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event in TOUCHES and any(str(root) in str(argument) for argument in arguments):
            seen += 1
            if seen == touch:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _train_and_die(path: Path, rate: float, touch: int) -> None:
    """A training with its checkpoint and its model, killed at a touch of its publishing (0: not at all)."""
    with build(str(path), step="model", version=1, params={"rate": rate}) as work:
        if work.done:
            return
        if not (checkpoint := Path(work.scratch, "checkpoint")).exists():
            checkpoint.write_text(f"weights and moments of {rate}")
            Path(work.path, "model").mkdir()
            Path(work.path, "model", "weights").write_text(f"weights of {rate}")
        if touch:
            _die_at(touch, path.parent)
        work.publish(Ledger.of("steps", read=1, kept=1), rows=1)


@pytest.mark.parametrize("standing", [False, True], ids=["first", "over an older one"])
def test_a_kill_anywhere_while_publishing_loses_nothing(tmp_path, standing):
    """At each touch of a file in turn: the next build finds the checkpoint or the artifact, and ends the same."""
    fork, killed = multiprocessing.get_context("fork"), 0
    for touch in itertools.count(1):
        path = tmp_path / str(touch) / "a"
        if standing:
            _train_and_die(path, 0.2, 0)
        child = fork.Process(target=_train_and_die, args=(path, 0.1, touch))
        child.start()
        child.join()
        if child.exitcode == 0:
            break
        assert child.exitcode == -signal.SIGKILL
        killed += 1
        with build(str(path), step="model", version=1, params={"rate": 0.1}) as work:
            if not work.done:
                assert work.resumed, f"begun anew after a kill at touch {touch}"
                assert Path(work.scratch, "checkpoint").read_text() == "weights and moments of 0.1"
                work.publish(Ledger.of("steps", read=1, kept=1), rows=1)
        assert (path / "model" / "weights").read_text() == "weights of 0.1"
        assert sorted(os.listdir(path)) == ["manifest.json", "model"]
        assert [found.name for found in path.parent.iterdir() if found.is_dir()] == ["a"]
        assert [file.path for file in read_manifest(str(path)).files] == ["model/weights"]
    assert killed > 10


def test_more_parts_than_five_digits_keep_their_order(tmp_path):
    """Part 100,000 follows part 99,999, in the manifest and for who reads; names alone would sort it after 10,000."""
    numbers = [99_999, 100_000, 10_000, 10_001, 2]
    with build(str(tmp_path / "a"), step="s", version=1, params={}) as work:
        for n in numbers:
            write_table(f"{work.path}/{part_name(n)}.parquet", pa.table({"n": [n]}, schema=SCHEMA))
        work.publish(Ledger.of("rows", read=5, kept=5), rows=5, schema=SCHEMA)
    assert read_table(str(tmp_path / "a"))["n"].to_pylist() == sorted(numbers)


def test_what_the_manifest_does_not_list_is_no_part(tmp_path):
    """A stray file beside the parts is not read."""
    _run(tmp_path / "a")
    write_table(str(tmp_path / "a" / "part-00009.parquet"), pa.table({"n": [7]}, schema=SCHEMA))
    assert read_table(str(tmp_path / "a")).num_rows == 33


def test_digests_by_the_writers_are_those_of_the_files(tmp_path):
    """A part's digest comes from the worker that wrote it, and equals that of the bytes on disk."""
    for file in _run(tmp_path / "a").files:
        assert file.digest == hashlib.sha256((tmp_path / "a" / file.path).read_bytes()).hexdigest()[:32]


def test_leftovers_of_other_parameters_are_not_used(tmp_path):
    """The temporary directory of a killed build with other parameters is cleared."""
    (tmp_path / "a.building").mkdir()
    (tmp_path / "a.building" / "_identity.json").write_text(json.dumps({"identity": "another"}))
    (tmp_path / "a.building" / "stray.parquet").write_bytes(b"")
    _run(tmp_path / "a")
    assert not (tmp_path / "a" / "stray.parquet").exists()


def _train(path: Path, rate: float, step: int | None) -> tuple[bool, list[str]]:
    """A build whose resume state is the file of its newest step, killed after `step`, or published if that is None.

    Returns whether it went on, and the states that it found.
    """
    params = {"train": {"rate": rate, "seed": 0}}
    with build(str(path), step="model", version=1, params=params) as work:
        found = sorted(os.listdir(work.scratch))
        if step is None:
            work.publish(Ledger.of("steps", read=1, kept=1), rows=1)
        else:
            Path(work.scratch, f"step-{step}").write_text("weights")
        return work.resumed, found


def test_clearing_what_a_killed_build_left_says_what_differs(tmp_path, caplog):
    """The folder and the key whose value is another, also where it is nested; an empty build is no loss."""
    _train(tmp_path / "a", 0.1, 7)
    assert not caplog.records
    assert _train(tmp_path / "a", 0.2, 7) == (False, [])
    assert f"{tmp_path}/a.building" in caplog.text
    assert "train.rate 0.1 -> 0.2" in caplog.text
    assert "seed" not in caplog.text
    caplog.clear()
    for params in ({"p": 1}, {"p": 2}):
        with build(str(tmp_path / "b"), step="s", version=1, params=params) as work:
            assert work.scratch
    assert not caplog.records
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["a.building", "b.building"]


def test_work_of_more_than_a_minute_is_kept_beside_one_of_other_parameters(tmp_path, caplog):
    """Set back, it goes on; all of them do, and only the user removes one. A shorter one is cleared."""
    path = tmp_path / "a"

    def worked(seconds: float) -> None:
        began = path.with_name("a.building") / "_identity.json"
        stamp = began.stat().st_mtime - seconds
        os.utime(began, (stamp, stamp))

    _train(path, 0.1, 7)
    worked(61)
    assert _train(path, 0.2, 3) == (False, [])
    assert "train.rate 0.1 -> 0.2" in caplog.text
    assert "set the options back" in caplog.text
    worked(61)
    assert _train(path, 0.3, 1) == (False, [])
    assert len(list(tmp_path.glob("a.building*"))) == 3
    worked(2)
    assert _train(path, 0.1, 8) == (True, ["step-7"])
    assert "train.rate 0.3 -> 0.1): removed" in caplog.text
    assert _train(path, 0.2, 4) == (True, ["step-3"])
    assert _train(path, 0.2, None) == (True, ["step-3", "step-4"])
    assert len(list(tmp_path.glob("a.building.*"))) == 1
    assert _train(path, 0.1, None) == (True, ["step-7", "step-8"])
    assert [found.name for found in tmp_path.iterdir() if found.is_dir()] == ["a"]


class _Inner(Options):
    rate: float = 0.1
    threads: How[int] = Field(1, ge=1, description="of a worker")


class _Outer(Options):
    inner: _Inner = _Inner()
    workers: How[int | None] = None
    seed: int = 0


def test_options_that_say_how_are_no_part_of_an_identity(tmp_path):
    """A killed build goes on when they change, and a finished one is found; what decides the result is all the rest."""
    other = _Outer(inner=_Inner(threads=4), workers=2)
    assert other.result() == _Outer().result() == {"inner": {"rate": 0.1}, "seed": 0}
    assert other.result("inner") == {"seed": 0}
    first = _run(tmp_path / "a", params=_Outer())
    assert _run(tmp_path / "a", work=_square_or_die, params=other) == first
    assert _run(tmp_path / "a", params=_Outer(seed=1)).identity != first.identity


def test_a_ledger_that_does_not_balance_stops_the_run(tmp_path):
    """Lost rows are a defect: nothing is published."""

    def loses_a_row(shard):
        table, _ = _square(shard)
        return table, Ledger.of("numbers", read=10, kept=table.num_rows)

    with pytest.raises(LedgerError, match="does not balance: read 10"):
        _run(tmp_path / "a", work=loses_a_row)
    assert not (tmp_path / "a").exists()


def test_two_builders_of_one_artifact_are_refused(tmp_path):
    """The second process is told, instead of both writing the same files."""
    with (
        build(str(tmp_path / "a"), step="s", version=1, params={}),
        pytest.raises(UserError, match="another process"),
        build(str(tmp_path / "a"), step="s", version=1, params={}),
    ):
        pass


def test_reading_what_is_not_there_says_so(tmp_path):
    with pytest.raises(UserError, match=r"no finished artifact"):
        read_manifest(str(tmp_path / "nothing"))


def test_a_file_or_a_folder_of_artifacts_is_no_artifact(tmp_path):
    """A path that goes on below a file is none; of a folder of artifacts those in it are named."""
    with build(str(tmp_path / "documents"), step="s", version=1, params={}) as work:
        work.publish(Ledger.of("rows", read=0, kept=0), rows=0)
    (tmp_path / "report.html").touch()
    with pytest.raises(UserError, match="no finished artifact"):
        read_manifest(str(tmp_path / "report.html"))
    with pytest.raises(UserError, match=r"name one of those in it: documents$"):
        read_manifest(str(tmp_path))


def test_equal_tables_are_equal_bytes_however_chunked(tmp_path):
    """Chunk boundaries do not reach the file."""
    whole = pa.table({"n": list(range(1000))}, schema=SCHEMA)
    pieces = pa.concat_tables([whole.slice(0, 7), whole.slice(7, 500), whole.slice(507)])
    write_table(str(tmp_path / "whole"), whole)
    write_table(str(tmp_path / "pieces"), pieces)
    assert (tmp_path / "whole").read_bytes() == (tmp_path / "pieces").read_bytes()


def test_any_fsspec_uri_will_do(tmp_path):
    """The same build runs on a file system that is not local."""
    table = pa.table({"n": [1, 2]}, schema=SCHEMA)
    with build("memory://corpus/a", step="s", version=1, params={}) as work:
        work.write("part-00000.parquet", table)
        work.publish(Ledger.of("rows", read=2, kept=2), rows=2, schema=SCHEMA)
    assert read_table("memory://corpus/a").equals(table)


def test_ledger_adds_and_survives_json():
    a = Ledger.count("files", [None, None, "binary"]) + Ledger.count("functions", ["short", None])
    b = Ledger.count("files", ["binary", None])
    both = (a + b).check("here")
    assert both.units["files"].read == 5
    assert both.units["files"].dropped == {"binary": 2}
    assert (both.rows_in, both.kept, both.dropped) == (5, 1, {"binary": 2, "short": 1})
    assert Ledger.from_dict(json.loads(json.dumps(both.to_dict()))) == both


def test_units_keep_their_order_whichever_shard_has_them_first():
    """What came out of a step is its last unit, also where the first shard had nothing of one in between."""
    plain = Ledger.of("files", read=1, kept=1) + Ledger.of("functions", read=2, kept=2)
    damaged = Ledger.of("files", read=1, kept=1) + Ledger.of("bytes", read=9, kept=7, dropped={"syntax_error": 2})
    damaged += Ledger.of("functions", read=3, kept=2, dropped={"short": 1})
    for both in (plain + damaged, damaged + plain):
        assert list(both.units) == ["files", "bytes", "functions"]
        assert both.check("here").kept == 4


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    """A shard given to another node while the first still writes: both end, each rename is of a whole file."""
    fs, name = locate(str(tmp_path / "part"))
    with writing(fs, name) as first:
        first.write(b"half")
        with writing(fs, name) as second:
            second.write(b"half and half")
        assert Path(name).read_bytes() == b"half and half"
        first.write(b" and half")
    assert Path(name).read_bytes() == b"half and half"
    assert os.listdir(tmp_path) == ["part"]


def test_files_that_a_dead_writer_left_are_not_published(tmp_path):
    """Nor do they lie in the artifact; one that finishes at that moment is nobody's error."""
    with build(str(tmp_path / "x"), step="s", version=1, params={}) as work:
        work.write("part-00000.parquet", pa.table({"n": [1]}, schema=SCHEMA))
        for number in range(3):
            Path(work.path, f"part-00000.parquet.{number}{CUT}").write_bytes(b"PAR1 half")
        work.publish(Ledger.of("numbers", read=1, kept=1), rows=1, schema=SCHEMA)
    assert sorted(os.listdir(tmp_path / "x")) == ["manifest.json", "part-00000.parquet"]


@pytest.mark.parametrize("content", ["", "{", '{"name": "of a browser", "version": 3}', "[]"])
def test_a_manifest_that_is_none_of_ours_is_said_with_its_place(tmp_path, content):
    """Half of one, or another tool's: to read it is the user's mistake, and to build over it would lose what is there."""
    (tmp_path / "rows").mkdir()
    (tmp_path / "rows" / "manifest.json").write_text(content)
    for attempt in (lambda: read_manifest(str(tmp_path / "rows")), lambda: _run(tmp_path / "rows")):
        with pytest.raises(UserError, match="no artifact's manifest") as caught:
            attempt()
        assert caught.value.where == str(tmp_path / "rows" / "manifest.json")


def test_a_manifest_of_a_later_format_is_not_guessed_at(tmp_path):
    _run(tmp_path / "squares")
    file = tmp_path / "squares" / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"format": 2}))
    with pytest.raises(UserError, match="later version"):
        read_manifest(str(tmp_path / "squares"))


@pytest.mark.parametrize("harm", [Path.unlink, lambda part: part.write_bytes(part.read_bytes()[:9])])
def test_half_of_an_artifact_is_said_before_it_is_read(tmp_path, harm):
    """A copy that was broken off lacks parts, or the end of one."""
    _run(tmp_path / "squares")
    part = tmp_path / "squares" / "part-00003.parquet"
    harm(part)
    with pytest.raises(UserError, match="a file of an artifact is") as caught:
        parts(str(tmp_path / "squares"))
    assert caught.value.where == str(part)


def test_a_file_of_an_artifact_leads_to_it(tmp_path):
    _run(tmp_path / "squares")
    for name in ("manifest.json", "part-00000.parquet"):
        with pytest.raises(UserError) as caught:
            read_manifest(str(tmp_path / "squares" / name))
        assert caught.value.fix.endswith(f": {tmp_path / 'squares'}")


def test_a_file_that_is_named_has_room_before_the_work_and_never_lands_in_a_folder(tmp_path):
    """Folders above it are made; a folder is no file, and what is below a file is none."""
    make_room(str(tmp_path / "new" / "er" / "page.html"), "output")
    assert (tmp_path / "new" / "er").is_dir()
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "new", tmp_path / "file" / "page.html", tmp_path / "file" / "a" / "page.html"):
        with pytest.raises(UserError) as caught:
            make_room(str(wrong), "output")
        assert caught.value.where == f"output={wrong}"
    with pytest.raises(OSError, match="directory"):
        write(*locate(str(tmp_path / "new")), b"")
    assert not any((tmp_path / "new" / "er").iterdir())


def test_a_full_disk_has_its_place_and_is_not_kept_full(tmp_path):
    """What was written of the file goes; a task hands the driver what was refused, as it does a mistake."""
    name = str(tmp_path / "part")

    def full(row):
        with writing(*locate(name)) as sink:
            sink.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="No space") as caught:
        full({})
    assert caught.value.filename == name
    assert not list(tmp_path.iterdir())
    assert json.loads(_told(full, {})["mistake"])[:2] == ["no space left on device", name]
    with pytest.raises(FileNotFoundError):
        _told(lambda row: (tmp_path / "none").read_bytes(), {})


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_what_is_no_artifact_is_never_built_over(tmp_path, kind):
    """A folder of somebody's own things has the name of what is to be made: it stays, before and after the work."""
    target = tmp_path / "squares"
    if kind == "folder":
        target.mkdir()
    mine = target / "notes.txt" if kind == "folder" else target
    mine.write_text("mine")
    with pytest.raises(UserError, match=f"a {kind} that is no artifact") as caught:
        _run(target)
    assert (caught.value.where, mine.read_text()) == (str(target), "mine")
    mine.unlink()
    _run(target)  # an empty folder will do
    assert read_manifest(str(target)).rows == 33
    with build(str(tmp_path / "late"), step="s", version=1, params={}) as work:
        (tmp_path / "late").mkdir()
        (tmp_path / "late" / "notes.txt").write_text("mine")
        with pytest.raises(UserError, match="no artifact"):
            work.publish(Ledger.of("rows", read=0, kept=0), rows=0)
    assert (tmp_path / "late" / "notes.txt").read_text() == "mine"
    (tmp_path / "late" / "notes.txt").unlink()
    with build(str(tmp_path / "late"), step="s", version=1, params={}) as work:
        assert work.done, "what was built stands as soon as there is room for it"


def test_copies_of_an_artifact_stay(tmp_path):
    """Whatever people call a copy of what they want to keep, no later build removes it."""
    _run(tmp_path / "squares")
    names = ["squares.old", "squares.bak", "squares.orig", "squares-1", "squares~", ".squares", "squares.2026"]
    for name in names:
        shutil.copytree(tmp_path / "squares", tmp_path / name)
    _run(tmp_path / "squares")
    _run(tmp_path / "squares", params={"p": 2})
    assert {name: (tmp_path / name / "manifest.json").is_file() for name in names} == dict.fromkeys(names, True)
    assert set(os.listdir(tmp_path)) == {*names, "squares", ".squares.lock"}
