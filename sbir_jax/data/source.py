"""Random access to a prepared dataset: labels and instances at once, images when asked for.

`data_prep` wrote two TFDS datasets (photo and sketch, ArrayRecord) and an index of their records.
Sampling needs only the index; images are decoded here, by `images.read_image`, record by record.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from sbir_jax.config import nearest
from sbir_jax.data.images import MODALITIES, BadImage, Fit, Modality, read_image, to_square

SPLITS = ("train", "val", "test")


class DatasetError(ValueError):
    """A prepared dataset that is absent or damaged. Its message is one line."""


@dataclasses.dataclass(frozen=True, eq=False)
class SplitIndex:
    """What is known of every record of one split and modality, in record order.

    label: int32 [N], positions in `Dataset.classes`.
    instance: int32 [N]; a photo and the sketches drawn after it share a number; -1 without a link.
    """

    label: np.ndarray
    instance: np.ndarray

    def __len__(self) -> int:
        return len(self.label)


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A prepared dataset, opened by `open_dataset`.

    path: its directory.
    channels: of the images of each side. Sketches have 1; where photos search photos, the sketch
      side holds photos too and has 3.
    classes: class names, sorted; the same for photos and sketches and in every split.
    instance_ids: names of the instance numbers, `<class>/<photo name>`.
    fingerprint: sha256 over the raw files and options it was prepared from.
    protocol: the published protocol it was prepared for, as `data_prep` notes it; None for none.
    """

    path: Path
    name: str
    channels: dict[Modality, int]
    classes: tuple[str, ...]
    instance_ids: tuple[str, ...]
    fingerprint: str
    protocol: dict[str, Any] | None
    _indices: dict[str, SplitIndex] = dataclasses.field(repr=False)

    def index(self, split: str, modality: Modality) -> SplitIndex:
        """Labels and instances of a split; `split` is train, val or test."""
        return self._indices[_key(split, modality)]

    def images(self, split: str, modality: Modality) -> Images:
        """The images of a split, in the order of `index(split, modality)`."""
        length = len(self.index(split, modality))
        return Images(self.path / modality / "1.0.0", split, length, self.channels[modality])


class Images:
    """Random access to the images of one split and modality.

    Threads may share it, and it pickles (workers then open the files for themselves).
    """

    def __init__(self, directory: Path, split: str, length: int, channels: int):
        self.channels = channels
        self._directory = directory
        self._split = split
        self._length = length
        self._source: Any = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return self._length

    def __reduce__(self) -> tuple:
        return Images, (self._directory, self._split, self._length, self.channels)

    def load(self, indices: Sequence[int] | np.ndarray, size: int, fit: Fit) -> np.ndarray:
        """Reads, decodes and squares images.

        Args:
          indices: record positions [n], each from 0 to below `len(self)`, in any order.
          size: side of the squares in pixels.
          fit: "pad", "squash" or "crop", as in `images.to_square`.

        Returns:
          uint8 [n, size, size, channels].

        Raises:
          DatasetError: a missing or damaged file or record, in one line that names it.
          IndexError: a position outside the split.
        """
        kind: Modality = "photo" if self.channels == 3 else "sketch"
        squares = np.empty((len(indices), size, size, self.channels), np.uint8)
        for row, (i, record) in enumerate(zip(indices, self._records(indices), strict=True)):
            try:
                squares[row] = to_square(read_image(record["image"], kind), size, fit)
            except BadImage as error:
                raise DatasetError(
                    f"{self._directory}: record {i} of {self._split} "
                    f"({record['file'].decode()}) is {error}; prepare the dataset again"
                ) from error
        return squares

    def file(self, index: int) -> str:
        """Path of the raw file of a record, below the raw directory it was prepared from."""
        return self._records([index])[0]["file"].decode()

    def _records(self, indices: Sequence[int] | np.ndarray) -> list[dict]:
        indices = [int(i) for i in indices]
        if not indices:
            return []
        outside = [i for i in indices if not 0 <= i < self._length]
        if outside:
            raise IndexError(f"record {outside[0]}: {self._split} has {self._length} records")
        source = self._opened()
        try:
            return source.__getitems__(indices)
        except Exception:  # array_record raises RuntimeError, ValueError, IndexError, ...
            for i in indices:
                self._require_readable(source, i)
            raise

    def _require_readable(self, source: Any, index: int) -> None:
        try:
            source[index]
        except Exception as error:
            shard = self._shard_of(index)
            reason = " ".join(str(error).split())
            raise DatasetError(
                f"{shard}: cannot read record {index} of {self._split} ({reason}); "
                "prepare the dataset again"
            ) from error

    def _shard_of(self, index: int) -> str:
        """Path of the file that holds a record."""
        shards = tfds.builder_from_directory(self._directory).info.splits[self._split]
        for shard in shards.file_instructions:
            if index < shard.examples_in_shard:
                break
            index -= shard.examples_in_shard
        return shard.filename

    def _opened(self) -> Any:
        with self._lock:
            if self._source is None:
                try:
                    builder = tfds.builder_from_directory(self._directory)
                    self._source = builder.as_data_source(
                        self._split, decoders={"image": tfds.decode.SkipDecoding()}
                    )
                except Exception as error:
                    reason = " ".join(f"{type(error).__name__}: {error}".split())
                    raise DatasetError(
                        f"{self._directory}: cannot open ({reason}); prepare the dataset again"
                    ) from error
            return self._source


