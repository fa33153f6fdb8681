"""A corpus of any size with known duplicates, from real text: the installed packages' sources and data/text.

Paragraphs of real text are dealt out by a seeded generator into documents of about 2.5 KB. Of 100 documents, 70 are
new; 15 are copies with one or two words replaced and 8 copies in another layout (duplicates, to be found: any two of a
family are at least 0.8 alike); 7 are copies with a third of their words replaced (to be left alone). An id is
"<family>-<kind>-<number>".
"""

from __future__ import annotations

import gzip
import json
import os
import random
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "text"
PARAGRAPHS = 8
PART = 50_000


def real_text(limit: int = 120_000_000) -> Iterator[str]:
    """Text files of data/text where it stands beside the repository, then Python sources, in a fixed order."""
    for name in sorted(DATA.glob("*.jsonl.gz")) if DATA.exists() else ():
        with gzip.open(name, "rt", encoding="utf-8") as lines:
            for line in lines:
                yield json.loads(line)["text"]
    seen = 0
    paths = sysconfig.get_paths()
    for root in (paths["stdlib"], paths["purelib"]):
        for path in sorted(Path(root).rglob("*.py")):
            if "site-packages" in path.parts and root == paths["stdlib"]:
                continue
            text = path.read_text(encoding="utf-8", errors="replace")
            seen += len(text)
            if seen > limit:
                return
            yield text


def paragraphs() -> list[str]:
    """Distinct pieces of 200 to 500 characters."""
    found: dict[str, None] = {}
    for text in real_text():
        for start in range(0, len(text) - 200, 320):
            found[text[start : start + 320]] = None
    return list(found)


def replaced(rng: random.Random, text: str, count: int = 0, share: float = 0.0) -> str:
    """`count` words, or this share of them, become others; everything between the words stays."""
    pieces = re.split(r"(\w+)", text)
    words = range(1, len(pieces), 2)
    for at in rng.sample(words, min(count or round(share * len(words)), len(words))):
        pieces[at] = f"word{rng.randrange(10**9)}"
    return "".join(pieces)


def documents(count: int, seed: int = 1) -> Iterator[tuple[str, str]]:
    """(id, text) of `count` documents."""
    rng, pool = random.Random(seed), paragraphs()
    bases: list[tuple[int, int]] = []
    for n in range(count):
        roll = rng.random()
        if roll < 0.7 or not bases:
            state = rng.randrange(1 << 60)
            bases.append((n, state))
            yield f"{n}-new-{n}", base(pool, state)
            continue
        family, state = bases[rng.randrange(len(bases))]
        text = base(pool, state)
        if roll < 0.85:
            yield f"{family}-near-{n}", replaced(rng, text, rng.randrange(1, 3))
        elif roll < 0.93:
            yield f"{family}-same-{n}", text.upper().replace("\n", "\n\n")
        else:
            yield f"{family}-other-{n}", replaced(rng, text, share=0.33)


def base(pool: list[str], state: int) -> str:
    rng = random.Random(state)
    return "\n".join(pool[rng.randrange(len(pool))] for _ in range(PARAGRAPHS))


def write(folder: str, count: int) -> int:
    """Write the corpus in parts, once; bytes of text."""
    done = f"{folder}.json"
    if not os.path.exists(done):
        os.makedirs(folder, exist_ok=True)
        size, rows, part = 0, [], 0
        part_rows = min(PART, max(count // 8, 1))
        for n, row in enumerate(documents(count)):
            rows.append(row)
            size += len(row[1].encode())
            if len(rows) == part_rows or n == count - 1:
                ids, texts = zip(*rows, strict=True)
                table = pa.table({"doc_id": pa.array(ids), "text": pa.array(texts)})
                pq.write_table(table, os.path.join(folder, f"part-{part:05d}.parquet"), row_group_size=10_000)
                rows, part = [], part + 1
        with open(done, "w") as sink:
            json.dump({"bytes": size}, sink)
    with open(done) as source:
        return int(json.load(source)["bytes"])


def judge(folder: str, kept: set[str]) -> tuple[float, float]:
    """(precision, recall) of what is missing from `kept`, against what was planted.

    A family is a new document with its near and same copies: all but one of them ought to go. A removal is wrong if it
    is an `other` copy, or the last of its family.
    """
    members: dict[str, int] = {}
    left: dict[str, int] = {}
    wrong = removed = 0
    for name in sorted(Path(folder).glob("*.parquet")):
        for doc in pq.read_table(name, columns=["doc_id"])["doc_id"].to_pylist():
            family, kind, _ = doc.split("-")
            if kind == "other":
                if doc not in kept:
                    wrong, removed = wrong + 1, removed + 1
                continue
            members[family] = members.get(family, 0) + 1
            left[family] = left.get(family, 0) + (doc in kept)
            removed += doc not in kept
    planted = sum(members.values()) - len(members)
    wrong += sum(1 for family in members if left[family] == 0)
    found = sum(min(members[f] - left[f], members[f] - 1) for f in members)
    return (removed - wrong) / max(removed, 1), found / max(planted, 1)
