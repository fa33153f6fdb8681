"""Compare models on the same queries: cpt-ray compare outputs/a_suite outputs/b_suite ...

Reads what `cpt-ray evaluate suite=...` made for each (give each its own `output=`). Prints the figures with their intervals
and the p of every difference from the first, and writes one HTML file with plots, and the queries that one wins and loses. A
single suite compares its model with the initial weights and the baselines.
"""

from __future__ import annotations

from pydantic import Field

from cpt_ray.options import Options

READS: dict[str, str] = {}
FREE = "suites"


class PipelineOptions(Options):
    """Options of `cpt-ray compare`."""

    suites: tuple[str, ...] = Field(
        min_length=1, description="folders of suites; the words on the command line that are no key=value"
    )
    names: tuple[str, ...] = Field(
        (), description="what they are called, in their order; else what differs in the paths"
    )
    examples: int = Field(5, ge=0, le=100, description="queries shown that one wins, and that it loses, for each task")
    page: str = Field("comparison.html", description="the HTML file to write")
