"""What is served, as one value: the same makes a process on a laptop and each replica on a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from pydantic import Field

from cpt_ray.memory import uncollected
from cpt_ray.model.options import Device, Inference
from cpt_ray.options import Options
from cpt_ray.serve.indexes import Index
from cpt_ray.serve.options import HttpOptions

if TYPE_CHECKING:
    from starlette.applications import Starlette

    from cpt_ray.model.embedder import Embedder
    from cpt_ray.serve.metrics import Metrics


class Served(Options):
    """A model's folder, the folder of an index that it made or None, and how both answer."""

    trained: str
    index: str | None = None
    name: str
    device: Device = "auto"
    precision: Inference = "auto"
    http: HttpOptions = Field(default_factory=HttpOptions)


def open_index(at: str, trained: str, device: Device, precision: Inference) -> tuple[Index, Embedder]:
    """The index and the model that made it. UserError where another one did."""
    with uncollected():  # seconds, so only when it is known what is to be opened
        from cpt_ray.model.embedder import Embedder

        return opener(trained)(at), Embedder(trained, device=device, precision=precision)


def opener(trained: str) -> Callable[[str], Index]:
    """What opens the index at a place. UserError where another model than that of the folder `trained` made it."""
    from cpt_ray.model.weights import weights_identity
    from cpt_ray.serve.index import read_index

    model = weights_identity(trained)

    def opened(at: str) -> Index:
        index = read_index(at)
        index.check_model(model, f"trained={trained}")
        return index

    return opened


def application(served: Served, metrics: Metrics | None = None) -> Starlette:
    """The endpoint, with the model loaded; the index is followed, and what is counted is counted in `metrics`."""
    from cpt_ray.model.embedder import Embedder
    from cpt_ray.serve.following import Following
    from cpt_ray.serve.http import make_app

    index = None if served.index is None else Following(served.index, opener(served.trained))
    embedder = Embedder(served.trained, device=served.device, precision=served.precision)
    return make_app(embedder, index, served.http, name=served.name, metrics=metrics)
