"""Every pair leads back to what it was read from, which says the same again."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cpt_ray.artifacts import read_table
from cpt_ray.code.options import MineOptions
from cpt_ray.errors import UserError
from cpt_ray.inspect.trace import random_ids, span_before, trace
from cpt_ray.pairs.options import DocstringOptions
from cpt_ray.web.archive import Place, read_archive, read_at
from pipelines import cli, code_pairs, text_pairs
from pipelines.options.code_pairs import RepositoryOptions, Steps


def test_every_text_pair_reads_the_same_again(corpus: Path) -> None:
    """File and offset are those of the record with the pair's URL, and the spans hold the texts."""
    path = str(corpus / "text_pairs")
    pairs = read_table(path)
    found = list(trace(path, pairs["pair_id"].to_pylist()))
    assert {one.pair["pair_id"] for one in found} == set(pairs["pair_id"].to_pylist())
    assert [one.problem for one in found if not one.same] == []
    moved = 0
    for one in found[:: len(found) // 40]:
        (record,) = read_at(one.places["WARC file"], [Place(int(one.places["offset"]))])
        assert record.url == one.places["URL"]
        moved += "x, characters of the page" in one.places
    assert moved  # paragraphs were taken out of some


def test_a_record_is_found_by_its_offset_alone(corpus: Path) -> None:
    """As the reader that goes from front to end has it, in any order."""
    for file in sorted((corpus / "crawl").iterdir()):
        records = list(read_archive(str(file)))
        assert list(read_at(str(file), [Place(one.offset) for one in reversed(records)])) == records[::-1]
        assert [one.reason for one in read_at(str(file), [Place(file.stat().st_size)])] == ["truncated"]


def test_an_archive_that_changed_is_said(corpus: Path, tmp_path: Path) -> None:
    """Moved, given by hand, and with other records in it."""
    out = tmp_path / "moved"
    shutil.copytree(corpus, out)
    shutil.move(out / "crawl", tmp_path / "elsewhere")
    path = str(out / "text_pairs")
    ids = random_ids(path, 5)
    assert all(one.same for one in trace(path, ids, str(tmp_path / "elsewhere")))
    first, *others = sorted((tmp_path / "elsewhere").iterdir())
    for other in others:
        shutil.copy(first, other)
    problems = {one.problem for one in trace(path, random_ids(path, 50), str(tmp_path / "elsewhere"))}
    assert None in problems
    assert len(problems) > 1


def test_masked_text_is_masked_again(corpus: Path, tmp_path: Path) -> None:
    """What filters change is part of the way back."""
    steps = text_pairs.Steps.model_validate({"extract": {"filters": [{"kind": "pii"}], "quality": {"min_words": 5}}})
    for wanted in text_pairs.flow(str(tmp_path), str(corpus / "crawl"), steps):
        wanted.make()
    path = str(tmp_path / "text_pairs")
    assert all(one.same for one in trace(path, random_ids(path, 30)))


def test_an_id_that_no_pair_has(corpus: Path) -> None:
    with pytest.raises(UserError, match="no pair 'nope'"):
        list(trace(str(corpus / "text_pairs"), ["nope"]))


@given(st.lists(st.sampled_from(["a", "bb", "ccc", "a b"]), min_size=1, max_size=8), st.data())
def test_a_span_is_found_where_paragraphs_were_taken_out(paragraphs: list[str], data: st.DataObject) -> None:
    """Its first and last character stand in the text at the places that are given for them."""
    kept = data.draw(st.lists(st.sampled_from(range(len(paragraphs))), min_size=1, unique=True).map(sorted))
    text, clean = "\n\n".join(paragraphs), "\n\n".join(paragraphs[i] for i in kept)
    start = data.draw(st.integers(0, len(clean) - 1).filter(lambda i: not clean[i].isspace()))
    end = data.draw(st.integers(start + 1, len(clean)).filter(lambda i: not clean[i - 1].isspace()))
    there = span_before((start, end), clean, text, "\n\n")
    assert there is not None
    assert text[there[0]] == clean[start]
    assert text[there[1] - 1] == clean[end - 1]
    assert span_before((start, end), clean + "\n\nelsewhere", text, "\n\n") is None


CODE = '''
def area_of(width, height):
    """Return the area of a rectangle with these sides."""
    product = width * height  # ask me@example.org
    return product


def around(width, height):
    """Return how far it is around a rectangle."""
    twice = 2 * width
    return twice + 2 * height
'''


FURTHER = Steps(docstrings=DocstringOptions(further=("name", "signature")), mine=MineOptions(mask=("email", "secret")))


@pytest.fixture(params=[Steps(), FURTHER], ids=["plain", "masked, with further pairs"])
def mined(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Pairs of a repository of one commit."""
    folder = tmp_path / "repository"
    folder.mkdir()
    (folder / "shapes.py").write_text(CODE)
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    steps = request.param
    shards = code_pairs.repository_shards([RepositoryOptions(path=str(folder))], steps.mine)
    for wanted in code_pairs.flow(str(tmp_path / "out"), shards, code_pairs.mine_listed_shard, steps):
        wanted.make()
    # What is checked out now is not what was mined.
    (folder / "shapes.py").write_text("")
    return tmp_path


def test_every_code_pair_reads_the_same_again(mined: Path) -> None:
    path = str(mined / "out" / "code_pairs")
    pairs = read_table(path)
    found = list(trace(path, pairs["pair_id"].to_pylist()))
    assert len(found) == (5 if "code_signature" in pairs["source"].to_pylist() else 2)
    assert all(one.same for one in found)
    for one in found:
        assert one.places["path"] == "shapes.py"
        assert len(one.places["commit or version"]) == 40
        first, last = map(int, one.places["lines"].split("-"))
        assert CODE.splitlines()[first - 1].startswith("def ")
        assert CODE.splitlines()[last - 1].strip() == one.pair["y"].splitlines()[-1].strip()


def test_files_of_one_path_in_two_repositories_of_one_parquet(tmp_path: Path) -> None:
    """Each pair is read again from its own."""
    names = ("area", "around", "across")
    columns = {
        "content": [f'def {n}(x):\n    """Return {n} of the rectangle."""\n    y = x\n    return y\n' for n in names],
        "path": ["a.py"] * 3,
        "repo_name": ["o/one", "o/two", "o/two"],
        "revision_id": ["1", "1", "2"],
    }
    pq.write_table(pa.table(columns), tmp_path / "stack.parquet")
    steps = Steps()
    shards = code_pairs.repository_shards([RepositoryOptions(path=str(tmp_path / "stack.parquet"))], steps.mine)
    for wanted in code_pairs.flow(str(tmp_path / "out"), shards, code_pairs.mine_listed_shard, steps):
        wanted.make()
    path = str(tmp_path / "out" / "code_pairs")
    found = list(trace(path, read_table(path)["pair_id"].to_pylist()))
    assert [one.problem for one in found] == [None] * 3


def test_a_parquet_of_repositories_among_several_sources(tmp_path: Path) -> None:
    """What stands in a Parquet is read again there, also beside a folder and another Parquet with the same path, and with a
    repository of the folder's name."""

    def code(name: str) -> str:
        return f'def {name}(x):\n    """Return {name} of the rectangle."""\n    y = x\n    return y\n'

    folder = tmp_path / "shapes"
    folder.mkdir()
    (folder / "a.py").write_text(code("inside"))
    paths = [folder]
    for number, rows in enumerate(([("o/one", "area"), ("shapes", "outside")], [("o/two", "around")])):
        columns = {
            "content": [code(n) for _, n in rows],
            "path": ["a.py"] * len(rows),
            "repo_name": [r for r, _ in rows],
        }
        pq.write_table(pa.table(columns), tmp_path / f"stack{number}.parquet")
        paths.append(tmp_path / f"stack{number}.parquet")
    steps = Steps()
    shards = code_pairs.repository_shards([RepositoryOptions(path=str(path)) for path in paths], steps.mine)
    for wanted in code_pairs.flow(str(tmp_path / "out"), shards, code_pairs.mine_listed_shard, steps):
        wanted.make()
    path = str(tmp_path / "out" / "code_pairs")
    found = {one.pair["y"]: one for one in trace(path, read_table(path)["pair_id"].to_pylist())}
    assert [one.problem for one in found.values()] == [None] * 4
    for name, where in (("inside", 0), ("area", 1), ("outside", 1), ("around", 2)):
        (one,) = (one for y, one in found.items() if f"def {name}(" in y)
        assert one.places["repository"] == str(paths[where])


def test_a_pair_that_reads_otherwise_is_looked_for_in_no_other_repository(tmp_path: Path) -> None:
    """Which may be far away, or gone: what is known of the others does not depend on it."""
    paths = [tmp_path / name for name in ("shapes", "gone")]
    for folder in paths:
        folder.mkdir()
        (folder / "a.py").write_text(CODE.replace("rectangle", folder.name).replace("width", folder.name))
    who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for words in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(paths[1]), *words], check=True)
    steps = Steps()
    shards = code_pairs.repository_shards([RepositoryOptions(path=str(path)) for path in paths], steps.mine)
    for wanted in code_pairs.flow(str(tmp_path / "out"), shards, code_pairs.mine_listed_shard, steps):
        wanted.make()
    path = str(tmp_path / "out" / "code_pairs")
    pairs = read_table(path).to_pylist()
    (paths[0] / "a.py").write_text("")
    paths[1].rename(tmp_path / "elsewhere")
    found = list(trace(path, [pair["pair_id"] for pair in pairs if pair["group"] == "shapes"]))
    assert found
    assert {one.problem for one in found} == {"its file has no such function"}


def test_command_prints_the_way(corpus: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And its exit code says whether the text is still there."""
    path = str(corpus / "text_pairs")
    row = read_table(path).slice(0, 1).to_pylist()[0]
    assert cli.main(["trace", row["pair_id"], f"pairs={path}"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    document = read_table(str(corpus / "documents"))
    place = document.filter(pc.equal(document["doc_id"], row["x_doc"])).to_pylist()[0]
    for said in (
        place["warc_file"],
        str(place["warc_offset"]),
        place["url"],
        f"{row['y_start']}-{row['y_end']}",
        "yes",
    ):
        assert said in printed
    assert cli.main(["trace", f"pairs={path}", "sample=20"]) == 0
    assert "20 pairs traced, 20 read the same again" in capsys.readouterr().out
    assert cli.main(["trace", f"pairs={path}"]) == 2
    assert cli.main(["inspect", path]) == 0
    assert Path(path + ".html").stat().st_size > 10_000
