"""The server: a page to draw on, and the interface behind it (extra `serve`).

It serves what it was started with: no name from a client ever reaches the file system, photos are
found by the hash of their content among those of the index.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from sbir_jax import __version__
from sbir_jax.data.images import MODALITIES, Modality
from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.encoders import Encoders
from sbir_jax.retrieval.engine import Engine, Query
from sbir_jax.retrieval.guard import Counts, Guard, Rate
from sbir_jax.retrieval.index import Match
from sbir_jax.retrieval.openapi import IMAGES, description
from sbir_jax.retrieval.requests import (
    LINE,
    Limits,
    RequestError,
    checked_top,
    read_drawing,
    read_picture,
)
from sbir_jax.retrieval.store import Store

PAGE = Path(__file__).parent / "page"
_READERS = 4  # drawings and images that are read at a time
_DAY = "private, max-age=86400, immutable"  # a thumbnail's address is its content


class Server:
    """The routes of one index; `app` is the ASGI application."""

    def __init__(
        self,
        index: Store,
        encoders: Encoders,
        *,
        limits: Limits,
        hosts: Collection[str],
        line: float = LINE,
        method: str = "exact",
    ):
        self.index, self.limits, self.line = index, limits, line
        self.engine = Engine(index, encoders, top=limits.top, method=method)
        self.counts, self.rate = Counts(), Rate(limits.rate)
        self.description = description(limits)
        self._inside = 0
        self._readers = asyncio.Semaphore(_READERS)
        routes = [
            Route("/", self._file("index.html", "text/html")),
            Route("/page.css", self._file("page.css", "text/css")),
            Route("/page.js", self._file("page.js", "text/javascript")),
            Route("/api/search", self.search, methods=["POST"]),
            Route("/api/photos/{id}/similar", self.similar),
            Route("/api/photos/{id}/thumbnail", self.thumbnail),
            Route("/api/health", self.health),
            Route("/api/metrics", self.metrics),
            Route("/api/openapi.json", self.openapi),
        ]
        handlers: dict[Any, Any] = {
            RequestError: _refused,
            RetrievalError: _unanswered,
            HTTPException: _http_error,
        }
        self.app = Starlette(
            routes=routes,
            middleware=[Middleware(Guard, counts=self.counts, hosts=hosts)],
            exception_handlers=handlers,
            lifespan=self._lifespan,
        )

    async def search(self, request: Request) -> Response:
        """Photos nearest to a drawing (JSON) or to an image."""
        started = time.perf_counter()
        self._check_rate(request)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json" and kind not in IMAGES:
            valid = ", ".join(("application/json", *IMAGES))
            raise RequestError(415, f"content-type: expected one of {valid}")
        body = await self._body(request)  # whoever sends slowly keeps no place from others
        with self._admitted():
            async with self._readers:
                read = self._drawn if kind == "application/json" else self._pictured
                query, top = await run_in_threadpool(read, body, request)
            return self._found(await self.engine.answer(query), top, started)

    async def similar(self, request: Request) -> Response:
        """Photos nearest to a photo of the index."""
        started = time.perf_counter()
        self._check_rate(request)
        with self._admitted():
            top = checked_top(request.query_params.get("top", "20"), self.limits)
            vector = await run_in_threadpool(self.index.vector, request.path_params["id"])
            if vector is None:
                raise RequestError(404, "no such photo in the index")
            return self._found(await self.engine.answer(Query("vector", vector)), top, started)

    async def thumbnail(self, request: Request) -> Response:
        """The small JPEG of a photo."""
        picture = await run_in_threadpool(self.index.thumbnail, request.path_params["id"])
        if picture is None:
            raise RequestError(404, "no such photo in the index, or its thumbnail is gone")
        return Response(picture, media_type="image/jpeg", headers={"cache-control": _DAY})

    async def health(self, _request: Request) -> Response:
        """What is served; it answers once everything is compiled."""
        return _json(
            {
                "status": "ready",
                "photos": len(self.index),
                "dim": self.engine.encoders.dim,
                "line": self.line,
                "version": __version__,
            }
        )

    async def metrics(self, _request: Request) -> Response:
        """Counters in the text format of Prometheus."""
        lines = [
            *self.counts.lines(),
            "# TYPE sbir_queries_waiting gauge",
            f"sbir_queries_waiting {self.engine.waiting}",
            "# TYPE sbir_batches_total counter",
            f"sbir_batches_total {self.engine.batches}",
            "# TYPE sbir_queries_total counter",
            f"sbir_queries_total {self.engine.queries}",
        ]
        return PlainTextResponse("\n".join(lines) + "\n", media_type="text/plain; version=0.0.4")

    async def openapi(self, _request: Request) -> Response:
        """This interface, described."""
        return _json(self.description)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        await self.engine.start()
        yield
        await self.engine.stop()

    def _check_rate(self, request: Request) -> None:
        if not self.rate.allows(request.client.host if request.client else ""):
            raise RequestError(429, f"more than {self.limits.rate:g} queries a second")

    @contextlib.contextmanager
    def _admitted(self) -> Iterator[None]:
        """One of the queries that may be inside at a time."""
        if self._inside >= self.limits.waiting:
            raise RequestError(503, "too many queries are waiting; try again in a second")
        self._inside += 1
        try:
            yield
        finally:
            self._inside -= 1

    async def _body(self, request: Request) -> bytes:
        most = self.limits.body_bytes
        body = bytearray()
        try:
            async with asyncio.timeout(self.limits.body_seconds):
                async for chunk in request.stream():
                    body += chunk
                    if len(body) > most:
                        raise RequestError(413, f"a body of more than {most} bytes")
        except TimeoutError:
            raise RequestError(408, "the body did not come in time") from None
        except ClientDisconnect:
            raise RequestError(400, "the client has gone") from None
        return bytes(body)

    def _drawn(self, body: bytes, _request: Request) -> tuple[Query, int]:
        drawing = read_drawing(body, self.limits)
        return self._square(drawing.pixels(), "sketch"), drawing.top

    def _pictured(self, body: bytes, request: Request) -> tuple[Query, int]:
        side = request.query_params.get("as", "sketch")
        if side not in MODALITIES:
            raise RequestError(422, "as: expected sketch or photo")
        top = checked_top(request.query_params.get("top", "20"), self.limits)
        return self._square(read_picture(body, side, self.limits), side), top

    def _square(self, pixels: np.ndarray, side: Modality) -> Query:
        return Query(side, self.engine.encoders.square(pixels, side))

    def _found(self, matches: list[Match], top: int, started: float) -> Response:
        results = [
            {
                "id": match.item.id,
                "path": match.item.path.encode("utf-8", "replace").decode(),
                "similarity": match.similarity,
                "thumbnail": f"/api/photos/{match.item.id}/thumbnail",
            }
            for match in matches[:top]
        ]
        elapsed = 1000 * (time.perf_counter() - started)
        return _json({"results": results, "milliseconds": round(elapsed, 2)})

    @staticmethod
    def _file(name: str, media_type: str) -> Callable:
        content = (PAGE / name).read_bytes()

        async def page(_request: Request) -> Response:
            headers = {"cache-control": "no-cache"}
            return Response(content, media_type=media_type, headers=headers)

        return page


def _json(value: dict, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    own = {"cache-control": "no-store"} | (headers or {})
    return JSONResponse(value, status_code=status, headers=own)


async def _refused(_request: Request, error: RequestError) -> Response:
    retry = {"retry-after": "1"} if error.status in (429, 503) else {}
    return _json({"error": error.reason}, error.status, retry)


async def _unanswered(_request: Request, error: RetrievalError) -> Response:
    """The database is gone, say: its address is for the console, not for the client."""
    print(error, file=sys.stderr, flush=True)
    return _json({"error": "the index does not answer"}, 503, {"retry-after": "1"})


async def _http_error(_request: Request, error: HTTPException) -> Response:
    return _json({"error": error.detail}, error.status_code, dict(error.headers or {}))
