"""What says the same as a function besides its documentation: its name, its signature of its body, what changed it last."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Mapping
from typing import Any

from cpt_ray.words import terms

FEWEST_WORDS = 2
"""A name of one word (`get`, `run`) tells nothing apart."""


def by_name(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """(words of the name, code with `_` for the name, by which it would be found) of a row of functions; None for a name of
    fewer words than FEWEST_WORDS."""
    name = re.split(r"[.:#]", row["name"])[-1]
    found = [word for word in terms(name) if not word.isdigit()]
    if len(found) < FEWEST_WORDS:
        return None
    return " ".join(found), re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "_", row["code"])


def by_signature(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """(signature on one line, body) of a row of functions; None where the code is not known to be of these two."""
    signature = row["signature"]
    body = row["code"][len(signature) :] if signature else ""
    return (" ".join(signature.split()), textwrap.dedent(body).strip()) if body.strip() else None


def by_message(row: Mapping[str, Any]) -> tuple[str, str] | None:
    """(message of the last commit that changed it, code) of a row of functions; None where none says anything of it."""
    return (row["message"], row["code"]) if row["message"] else None
