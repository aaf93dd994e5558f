"""Photos that are embedded already: those of an index, and what an unfinished run has written."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.encoders import Identity
from sbir_jax.retrieval.index import Index
from sbir_jax.retrieval.items import Item, item_lines, read_items
from sbir_jax.workdir import write_json


class File(NamedTuple):
    """A file that may be an image, and what tells that it has changed (see `Item`)."""

    root: str
    path: str
    size: int
    modified: int


class Known:
    """Vectors by content and items by file.

    Attributes:
      rows: id to float16 [D]; those of an index stay on disk.
      items: by file.
    """

    def __init__(self, index: Index | None, parts: Parts | None = None):
        self.rows: dict[str, np.ndarray] = {}
        self.items: dict[File, Item] = {}
        for source in (index, parts):
            if source is not None:
                self.add(source.items, source.vectors)

    def add(self, items: Sequence[Item], vectors: Iterable[np.ndarray]) -> None:
        for item, vector in zip(items, vectors, strict=True):
            self.rows[item.id] = vector
            self.items[File(item.root, item.path, item.size, item.modified)] = item


class Parts:
    """What an unfinished run has embedded: pairs of `N.npy` and `N.jsonl` in a directory."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.items: list[Item] = []
        self.vectors: list[np.ndarray] = []
        self._count = 0

    @classmethod
    def open(cls, folder: Path, identity: Identity) -> Parts:
        """What is there, if it is of these encoders; otherwise it starts anew.

        Raises:
          RetrievalError: the directory cannot be made or written to.
        """
        parts, identity = cls(folder), dataclasses.asdict(identity)
        try:
            if json.loads((folder / "encoders.json").read_text()) == identity:
                # An item file is renamed last, so that a pair with one is whole.
                while (folder / f"{parts._count}.jsonl").exists():
                    parts._read()
                return parts
        except (OSError, EOFError, ValueError, TypeError):
            parts = cls(folder)  # absent or damaged: it costs time only
        shutil.rmtree(folder, ignore_errors=True)
        try:
            folder.mkdir(parents=True)
            write_json(folder / "encoders.json", identity)
        except OSError as error:
            raise RetrievalError(f"{folder.parent}: cannot be written: {error.strerror}") from error
        return parts

    def add(self, items: Sequence[Item], vectors: np.ndarray) -> None:
        """Writes one more pair."""
        np.save(self.folder / f"{self._count}.npy", vectors, allow_pickle=False)
        scratch = self.folder / "items.partial"
        scratch.write_text("".join(item_lines(items)), encoding="utf-8")
        scratch.replace(self.folder / f"{self._count}.jsonl")
        self._count += 1

    def _read(self) -> None:
        items = read_items(self.folder / f"{self._count}.jsonl")
        vectors = np.load(self.folder / f"{self._count}.npy", allow_pickle=False)
        if len(items) != len(vectors):
            raise ValueError("a part whose vectors are not those of its items")
        self.items += items
        self.vectors += list(vectors)
        self._count += 1
