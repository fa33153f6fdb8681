"""Train and held-out parts: by group, never by row, and with nothing on both sides.

The side of a group (a distribution, a repository, a site) is a hash of its name and the seed, so that a growing corpus
moves no group. A text or a duplicate cluster that stands in the held-out part is dropped from the training part.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from cpt_ray.artifacts import Ledger, parts, read_manifest
from cpt_ray.artifacts.parquet import read_table as read_parquet
from cpt_ray.errors import UserError
from cpt_ray.pairs.options import SplitOptions
from cpt_ray.pairs.schema import examples_of

TRAIN, HELDOUT = "train", "heldout"


def side(group: str, options: SplitOptions) -> str:
    """The side of a group: a pure function of its name and the options."""
    if group in options.always_train:
        return TRAIN
    share = xxhash.xxh3_64_intdigest(f"{options.seed}\n{group}".encode()) / 2**64
    return HELDOUT if share < options.heldout_share else TRAIN


def heldout(groups: pa.ChunkedArray, options: SplitOptions) -> pa.ChunkedArray:
    """Of each row, whether its group (string) is held out: bool."""
    held = [group for group in groups.unique().to_pylist() if side(group, options) == HELDOUT]
    return pc.is_in(groups, value_set=pa.array(held, pa.string()))


def read_side(path: str, split: str, columns: list[str] | None = None) -> pa.Table:
    """The "train" or "heldout" rows of a published pairs artifact. UserError when it is none, or has no such rows."""
    if "split" not in read_manifest(path).columns:
        raise no_pairs(path)
    # Part by part, so that the other side is never held.
    wanted = None if columns is None else [*dict.fromkeys([*columns, "split"])]
    sides = [table.filter(pc.equal(table["split"], split)) for table in (read_parquet(p, wanted) for p in parts(path))]
    rows = pa.concat_tables(sides)
    if not rows.num_rows:
        raise no_such_rows(path, split)
    return rows


def clusters_of_side(path: str, split: str, most: int) -> int:
    """How many duplicate clusters the rows of a side have, counted no further than `most`."""
    found: set[int] = set()
    for part in parts(path):
        table = read_parquet(part, ["split", "cluster"])
        found.update(table.filter(pc.equal(table["split"], split))["cluster"].to_pylist())
        if len(found) >= most:
            return most
    return len(found)


def no_pairs(path: str) -> UserError:
    return UserError("this is no pairs artifact", where=path, fix="give one, such as outputs/demo/code_pairs")


def no_such_rows(path: str, split: str) -> UserError:
    return UserError(
        f"no pair is of the {split} side", where=path, fix="raise split.heldout_share, or give more groups"
    )


def split_pairs(pairs: pa.Table, options: SplitOptions) -> tuple[pa.Table, Ledger]:
    """Fill the column `split` of a PAIRS table, and drop from the training part what the held-out part also holds.

    Dropped as `leaks_heldout`: training rows whose duplicate cluster, or one of whose texts, is on the other side too.
    Give text and code pairs in one table to have them checked against each other.
    """
    held = heldout(pairs["group"], options).to_numpy()
    clusters = pairs["cluster"].to_numpy()
    x, y = pairs["x_hash"].to_numpy(), pairs["y_hash"].to_numpy()
    texts = np.concatenate([x[held], y[held]])
    leaks = ~held & (np.isin(clusters, clusters[held]) | np.isin(x, texts) | np.isin(y, texts))
    column = pa.array(np.where(held, HELDOUT, TRAIN), pa.string())
    kept = pairs.set_column(pairs.schema.get_field_index("split"), "split", column).filter(pa.array(~leaks))
    ledger = Ledger.of("pairs", read=pairs.num_rows, kept=kept.num_rows, dropped={"leaks_heldout": int(leaks.sum())})
    return kept, ledger.showing(examples_of(pairs.filter(pa.array(leaks)), "pairs", "leaks_heldout"))
