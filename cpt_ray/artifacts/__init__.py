"""A versioned, published directory: manifest, ledger, fingerprint, resume."""

from cpt_ray.artifacts.examples import Sampler
from cpt_ray.artifacts.flow import Wanted, check_flow, run_flow
from cpt_ray.artifacts.ledger import Count, Ledger, LedgerError
from cpt_ray.artifacts.manifest import Manifest, fingerprint
from cpt_ray.artifacts.shards import run_shards
from cpt_ray.artifacts.stage import Needs, Stage
from cpt_ray.artifacts.store import Work, build, parts, read_manifest, read_table

__all__ = [
    "Count",
    "Ledger",
    "LedgerError",
    "Manifest",
    "Needs",
    "Sampler",
    "Stage",
    "Wanted",
    "Work",
    "build",
    "check_flow",
    "fingerprint",
    "parts",
    "read_manifest",
    "read_table",
    "run_flow",
    "run_shards",
]
