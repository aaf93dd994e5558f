"""Squares decoded once and kept beside the prepared dataset, so that no later run decodes them.

`<dataset>/cache/<split>-<side>-<size>-<fit>.npy` holds uint8 [N, size, size, C] in record order;
the .json of the same name says what they were made from. Batches are read from it row by row with
`pread`, not mapped: what a run has read then counts as the system's file cache, not as its own
memory, and a file that is cut short under it is an error and not a bus error.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from tqdm import tqdm

from sbir_jax.checksum import crc32_of
from sbir_jax.data.images import Fit, Modality
from sbir_jax.data.source import Dataset, DatasetError, Images
from sbir_jax.lock import take

_DISK_SHARE = 0.5  # of free disk that a cache may take


class CachedImages:
    """The squares of one side of a split, read from a cache file; pickles like `Images`."""

    def __init__(self, path: Path, shape: tuple[int, ...], fit: Fit, offset: int):
        self.channels = shape[3]
        self._path, self._shape, self._fit, self._offset = path, shape, fit, offset
        self._file: int | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._shape[0]

    def __reduce__(self) -> tuple:
        return CachedImages, (self._path, self._shape, self._fit, self._offset)

    def load(self, indices: Sequence[int] | np.ndarray, size: int, fit: Fit) -> np.ndarray:
        """Reads squares, uint8 [n, size, size, C]: what `Images.load` would have decoded.

        Raises:
          DatasetError: the file cannot be read any more, or has been cut short.
          IndexError: a position outside the split.
          ValueError: another size or fit than the cache's.
        """
        if (size, fit) != (self._shape[1], self._fit):
            raise ValueError(f"{self._path} holds other squares than {size} px, {fit}")
        squares = np.empty((len(indices), *self._shape[1:]), np.uint8)
        nbytes = squares[:1].nbytes
        for row, i in enumerate(map(int, indices)):
            if not 0 <= i < len(self):
                raise IndexError(f"record {i}: {self._path} has {len(self)} records")
            try:
                data = os.pread(self._opened(), nbytes, self._offset + i * nbytes)
            except OSError as error:
                raise DatasetError(f"{self._path}: cannot read ({error.strerror})") from error
            if len(data) != nbytes:
                raise DatasetError(f"{self._path}: cut short while in use; start the run again")
            squares[row] = np.frombuffer(data, np.uint8).reshape(self._shape[1:])
        return squares

    def _opened(self) -> int:
        with self._lock:
            if self._file is None:
                self._file = os.open(self._path, os.O_RDONLY)
                # Not `__del__`, which at the end of a process may find no `os` any more.
                weakref.finalize(self, os.close, self._file)
            return self._file


def path_of(dataset: Dataset, split: str, side: Modality, size: int, fit: Fit) -> Path:
    """Where the squares of one side of a split are kept, whether they are there or not."""
    return dataset.path / "cache" / f"{split}-{side}-{size}-{fit}.npy"


def open_or_make(
    dataset: Dataset,
    split: str,
    side: Modality,
    *,
    size: int,
    fit: Fit,
    decode: Callable[[Images], Iterable[np.ndarray]],
) -> tuple[CachedImages | None, str]:
    """The cached squares of one side of a split, made now if there are none that fit.

    Of several processes one decodes and the others wait for it. A file is complete or absent:
    whoever is killed leaves a part that the next overwrites.

    Args:
      decode: gives all squares of `Images` in order, in parts.

    Returns:
      The squares and how they came in words, "read", "decoded" or "rebuilt: ..."; or None and why
      there can be no cache: no room, or a directory that cannot be written.

    Raises:
      DatasetError: a record that cannot be decoded.
    """
    images = dataset.images(split, side)
    path = path_of(dataset, split, side, size, fit)
    about: dict[str, Any] = {
        "fingerprint": dataset.fingerprint,
        "shape": [len(images), size, size, images.channels],
        "decoder": f"Pillow {PIL.__version__}",  # another may round differently
    }
    found, fault = _open(path, about, fit)
    if found:
        return found, "read"
    try:
        path.parent.mkdir(exist_ok=True)
        with _alone(path):
            found, fault = _open(path, about, fit)  # another process may have made it meanwhile
            if found:
                return found, "read"
            path.unlink(missing_ok=True)
            needed, free = int(np.prod(about["shape"])), shutil.disk_usage(path.parent).free
            if needed > _DISK_SHARE * free:
                room = f"{needed / 2**30:,.1f} GiB and {free / 2**30:,.1f} GiB of disk are free"
                return None, f"it would take {room}"
            _write(path, about, decode(images))
    except OSError as error:
        return None, f"{path.parent}: {error.strerror or error}"
    found, broken = _open(path, about, fit)
    if not found:
        return None, f"{path} was written and is damaged: {broken}"
    return found, f"{path.name} rebuilt: {fault}" if fault else "decoded"


def _open(path: Path, about: dict[str, Any], fit: Fit) -> tuple[CachedImages | None, str]:
    """The squares, or None and what is wrong with them; "" if there is nothing."""
    if not path.exists():
        return None, ""
    try:
        kept = json.loads(path.with_suffix(".json").read_text())
        differs = [key for key, value in about.items() if kept.get(key) != value]
        if differs:
            return None, f"made from another {', '.join(differs)}"
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            offset = file.tell()
            if list(shape) != about["shape"] or dtype != np.uint8:
                return None, f"holds {dtype} {shape}"
            length = os.fstat(file.fileno()).st_size - offset
            if length != int(np.prod(shape)):
                return None, f"{length:,} bytes instead of {int(np.prod(shape)):,}"
            if crc32_of(file, doing=f"checking {path.name}") != kept["crc32"]:
                return None, "its checksum differs"
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        return None, f"cannot be read ({type(error).__name__})"
    return CachedImages(path, shape, fit, offset), ""


def _write(path: Path, about: dict[str, Any], parts: Iterable[np.ndarray]) -> None:
    part_path, crc = path.with_suffix(".part"), 0
    header = {"descr": "|u1", "fortran_order": False, "shape": tuple(about["shape"])}
    try:
        with part_path.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, header)
            for part in parts:
                data = np.ascontiguousarray(part).data
                crc = zlib.crc32(data, crc)
                file.write(data)
            file.flush()
            os.fsync(file.fileno())
        note = path.with_suffix(".json.part")
        note.write_text(json.dumps(about | {"crc32": crc}, indent=1) + "\n")
        note.replace(path.with_suffix(".json"))
        part_path.replace(path)  # last: the file is there only when all of it is
    finally:
        part_path.unlink(missing_ok=True)


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Holds the lock of a cache file; says so where another process holds it and waits."""
    with path.with_suffix(".lock").open("wb") as lock:
        if not take(lock):
            tqdm.write(f"waiting for another process that makes {path}", file=sys.stderr)
            take(lock, wait=True)
        yield
