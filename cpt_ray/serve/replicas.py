"""The endpoint on Ray Serve: several replicas of one application behind its proxy, here or by a config for `serve deploy`.

A replica runs the same ASGI application as a process on a laptop does (serve/served.py), with a queue and counts of its
own. Ray Serve picks the replica, drains one that is to go, and starts another for one that died; a request that is in a
replica when it dies is a 5xx.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import ray
from ray import serve
from ray.serve import metrics as serve_metrics
from ray.serve.schema import LoggingConfig

from cpt_ray.cluster import gpus
from cpt_ray.compat.ray import cannot_listen
from cpt_ray.errors import UserError
from cpt_ray.options import Options
from cpt_ray.serve.listen import DRAIN_SECONDS, taken
from cpt_ray.serve.metrics import SECONDS, Metrics
from cpt_ray.serve.served import Served
from cpt_ray.serve.served import application as endpoint

if TYPE_CHECKING:
    from starlette.applications import Starlette

log = logging.getLogger("cpt_ray")

NAME = "cpt-ray"
TOLD = {
    "texts": "Texts embedded",
    "tokens": "Tokens read by the model",
    "texts_cut": "Texts longer than the model takes",
}
"""Counts of `Metrics.embedded`, in its order."""


class Replicas(Options):
    """What the application is built of; the `args` of a config."""

    served: Served
    replicas: int = 1
    cpus: float = 1.0
    gpus: float = 0.0


class Watched(Metrics):
    """The counts of a replica, told to Ray's metrics too, which a scraper of the cluster's nodes reads by replica."""

    def __init__(self) -> None:
        super().__init__()
        self._told = {name: serve_metrics.Counter(f"cpt_ray_{name}", said) for name, said in TOLD.items()}
        self._by_route = serve_metrics.Counter("cpt_ray_requests", "Requests answered", tag_keys=("route", "status"))  # type: ignore[arg-type]
        self._took = serve_metrics.Histogram(
            "cpt_ray_request_seconds",
            "From the first byte to the answer",
            boundaries=list(SECONDS),
            tag_keys=("route",),
        )
        self._batch_took = serve_metrics.Histogram(
            "cpt_ray_batch_seconds", "Seconds of a batch", boundaries=list(SECONDS)
        )
        self._queue = serve_metrics.Gauge("cpt_ray_waiting_requests", "Requests that wait for the model or run")
        self._length: Callable[[], int] = int

    def answered(self, route: str, status: int, seconds: float) -> None:
        super().answered(route, status, seconds)
        self._by_route.inc(1, {"route": route, "status": str(status)})
        self._took.observe(seconds, {"route": route})
        self._queue.set(self._length())

    def embedded(self, texts: int, tokens: int, cut: int) -> None:
        super().embedded(texts, tokens, cut)
        for name, amount in zip(TOLD, (texts, tokens, cut), strict=True):
            if amount:
                self._told[name].inc(amount)

    def ran(self, tokens: int, seconds: float) -> None:
        super().ran(tokens, seconds)
        self._batch_took.observe(seconds)
        self._queue.set(self._length())

    def watch(self, waiting: Callable[[], int]) -> None:
        super().watch(waiting)
        self._length = waiting


@serve.ingress()
class Model:
    """A replica."""

    def __init__(self, served: dict[str, Any]) -> None:
        self._served = Served.model_validate(served)

    def __serve_build_asgi_app__(self) -> Starlette:
        return endpoint(self._served, Watched())


def application(args: Replicas | dict[str, Any]) -> serve.Application:
    """What `import_path` of a config names. Ray Serve gives it the config's dictionary: it makes a model of that only where
    the parameter's annotation is a class, and not a string as in a module that postpones them."""
    args = Replicas.model_validate(args)
    return serve.deployment(name="Model", **settings(args))(Model).bind(args.served.model_dump(mode="json"))


def settings(args: Replicas) -> dict[str, Any]:
    """Of the deployment. A replica takes more at once than its own queue holds, so that what is too much is refused by it,
    with 429 and how long to wait; and Ray Serve writes down no addresses, which hold queries."""
    return {
        "num_replicas": args.replicas,
        "max_ongoing_requests": 2 * args.served.http.max_waiting,
        "graceful_shutdown_timeout_s": DRAIN_SECONDS,
        "graceful_shutdown_wait_loop_s": 0.2,
        "health_check_period_s": 2,
        "ray_actor_options": {"num_cpus": args.cpus, "num_gpus": args.gpus},
        "logging_config": {"enable_access_log": False},
    }


def config(args: Replicas) -> dict[str, Any]:
    """What `serve deploy` takes: the application by its import path, and where it listens on every node."""
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": args.served.http.host, "port": args.served.http.port},
        "logging_config": {"enable_access_log": False},
        "applications": [
            {
                "name": NAME,
                "route_prefix": "/",
                "import_path": f"{__name__}:application",
                "args": args.model_dump(mode="json"),
                "deployments": [{"name": "Model", **settings(args)}],
            }
        ],
    }


def start(args: Replicas) -> None:
    """Have the application run on the Ray session of this process; ready when it returns. UserError for an address that a
    node does not give."""
    if args.served.device != "cpu" and not args.gpus:
        args = args.model_copy(update={"gpus": min(gpus(), 1.0)})
    http = {"host": args.served.http.host, "port": args.served.http.port}
    quiet = LoggingConfig(enable_access_log=False)
    try:
        serve.start(proxy_location="EveryNode", http_options=http, logging_config=quiet)
    except Exception as error:
        if not cannot_listen(error):
            raise
        raise taken(args.served.http.host, args.served.http.port) from error
    target = serve.RunTarget(application(args), name=NAME, route_prefix="/", logging_config=quiet)
    serve.run_many([target], wait_for_applications_running=False)
    while not running():
        time.sleep(0.1)


def running() -> bool:
    """Whether all replicas are ready. UserError where Ray Serve makes no more of them: `serve.run` would give up where one
    has died while others were being made, too, which is then replaced."""
    state = serve.status().applications[NAME]
    made = [model for model in state.deployments.values() if model.replica_states.keys() - {"STOPPING"}]
    if state.status == "DEPLOY_FAILED" and not made:
        said = [model.message for model in state.deployments.values()] or [state.message]
        raise UserError(
            f"no replica starts: {said[0].strip()[-1000:]}",
            where=NAME,
            fix="replicas=0 starts one process here: it says more",
        )
    return bool(state.status == "RUNNING")


def run(args: Replicas) -> None:
    """Serve until interrupted; then the replicas answer what they have, and are gone."""
    start(args)
    at = args.served.http
    log.info("%d replicas behind http://%s:%d", args.replicas, at.host, at.port)
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        serve.delete(NAME)
        if ray.is_initialized():
            serve.shutdown()
    log.info("stopped; every request that was under way is answered")
