"""Labelled data by name: `mteb:<task>` as mteb loads it, `datasets:<name>` as the library datasets does. It is written once,
in the layout that the same data has in a folder, and read from there ever after, without the hub.

    mteb:CosQA   mteb:CodeSearchNetRetrieval/python   datasets:SetFit/subj   datasets:nyu-mll/glue#mrpc@<revision>

What follows `/` of a task of mteb is a subset; of a data set `#` a configuration, `@` a revision. Written are only texts
and what people say of them: a tab or an end of line within a text of a .tsv file becomes a blank.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from cpt_ray.errors import UserError

SCHEMES = ("mteb:", "datasets:")
TEXT, LABEL = ("text", "sentence"), ("label", "coarse_label")
PAIR = ("sentence1", "sentence2"), ("sentence_A", "sentence_B")
SCORE = ("score", "similarity_score", "relatedness_score", "label")
PARTS = {"train": "train", "test": "test", "validation": "dev"}
"""Splits of the hub, and what they are called here."""

log = logging.getLogger("cpt_ray")


def is_name(address: str) -> bool:
    return address.startswith(SCHEMES)


def name_of(address: str) -> str:
    """What a table calls it: the last folder of a path, or the name without its scheme and revision."""
    if not is_name(address):
        return Path(address).name
    return address.partition(":")[2].partition("@")[0].rpartition("/" if address.startswith("datasets:") else ":")[2]


def local(address: str, layout: str, split: str = "test") -> Path:
    """The folder of `address`: itself, unless it is a name. `layout` is beir, classification, paraphrase or similarity;
    `split` what is searched or correlated. UserError where no hub is reachable and nothing is kept of it."""
    if not is_name(address):
        return Path(address)
    from huggingface_hub import cached_assets_path

    kept = Path(cached_assets_path("cpt-ray", namespace="named", subfolder=f"{address}-{layout}-{split}"))
    if not any(kept.iterdir()):
        log.info("%s: fetched once, kept in %s", address, kept)
        scratch = Path(tempfile.mkdtemp(dir=kept.parent))
        try:
            _fetched(address, layout, split, scratch)
            os.replace(scratch, kept)  # an empty folder gives way
        except OSError:
            if not any(kept.iterdir()):  # else another process was sooner
                raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return kept


def _fetched(address: str, layout: str, split: str, into: Path) -> None:
    scheme, _, name = address.partition(":")
    try:
        if scheme == "mteb":
            _of_mteb(name, layout, split, into)
        else:
            _of_datasets(name, layout, into)
    except ImportError as error:
        raise UserError(f"{scheme} is not installed", where=address, fix="pip install 'cpt-ray[mteb]'") from error
    except UserError as error:
        raise UserError(error.what, where=address, fix=error.fix) from error
    except Exception as error:
        raise UserError(
            f"not to be had: {type(error).__name__}: {error}",
            where=address,
            fix="ask for it once where the hub is reachable (HF_HOME keeps it), or give a folder in its layout",
        ) from error


def _of_mteb(name: str, layout: str, split: str, into: Path) -> None:
    import mteb

    name, _, subset = name.partition("/")
    task = mteb.get_task(name, eval_splits=[split], hf_subsets=[subset] if subset else None)
    task.load_data()
    found: Any = task.dataset
    several = [one for one in found if one not in (split, "train", "validation", "dev")]
    if split not in found and several:
        if not subset and len(several) > 1:
            raise UserError(f"it has the subsets {', '.join(several)}", fix=f"say which, as mteb:{name}/{several[0]}")
        found = found[subset or several[0]]
    if layout == "beir":
        part = found[split]
        _write_beir(part["corpus"], part["queries"], part["relevant_docs"], split, into)
    elif layout == "similarity":
        _write_pairs(into / f"{split}.tsv", found[split], "score", SCORE)
    else:
        _write_splits(found, layout, into)


def _of_datasets(name: str, layout: str, into: Path) -> None:
    import datasets

    name, _, revision = name.partition("@")
    name, _, config = name.partition("#")
    found = datasets.load_dataset(name, config or None, revision=revision or None)
    _write_splits(found, layout, into)


def _write_splits(found: Mapping[str, Any], layout: str, into: Path) -> None:
    parts = {PARTS[split]: rows for split, rows in found.items() if split in PARTS}
    if layout == "classification" and "test" not in parts and len(parts) == 1:
        parts = {"all": next(iter(parts.values()))}
    write: dict[str, Callable[[Path, Any], None]] = {
        "classification": _write_labelled,
        "paraphrase": lambda path, rows: _write_pairs(path, rows, "label", LABEL),
        "similarity": lambda path, rows: _write_pairs(path, rows, "score", SCORE),
    }
    if layout not in write:
        raise UserError(f"data of kind {layout} is not to be had by this name", fix="use mteb:<task>, or a folder")
    for part, rows in parts.items():
        write[layout](into / f"{part}.tsv", rows)


def _write_labelled(path: Path, rows: Any) -> None:
    text, label = _column(rows, TEXT), _column(rows, LABEL)
    _write(path, ("label", "text"), zip(rows[label], rows[text], strict=True))


def _write_pairs(path: Path, rows: Any, what: str, names: Sequence[str]) -> None:
    first, second = next((pair for pair in PAIR if set(pair) <= set(rows.column_names)), PAIR[0])
    first, second = _column(rows, (first,)), _column(rows, (second,))
    columns = rows[_column(rows, names)], rows[first], rows[second]
    _write(path, (what, "sentence1", "sentence2"), zip(*columns, strict=True))


def _column(rows: Any, names: Sequence[str]) -> str:
    for name in names:
        if name in rows.column_names:
            return name
    raise UserError(
        f"it has the columns {', '.join(rows.column_names)} and no {' or '.join(names)}",
        fix="give a folder in its layout",
    )


def _write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as lines:
        for row in (header, *rows):
            lines.write("\t".join(re.sub(r"[\t\r\n]+", " ", str(value)) for value in row) + "\n")


def _write_beir(corpus: Any, queries: Any, relevant: Mapping[str, Mapping[str, float]], split: str, into: Path) -> None:
    (into / "qrels").mkdir()
    for name, rows in (("corpus", corpus), ("queries", queries)):
        with (into / f"{name}.jsonl").open("w", encoding="utf-8") as lines:
            for row in rows:
                title = {"title": row["title"]} if row.get("title") else {}
                lines.write(json.dumps({"_id": row["id"], **title, "text": row["text"]}, ensure_ascii=False) + "\n")
    # mteb gives queries in another order each time.
    judged = sorted((query, document, gain) for query, gains in relevant.items() for document, gain in gains.items())
    _write(into / "qrels" / f"{split}.tsv", ("query-id", "corpus-id", "score"), judged)
