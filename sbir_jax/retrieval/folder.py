"""The directory of an index as it changes: by one process at a time, and its files whole.

New files are written beside the old ones, `next.json` last. From then on they need only be moved,
and whoever changes the index next moves the rest, where that was interrupted.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sbir_jax import __version__
from sbir_jax.lock import take
from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.encoders import Encoders
from sbir_jax.retrieval.index import CHECKED, FORMAT, NEXT, Index, checksum
from sbir_jax.retrieval.items import Item, content_of, item_lines
from sbir_jax.retrieval.known import Known
from sbir_jax.workdir import write_json

_LOCK = "lock"
# What a first update that was interrupted may have left, before there is a manifest.
_OURS = {_LOCK, "partial", "thumbnails", *(f"{name}.partial" for name in (*CHECKED, NEXT))}


class Bad(NamedTuple):
    """A file that is not a photo."""

    path: str
    reason: str


def check_ours(out: Path) -> None:
    """Raises RetrievalError where `out` holds files and no index, ready or begun."""
    if (out / "manifest.json").exists() or (out / NEXT).exists() or not out.exists():
        return
    if not out.is_dir() or {path.name for path in out.iterdir()} - _OURS:
        raise RetrievalError(f"{out}: holds other files, not an index; choose another --out")


@contextlib.contextmanager
def alone(out: Path) -> Iterator[None]:
    """Makes the directory and holds it for the duration of the block; readers are not kept out.

    Raises:
      RetrievalError: it cannot be written, or another process holds it.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = (out / _LOCK).open("a")
    except OSError as error:
        raise RetrievalError(f"{out}: cannot be written: {error.strerror}") from error
    with lock:
        if not take(lock):
            raise RetrievalError(f"{out}: another process is changing this index; wait for it")
        yield


def opened(out: Path, encoders: Encoders) -> Index | None:
    """The index in `out`, if there is one already, which then is of these encoders."""
    if (out / NEXT).exists():
        _move_into_place(out)
    if not (out / "manifest.json").exists():
        return None
    index = Index.open(out)
    index.check(encoders)
    return index


def write(out: Path, items: Sequence[Item], known: Known, manifest: dict[str, Any]) -> None:
    """Replaces the files of an index: all of them are whole before the first is moved.

    Args:
      out: its directory.
      items: its photos, in any order.
      known: their vectors.
      manifest: what it says of the encoders.
    """
    items = sorted(items, key=lambda item: (item.root, item.path))
    shape = (len(items), manifest["dim"])
    scratch = out / "vectors.npy.partial"
    vectors = np.lib.format.open_memmap(scratch, "w+", np.float16, shape)
    for row, item in enumerate(items):
        vectors[row] = known.rows[item.id]
    vectors.flush()
    del vectors  # closes it
    with (out / "items.jsonl.partial").open("w", encoding="utf-8") as file:
        file.writelines(item_lines(items))
    own = {
        "photos": len(items),
        "content": content_of(items),
        "crc32": {name: checksum(out / f"{name}.partial") for name in CHECKED},
        "sbir_jax": __version__,
    }
    write_json(out / NEXT, {"format": FORMAT, **manifest, **own})
    _move_into_place(out)
    kept = {item.id for item in items}
    for thumbnail in (out / "thumbnails").glob("*/*.jpg"):
        if thumbnail.stem not in kept:
            thumbnail.unlink()


def write_bad(path: Path, bad: Sequence[Bad], root: Path) -> None:
    """Replaces the bad files of a root; those of others stay."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        before = [Bad(**json.loads(line)) for line in lines]
    except (OSError, ValueError, TypeError):
        before = []  # absent or damaged: it is a list to read, and nothing depends on it
    others = [file for file in before if root not in Path(file.path).parents]
    lines = [json.dumps(file._asdict()) + "\n" for file in (*others, *bad)]
    scratch = path.with_suffix(".jsonl.partial")
    scratch.write_text("".join(lines), encoding="utf-8")
    scratch.replace(path)


def _move_into_place(out: Path) -> None:
    for name in CHECKED:
        scratch = out / f"{name}.partial"
        if scratch.exists():  # or it is in its place already
            scratch.replace(out / name)
    (out / NEXT).replace(out / "manifest.json")
