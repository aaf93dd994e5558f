"""Where an index lives: a directory (`index.Index`) or a PostgreSQL database (`postgres.Table`).

Search, the page and the command line use what both have in common, and nothing else.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sbir_jax.retrieval.index import METHODS, TABLE_METHODS, Index, Match
from sbir_jax.retrieval.items import Item

if TYPE_CHECKING:
    from sbir_jax.retrieval.encoders import Encoders

_SCHEMES = ("postgresql://", "postgres://")


class Store(Protocol):
    """An index that can be searched.

    Attributes:
      manifest: as in `manifest.json`.
    """

    manifest: dict[str, Any]

    @property
    def name(self) -> str:
        """How messages call it; holds no password."""

    @property
    def methods(self) -> tuple[str, ...]:
        """Ways to search, the exact one first."""

    def __len__(self) -> int:
        """Photos."""

    def check(self, encoders: Encoders) -> None:
        """Raises RetrievalError if the vectors are of other encoders."""

    def search(
        self, queries: np.ndarray, top: int = 20, *, method: str = "exact", label: str = ""
    ) -> list[list[Match]]:
        """The `top` nearest photos of float32 [q, D], as `Index.search` describes."""

    def item(self, id: str) -> Item | None:
        """The photo of that content, the first of equal ones."""

    def vector(self, id: str) -> np.ndarray | None:
        """Its vector, float32 [D]."""

    def thumbnail(self, id: str) -> bytes | None:
        """Its small JPEG."""


def is_database(address: str | Path) -> bool:
    """Whether an index there is in PostgreSQL, and not a directory."""
    return str(address).startswith(_SCHEMES)


def methods_of(address: str | Path) -> tuple[str, ...]:
    """How an index there can be searched, without opening it."""
    return TABLE_METHODS if is_database(address) else METHODS


def open_store(address: str | Path, name: str = "photos") -> Store:
    """Opens a directory, or the index `name` of a database.

    Raises:
      RetrievalError: there is none, or the database cannot be reached.
    """
    if is_database(address):
        from sbir_jax.retrieval.postgres import Table

        return Table.open(str(address), name)
    return Index.open(address)
