"""`cpt-ray serve`: a model and its index, over HTTP."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("serve")  # ends here, before the imports below, which may take seconds

import os

from cpt_ray.serve.http import make_app
from cpt_ray.serve.listen import listen

from . import reads
from .options.serve import PipelineOptions
from .search import open_index


def run(options: PipelineOptions) -> None:
    """Serve until interrupted."""
    trained = options.trained or os.path.join(options.folder, "code_model")
    if options.index is None:
        reads.check("trained", "trained", trained)
        from cpt_ray.model.embedder import Embedder

        index, embedder = None, Embedder(trained, device=options.device, precision=options.precision)
    else:
        at = None if options.index == "auto" else options.index
        index, embedder = open_index(options.folder, at, trained, options.device, options.precision)
    name = options.name or os.path.basename(os.path.abspath(trained))
    listen(make_app(embedder, index, options.http, name=name), options.http.host, options.http.port)
