"""What batch size, initial weights and false-negative masking are worth: short trainings on a finished demo's pairs.

    batch      the paper's table 9 in miniature: the same examples seen in batches of several sizes, and the same steps
    weights    the demo's language model against random weights, at equal contrastive compute
    masking    masked against unmasked false negatives, where duplicates are left in the training pairs

Run as `make run && make bench-ablations`. Model and options are the demo's code model; every training is an artifact in
`--work`, so a second run goes on where the first stopped. Each is measured as the demo is: held-out distributions, 1,000
candidates, several disjoint draws. `--code` takes the pairs from elsewhere: a large batch wants more pairs than the demo has
(benchmarks/packages.txt says how to come by them). docs/experiments.md says what came out.
"""

from __future__ import annotations

import argparse
import json
import os
import posixpath
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cpt_ray.artifacts import Ledger, build, fingerprint, parquet, read_manifest, read_table
from cpt_ray.artifacts.manifest import software
from cpt_ray.errors import UserError
from cpt_ray.evaluate import figures as draw
from cpt_ray.evaluate.candidates import Block
from cpt_ray.evaluate.candidates import draw as draw_blocks
from cpt_ray.evaluate.report import machine
from cpt_ray.evaluate.search import compare, search_blocks
from cpt_ray.model.embedder import Embedder
from cpt_ray.options import Options
from cpt_ray.pairs.docstrings import plain
from cpt_ray.pairs.options import SplitOptions
from cpt_ray.pairs.order import content_keys
from cpt_ray.pairs.schema import PAIRS, Pair, pairs_table, survivors
from cpt_ray.pairs.splits import HELDOUT, TRAIN, read_side, split_pairs
from cpt_ray.sweep.options import SweepOptions
from cpt_ray.sweep.run import TrialResult, run_sweep
from cpt_ray.sweep.trials import Setting as Recipe
from cpt_ray.sweep.trials import orders
from cpt_ray.tracking.options import TrackingOptions
from pipelines import config, demo, train
from pipelines.tracked import Tracked

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).parents[1]
CLEAN, DUPLICATES, REPEATS = "clean", "duplicates", "repeats"
"""Training pairs: the demo's; of all mined functions, no duplicate removed; of those alone whose docstring or code another
has too. The held-out pairs are the demo's in all three."""

BATCH, WEIGHTS, MASKING = EXPERIMENTS = ("batch", "weights", "masking")

SHORTER = {"max_x_tokens": 24, "max_y_tokens": 32}
WARMUP = 0.2
"""What differs from the demo's code model, in all trainings alike: texts are cut shorter so that more of them can be seen in
the time; a large batch has few steps, and a twentieth of those is no warm-up."""


class Plan(Options):
    """How much is trained."""

    batch_sizes: tuple[int, ...] = (64, 256, 1024, 4096)
    examples: int = 262_144
    batch_size: int = 1024
    masking_examples: int = 32_768
    seeds: int = 1
    pretrained: tuple[bool, ...] = (True, False)
    experiments: tuple[str, ...] = EXPERIMENTS

    @property
    def weights(self) -> tuple[bool, ...]:
        """First weights from which batch sizes are compared: pretrained or not."""
        return self.pretrained if BATCH in self.experiments else ()

    @property
    def steps(self) -> int:
        """Of the largest batch; batches of every size are also compared after as many steps."""
        return self.examples // max(self.batch_sizes)

    @property
    def lengths(self) -> list[int]:
        """Examples at which initial weights are compared, few and many, in batches of `batch_size`."""
        lengths = [self.batch_size * self.steps, self.examples][: len(self.pretrained)]
        return lengths if WEIGHTS in self.experiments else []

    @property
    def corpora(self) -> tuple[str, ...]:
        """Training pairs with and without mask."""
        return (DUPLICATES, REPEATS) if MASKING in self.experiments else ()


@dataclass(frozen=True)
class Setting:
    """One training. Two that are compared differ in one field alone."""

    batch_size: int
    examples: int
    seed: int
    corpus: str = CLEAN
    pretrained: bool = True
    mask: bool = True

    @property
    def name(self) -> str:
        """Which differs for any two that differ in more than the batch size."""
        weights, mask = "pretrained" if self.pretrained else "random", "masked" if self.mask else "unmasked"
        return f"{self.corpus}-{weights}-{mask}-{self.examples}-seed-{self.seed}"


