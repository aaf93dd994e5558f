"""Files become queries, queries find photos, and what was found becomes a picture."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sbir_jax.data.images import BadImage, Modality, to_square
from sbir_jax.data.strokes import read_quickdraw
from sbir_jax.report.grids import retrieval_grid
from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.encoders import Encoders, load_encoders
from sbir_jax.retrieval.index import Match
from sbir_jax.retrieval.search import recall
from sbir_jax.retrieval.store import Store

_TILE = 128


def encoders_of(index: Store, workdir: str | Path = "", **options: Any) -> Encoders:
    """The encoders that an index was made with.

    Args:
      index: the index.
      workdir: where the run is now, if it was moved.
      options: of `load_encoders`.

    Raises:
      RetrievalError: the run is gone, or its checkpoint is another one by now.
    """
    source = index.manifest["source"]
    workdir = Path(workdir or source["workdir"])
    if not workdir.is_dir():
        raise RetrievalError(
            f"{index.name}: its run {workdir} is not there; --workdir=DIR says where it is now"
        )
    # By its step: the best checkpoint may have changed since.
    untrained = source["checkpoint"] in ("none", "pretrained")
    checkpoint = source["checkpoint"] if untrained else str(source["step"])
    encoders = load_encoders(workdir, checkpoint=checkpoint, **options)
    index.check(encoders)
    return encoders


def named_queries(
    files: Sequence[str], encoders: Encoders, side: Modality
) -> tuple[list[str], list[np.ndarray]]:
    """Names and squares of query files; a `.ndjson` file has a drawing in each line.

    Raises:
      RetrievalError: one cannot be read; names it.
    """
    names, squares = [], []
    for file in files:
        if Path(file).suffix.lower() != ".ndjson" or side != "sketch":
            names.append(file)
            squares.append(encoders.square(file, side))
            continue
        for number, line in enumerate(Path(file).read_bytes().splitlines(), 1):
            try:
                squares.append(encoders.square(read_quickdraw(line), side))
            except BadImage as error:
                raise RetrievalError(f"{file}: line {number}: {error}") from error
            names.append(f"{file}:{number}")
    if not names:
        raise RetrievalError(f"{files[0]}: no drawings in it")
    return names, squares


def find(
    index: Store, queries: np.ndarray, top: int, *, method: str, label: str = ""
) -> tuple[list[list[Match]], float | None]:
    """What `Index.search` finds and, where that is not exact, its recall against exact search."""
    found = index.search(queries, top, method=method, label=label)
    if method == "exact":
        return found, None
    exact = index.search(queries, top, label=label)
    rows = ([match.row for match in matches] for one in (found, exact) for matches in one)
    width = max(map(len, (*found, *exact)), default=0)
    rows = [own + [-1] * (width - len(own)) for own in rows]
    return found, recall(np.array(rows[: len(found)]), np.array(rows[len(found) :]))


def picture(
    index: Store,
    names: Sequence[str],
    squares: Sequence[np.ndarray],
    found: Sequence[Sequence[Match]],
    side: Modality,
) -> Image.Image:
    """A row for each of the queries that `found` holds results of, and their thumbnails."""
    shown = len(found)
    tiles = np.stack(
        [[_thumbnail(index.thumbnail(match.item.id)) for match in matches] for matches in found]
    )
    return retrieval_grid(
        [square[..., 0] if square.shape[-1] == 1 else square for square in squares[:shown]],
        tiles,
        None,
        query_names=[Path(name).name for name in names[:shown]],
        result_names=[[Path(match.item.path).name for match in matches] for matches in found],
        heading=side,
        title=f"{Path(index.name).name}: nearest of {len(index):,} photos",
    )


def _thumbnail(data: bytes | None) -> np.ndarray:
    if data is None:
        return np.full((_TILE, _TILE, 3), 255, np.uint8)
    with Image.open(io.BytesIO(data)) as image:
        return to_square(np.asarray(image.convert("RGB")), _TILE, "pad")
