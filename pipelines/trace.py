"""`cpt-ray trace`: from a pair back to what it was read from."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("trace")  # ends here, before the imports below, which may take seconds

from collections import Counter

from rich.table import Table
from rich.text import Text

from cpt_ray.errors import UserError
from cpt_ray.inspect.trace import Traced, random_ids, trace

from .options.trace import PipelineOptions
from .summary import console


def run(options: PipelineOptions) -> int:
    """Print where the pair is from, or how many of a sample read the same there; 1 where one does not."""
    if bool(options.pair) == bool(options.sample):
        raise UserError("what is to be traced?", where="pair", fix="give a pair_id, or sample=<how many>")
    ids = [options.pair] if options.pair else random_ids(options.pairs, options.sample)
    problems: Counter[str | None] = Counter()
    for found in trace(options.pairs, ids, options.archive, options.network):
        problems[found.problem] += 1
        if options.pair or not found.same:
            _print(found)
    if options.sample:
        console().print(f"{len(ids):,} pairs traced, {problems[None]:,} read the same again", highlight=False)
    return 0 if problems[None] == len(ids) else 1


def _print(found: Traced) -> None:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    said = "yes" if found.same else f"no: {found.problem}"
    rows = {"pair": found.pair["pair_id"], **found.places, "read again, the same": said}
    rows |= {"x": found.pair["x"], "y": found.pair["y"]}
    for name, value in rows.items():
        table.add_row(name, Text(value))  # brackets are no markup here
    console().print(table, highlight=False)
