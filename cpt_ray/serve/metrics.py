"""What a scraper of Prometheus reads at `/metrics`: counts, seconds and the length of the queue; never a text."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
TOKENS = (16, 64, 256, 1024, 2048, 4096, 8192, 16384, 32768)
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Of one application; a registry of its own, so that several can live in a process."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self._requests = Counter("cpt_ray_requests", "Requests answered", ["route", "status"], registry=own)
        self._seconds = Histogram(
            "cpt_ray_request_seconds", "From the first byte to the answer", ["route"], buckets=SECONDS, registry=own
        )
        self._texts = Counter("cpt_ray_texts", "Texts embedded", registry=own)
        self._tokens = Counter("cpt_ray_tokens", "Tokens read by the model", registry=own)
        self._cut = Counter("cpt_ray_texts_cut", "Texts longer than the model takes", registry=own)
        self._batch_tokens = Histogram("cpt_ray_batch_tokens", "Tokens of a batch", buckets=TOKENS, registry=own)
        self._batch_seconds = Histogram("cpt_ray_batch_seconds", "Seconds of a batch", buckets=SECONDS, registry=own)
        self._waiting = Gauge("cpt_ray_waiting_requests", "Requests that wait for the model or run", registry=own)

    def answered(self, route: str, status: int, seconds: float) -> None:
        """A request to `route` (the pattern, never the address that was asked for)."""
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def embedded(self, texts: int, tokens: int, cut: int) -> None:
        self._texts.inc(texts)
        self._tokens.inc(tokens)
        self._cut.inc(cut)

    def ran(self, tokens: int, seconds: float) -> None:
        """A batch."""
        self._batch_tokens.observe(tokens)
        self._batch_seconds.observe(seconds)

    def watch(self, waiting: Callable[[], int]) -> None:
        """Where the length of the queue is read."""
        self._waiting.set_function(waiting)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self._registry)
