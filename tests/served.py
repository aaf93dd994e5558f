"""A small index and its encoders, as the server uses them, and the server in a thread."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from data_prep_trees import photo, save
from tiny import small_backbone

from sbir_jax import Index, load_encoders
from sbir_jax.retrieval.engine import BATCHES, one_device


def make_index(workdir: Path, folder: Path, photos: int = 30):
    """(index, encoders) of some photos, in the sub-directories a, b and c."""
    for i in range(photos):
        save(photo(i, size=(36, 36)), folder / f"photos/{'abc'[i % 3]}/{i:02}.png")
    with small_backbone():
        encoders = load_encoders(workdir, mesh=one_device(), batches=BATCHES)
        return Index.build(folder / "photos", encoders, folder / "index"), encoders


@contextlib.contextmanager
def listening(index, encoders) -> Iterator[str]:
    """The address, on loopback, of a server in a thread."""
    import uvicorn  # here: an extra

    from sbir_jax.retrieval.app import Server
    from sbir_jax.retrieval.requests import Limits
    from sbir_jax.retrieval.serving import config_of

    app = Server(index, encoders, limits=Limits(rate=0), hosts=("127.0.0.1",)).app
    server = uvicorn.Server(config_of(app))
    port = socket.socket()
    port.bind(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [port]})
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{port.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
