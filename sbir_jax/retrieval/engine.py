"""Queries of many clients answered together: embedded and searched in batches of fixed sizes.

One thread does all work on the device. What arrives while it is busy waits and goes together, so
that load makes batches larger and nothing is compiled after the start.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import jax
import numpy as np

from sbir_jax import sharding
from sbir_jax.retrieval.encoders import Encoders
from sbir_jax.retrieval.index import Match
from sbir_jax.retrieval.store import Store

BATCHES = (1, 8)  # queries; each is compiled for


@dataclasses.dataclass(frozen=True, eq=False)
class Query:
    """One query: a square of a side, uint8 [S, S, C], or the vector of a photo, float32 [D]."""

    side: Literal["sketch", "photo", "vector"]
    value: np.ndarray


class Engine:
    """Answers queries on one index; `start` it in the event loop that asks.

    Args:
      index: of the photos.
      encoders: those of the index, with `BATCHES` on `one_device`.
      top: photos that are found of each query.
      method: of `Index.search`.

    Attributes:
      batches, queries: done so far.
    """

    def __init__(self, index: Store, encoders: Encoders, *, top: int, method: str = "exact"):
        index.check(encoders)
        self.index, self.encoders = index, encoders
        self.top, self.method = min(top, len(index)), method
        self.batches = self.queries = 0
        self._queue: asyncio.Queue[tuple[Query, asyncio.Future]] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="device")
        self._worker: asyncio.Task | None = None

    @property
    def waiting(self) -> int:
        """Queries that have not been begun."""
        return self._queue.qsize()

    async def start(self) -> None:
        """Loads the vectors, compiles everything, and begins to answer."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._warm)
        self._worker = asyncio.create_task(self._work())

    async def stop(self) -> None:
        """Ends the worker; queries that wait are cancelled."""
        if self._worker is not None:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        while not self._queue.empty():
            self._queue.get_nowait()[1].cancel()
        self._thread.shutdown()

    async def answer(self, query: Query) -> list[Match]:
        """The photos nearest to a query, best first."""
        answer = asyncio.get_running_loop().create_future()
        self._queue.put_nowait((query, answer))
        return await answer

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            jobs = [await self._queue.get()]
            while len(jobs) < BATCHES[-1] and not self._queue.empty():
                jobs.append(self._queue.get_nowait())
            jobs = [job for job in jobs if not job[1].done()]  # the client may have gone
            if not jobs:
                continue
            try:
                queries = [query for query, _ in jobs]
                found = await loop.run_in_executor(self._thread, self._answer, queries)
            except Exception as error:  # a bug, or a device that is lost: those who wait hear of it
                found = [error] * len(jobs)
            for (_, answer), matches in zip(jobs, found, strict=True):
                if answer.done():
                    continue
                if isinstance(matches, Exception):
                    answer.set_exception(matches)
                else:
                    answer.set_result(matches)
            self.batches += 1
            self.queries += len(jobs)

    def _answer(self, queries: Sequence[Query]) -> list[list[Match]]:
        vectors = np.stack([np.zeros(self.encoders.dim, np.float32)] * len(queries))
        for side in {query.side for query in queries}:
            rows = [row for row, query in enumerate(queries) if query.side == side]
            values = [queries[row].value for row in rows]
            vectors[rows] = values if side == "vector" else self.encoders.embed(values, side)
        return self.index.search(vectors, self.top, method=self.method)

    def _warm(self) -> None:
        self.encoders.warm()
        for rows in BATCHES:
            vector = np.eye(1, self.encoders.dim, dtype=np.float32)[0]
            self._answer([Query("vector", vector)] * rows)


def one_device() -> jax.sharding.Mesh:
    """The first device: a drawing is no work to be split."""
    return sharding.make_mesh(jax.local_devices()[:1])