@dataclass(frozen=True)
class Measured:
    """A training and what its model scored, draw by draw."""

    setting: Setting
    result: TrialResult
    draws: list[dict[str, float]]

    @property
    def mrr(self) -> float:
        return mean([each["mrr"] for each in self.draws])


def settings(plan: Plan) -> list[Setting]:
    """Every training once: all experiments with one seed, then with the next; the largest batch, which may not fit, first."""
    found = []
    for seed in range(plan.seeds):
        for pretrained in plan.weights:
            sizes = [Setting(size, plan.examples, seed, pretrained=pretrained) for size in plan.batch_sizes]
            found += [*reversed(sizes), *(replace(one, examples=one.batch_size * plan.steps) for one in sizes)]
        for examples in plan.lengths:
            ours = Setting(plan.batch_size, examples, seed)
            found += [ours, replace(ours, pretrained=False)]
        for corpus in plan.corpora:
            masked = Setting(plan.batch_size, plan.masking_examples, seed, corpus)
            found += [masked, replace(masked, mask=False)]
    return list(dict.fromkeys(found))


def rate_factor(batch_size: int, tuned_at: int) -> float:
    """On the demo's learning rates: Adam's square-root rule below the batch size they were tuned at, 1 above it, where a
    large batch has so few steps that the rule's rates made all embeddings one point (loss = log of the batch size)."""
    return min(1.0, float(np.sqrt(batch_size / tuned_at)))


