"""FS-COCO (Chowdhury, Sain, Bhunia, Xiang, Gryaditskaya, Song, ECCV 2022): scene sketches.

images/<user>/<id>.jpg              10,000 photos of MS-COCO, 100 for each of 100 users
raster_sketches/<user>/<id>.jpg     the sketch of each; or, without it,
raw_data/<user>/<id>.json           its strokes, drawn here
val_normal.txt, val_unseen_user.txt      ids of the test pairs, with or without leading zeros

One class, retrieval by instance, which is the id.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import ClassVar

import numpy as np

from data_prep.builder import PairedImages
from data_prep.download import Source
from data_prep.folders import ONE_CLASS
from data_prep.items import Option, PrepareError, Scan, folder_items, found_dir
from sbir_jax.data.images import BadImage
from sbir_jax.data.strokes import rasterise

_LISTS = {"normal": "val_normal.txt", "unseen": "val_unseen_user.txt"}


class FsCoco(PairedImages):
    """FS-COCO: images/<user>/, raster_sketches/<user>/ (or raw_data/), and its two test lists."""

    RAW = "directory with images/, raster_sketches/ and the val_*.txt lists"
    EXAMPLE = "--raw=fscoco --data_dir=data --protocol=fs_coco"
    TRAIN_CONFIG = "configs/sketchy.py"
    SOURCES = (Source("fscoco.tar.gz", page="as github.com/pinakinathc/fscoco says"),)
    OPTIONS: ClassVar = (
        Option("users", "normal", "test list: all users, or users unseen", ("normal", "unseen")),
    )

    @classmethod
    def scan(cls, raw: Path, *, users: str) -> Scan:
        images = found_dir(raw, ("images",), "photos")
        folder = found_dir(raw, ("raster_sketches", "raw_data"), "sketches")
        photos = folder_items(raw, images, "photo", ONE_CLASS, _id)
        sketches = folder_items(raw, folder, "sketch", ONE_CLASS, _id)
        if folder.name == "raw_data":
            sketches = [dataclasses.replace(item, decode=read_fs_coco) for item in sketches]
        path = raw / _LISTS[users]
        if not path.is_file():
            raise PrepareError(f"{path}: no such file; it lists the test pairs of --users={users}")
        listed = {_number(line) for line in path.read_text().split()}
        items = [
            dataclasses.replace(item, split="test")
            if _number(item.instance_id.rpartition("/")[2]) in listed
            else item
            for item in (*photos, *sketches)
        ]
        tested = sum(item.split == "test" and item.modality == "sketch" for item in items)
        if not tested:
            raise PrepareError(f"{path}: none of its ids names a sketch in {folder}")
        note = f"{path.name}: {len(listed):,} ids, {tested:,} test sketches"
        return Scan(items=tuple(items), notes=(note, f"one class {ONE_CLASS!r}: by instance"))


def read_fs_coco(data: bytes) -> np.ndarray:
    """The strokes of one scene, points with coordinates in [0, 1], as uint8 [256, 256].

    Raises:
      BadImage: they are something else.
    """
    strokes: list[list[list[float]]] = [[]]
    try:
        for point in json.loads(data):
            strokes[-1].append([float(value) for value in point["coordinates"]])
            if [int(state) for state in point["pen_state"]] == [1, 0, 0]:  # the pen is lifted
                strokes.append([])
        points = [np.asarray(stroke).reshape(-1, 2) for stroke in strokes]
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        raise BadImage(f"not strokes of FS-COCO ({error})") from error
    return rasterise(points, frame=(0, 0, 1, 1))


def _id(stem: str) -> str:
    """1/000000000009, of user 1, is pair 000000000009."""
    return stem.rpartition("/")[2]


def _number(name: str) -> int | str:
    return int(name) if name.isdecimal() else name
