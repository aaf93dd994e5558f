"""Making an index and keeping it up to date: only what is new or has changed is embedded.

Vectors are kept by content, so a photo that was renamed, or is there twice, is embedded once. What
is done is written in parts, and a run that was stopped goes on after the last of them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from sbir_jax.data.decoding import prefetch
from sbir_jax.data.images import BadImage, read_image
from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.encoders import Encoders
from sbir_jax.retrieval.folder import Bad, alone, check_ours, opened, write, write_bad
from sbir_jax.retrieval.index import Index
from sbir_jax.retrieval.items import Item, thumbnail_file
from sbir_jax.retrieval.known import File, Known, Parts

THUMBNAIL = 192  # longer side in pixels
_PART = 1024  # photos between two writes: what an interruption can cost
_CHUNK = 32  # photos that a thread reads at a time
_ID = 20  # hexadecimal digits of a sha256; two of a billion photos share them at odds of 4e-7


@dataclasses.dataclass(frozen=True)
class Report:
    """What an update did.

    Attributes:
      photos: in the index now.
      embedded: by this run; equal files count once.
      removed: of the directory, no longer there.
      bad: files that are not images, or damaged.
    """

    photos: int
    embedded: int
    removed: int
    bad: tuple[Bad, ...]

    def __str__(self) -> str:
        return (
            f"{self.photos:,} photos ({self.embedded:,} embedded now, {self.removed:,} removed), "
            f"{len(self.bad):,} files left out"
        )


class _Read(NamedTuple):
    """A photo that was read, and its square, if its content is new."""

    item: Item
    square: np.ndarray | None


def update(photos: str | Path, encoders: Encoders, out: str | Path) -> Report:
    """Makes the index in `out` hold what is in a directory now; photos of other roots stay.

    Args:
      photos: a directory of images, at any depth. Hidden files are left out.
      encoders: of the index.
      out: directory of the index; may be new.

    Raises:
      RetrievalError: no images there, `out` cannot be written, holds an index of other encoders, or
        another process is changing it.
    """
    root, out = Path(os.path.abspath(photos)), Path(out)
    if not root.is_dir():
        raise RetrievalError(f"{photos}: {'not a directory' if root.exists() else 'not there'}")
    check_ours(out)
    files = list(_image_files(root, skip=out.resolve()))
    if not files:
        raise RetrievalError(f"{photos}: no images in it")
    with alone(out):
        return _update(root, files, encoders, out)


def _update(root: Path, files: Sequence[File], encoders: Encoders, out: Path) -> Report:
    old = opened(out, encoders)
    parts = Parts.open(out / "partial", encoders.identity)
    known = Known(old, parts)

    items = [known.items[file] for file in files if file in known.items]
    bad: list[Bad] = []
    waiting: list[_Read] = []
    embedded = done = 0
    new = [file for file in files if file not in known.items]
    with tqdm(total=len(new), desc="indexing", unit="img", delay=2, disable=None) as bar:
        for chunk in _read_all(new, encoders, known, out):
            bad += [read for read in chunk if isinstance(read, Bad)]
            waiting += [read for read in chunk if isinstance(read, _Read)]
            bar.update(len(chunk))
            done += len(chunk)
            if waiting and (done == len(new) or len(waiting) >= _PART):
                embedded += _embed(waiting, encoders, known, parts)
                items += [read.item for read in waiting]
                waiting = []
    if not items:
        raise RetrievalError(f"{bad[0].path}: {bad[0].reason}; none of {len(bad)} can be read")
    before = old.items if old else []
    others = [item for item in before if item.root != str(root)]
    removed = {item.file for item in before} - {item.file for item in others + items}
    manifest = {
        "encoders": dataclasses.asdict(encoders.identity),
        "source": encoders.source,
        "dim": encoders.dim,
    }
    write(out, others + items, known, manifest)
    write_bad(out / "bad.jsonl", bad, root)
    shutil.rmtree(parts.folder)
    return Report(len(others) + len(items), embedded, len(removed), tuple(bad))


def remove(index: Index, path: str | Path) -> int:
    """Takes a photo, or all photos in a directory, out of an index; says how many.

    Raises:
      RetrievalError: none of them is in the index, it would be empty, or another process is
        changing it.
    """
    path = Path(os.path.abspath(path))
    left = [item for item in index.items if not (item.file == path or path in item.file.parents)]
    if len(left) == len(index):
        raise RetrievalError(f"{path}: no photo of {index.folder} is there")
    if not left:
        raise RetrievalError(f"{path}: has all photos of {index.folder}; delete that instead")
    with alone(index.folder):
        write(index.folder, left, Known(index), index.manifest)
    return len(index) - len(left)


def _image_files(root: Path, skip: Path) -> Iterator[File]:
    """Files below `root` whose suffix Pillow knows, sorted, without hidden ones."""
    suffixes, seen = set(Image.registered_extensions()), set()
    for folder, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen or real == str(skip):  # a link to a directory above, or the index itself
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or path.suffix.lower() not in suffixes or not path.is_file():
                continue
            stat = path.stat()
            below = path.relative_to(root).as_posix()
            yield File(str(root), below, stat.st_size, stat.st_mtime_ns)


def _read_all(
    files: Sequence[File], encoders: Encoders, known: Known, out: Path
) -> Iterator[list[_Read | Bad]]:
    """Reads files in order and ahead of their use; makes thumbnails of what is new."""
    starts = range(0, len(files), _CHUNK)

    def load(chunk: int) -> list[_Read | Bad]:
        chosen = files[starts[chunk] : starts[chunk] + _CHUNK]
        return [_read(file, encoders, known, out) for file in chosen]

    return prefetch(load, 0, len(starts), workers=0) if files else iter(())


def _read(file: File, encoders: Encoders, known: Known, out: Path) -> _Read | Bad:
    path = Path(file.root, file.path)
    shown = os.fsencode(path).decode("utf-8", "backslashreplace")
    if shown != str(path):
        return Bad(shown, "its name is not UTF-8")
    try:
        data = path.read_bytes()
        id = hashlib.sha256(data).hexdigest()[:_ID]
        item = Item(id, *file)
        if id in known.rows:
            return _Read(item, None)
        least = max(2 * encoders.run.data.load_size, THUMBNAIL)
        pixels = read_image(data, "photo", min_side=least)
    except OSError as error:
        return Bad(str(path), error.strerror or str(error))
    except BadImage as error:
        return Bad(str(path), str(error))
    small = Image.fromarray(pixels)
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    thumbnail = thumbnail_file(out, id)
    thumbnail.parent.mkdir(parents=True, exist_ok=True)
    small.save(thumbnail, quality=80)
    return _Read(item, encoders.square(pixels, "photo"))


def _embed(reads: Sequence[_Read], encoders: Encoders, known: Known, parts: Parts) -> int:
    """Embeds what is new among photos and writes them all as a part; says how many were new."""
    new = {
        read.item.id: read.square
        for read in reads
        if read.square is not None and read.item.id not in known.rows
    }
    vectors = encoders.embed(list(new.values()), "photo").astype(np.float16)
    known.rows |= zip(new, vectors, strict=True)
    items = [read.item for read in reads]
    parts.add(items, np.stack([known.rows[item.id] for item in items]))
    return len(new)
