"""`cpt-ray serve`: a model and its index, over HTTP."""

from __future__ import annotations

from .cli import script

if __name__ == "__main__":
    script("serve")  # ends here, before the imports below, which may take seconds

import os
from pathlib import Path

import yaml

from cpt_ray.artifacts.places import make_room
from cpt_ray.cluster import check_room, connect
from cpt_ray.errors import UserError
from cpt_ray.serve.listen import bound, listen
from cpt_ray.serve.served import Served, application, opener

from . import reads
from .options.serve import PipelineOptions
from .search import index_at
from .summary import console, shown


def run(options: PipelineOptions) -> None:
    """Serve until interrupted, here or by replicas of Ray Serve; or write down what `serve deploy` takes."""
    served = what(options)
    if not options.replicas and options.config is None:
        listen(application(served), served.http.host, served.http.port)
        return
    if not served.http.port:
        raise UserError("replicas answer at a port that is known", where="http.port=0", fix="give it a number")
    try:
        from cpt_ray.serve import replicas
    except ImportError as error:
        raise UserError(
            f"Ray Serve is not installed: {error}", where="replicas", fix="pip install 'cpt-ray[serve]'"
        ) from error
    several = replicas.Replicas(
        served=served, replicas=max(options.replicas, 1), cpus=options.cluster.threads, gpus=float(options.cluster.gpu)
    )
    if options.config is not None:
        make_room(options.config, "config")
        Path(options.config).write_text(yaml.safe_dump(replicas.config(several), sort_keys=False))
        console().print(shown(os.path.abspath(options.config)), highlight=False, soft_wrap=True)
        return
    if served.index is not None:
        opener(served.trained)(served.index)  # a replica could not say what is wrong with it
    here = options.cluster.address is None
    if here:
        bound(served.http.host, served.http.port).close()
    with connect(options.cluster) as has:
        said = f"{several.replicas} replicas of {several.cpus:g} CPUs" + (" and a GPU" if several.gpus else "")
        asked = {"cpus": several.replicas * several.cpus, "gpus": several.replicas * several.gpus}
        check_room(said, has, **asked, here=here, where="replicas")
        replicas.run(several)


def what(options: PipelineOptions) -> Served:
    """The model and the index that are meant, by whole paths: replicas have working directories of their own."""
    trained = options.trained or os.path.join(options.folder, "code_model")
    reads.check("trained", "trained", trained)
    index = None
    if options.index is not None:
        index = os.path.abspath(index_at(options.folder, None if options.index == "auto" else options.index))
    return Served(
        trained=os.path.abspath(trained),
        index=index,
        name=options.name or os.path.basename(os.path.abspath(trained)),
        device=options.device,
        precision=options.precision,
        http=options.http,
    )
