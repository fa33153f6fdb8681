"""What planning a step costs one rank of many: its rows of a global batch found, made texts, and cut into chunks.

Run as `make bench-step_plan`. Beside it, what each rank did before: the whole batch made texts and dealt, and every rank's
pool cut, so that nothing need be agreed upon. CPU time of this process, the median of several; the two small collectives by
which ranks now agree are not in it, since their latency is the network's.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import torch

from cpt_ray.model.delimiters import Delimiters
from cpt_ray.model.encoder import chunks_by_tokens
from cpt_ray.train.collectives import Workers
from cpt_ray.train.grad_cache import Pairs, cut_to, deal, plan

DELIMITERS = Delimiters(x=(0, 1), y=(2, 3))


def table(pairs: int, longest: int) -> pa.Table:
    """A batch as the training order has it: texts of 1 to `longest` tokens."""
    random = np.random.default_rng(0)

    def texts() -> pa.Array:
        lengths = random.integers(1, longest + 1, pairs)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(random.integers(4, 1000, offsets[-1], np.int32)))

    ids = pa.array([f"{i:032x}" for i in range(pairs)])
    numbers = {name: pa.array(np.arange(pairs, dtype=np.uint64)) for name in ("x_hash", "y_hash", "cluster")}
    return pa.table({"pair_id": ids, "source": ids, "x_ids": texts(), "y_ids": texts(), **numbers})


def whole(batch: pa.Table, ranks: int, budget: int) -> None:
    """As it was."""
    pairs = Pairs.of(batch, DELIMITERS)
    parts = [pairs.part(rows) for rows in deal(pairs.lengths(), ranks)]
    lengths = [np.array([len(ids) for ids in part.pool()], np.int64) for part in parts]
    cut = [chunks_by_tokens(pool, budget) for pool in lengths]
    most = max(map(len, cut))
    for chunks in cut:
        cut_to(chunks, most)


def own(batch: pa.Table, ranks: int, budget: int) -> None:
    """As it is, on rank 0."""
    share = Pairs.share(batch, DELIMITERS, Workers(0, ranks, torch.device("cpu")))
    plan(np.array([len(ids) for ids in share.pool()], np.int64), budget, Workers.alone())


def milliseconds(function: Callable[[], None], times: int) -> float:
    function()
    found = []
    for _ in range(times):
        before = time.process_time()
        function()
        found.append(time.process_time() - before)
    return 1000 * statistics.median(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=4096, help="of a global batch")
    parser.add_argument("--longest", type=int, default=254, help="tokens of a text")
    parser.add_argument("--budget", type=int, default=8192, help="train.chunk_tokens")
    parser.add_argument("--times", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    batch = table(arguments.pairs, arguments.longest)
    print(f"{'ranks':>5} {'whole batch, ms':>16} {'own rows, ms':>13} {'ratio':>6}")
    for ranks in (1, 8, 64):
        before, now = (
            milliseconds(lambda step=step, ranks=ranks: step(batch, ranks, arguments.budget), arguments.times)  # type: ignore[misc]
            for step in (whole, own)
        )
        print(f"{ranks:>5} {before:>16.1f} {now:>13.2f} {before / now:>6.1f}")


if __name__ == "__main__":
    main()
