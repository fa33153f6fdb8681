"""Numbers of work under way for who watches a cluster: Ray's metrics, which each node exports for Prometheus.

Without a Ray session nothing is counted. On a dashboard their names begin with `ray_`, and counts end in `_total`
(deploy/dashboard.json asks for all of them).
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import Any

ROWS = ("cpt_ray_rows", "Rows that a step has kept, or dropped by reason")
STEP_METRICS = {
    "step_seconds": "Seconds of the last training step",
    "pairs_per_second": "Pairs per second of the last training step",
    "tokens_per_second": "Tokens per second of the last training step",
    "loss": "Loss of the last training step",
}
"""Of a training, those of its metrics that are shown; as gauges named cpt_ray_train_<name>."""


def rows(step: str, units: Mapping[str, Any]) -> None:
    """Add what became of rows, by unit, as a ledger counts them (artifacts/ledger.py)."""
    if not _session():
        return
    counter = _metric("Counter", *ROWS, ("step", "unit", "outcome"))
    for unit, count in units.items():
        for outcome, amount in {"kept": count.kept, **count.dropped}.items():
            if amount:
                counter.inc(amount, {"step": step, "unit": unit, "outcome": outcome})


def training(run: str, metrics: Mapping[str, float]) -> None:
    """Show the metrics of a finished step of the training `run`."""
    if not _session():
        return
    for name in STEP_METRICS.keys() & metrics.keys():
        gauge = _metric("Gauge", f"cpt_ray_train_{name}", STEP_METRICS[name], ("run",))
        gauge.set(metrics[name], {"run": run})


def _session() -> bool:
    """A process that never imported Ray has none, and importing it takes seconds."""
    ray = sys.modules.get("ray")
    return ray is not None and bool(ray.is_initialized())


@functools.cache
def _metric(kind: str, name: str, description: str, tags: tuple[str, ...]) -> Any:
    from ray.util import metrics

    return getattr(metrics, kind)(name, description, tag_keys=tags)
