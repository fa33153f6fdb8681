"""From documents of many archives to those that are compared: each URL once, without the host's furniture."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cpt_ray.artifacts import parquet, read_table
from cpt_ray.dedup.clean import clean_documents, older_captures
from cpt_ray.dedup.cluster import deduplicate
from cpt_ray.dedup.options import CleanOptions
from cpt_ray.errors import UserError

FOOTER = "Copyright by the owners of this site"


def page(name: str, text: str, day: int | None = 1, file: str = "one.warc.gz", offset: int = 0) -> dict[str, Any]:
    return {
        "doc_id": f"{name} {text}",
        "url": f"http://h/{name}",
        "host": "h",
        "text": f"{text}\n\n{FOOTER}",
        "fetched_at": day and datetime(2026, 1, day, tzinfo=UTC),
        "warc_file": file,
        "warc_offset": offset,
    }


SCHEMA = pa.schema(
    [
        ("doc_id", pa.string()),
        ("url", pa.string()),
        ("host", pa.string()),
        ("text", pa.string()),
        ("fetched_at", pa.timestamp("us", tz="UTC")),
        ("warc_file", pa.string()),
        ("warc_offset", pa.int64()),
    ]
)


def write(folder: Path, rows: list[dict[str, Any]], files: int = 2) -> list[str]:
    folder.mkdir()
    names = [str(folder / f"{n}.parquet") for n in range(files)]
    for n, name in enumerate(names):
        parquet.write_table(name, pa.Table.from_pylist(rows[n::files], schema=SCHEMA), row_group_size=3)
    return names


CAPTURES = [
    page("changed", "What it said at first.", day=1),
    page("changed", "What it says now.", day=9, file="two.warc.gz"),
    page("same", "Always the same.", day=3),
    page("same", "Always the same.", day=2, file="two.warc.gz"),
    page("undated", "Nobody knows when.", day=None),
    page("undated", "Known to be later.", day=1, file="two.warc.gz"),
    page("twice", "At one time and place.", day=4, offset=7),
    page("twice", "At one time and place.", day=4, offset=5),
    page("alone", "Fetched once.", day=1),
]


def test_a_url_in_two_archives_is_one_document(tmp_path: Path) -> None:
    """Its latest capture, changed or not; the ledger says how many went, in every unit that passed them on."""
    manifest = clean_documents(str(tmp_path / "out"), write(tmp_path / "in", CAPTURES))
    rows = {row["url"][9:]: row for row in read_table(str(tmp_path / "out")).to_pylist()}
    assert {name: row["text"].split("\n")[0] for name, row in rows.items()} == {
        "changed": "What it says now.",
        "same": "Always the same.",
        "undated": "Known to be later.",
        "twice": "At one time and place.",
        "alone": "Fetched once.",
    }
    assert rows["same"]["fetched_at"].day == 3
    assert rows["twice"]["warc_offset"] == 5
    units = manifest.balance.units
    assert (units["captures"].read, units["captures"].dropped) == (9, {"older_capture": 4})
    assert units["documents"].read == units["documents"].kept == 5
    assert manifest.balance.kept == manifest.rows == 5


def test_the_order_of_rows_and_files_does_not_matter(tmp_path: Path) -> None:
    """Shuffled into other files, the same documents stay with the same text."""
    answers = []
    for seed in range(4):
        rows = CAPTURES + [page(f"p{n}", f"Page number {n}.") for n in range(20)]
        random.Random(seed).shuffle(rows)
        clean_documents(str(tmp_path / f"out-{seed}"), write(tmp_path / f"in-{seed}", rows, files=seed + 1))
        answers.append(sorted(read_table(str(tmp_path / f"out-{seed}")).to_pylist(), key=lambda row: row["doc_id"]))
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0]) == 25
    assert not any(FOOTER in row["text"] for row in answers[0])


def test_captures_of_one_page_do_not_make_its_text_furniture(tmp_path: Path) -> None:
    """A page fetched twenty times is one page: its paragraphs stand on one page of the host."""
    rows = [page("news", "The same long paragraph.", day=n % 28 + 1, file=f"{n}.warc.gz") for n in range(20)]
    clean_documents(str(tmp_path / "out"), write(tmp_path / "in", rows))
    (row,) = read_table(str(tmp_path / "out")).to_pylist()
    assert row["text"] == rows[0]["text"]
    options = CleanOptions(once_per_url=False)
    manifest = clean_documents(str(tmp_path / "all"), write(tmp_path / "again", rows), options=options)
    assert manifest.balance.dropped == {"only_repeated_paragraphs": 20, "repeated_within_host": 40}


def test_everything_can_be_left_as_it_is(tmp_path: Path) -> None:
    """Both parts off: the documents as they came, and no phases."""
    names = write(tmp_path / "in", CAPTURES, files=1)
    manifest = clean_documents(
        str(tmp_path / "out"), names, options=CleanOptions(once_per_url=False, min_documents=None)
    )
    assert manifest.balance.dropped == {}
    assert read_table(str(tmp_path / "out")).equals(parquet.read_table(names[0]))
    assert not (tmp_path / "out.phases").exists()


def test_documents_without_a_url_are_nobodys_captures() -> None:
    table = pa.Table.from_pylist([page("a", "x") | {"url": None}, page("b", "y") | {"url": None}], schema=SCHEMA)
    assert not older_captures(table).any()


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    """A table without captures is cleaned without them, when that is said."""
    plain = str(tmp_path / "plain.parquet")
    parquet.write_table(plain, pa.table({"doc_id": ["1"], "host": ["h"], "text": ["some text"]}))
    with pytest.raises(UserError, match="no column 'url'"):
        clean_documents(str(tmp_path / "out"), [plain])
    assert clean_documents(str(tmp_path / "out"), [plain], options=CleanOptions(once_per_url=False)).rows == 1


def test_no_documents_at_all(tmp_path: Path) -> None:
    """Of a crawl in which every page was dropped: empty tables all the way, no crash."""
    name = str(tmp_path / "empty.parquet")
    parquet.write_table(name, SCHEMA.empty_table())
    assert clean_documents(str(tmp_path / "out"), [name]).rows == 0
    assert deduplicate(str(tmp_path / "clusters"), str(tmp_path / "out")).rows == 0


def test_exchanges_give_the_bytes_of_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many buckets there are, and with documents without a URL, a host or a text among them."""
    from cpt_ray.dedup import clean

    chosen = random.Random(5)
    said = [f"Paragraph number {n} of this place and others." for n in range(9)]
    rows = []
    for n in range(200):
        texts = [f"Page number {n} speaks.", *chosen.sample(said, 2)]
        host = chosen.choice(["a", "b", "c", None])
        url = chosen.choice([f"http://{host}/{n}", f"http://{host}/{n % 20}", None])
        rows.append({**page(str(n), "\n\n".join(texts), day=n % 5 + 1), "host": host, "url": url})
    rows[7]["text"], rows[8]["text"] = None, ""
    names = write(tmp_path / "in", rows, files=4)
    for number, options in enumerate(
        (CleanOptions(min_documents=3, min_share=0.3, min_words=2), CleanOptions(once_per_url=False), None)
    ):
        found = []
        for buckets, most in ((1, 1000), (1, 10), (7, 10)):
            monkeypatch.setattr(clean, "ONE_TABLE", most)
            monkeypatch.setattr(clean, "buckets_for", lambda rows, buckets=buckets: buckets)
            out = tmp_path / f"out-{number}-{buckets}-{most}"
            made = clean_documents(str(out), names, options=options)
            found.append(([part.read_bytes() for part in sorted(out.glob("*.parquet"))], made.digest, made.ledger))
            assert not Path(f"{out}.phases").exists()
            assert clean_documents(str(out), names, options=options).created == made.created
        assert found[0] == found[1] == found[2]
        assert options is None or made.ledger["paragraphs"]["dropped"]