class Bench:
    """Trains and measures settings from the first weights of a finished demo, on the pairs in `code`; both are only read."""

    def __init__(self, folder: str, code: str, work: str, options: demo.PipelineOptions) -> None:
        self.code, self.work, self.steps = os.path.abspath(code), os.path.abspath(work), options.code_model
        self.initial = posixpath.join(os.path.abspath(folder), "initial")
        self.model = options.initial.model
        self.heldout = read_side(self.at("code_pairs"), HELDOUT)
        self.candidates = options.evaluation
        self.blocks = draw_blocks(self.heldout, self.candidates)

    def at(self, name: str) -> str:
        """An artifact of `cpt-ray code-pairs`, or of the demo, which has the same."""
        return posixpath.join(self.code, name)

    def measure(self, setting: Setting) -> Measured:
        """Train, unless it stands, and search."""
        result = self.train(setting)
        return Measured(setting, result, by_draw(self.heldout, self.blocks, result.folder))

    def train(self, setting: Setting) -> TrialResult:
        """One trial of a sweep, in this process, by the reference engine."""
        tuned, count = self.steps, setting.examples // setting.batch_size
        factor = rate_factor(setting.batch_size, tuned.batches.batch_size)
        batches = tuned.batches.model_copy(
            update={**SHORTER, "batch_size": setting.batch_size, "steps": count, "seed": setting.seed}
        )
        options = tuned.train.model_copy(
            update={
                "workers": 0,
                "threads": os.cpu_count() or 1,
                "gpu": False,
                "engine": "reference",
                "seed": setting.seed,
                "learning_rate": tuned.train.learning_rate * factor,
                "temperature_rate": tuned.train.temperature_rate * factor,
                "warmup": WARMUP,
                "keep_graphs_mb": 2048,
                "tile_rows": 2048,
                "mask_false_negatives": setting.mask,
                "evaluate_every": max(1, count // 8),
            }
        )
        steps = tuned.model_copy(update={"batches": batches, "train": options})
        order, held = (
            posixpath.join(self.work, kind, f"{setting.corpus}-{setting.batch_size}-{setting.examples}-{setting.seed}")
            for kind in ("orders", "heldout")
        )
        pairs = self.pairs(setting.corpus)
        train.make_order(order, pairs, TRAIN, self.initial, steps.batches)
        train.make_heldout(held, pairs, self.initial, steps)
        init = self.initial if setting.pretrained else "new"
        sweep = SweepOptions(over={"batches": {"batch_size": [setting.batch_size]}}, examples=setting.examples)
        recipe = Recipe(options, batches, self.model.model_copy(update={"init": init}))
        (result,) = run_sweep(
            sweep,
            recipe,
            orders=dict.fromkeys(orders(sweep, recipe), order),
            heldout=held,
            out=posixpath.join(self.work, "runs", setting.name),
            inputs={"initial": train.weights_identity(init)},
            tokenizer=self.initial,
        )
        return result

    def pairs(self, corpus: str) -> str:
        """The pairs artifact of a corpus, made if need be."""
        if corpus == CLEAN:
            return self.at("code_pairs")
        path = posixpath.join(self.work, f"pairs-{corpus}")
        rows, known, clean = (read_manifest(self.at(n)) for n in ("functions", "function_clusters", "code_pairs"))
        inputs = {"functions": rows, "clusters": known, "pairs": clean}
        params = {"corpus": corpus, "split": clean.params["split"]}
        with build(path, step="ablation_pairs", version=1, params=params, inputs=inputs) as made:
            if not made.done:
                table, ledger = with_duplicates(
                    read_table(self.at("functions")),
                    read_table(self.at("function_clusters")),
                    SplitOptions.model_validate(clean.params["split"]),
                    repeats_only=corpus == REPEATS,
                )
                table = pa.concat_tables([table, self.heldout])
                parquet.write_table(posixpath.join(made.path, "part-00000.parquet"), table)
                made.publish(ledger, rows=table.num_rows, schema=PAIRS)
        return path


def with_duplicates(
    functions: pa.Table, clusters: pa.Table, split: SplitOptions, *, repeats_only: bool
) -> tuple[pa.Table, Ledger]:
    """Training pairs (PAIRS) of all functions of the training groups, as if nobody had looked for duplicates: each pair
    is a cluster of its own, so that equal texts may meet in a batch.

    Dropped: `heldout_group`; `leaks_heldout`, by the real clusters; with `repeats_only`, `alone`: neither its docstring
    nor its code stands in another pair.
    """
    known = survivors(functions["function_id"], clusters).cluster_id
    pairs, _ = split_pairs(pairs_table(_pairs(functions, known)), split)
    trained = pairs.filter(pc.equal(pairs["split"], TRAIN))
    heldout = pairs.num_rows - trained.num_rows
    dropped = {"leaks_heldout": functions.num_rows - pairs.num_rows, "heldout_group": heldout}
    if repeats_only:
        repeated = _repeated(trained["x_hash"]) | _repeated(trained["y_hash"])
        dropped["alone"] = int((~repeated).sum())
        trained = trained.filter(pa.array(repeated))
    own = pa.array(content_keys(trained["pair_id"].to_pylist()))
    trained = trained.set_column(PAIRS.get_field_index("cluster"), "cluster", own).cast(PAIRS)
    return trained, Ledger.of("functions", read=functions.num_rows, kept=trained.num_rows, dropped=dropped)


def _pairs(functions: pa.Table, clusters: Sequence[str]) -> Iterable[Pair]:
    names = ["function_id", "group", "path", "start_line", "end_line", "summary", "code", "licence"]
    for row, cluster in zip(functions.select(names).to_pylist(), clusters, strict=True):
        own, lines = row["function_id"], (row["start_line"], row["end_line"])
        x = plain(row["summary"])
        place = (row["path"], row["start_line"], row["licence"])
        yield Pair("code", "code", row["group"], x, row["code"], cluster, own, own, lines, lines, *place)


def _repeated(hashes: pa.ChunkedArray) -> np.ndarray:
    _, inverse, counts = np.unique(hashes.to_numpy(), return_inverse=True, return_counts=True)
    return counts[inverse] > 1


def by_draw(heldout: pa.Table, blocks: Sequence[Block], folder: str) -> list[dict[str, float]]:
    """Metrics of a trained model in each draw of candidates."""
    embed = Embedder(folder).embed
    return [search_blocks(heldout, [block], embed) for block in blocks]


def mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def rows(measured: Sequence[Measured], plan: Plan) -> list[dict[str, Any]]:
    """Lines of the result: means over seeds and draws. `peer` is the other setting of a comparison; `difference` is
    taken seed by seed and draw by draw (the same candidates), its mean and its least and largest."""
    found = []
    for case, sizes in _by_size(measured, plan).items():
        before: list[Measured] = []
        for size, now in sizes.items():
            peer = f"B={before[0].setting.batch_size}" if before else None
            found.append(_row(f"{case}, B={size}", now, peer, before))
            before = now
    for examples in plan.lengths:
        ours = Setting(plan.batch_size, examples, 0)
        random = _seeds(measured, replace(ours, pretrained=False))
        found.append(_row(f"pretrained weights, {examples} examples", _seeds(measured, ours), "random weights", random))
    for corpus in plan.corpora:
        masked = Setting(plan.batch_size, plan.masking_examples, 0, corpus)
        unmasked = _seeds(measured, replace(masked, mask=False))
        found.append(_row(f"masking, {corpus}", _seeds(measured, masked), "no mask", unmasked))
    return found


def _by_size(measured: Sequence[Measured], plan: Plan) -> dict[str, dict[int, list[Measured]]]:
    """The runs of each batch size: at equal examples and at equal steps, from random and from pretrained weights."""
    found = {}
    for pretrained in plan.weights:
        weights = "pretrained" if pretrained else "random"
        for case in ("examples", "steps"):
            found[f"equal {case}, {weights} weights"] = {
                size: _seeds(
                    measured,
                    Setting(size, plan.examples if case == "examples" else size * plan.steps, 0, pretrained=pretrained),
                )
                for size in plan.batch_sizes
            }
    return found


def _seeds(measured: Sequence[Measured], setting: Setting) -> list[Measured]:
    """The measured ones that are `setting` but for the seed."""
    return [each for each in measured if replace(each.setting, seed=setting.seed) == setting]


def _row(case: str, ours: list[Measured], peer: str | None, theirs: list[Measured]) -> dict[str, Any]:
    row: dict[str, Any] = {"case": case, "metric": "MRR", "ours_value": round(mean(e.mrr for e in ours), 4)}
    row |= {
        "by_seed": [round(each.mrr, 4) for each in ours],
        "peer": peer,
        "peer_value": None,
        "ratio": None,
    }
    if theirs:
        value = mean(each.mrr for each in theirs)
        gains = [
            a["mrr"] - b["mrr"]
            for one, other in zip(ours, theirs, strict=True)
            for a, b in zip(one.draws, other.draws, strict=True)
        ]
        row |= {"peer_value": round(value, 4), "ratio": round(row["ours_value"] / value, 3)}
        row["difference"] = {"mean": round(mean(gains), 4), "least": round(min(gains), 4), "most": round(max(gains), 4)}
    return row


def run_row(each: Measured) -> dict[str, Any]:
    """Everything of one training that the page and the next reader may want."""
    metrics, setting = each.result.metrics, each.setting
    trained = [row for row in metrics if "loss" in row]
    return {
        "corpus": setting.corpus,
        "batch_size": setting.batch_size,
        "examples": setting.examples,
        "steps": each.result.trial.steps,
        "seed": setting.seed,
        "weights": "pretrained" if setting.pretrained else "random",
        "mask": setting.mask,
        "learning_rate": max(row["lr"] for row in trained),
        "final_temperature": trained[-1]["temperature"],
        "last_loss": trained[-1]["loss"],
        "masked_pairs_per_batch": mean(row["masked_pairs"] for row in trained),
        "seconds": each.result.seconds,
        "mrr": [draw["mrr"] for draw in each.draws],
        "recall_at_1": [draw["recall_at_1"] for draw in each.draws],
        "recall_at_10": [draw["recall_at_10"] for draw in each.draws],
        "curve": [[row["step"], row["heldout_mrr"]] for row in metrics if "heldout_mrr" in row],
    }


def draw_figures(measured: Sequence[Measured], plan: Plan) -> dict[str, Figure]:
    """One figure for each question."""
    found = {}
    if plan.weights:
        sizes = {
            case: {size: [one.mrr for one in runs] for size, runs in each.items()}
            for case, each in _by_size(measured, plan).items()
        }
        found["batch-size"] = draw.scaling(sizes, "Batch size: held-out search", "pairs in a batch", "MRR among 1,000")
    if plan.lengths:
        weights = {}
        for examples in plan.lengths:
            ours = Setting(plan.batch_size, examples, 0)
            steps = examples // plan.batch_size
            weights[f"language model, {steps} steps"] = _curve(_seeds(measured, ours))
            weights[f"random, {steps} steps"] = _curve(_seeds(measured, replace(ours, pretrained=False)))
        found["initial-weights"] = draw.curves(
            weights, ["heldout_mrr"], "Initial weights: held-out search", "MRR among 512"
        )
    if plan.corpora:
        masks = {}
        for corpus, label in ((DUPLICATES, "all duplicates left in"), (REPEATS, "only pairs that repeat")):
            masked = Setting(plan.batch_size, plan.masking_examples, 0, corpus)
            masks[label] = {
                "mask": [each.mrr for each in _seeds(measured, masked)],
                "no mask": [each.mrr for each in _seeds(measured, replace(masked, mask=False))],
            }
        found["masking"] = draw.contrast(masks, "Masking of false negatives", "MRR among 1,000")
    return found


def _curve(runs: Sequence[Measured]) -> list[dict[str, float]]:
    """Mean over the seeds, step by step."""
    curves = [run_row(each)["curve"] for each in runs]
    return [
        {"step": points[0][0], "heldout_mrr": mean(value for _, value in points)}
        for points in zip(*curves, strict=True)
    ]


def track(found: dict[str, Any], drawn: dict[str, Figure], measured: Sequence[Measured], plan: Plan, work: str) -> str:
    """One MLflow run with a child for each training, in the store beside `work`; returns its address."""
    digests = {each.setting.name: read_manifest(each.result.folder).digest for each in measured}
    outputs = os.path.dirname(os.path.abspath(work))
    with Tracked(TrackingOptions(), outputs, "ablations", f"ablations/{fingerprint(digests)}", plan) as tracked:
        for each in measured:
            manifest = read_manifest(each.result.folder)
            name = f"{each.setting.name}-batch-{each.setting.batch_size}"
            run = tracked.run(name, manifest.identity)
            run.history(each.result.metrics)
            run.metrics(0, {"mrr": each.mrr})
            tracked.finish(name, each.result.folder, manifest)
        for row in found["rows"]:
            tracked.parent.metrics(0, {row["case"].replace(",", "").replace("=", " "): row["ours_value"]})
        tracked.parent.table(found["rows"], "ablations.json")
        for name, figure in drawn.items():
            tracked.parent.figure(figure, f"figures/{name}.png")
        return tracked.uri


def main(argv: Sequence[str] | None = None) -> int:
    usual = Plan()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--demo", default="outputs/demo", help="folder of a finished demo")
    parser.add_argument("--code", help="folder of `cpt-ray code-pairs` to train and measure on; by default the demo's")
    parser.add_argument("--work", default="outputs/ablations", help="where trainings are kept")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(usual.batch_sizes))
    parser.add_argument("--examples", type=int, default=usual.examples, help="pairs that a training sees")
    parser.add_argument(
        "--batch", type=int, default=usual.batch_size, help="batch size of the other two experiments, one of --sizes"
    )
    parser.add_argument("--masking-examples", type=int, default=usual.masking_examples)
    parser.add_argument("--seeds", type=int, default=usual.seeds)
    parser.add_argument("--only", nargs="+", choices=EXPERIMENTS, default=list(EXPERIMENTS), help="experiments to run")
    parser.add_argument("--pretrained-only", action="store_true", help="batch sizes from pretrained weights alone")
    parser.add_argument("--results", default=str(ROOT / "benchmarks" / "results"), help="folder of ablations.json")
    parser.add_argument("--figures", default=str(ROOT / "docs" / "figures"), help="folder of the SVG files")
    given = parser.parse_args(argv)
    try:
        options = config.load("demo", demo.PipelineOptions)
        plan = Plan(
            batch_sizes=tuple(sorted(given.sizes)),
            examples=given.examples,
            batch_size=given.batch,
            masking_examples=given.masking_examples,
            seeds=given.seeds,
            pretrained=(True,) if given.pretrained_only else usual.pretrained,
            experiments=tuple(given.only),
        )
        bench = Bench(given.demo, given.code or given.demo, given.work, options)
        measured = []
        for setting in settings(plan):
            measured.append(bench.measure(setting))
            done = measured[-1]
            print(
                f"{setting.name:<60} B={setting.batch_size:<6} MRR {done.mrr:.4f}  {done.result.seconds:6.0f} s",
                flush=True,
            )
    except UserError as error:
        print(f"error {error}", file=sys.stderr)
        return 2
    beside = compare(bench.heldout, bench.candidates, {})
    pretrained = read_manifest(bench.initial)
    found = {
        "area": "ablations",
        "machine": machine(),
        "versions": software(),
        "setting": beside,
        "pretraining": {"seconds": pretrained.seconds, "steps": pretrained.extra["steps"]},
        "rows": rows(measured, plan),
        "runs": [run_row(each) for each in measured],
    }
    drawn = draw_figures(measured, plan)
    os.makedirs(given.results, exist_ok=True)
    os.makedirs(given.figures, exist_ok=True)
    Path(given.results, "ablations.json").write_text(json.dumps(found, indent=1) + "\n")
    for name, figure in drawn.items():
        Path(given.figures, f"{name}.svg").write_text(draw.svg_file(figure, name))
    for row in found["rows"]:
        gain = row.get("difference")
        against = f"   {row['peer']} {row['peer_value']:.4f}, difference {gain['mean']:+.4f}" if gain else ""
        print(f"{row['case']:<24} MRR {row['ours_value']:.4f}{against}")
    print(f"figures in {given.figures}; MLflow {track(found, drawn, measured, plan, given.work)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
