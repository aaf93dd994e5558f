"""The TFDS builder every dataset shares: checked items in, ArrayRecord shards out.

A prepared dataset is two TFDS datasets with the same class names, `photo` (what is searched) and
`sketch` (the queries: grey strokes, or photos in colour where photos search photos). Nothing
here needs TensorFlow: images are handed over as bytes, and shards are written in order rather than
shuffled, because TFDS's shuffler needs TensorFlow as soon as a split exceeds 1 GB.
"""

from __future__ import annotations

import abc
import contextlib
import dataclasses
import functools
import hashlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

from data_prep.checking import Checked, in_parallel
from data_prep.download import Source
from data_prep.items import SPLITS, Item, Option, PrepareError, Scan
from sbir_jax.data.images import (
    MODALITIES,
    encode_photo,
    encode_sketch,
    is_plain_jpeg,
    shrink,
)

# TFDS holds one shard in memory while it writes it: about 60 MB of photos.
SHARD_ITEMS = 2048


class PairedImages(tfds.core.ShardBasedBuilder):
    """Photos and queries of the same classes; a child class says how its raw files are laid out.

    Features of both configs: `image` (encoded), `label`, `instance_id` (`<class>/<photo name>`, or
    "" without a link) and `file` (path below the raw directory).
    """

    VERSION = tfds.core.Version("1.0.0")
    BUILDER_CONFIGS: ClassVar = [tfds.core.BuilderConfig(name=name) for name in MODALITIES]
    # Nothing is downloaded. TFDS would look for lists of URLs beside this file, with a package
    # (importlib_resources) that it does not depend on.
    url_infos: ClassVar[dict] = {}
    OPTIONS: ClassVar[tuple[Option, ...]] = ()
    # For the command line's help: what --raw is, and the arguments of an example.
    RAW: ClassVar[str]
    EXAMPLE: ClassVar[str]
    TRAIN_CONFIG: ClassVar[str]  # the config file to start from
    NEEDS_RAW: ClassVar[bool] = True
    SOURCES: ClassVar[tuple[Source, ...]] = ()  # where its archives are published

    def __init__(
        self,
        *,
        config: str,
        data_dir: Path,
        checked: Sequence[Checked],
        classes: Sequence[str],
        max_side: int,
        on_item: Callable[[], object] = lambda: None,
    ):
        """Args:
        config: side to write, "photo" or "sketch".
        data_dir: TFDS root; the files go to `<data_dir>/<builder name>/<config>/1.0.0`.
        checked: good items of that side and of one kind, with their final splits, in the order they
          are stored; at least one.
        classes: every class name, sorted.
        max_side: largest shorter side of a stored image, in pixels.
        on_item: called after each stored image.
        """
        self._checked = checked
        self._classes = classes
        self._max_side = max_side
        self._on_item = on_item
        super().__init__(config=config, data_dir=data_dir, file_format="array_record")

    @classmethod
    @abc.abstractmethod
    def scan(cls, raw: Path, **options: Any) -> Scan:
        """Lists the image files below `raw`; raises PrepareError if the layout is another one."""

    @classmethod
    def generator(cls) -> str:
        """Hash of the code that makes the raw files; "" where they come from the user."""
        return ""

    def write(self) -> None:
        """Writes every split that has items; TFDS cannot hold an empty one."""
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
            self.download_and_prepare()

    def _info(self) -> tfds.core.DatasetInfo:
        photo = self._checked[0].item.kind == "photo"
        return tfds.core.DatasetInfo(
            builder=self,
            description=f"{self.name}: the {self.builder_config.name} side.",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(
                        shape=(None, None, 3 if photo else 1),
                        encoding_format="jpeg" if photo else "png",
                    ),
                    "label": tfds.features.ClassLabel(names=self._classes),
                    "instance_id": tfds.features.Text(),
                    "file": tfds.features.Text(),
                }
            ),
        )

    def _shard_iterators_per_split(self, dl_manager: object) -> dict[str, list]:
        shards = {}
        for split in SPLITS:
            chosen = [c for c in self._checked if c.item.split == split]
            if chosen:
                shards[split] = [
                    functools.partial(self._examples, chosen[start : start + SHARD_ITEMS])
                    for start in range(0, len(chosen), SHARD_ITEMS)
                ]
        return shards

    def _examples(self, checked: Sequence[Checked]) -> Iterator[tuple[str, dict]]:
        encoded = in_parallel(functools.partial(_encoded, max_side=self._max_side), checked)
        for one, image in zip(checked, encoded, strict=True):
            item = one.item
            yield (
                item.file,
                {
                    "image": io.BytesIO(image),
                    "label": item.label,
                    "instance_id": item.instance_id,
                    "file": item.file,
                },
            )
            self._on_item()


def _encoded(checked: Checked, *, max_side: int) -> bytes:
    """The bytes to store: a plain small JPEG photo unchanged, anything else re-encoded."""
    item = checked.item
    data = item.read()
    if hashlib.sha256(data).hexdigest() != checked.sha256:
        raise PrepareError(f"{item.file} changed while it was being prepared: run again")
    if item.kind == "photo" and is_plain_jpeg(data, max_side=max_side):
        return data
    pixels = shrink(item.pixels(data, min_side=2 * max_side), max_side=max_side)
    return encode_photo(pixels) if item.kind == "photo" else encode_sketch(pixels)


def with_splits(checked: Sequence[Checked], items: Sequence[Item]) -> list[Checked]:
    """The same checks with items that now carry a split."""
    return [dataclasses.replace(c, item=item) for c, item in zip(checked, items, strict=True)]
