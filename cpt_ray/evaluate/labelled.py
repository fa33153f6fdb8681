"""Classified texts: as tables of a label and a text, and as the data of SentEval is published.

train.tsv test.tsv maybe dev.tsv, or all.tsv               tables; their header, if any, names the column `label`
rt-polarity.neg .pos, custrev, mpqa, subj.subjective ...   MR, CR, MPQA, SUBJ: a file for each class, in folds
sentiment-train, sentiment-test, sentiment-dev             SST-2: tables
train_5500.label, TREC_10.label                            TREC: `DESC:manner How did ...`
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from cpt_ray.errors import UserError
from cpt_ray.evaluate.lines import either, fields, lines

Labels = npt.NDArray[np.int64]
SPLITS = (
    ("train.tsv", "test.tsv", "dev.tsv"),
    ("sentiment-train", "sentiment-test", "sentiment-dev"),
    ("train_5500.label", "TREC_10.label"),
)
CLASSES = (
    ("subj.subjective", "subj.objective"),
    *((f"{name}.neg", f"{name}.pos") for name in ("rt-polarity", "custrev", "mpqa")),
)
QUESTIONS = ("ABBR", "DESC", "ENTY", "HUM", "LOC", "NUM")
"""TREC's classes in the order of their labels."""


def parts(root: Path) -> list[tuple[Path, ...]]:
    """The files of what is trained on, tested on and maybe chosen by; or of all, which is tested in folds. A part of several
    files has a class in each. What is not there is looked for as the first of the layouts above."""
    for whole in (("all.tsv",), *CLASSES):
        files = tuple(either(root / name) for name in whole)
        if files[0].is_file():
            return [files]
    splits = next((names for names in SPLITS if either(root / names[0]).is_file()), SPLITS[0])
    files = tuple(either(root / name) for name in splits)
    return [(path,) for place, path in enumerate(files) if place < 2 or path.is_file()]


def read_part(files: tuple[Path, ...]) -> tuple[list[str], Labels]:
    """The texts and labels (N,) int64 of a part."""
    if len(files) == 1:
        return read_classification(str(files[0]))
    texts = [[text for _, text in _published(path)] for path in files]
    return [text for one in texts for text in one], np.repeat(np.arange(len(files)), [len(one) for one in texts])


def read_classification(path: str) -> tuple[list[str], Labels]:
    """Texts and labels (N,) int64, numbers from 0, of a table or of TREC's questions."""
    read = _questions if Path(path).suffix == ".label" else _table
    texts, labels = read(path)
    if not texts:
        raise UserError("no label and text in it", where=path, fix="see docs/analyst.md for the layouts")
    return texts, np.array(labels, np.int64)


def _table(path: str) -> tuple[list[str], list[int]]:
    texts, labels, at = [], [], -1
    for where, row in fields(path):
        if at < 0:
            named = "label" in row
            at = row.index("label") if named else int(len(row) == 2 and not row[0].isdecimal())
            if named:
                continue
        if len(row) != 2 or not row[at].isdecimal():
            raise UserError(
                "not a label and a text", where=where, fix="expected two tab-separated fields, the label a number"
            )
        labels.append(int(row[at]))
        texts.append(row[1 - at])
    return texts, labels


def _questions(path: str) -> tuple[list[str], list[int]]:
    texts, labels = [], []
    for where, line in _published(Path(path)):
        label, _, text = line.partition(" ")
        kind = label.partition(":")[0]
        if kind not in QUESTIONS or not text:
            raise UserError("not a question with its class", where=where, fix=f"expected one of {', '.join(QUESTIONS)}")
        labels.append(QUESTIONS.index(kind))
        texts.append(text)
    return texts, labels


def _published(path: Path) -> list[tuple[str, str]]:
    """Lines of data older than UTF-8's rule: as SentEval's script converts it, or in Latin-1 as its authors wrote it."""
    try:
        return list(lines(path))
    except UserError:
        return list(lines(path, "latin-1"))
