"""The flow of `cpt-ray train`: pairs and first weights become batches and a model."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("train")  # ends here, before the imports below, which may take seconds

import posixpath
from collections.abc import Mapping
from typing import Any

from cpt_ray.artifacts import Ledger, Manifest, Wanted, check_flow, read_manifest, run_flow
from cpt_ray.cluster import connect
from cpt_ray.errors import UserError
from cpt_ray.evaluate.tasks import digest
from cpt_ray.evaluate.watch import Watch
from cpt_ray.model.delimiters import ADDED, Delimiters
from cpt_ray.model.encoding import encoder
from cpt_ray.model.options import ModelOptions
from cpt_ray.model.precision import Shape, settle
from cpt_ray.model.weights import config_of, load_tokenizer, pinned, weights_identity
from cpt_ray.pairs.batches import ORDER
from cpt_ray.pairs.batches_across import make_batches
from cpt_ray.pairs.options import BatchOptions
from cpt_ray.pairs.splits import HELDOUT, TRAIN, clusters_of_side
from cpt_ray.train.continued import KEPT, Course, goes_on, keep, settled_before, take_up
from cpt_ray.train.estimate import Load, Training, say, seconds
from cpt_ray.train.faster import faster
from cpt_ray.train.flops import weights_of, without_memory
from cpt_ray.train.launch import check_room
from cpt_ray.train.loop import TRAIN_MODEL, train_model
from cpt_ray.train.metrics import METRICS, read_metrics
from cpt_ray.train.options import TrainOptions
from cpt_ray.train.steps import finished_in, job_identity

from . import reads
from .config import at, under
from .options.train import READS, PipelineOptions, Recipe, Steps
from .summary import print_artifacts
from .tracked import Tracked


def run(options: PipelineOptions) -> dict[str, Manifest]:
    """Order the pairs and train on them; returns the manifests by path."""
    reads.check_options(READS, options)
    options = options.model_copy(update={"model": pinned(options.model)})
    open_tokenizer(options.model.init)
    out = options.cluster.on_disk(options.output)
    with (
        connect(options.cluster) as resources,
        Tracked(options.tracking, options.cluster.folder(""), "train", f"train/{out}", options) as tracked,
    ):
        wanted = flow(out, "model", options.pairs, options.model, options, tracked)
        check_flow(wanted, resources)
        check_room(options.train, resources, here=options.cluster.address is None)
        made = run_flow(wanted, ended=tracked.ended)
        if options.register_as:
            register(made, options.register_as, tracked)
    print_artifacts(made)
    return made


def register(made: Mapping[str, Manifest], name: str, tracked: Tracked) -> None:
    """Make the model of `flow` a version of `name` in MLflow's registry, with what training measured of it."""
    _, heldout, trained = made
    tracked.log_model(posixpath.basename(trained), trained, made[trained], name, figures(trained), made[heldout])


def figures(trained: str) -> dict[str, float]:
    """What training measured of the exported weights on held-out pairs: heldout_mrr and others."""
    exported = int(read_manifest(trained).extra["exported_step"])
    rows = [row for row in read_metrics(posixpath.join(trained, METRICS)) if row["step"] == exported]
    return {name: value for row in rows for name, value in row.items() if name.startswith("heldout_")}


def open_tokenizer(init: str) -> Any:
    """The tokenizer of the first weights; UserError where there are none, or where it cannot delimit the sides."""
    with at("model.init", init):
        if init == "new":
            raise UserError("training starts from weights", fix="give a folder (cpt-ray pretrain) or a hub id")
        tokenizer = load_tokenizer(init)
        Delimiters.of(tokenizer)
        return tokenizer


def flow(out: str, name: str, pairs: str, model: ModelOptions, steps: Steps, tracked: Tracked) -> list[Wanted]:
    """`<name>_batches`, `<name>_heldout` and `<name>` under `out`."""
    batches, heldout, trained = (posixpath.join(out, name + suffix) for suffix in ("_batches", "_heldout", ""))
    return [
        Wanted(
            batches,
            ORDER,
            lambda: make_order(batches, pairs, TRAIN, model.init, steps.batches),
            (pairs,),
        ),
        Wanted(heldout, ORDER, lambda: make_heldout(heldout, pairs, model.init, steps), (pairs,)),
        Wanted(
            trained,
            TRAIN_MODEL,
            lambda: make_model(
                trained, name, batches, heldout, model, steps.train, tracked, pairs, watch=Watch(steps.watch.tasks)
            ),
            (batches, heldout),
        ),
    ]


