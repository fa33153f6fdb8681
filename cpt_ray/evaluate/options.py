"""Options of searching among candidates."""

from __future__ import annotations

from pydantic import Field

from cpt_ray.options import Options


class CandidateOptions(Options):
    """How search among candidates is drawn."""

    candidates: int = Field(default=1000, ge=2, description="candidates of a query, the answer included (paper: 1,000)")
    blocks: int = Field(
        default=3, ge=1, description="disjoint draws whose metrics are averaged, as far as the pairs reach"
    )
    seed: int = Field(default=0, ge=0, description="another seed draws other pairs")
    group_share: float = Field(default=0.05, gt=0, le=1, description="largest share of a block that one group may fill")
    document_gap: int = Field(
        default=64, ge=1, description="characters between two pairs of one document, where two must stand in a block"
    )
