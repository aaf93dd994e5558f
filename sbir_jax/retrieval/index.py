"""An index of photos: what a search needs of them, in plain files that any tool can read.

| file | holds |
|---|---|
| `manifest.json` | the format, the encoders' identity, how many photos and dimensions, checksums |
| `vectors.npy` | float16 [n, D], each row of length 1 |
| `items.jsonl` | a line for each row: path, size, content |
| `thumbnails/` | a small JPEG of each photo, so that results can be shown without the originals |
| `bad.jsonl` | files that are not in the index, with the reason |
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sbir_jax.checksum import crc32_of
from sbir_jax.config import nearest
from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.items import Item, content_of, read_items, thumbnail_file

if TYPE_CHECKING:
    from sbir_jax.retrieval.approximate import Approximate
    from sbir_jax.retrieval.encoders import Encoders
    from sbir_jax.retrieval.search import Searcher

FORMAT = 1
NEXT = "next.json"  # the manifest of new files that are whole and not yet in their place
CHECKED = ("vectors.npy", "items.jsonl")  # files whose checksums the manifest holds
METHODS = ("exact", "int8", "binary", "faiss")
TABLE_METHODS = ("exact", "hnsw")  # of an index in PostgreSQL


class Match(NamedTuple):
    """One photo found: its cosine similarity to the query, in -1..1, and its row in the index."""

    similarity: float
    item: Item
    row: int


@dataclasses.dataclass(eq=False)
class Index:
    """An index on disk, from `Index.open` or `Index.build`.

    Attributes:
      folder: its directory.
      manifest: as stored.
      items: by row.
      vectors: float16 [n, D], mapped from disk.
    """

    folder: Path
    manifest: dict[str, Any]
    items: list[Item]
    vectors: np.ndarray
    _searchers: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False)

    methods = METHODS

    @property
    def name(self) -> str:
        """How messages call it."""
        return str(self.folder)

    @functools.cached_property
    def _rows(self) -> dict[str, int]:
        """Rows by content; of equal photos the first."""
        return {item.id: row for row, item in reversed(list(enumerate(self.items)))}

    @classmethod
    def open(cls, folder: str | Path) -> Index:
        """Opens an index.

        Raises:
          RetrievalError: there is none, it is damaged, or of a newer format.
        """
        folder = Path(folder)
        if not (folder / "manifest.json").is_file():
            raise RetrievalError(
                f"{folder}: no index there (no manifest.json); make one: python launch.py index "
                f"--workdir=RUN --photos=DIR --out={folder}"
            )
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            if manifest["format"] != FORMAT:
                raise RetrievalError(
                    f"{folder}: an index of format {manifest['format']}; this version reads "
                    f"format {FORMAT}"
                )
            items = read_items(folder / "items.jsonl")
            vectors = np.lib.format.open_memmap(folder / "vectors.npy", mode="r")
            expected = (manifest["photos"], manifest["dim"])
            if vectors.shape != expected or vectors.dtype != np.float16:
                raise ValueError(
                    f"vectors.npy is {vectors.dtype} {vectors.shape}, expected float16 {expected}"
                )
            if content_of(items) != manifest["content"]:
                raise ValueError("items.jsonl is not that of the manifest")
            for name, crc in manifest.get("crc32", {}).items():  # indices of 0.1 have none
                if name in CHECKED and checksum(folder / name) != crc:
                    raise ValueError(f"{name} is not what was written (checksum)")
        except RetrievalError:
            raise
        except Exception as error:  # json, KeyError, TypeError, OSError, NumPy's own
            if (folder / NEXT).exists():
                raise RetrievalError(
                    f"{folder}: an update of it was interrupted; the same command finishes it"
                ) from error
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise RetrievalError(
                f"{folder}: damaged ({reason}); move it away and index again"
            ) from error
        return cls(folder, manifest, items, vectors)

    @classmethod
    def build(cls, photos: str | Path, encoders: Encoders, out: str | Path) -> Index:
        """Indexes a directory of photos into `out`, or brings the index there up to date.

        Raises:
          RetrievalError: as `indexing.update` does.
        """
        from sbir_jax.retrieval.indexing import update

        update(photos, encoders, out)
        return cls.open(out)

    def __len__(self) -> int:
        return len(self.items)

    def check(self, encoders: Encoders) -> None:
        """Checks that vectors of these encoders can be compared with those of the index.

        Raises:
          RetrievalError: they are of other weights or preprocessing; names both.
        """
        check_encoders(self.name, self.manifest, encoders)

    def search(
        self, queries: np.ndarray, top: int = 20, *, method: str = "exact", label: str = ""
    ) -> list[list[Match]]:
        """The `top` most similar photos of each query, best first; of equals the lower row first.

        Args:
          queries: float32 [q, D], of the index's own encoders.
          top: from 1; at most all photos are found.
          method: exact; int8 or binary: found by small codes, then ranked by the whole vectors;
            faiss: approximate (`approximate.Approximate`).
          label: a directory has none to filter by; must be empty.

        Raises:
          RetrievalError: queries of another dimension, or an unknown method.
        """
        if label:
            raise RetrievalError(f"--label={label}: {self.name} has no labels; PostgreSQL has")
        rows, similarities = self.searcher(method).nearest(queries, top)
        return [
            [
                Match(float(score), self.items[row], int(row))
                for row, score in zip(own, scores, strict=True)
            ]
            for own, scores in zip(rows, similarities, strict=True)
        ]

    def searcher(self, method: str = "exact") -> Searcher | Approximate:
        """What ranks all photos; made when first asked for, as it loads the vectors."""
        one_method(method, METHODS)
        if method not in self._searchers:
            if method == "faiss":
                from sbir_jax.retrieval.approximate import Approximate

                self._searchers[method] = Approximate.of(self)
            else:
                from sbir_jax.retrieval.search import Searcher

                self._searchers[method] = Searcher(self.vectors, method)
        return self._searchers[method]

    def item(self, id: str) -> Item | None:
        """The photo of that content, the first of equal ones; None if there is none."""
        row = self._rows.get(id)
        return None if row is None else self.items[row]

    def vector(self, id: str) -> np.ndarray | None:
        """Its vector, float32 [D]."""
        row = self._rows.get(id)
        return None if row is None else np.asarray(self.vectors[row], np.float32)

    def thumbnail(self, id: str) -> bytes | None:
        """Its small JPEG."""
        if id not in self._rows:  # it may come from a client: no path is made of it
            return None
        file = thumbnail_file(self.folder, id)
        return file.read_bytes() if file.is_file() else None


def check_encoders(name: str, manifest: Mapping[str, Any], encoders: Encoders) -> None:
    """Checks that encoders are those of the index called `name`.

    Raises:
      RetrievalError: they are of other weights or preprocessing; names both.
    """
    if found := encoders.identity.differences(manifest["encoders"]):
        source = manifest["source"]
        raise RetrievalError(
            f"{name}: an index made with step {source['step']} of {source['workdir']} "
            f"({source['checkpoint']}); the encoders given are the {encoders}: "
            f"{'; '.join(found)}; index again into another --out, or name that checkpoint"
        )


def one_method(method: str, valid: Sequence[str]) -> None:
    """Raises RetrievalError unless the method is one of the valid ones."""
    if method not in valid:
        raise RetrievalError(f"method={method!r}: {nearest(method, valid)}")


def checksum(path: Path) -> int:
    """CRC of a file of an index, as the manifest holds it."""
    with path.open("rb") as file:
        return crc32_of(file, doing=f"checking {path.name}")
