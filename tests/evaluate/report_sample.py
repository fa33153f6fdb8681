"""A report with plausible numbers, for tests and for looking at the page."""

import math

import numpy as np

from cpt_ray.evaluate.baselines import chance
from cpt_ray.evaluate.report import DemoReport, machine
from cpt_ray.evaluate.space import space_of


def _metrics(mrr: float) -> dict[str, float]:
    return {"mrr": mrr, "recall_at_1": 0.72 * mrr, "recall_at_10": min(1.0, 1.45 * mrr)}


def _search(model: float, initial: float, bm25: float) -> dict:
    setting = {
        "candidates": 1000,
        "queries": 3000,
        "blocks": 3,
        "pairs": 4127,
        "largest_group": 50,
        "repeated_documents": 0,
    }
    named = {"model": _metrics(model), "initial": _metrics(initial), "bm25": _metrics(bm25), "chance": chance(1000)}
    return named | {"setting": setting}


def _stage(seconds: float, unit: str, read: int, dropped: dict[str, int], **more: dict) -> dict:
    units = {unit: {"read": read, "kept": read - sum(dropped.values()), "dropped": dropped}} | more
    last = list(units.values())[-1]
    every = {reason: n for u in units.values() for reason, n in u["dropped"].items()}
    return {
        "seconds": seconds,
        "rows_in": read,
        "kept": last["kept"],
        "dropped": every,
        "units": units,
        "digest": f"{read:032x}",
    }


def unit(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Fifty pairs of vectors of length 1, near each other."""
    x = rng.standard_normal((50, 8))
    pairs = x, x + 0.4 * rng.standard_normal((50, 8))
    return tuple(side / np.linalg.norm(side, axis=1, keepdims=True) for side in pairs)


def sample_report() -> DemoReport:
    """Two models, four trials, nine stages."""
    steps = range(0, 241, 4)
    return DemoReport.model_validate(
        {
            "created": "2026-11-21T09:10:11+00:00",
            "seconds": 1043.2,
            "peak_memory_bytes": int(6.1 * 2**30),
            "machine": machine(),
            "versions": {"cpt-ray": "0.1.0", "ray": "2.60.0", "torch": "2.13.0", "deepspeed": "0.19.8"},
            "commit": "c0ffee" * 6 + "abcd",
            "stages": {
                "site": _stage(9.2, "pages", 2654, {}),
                "crawl": _stage(31.0, "urls", 2702, {"robots_disallowed": 31, "not_found": 3, "duplicate_url": 14}),
                "extract": _stage(28.1, "records", 2654, {"too_short": 180, "not_english": 42, "low_quality": 75}),
                "mine": _stage(
                    61.0,
                    "files",
                    18940,
                    {"syntax_error": 12, "too_large": 41},
                    functions={
                        "read": 301240,
                        "kept": 52011,
                        "dropped": {"no_docstring": 214002, "docstring_too_short": 21044, "trivial": 9011, "test": 5172},
                    },
                ),
                "dedup": _stage(24.5, "functions", 52011, {"exact_duplicate": 8120, "near_duplicate": 4216}),
                "pairs": _stage(12.0, "pairs", 39675, {"held_out_duplicate": 312, "too_long": 88}),
                "pretrain": _stage(121.3, "sequences", 20000, {}),
                "train_text": _stage(181.0, "pairs", 61440, {}),
                "train_code": _stage(352.7, "pairs", 122880, {}),
            },
            "code_search": _search(0.412, 0.021, 0.513),
            "text_search": _search(0.534, 0.083, 0.702),
            "sweep": [
                {"values": {"batch_size": b, "temperature": t}, "metrics": _metrics(m), "examples": 16384, "seconds": 40}
                for b, t, m in [(512, 0.2, 0.204), (512, 0.05, 0.188), (256, 0.2, 0.162), (256, 0.05, 0.151)]
            ],
            "curves": {
                name: {
                    "rows": [
                        {"step": s, "loss": 0.8 + a * math.exp(-s / b), "temperature": 0.05 + 0.02 * math.exp(-s / b)}
                        | ({"heldout_mrr": c * (1 - math.exp(-s / b))} if s % 40 == 0 else {})
                        for s in steps
                    ]
                }
                for name, a, b, c in [("code", 5.2, 70, 0.41), ("text", 4.7, 50, 0.53)]
            },
            "spaces": {
                name: space_of(*unit(np.random.default_rng(seed))) for seed, name in enumerate(("code", "text"))
            },
            "pretrain": {"code": {"rows": [{"step": s, "loss": 3.4 + 6 * math.exp(-s / 60)} for s in steps]}},
            "examples": [
                {
                    "query": "parse an ISO date",
                    "hits": [
                        {"score": 0.713, "where": "lib/site-packages/dateutil/parser/isoparser.py:211", "name": "isoparser.parse_isodate", "summary": "Parse the date portion of an ISO string.", "group": "python-dateutil"},
                        {"score": 0.694, "where": "lib/datetime.py:1043", "name": "date.fromisoformat", "summary": "Construct a date from a string in ISO 8601 format.", "group": "python"},
                    ],
                },
                {"query": "remove <script> & other tags", "hits": [{"score": 0.52, "where": "a.py:1", "name": "strip_tags", "summary": "Strip <b>tags</b> & comments."}]},
            ],
            "artifacts": {"code_model": "outputs/demo/models/code", "mlflow": "sqlite:///outputs/mlflow.db  (make mlflow)"},
        }
    )  # fmt: skip