def make_order(path: str, pairs: str, side: str, init: str, options: BatchOptions) -> Manifest:
    """The order of one side of `pairs` ("train" or "heldout") in batches, in tokens of the weights at `init`.

    UserError for batches that the pairs cannot fill, and for weights without a tokenizer.
    """
    encode = encoder(open_tokenizer(init))
    inputs: dict[str, str | Manifest] = {"pairs": read_manifest(pairs), "tokenizer": weights_identity(init)}
    with under("batches", BatchOptions):
        return make_batches(path, pairs, encode, options, inputs=inputs, split=side)


def make_heldout(path: str, pairs: str, init: str, recipe: Recipe) -> Manifest:
    """One batch of at most `heldout_pairs` held-out pairs. UserError when there are not two that differ."""
    # No two members of a duplicate cluster stand in one batch, so there can be no more pairs than clusters.
    size = clusters_of_side(pairs, HELDOUT, recipe.heldout_pairs)
    if size < 2:
        raise UserError("no two held-out pairs are of different clusters", where=pairs, fix="raise split.heldout_share")
    whole = {"batch_size": size, "steps": 1, "homogeneous": False, "weights": {}, "hard_negatives": 0}
    return make_order(path, pairs, HELDOUT, init, recipe.batches.model_copy(update=whole))


def trained_shape(model: ModelOptions, order: Manifest) -> Shape:
    """What a step on the batches of `order` multiplies: the longer side with its delimiters, through this model."""
    longest = max(int(order.params[name]) for name in ("max_x_tokens", "max_y_tokens")) + ADDED
    return Shape.of(config_of(model, 0), sequence=longest, trained=True)


def how_long(steps: int, batches: str, heldout: str, model: ModelOptions, options: TrainOptions) -> float:
    """About how many seconds so many steps on these batches take."""
    shape = trained_shape(model, read_manifest(batches))
    training = Training.of(steps, Load.of_first(batches), Load.of_first(heldout), options)
    weights = weights_of(without_memory(config_of(model, 0), model))
    return seconds(training, weights, shape, faster(shape, options), options)


def make_model(
    path: str,
    name: str,
    batches: str,
    heldout: str,
    model: ModelOptions,
    options: TrainOptions,
    tracked: Tracked,
    pairs: str | None = None,
    watch: Watch = Watch(()),  # noqa: B008 - frozen
) -> Manifest:
    """The trained model's artifact: weights, tokenizer, cpt_ray.json, SentenceTransformer files, model card and
    metrics.jsonl; the card counts `pairs` by source and licence. The tasks of `watch` are measured as it trains.

    Beside it, the last checkpoint: a training that is asked for more steps goes on from there.
    """
    order = read_manifest(batches)
    size = int(order.params["batch_size"])
    weights = weights_identity(model.init)
    inputs: dict[str, str | Manifest] = {"batches": order, "heldout": read_manifest(heldout), "initial": weights}

    tasks: tuple[Any, ...] = watch.tasks
    watched = {name: {**task.result(), "data": digest(task)} for name, task in zip(watch.names, tasks, strict=True)}

    def params(precision: str) -> dict[str, Any]:
        return {
            "model": model.result(),
            "train": {**options.result(), "precision": precision},
            **({"watch": watched} if tasks else {}),
        }

    def total() -> int:
        return options.steps or int(order.extra["batches"])

    def course(precision: str) -> Course:
        return Course.of(total(), TRAIN_MODEL.version, params(precision), order, weights, read_manifest(heldout))

    kept = path + KEPT
    precision, chosen = settle(
        settled_before(options.precision, course, kept),
        TRAIN_MODEL,
        path,
        params=params,
        inputs=inputs,
        measure=lambda: faster(trained_shape(model, order), options),
    )
    options = options.model_copy(update={"precision": precision})
    longer = goes_on(course(precision), kept)
    with TRAIN_MODEL.build(path, params=params(precision), inputs=inputs) as work:
        if work.manifest is not None:
            return work.manifest
        if longer:
            take_up(kept, work.scratch, work.path, job_identity(order, pinned(model)))
        left = total() - finished_in(work.scratch)
        say(name, how_long(left, batches, heldout, model, options))
        with (
            tracked.live(name, work.identity, posixpath.join(work.path, METRICS), total(), size),
            under("train", TrainOptions),
        ):
            result = train_model(
                options,
                model,
                batches=batches,
                heldout=heldout,
                out=work.path,
                scratch=work.scratch,
                where="train",
                pairs=pairs,
                watched=watch if tasks else None,
            )
        keep(course(precision), kept, work.scratch, work.path)
        seen = result.steps * size
        ledger = Ledger.of("slots", read=order.rows, kept=seen, dropped={"beyond_steps": order.rows - seen})
        extra = {
            "steps": result.steps,
            "exported_step": result.exported_step,
            "temperature": result.temperature,
            "peak_memory_mb": result.peak_memory_mb,
            "last": result.metrics[-1],
            **chosen,
        }
        return work.publish(ledger, rows=seen, extra=extra)