def open_dataset(name: str, data_dir: str | Path) -> Dataset:
    """Opens `<data_dir>/<name>` as written by `python -m data_prep`; images stay on disk.

    Raises:
      DatasetError: there is none of that name, or its index or report is missing or damaged.
    """
    data_dir = Path(data_dir)
    path = data_dir / name
    if not (path / "index.npz").is_file():
        raise DatasetError(_absent(name, data_dir))
    try:
        report = json.loads((path / "prepare_report.json").read_text())
        # Opened here: np.load leaves the file open when it is damaged.
        with (path / "index.npz").open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            indices = {
                _key(split, modality): SplitIndex(
                    arrays[f"{_key(split, modality)}/label"],
                    arrays[f"{_key(split, modality)}/instance"],
                )
                for split in SPLITS
                for modality in MODALITIES
            }
            classes = tuple(arrays["classes"].tolist())
            instance_ids = tuple(arrays["instance_ids"].tolist())
        channels = {modality: _channels(path / modality / "1.0.0") for modality in MODALITIES}
        return Dataset(
            path=path,
            name=name,
            channels=channels,
            classes=classes,
            instance_ids=instance_ids,
            fingerprint=report["fingerprint"],
            protocol=report.get("protocol"),
            _indices=indices,
        )
    except Exception as error:  # zipfile, json, KeyError, OSError: whatever a damaged file gives
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise DatasetError(f"{path}: damaged ({reason}); prepare the dataset again") from error


def _channels(directory: Path) -> int:
    """Channels of the stored images, as TFDS's own description says."""
    features = json.loads((directory / "features.json").read_text())["featuresDict"]["features"]
    return int(features["image"]["image"]["shape"]["dimensions"][-1])


def _key(split: str, modality: str) -> str:
    if split not in SPLITS:
        raise ValueError(f"split={split!r}: {nearest(split, SPLITS)}")
    if modality not in MODALITIES:
        raise ValueError(f"modality={modality!r}: {nearest(modality, MODALITIES)}")
    return f"{split}/{modality}"


def _absent(name: str, data_dir: Path) -> str:
    found = sorted(p.parent.name for p in data_dir.glob("[!.]*/index.npz"))
    there = f"there are {', '.join(found)}" if found else "there is none"
    return (
        f"config.data.name={name!r}: no prepared dataset of that name in config.data.dir="
        f"{str(data_dir)!r} ({there}); make one: python -m data_prep DATASET --raw=DIR "
        f"--data_dir={data_dir} --name={name}"
    )
