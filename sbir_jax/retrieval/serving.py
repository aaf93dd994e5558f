"""Running the server: the socket, the process, and what the console says."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Callable

import uvicorn

from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.app import Server
from sbir_jax.retrieval.encoders import Encoders
from sbir_jax.retrieval.requests import Limits
from sbir_jax.retrieval.store import Store

_CONNECTIONS = 128  # open at a time; each may hold a body of `Limits.body_bytes`


def run(
    index: Store,
    encoders: Encoders,
    *,
    host: str,
    port: int,
    line: float,
    rate: float,
    method: str,
) -> None:
    """Serves an index until it is stopped.

    Raises:
      RetrievalError: the address cannot be listened on.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        raise RetrievalError(f"--host={host} --port={port}: {error.strerror or error}") from error
    hosts = ("localhost", "127.0.0.1", "[::1]") if _is_loopback(host) else ()
    server = Server(
        index, encoders, limits=Limits(rate=rate), hosts=hosts, line=line, method=method
    )
    print(f"{index.name}: {len(index):,} photos, {encoders}", flush=True)
    print(f"compiling; then open http://{f'[{host}]' if ':' in host else host}:{port}", flush=True)
    # Stopped by Ctrl-C, uvicorn finishes what is asked, and then raises it.
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config_of(server.app)).run(sockets=[listening])


def config_of(app: Callable) -> uvicorn.Config:
    """How uvicorn runs the application: quietly, and with few connections at a time."""
    return uvicorn.Config(
        app,
        log_config=None,  # warnings and errors go to stderr
        log_level="warning",
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="on",
        ws="none",
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=5,
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
