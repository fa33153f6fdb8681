"""`cpt-ray doctor`: what this machine is, and what of it will not do."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("doctor")  # ends here, before the imports below, which may take seconds

import functools
import logging
import tempfile
import time
from collections.abc import Callable, Iterator

from rich.table import Table

from cpt_ray import machine
from cpt_ray.cluster import ClusterOptions, connect
from cpt_ray.errors import UserError
from cpt_ray.machine import GIB, Finding
from cpt_ray.model.delimiters import ADDED
from cpt_ray.sweep.trials import Setting, known_trials

from .config import CONF, load
from .options.demo import PipelineOptions as Demo
from .options.doctor import PipelineOptions
from .options.train import Recipe
from .summary import console

MEMORY, DISK, SCRATCH = 6 * GIB, 4 * GIB, 2 * GIB
"""What the demo takes: bytes of memory at its peak, of its outputs, and of Ray's logs and spilled objects."""
PINS = CONF.parent / "constraints.txt"
"""There in a checkout; a wheel has only what it requires."""
MARKS = {"good": "[green]ok[/]", "limited": "[yellow]limited[/]", "fails": "[red]fails[/]"}
OTHER_MINUTES = 2.7
"""Of the demo on two idle CPUs of an AMD EPYC: all that is not training, which is taken as it is."""


def run(options: PipelineOptions) -> int:
    """Print a line for each finding; 1 if one of them makes work fail."""
    logging.getLogger("cpt_ray").setLevel(logging.WARNING)
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    found = list(findings(options))
    for one in found:
        table.add_row(MARKS[one.state], one.name, one.says)
        if one.fix:
            table.add_row("", "", f"[bold]fix[/] {one.fix}")
    console().print(table, highlight=False)
    wrong = [one.name for one in found if one.state == "fails"]
    said = f"{len(wrong)} will fail: {', '.join(wrong)}" if wrong else "nothing stands in the way"
    console().print(f"\n{said}", highlight=False)
    return 1 if wrong else 0


def summary(options: Demo) -> str:
    """One line before work begins: what there is, what will fail, and about how long the demo takes."""
    found = [
        machine.memory(MEMORY),
        machine.disk("outputs", "cluster.outputs=", options.cluster.outputs, DISK),
        machine.packages(PINS),
        *precision(options),
    ]
    said = [f"{one.name} {one.says}" for one in found if one.name != "packages"]
    return ", ".join([f"{machine.cpus()} CPUs", *said]) + "".join(
        f"; {one.name} will fail: {one.says} ({one.fix})" for one in found if one.state == "fails"
    )


def findings(options: PipelineOptions) -> Iterator[Finding]:
    """Quick ones first; a look that fails is a finding itself."""
    cluster = options.cluster
    looks: list[tuple[str, Callable[[], list[Finding]]]] = [
        ("Python", lambda: [machine.python()]),
        ("packages", lambda: [machine.packages(PINS)]),
        ("compiler", lambda: [machine.compiler()]),
        ("processor", lambda: [machine.processor()]),
        ("memory", lambda: [machine.memory(MEMORY)]),
        ("outputs", lambda: [machine.disk("outputs", "cluster.outputs=", cluster.outputs, DISK)]),
        ("scratch", lambda: [machine.disk("scratch", "TMPDIR=", tempfile.gettempdir(), SCRATCH)]),
        ("shared memory", lambda: [machine.shared_memory(cluster.object_store_mb << 20)]),
        ("GPU", lambda: [gpu(cluster.gpu)]),
        ("precision", lambda: precision(demo_with(options))),
        ("Ray", lambda: [ray(cluster)]),
    ]
    for name, look in looks:
        try:
            yield from look()
        except UserError as error:
            yield Finding(name, f"{error.where}: {error.what}" if error.where else error.what, "fails", error.fix)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the user came to hear
            said = str(error).strip().splitlines() or [""]
            yield Finding(name, f"{type(error).__name__}: {said[0]}", "fails", "see packages above")


def gpu(wanted: bool) -> Finding:
    """GPUs that PyTorch sees; `wanted` by cluster.gpu."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_properties(n) for n in range(torch.cuda.device_count())]
        return Finding("GPU", ", ".join(f"{one.name} ({one.total_memory / GIB:.0f} GiB)" for one in names))
    if wanted:
        fix = "use cluster.gpu=false, or install a PyTorch that fits the driver"
        return Finding("GPU", "PyTorch sees none", "fails", fix)
    return Finding("GPU", "none: models run on the CPU")


def demo_with(options: PipelineOptions) -> Demo:
    """The demo as `make run` runs it, with this model on this cluster."""
    cluster = options.cluster
    found = load("demo", Demo, [f"cluster.workers={cluster.workers}", f"cluster.threads={cluster.threads}"])
    initial = found.initial.model_copy(update={"model": options.model})
    return found.model_copy(update={"initial": initial, "cluster": cluster})


def precision(demo: Demo) -> list[Finding]:
    """Which precision wins by how much, and what that says of the demo's time."""
    import torch

    from cpt_ray.model.precision import Choice, Shape, measured
    from cpt_ray.model.weights import config_of
    from cpt_ray.train.estimate import Load, Training, seconds
    from cpt_ray.train.flops import weights_of, without_memory

    first = demo.initial
    device = "cuda" if demo.cluster.gpu and torch.cuda.is_available() else "cpu"
    config = config_of(first.model, first.tokenizer.vocabulary)
    weights = weights_of(without_memory(config, first.model))

    @functools.cache
    def probe(shape: Shape) -> Choice:
        return measured(shape, device, demo.cluster.threads)

    def trained(recipe: Recipe, pairs: int, steps: int) -> float:
        batches = recipe.batches
        shape = Shape.of(config, sequence=max(batches.max_x_tokens, batches.max_y_tokens) + ADDED, trained=True)
        step, look = Load.of_pairs(pairs, batches), Load.of_pairs(recipe.heldout_pairs, batches)
        return seconds(Training.of(steps, step, look, recipe.train), weights, shape, probe(shape), recipe.train)

    shape = Shape.of(config, sequence=first.windows.context, trained=True, logits=True)
    choice = probe(shape)
    speeds = sorted((choice.fp32_tokens_per_second, choice.bf16_tokens_per_second))
    found = [Finding("precision", f"{choice}, {speeds[1] / speeds[0]:.1f} times as fast")]
    windows, models = first.windows, (demo.code_model, demo.text_model)
    if windows.steps is None or None in [one.batches.steps for one in models]:
        return found  # by passes over data that nobody has counted yet
    time = seconds(Training(windows.steps, Load.of_windows(windows)), weights, shape, choice, first.dealt)
    time += sum(trained(one, one.batches.batch_size, one.batches.steps or 0) for one in models)
    recipe = demo.sweep.steps
    points = known_trials(demo.sweep.grid, Setting(recipe.train, recipe.batches, first.model))
    time += sum(trained(recipe, point.batch_size, point.steps) for point in points)
    minutes = OTHER_MINUTES + time / 60
    found.append(Finding("make run", f"about {minutes:,.0f} minutes, if the machine stays as busy as it is"))
    return found


def ray(cluster: ClusterOptions) -> Finding:
    """Whether Ray starts here, or answers where it is to be joined."""
    started = time.monotonic()
    with connect(cluster) as resources:
        has = f"{resources['num_cpus']:g} CPUs, {resources['num_gpus']:g} GPUs"
    return Finding("Ray", f"{'answers' if cluster.address else 'starts'} in {time.monotonic() - started:.0f} s: {has}")
