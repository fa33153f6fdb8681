"""The dashboard that deploy/ brings, as far as tests look at it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

BOARD: dict[str, Any] = json.loads((Path(__file__).parents[1] / "deploy" / "dashboard.json").read_text())


def asked() -> set[str]:
    """Names of our metrics in its queries, as Ray exports them (`ray_cpt_ray_...`)."""
    queries = [target["expr"] for panel in BOARD["panels"] for target in panel.get("targets", [])]
    return {name for query in queries for name in re.findall(r"ray_cpt_ray_\w+", query)}
