"""Texts of many requests share the model's batches: what waits when the model is free runs next, up to so many tokens.

Nobody waits for a batch to fill. Requests take turns text by text, so a short one that comes behind two thousand texts is
answered after a batch or two. Within a batch the model sorts by length. The queue is bounded by requests and by tokens; what
comes when it is full is turned away with the seconds after which, at the present pace, there is room again.
"""

from __future__ import annotations

import asyncio
import functools
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from cpt_ray.model.options import Side
from cpt_ray.serve.metrics import Metrics
from cpt_ray.serve.openai import Refused

Result = TypeVar("Result")
LONGEST_RETRY = 60
"""Seconds that a client is told to wait at most."""


class Model(Protocol):
    """What is served: model.embedder.Embedder."""

    @property
    def dimension(self) -> int: ...
    def limit(self, side: Side) -> int: ...
    def token_ids(self, texts: list[Any]) -> list[Sequence[int]]: ...
    def wrap(self, rows: list[Sequence[int]], side: Side) -> list[np.ndarray]: ...
    def embed_ids(self, sequences: list[np.ndarray]) -> np.ndarray: ...


@dataclass(frozen=True)
class Embedded:
    """`vectors` (n, D) float32 of the texts, `lengths` (n,) tokens of each whole text, and how many of them are read."""

    vectors: np.ndarray
    lengths: list[int]
    limit: int

    @property
    def tokens(self) -> int:
        """Those that the model has read, delimiters not counted."""
        return sum(min(length, self.limit) for length in self.lengths)

    @property
    def cut(self) -> list[int]:
        """Positions of the texts that are longer than the model takes."""
        return [at for at, length in enumerate(self.lengths) if length > self.limit]


@dataclass(eq=False)
class _Job:
    """The texts of one request: `next` is the first that no batch has taken, `left` are without a vector."""

    sequences: list[np.ndarray]
    vectors: np.ndarray
    done: asyncio.Future[None]
    next: int = 0
    left: int = 0


class Batcher:
    """One model, run in a thread of its own. `check` looks at the tokens of each text before they wait."""

    def __init__(
        self, model: Model, *, max_waiting: int, max_waiting_tokens: int, batch_tokens: int, metrics: Metrics
    ) -> None:
        self._model, self._metrics = model, metrics
        self._max_waiting, self._max_tokens, self._batch_tokens = max_waiting, max_waiting_tokens, batch_tokens
        self._jobs: deque[_Job] = deque()
        self._requests = self._tokenizing = self._tokens = 0
        self._pace = 0.0  # tokens per second, of late
        self._runner: asyncio.Task[None] | None = None
        # One thread each: a tokenizer is no more than the model made for several at once.
        self._model_thread = ThreadPoolExecutor(1, "model")
        self._text_thread = ThreadPoolExecutor(1, "tokenizer")

    async def embed(
        self, texts: Sequence[Any], side: Side, check: Callable[[Sequence[int]], None] | None = None
    ) -> Embedded:
        """Vectors of texts, or of token ids. Refused with 429 where too much waits; UserError for ids of no vocabulary.
        One who stops waiting (CancelledError) leaves the queue."""
        limit = self._model.limit(side)
        if self._requests >= self._max_waiting or self._tokens >= self._max_tokens:
            raise self._full()
        self._requests += 1
        waiting = 0
        try:
            self._tokenizing += 1
            try:
                sequences, lengths = await self._in(self._text_thread, lambda: self._tokenized(list(texts), side))
            finally:
                self._tokenizing -= 1
            if check is not None:
                check(lengths)
            waiting = sum(map(len, sequences))
            if self._tokens and self._tokens + waiting > self._max_tokens:
                waiting = 0
                raise self._full()
            self._tokens += waiting
            vectors = np.empty((len(sequences), self._model.dimension), np.float32)
            if sequences:
                job = _Job(sequences, vectors, asyncio.get_running_loop().create_future(), left=len(sequences))
                self._jobs.append(job)
                if self._runner is None:
                    self._runner = asyncio.create_task(self._run())
                await job.done
            answer = Embedded(vectors, lengths, limit)
            self._metrics.embedded(len(lengths), answer.tokens, len(answer.cut))
            return answer
        finally:
            self._requests -= 1
            self._tokens -= waiting

    def close(self) -> None:
        """No further batches."""
        for thread in (self._model_thread, self._text_thread):
            thread.shutdown(wait=False, cancel_futures=True)

    @property
    def waiting(self) -> int:
        """Requests that are not answered yet."""
        return self._requests

    @property
    def settled(self) -> bool:
        """Whether all of them are tokenized, and stand in the queue or run."""
        return self._tokenizing == 0

    def _full(self) -> Refused:
        seconds = math.ceil(self._tokens / self._pace) if self._pace else 1
        return Refused(
            429,
            "too many requests are waiting; try again",
            code="overloaded",
            retry=min(max(seconds, 1), LONGEST_RETRY),
        )

    def _tokenized(self, texts: list[Any], side: Side) -> tuple[list[np.ndarray], list[int]]:
        ids = self._model.token_ids(texts)
        return self._model.wrap(ids, side), [len(row) for row in ids]

    def _take(self) -> list[tuple[_Job, int]]:
        """The next batch: a text of each request in turn, until there are enough tokens."""
        taken: list[tuple[_Job, int]] = []
        tokens = 0
        while self._jobs and tokens < self._batch_tokens:
            job = self._jobs.popleft()
            if job.done.done():  # nobody waits for it any more, or a batch with texts of it has failed
                continue
            taken.append((job, job.next))
            tokens += len(job.sequences[job.next])
            job.next += 1
            if job.next < len(job.sequences):
                self._jobs.append(job)
        return taken

    async def _run(self) -> None:
        try:
            while batch := self._take():
                sequences = [job.sequences[at] for job, at in batch]
                started = time.perf_counter()
                try:
                    vectors = await self._in(self._model_thread, functools.partial(self._model.embed_ids, sequences))
                except Exception as error:  # noqa: BLE001 - it is the requests', who say what it was
                    for job, _ in batch:
                        if not job.done.done():
                            job.done.set_exception(error)
                    continue
                seconds, tokens = time.perf_counter() - started, sum(map(len, sequences))
                self._metrics.ran(tokens, seconds)
                self._pace += (tokens / max(seconds, 1e-6) - self._pace) * (0.1 if self._pace else 1.0)
                for (job, at), vector in zip(batch, vectors, strict=True):
                    job.vectors[at] = vector
                    job.left -= 1
                    if not job.left and not job.done.done():
                        job.done.set_result(None)
        finally:
            self._runner = None

    @staticmethod
    async def _in(thread: ThreadPoolExecutor, work: Callable[[], Result]) -> Result:
        return await asyncio.get_running_loop().run_in_executor(thread, work)
