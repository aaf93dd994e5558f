"""The photos of an index: what it knows of each, and how that is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple


class Item(NamedTuple):
    """One photo of an index.

    Attributes:
      id: of its content: the first 20 digits of the file's sha256. Equal files share it.
      root: the directory that was indexed.
      path: of the file below `root`, with `/`.
      size, modified: of the file, in bytes and in nanoseconds since 1970, to see that it changed.
    """

    id: str
    root: str
    path: str
    size: int
    modified: int

    @property
    def file(self) -> Path:
        """Where the photo is, or was when it was indexed."""
        return Path(self.root, self.path)


def thumbnail_file(folder: Path, id: str) -> Path:
    """Where the thumbnail of a content is; 256 directories, as one of a million files is slow."""
    return folder / "thumbnails" / id[:2] / f"{id}.jpg"


def content_of(items: Iterable[Item]) -> str:
    """sha256 over what the rows are, in order: it changes with every update."""
    return hashlib.sha256(
        "".join(f"{item.id} {item.path}\n" for item in items).encode()
    ).hexdigest()


def read_items(path: Path) -> list[Item]:
    """The items of an `items.jsonl`; damaged lines raise ValueError, TypeError or KeyError."""
    with path.open(encoding="utf-8") as lines:
        return [Item(**json.loads(line)) for line in lines]


def item_lines(items: Iterable[Item]) -> Iterator[str]:
    """Lines of an `items.jsonl`, ended."""
    for item in items:
        yield json.dumps(item._asdict()) + "\n"
