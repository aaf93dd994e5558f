"""QMUL Shoe-V2 and Chair-V2 (Yu, Liu, Song, Xiang, Hospedales, Loy, CVPR 2016 and later releases).

Two layouts are in use:
  ShoeV2_photo/<id>.png, ShoeV2_sketch_png/<id>_<k>.png,
  photo_train.txt, photo_test.txt, sketch_train.txt, sketch_test.txt      (or ChairV2_...)
  trainB/<id>.png, trainA/<id>_<k>.png, testB/<id>.png, testA/<id>_<k>.png

Sketch <id>_<k> was drawn after photo <id>. One class, retrieval by instance. Releases differ in the
number of sketches, so preparation prints what it finds.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

from data_prep.builder import PairedImages
from data_prep.download import Source
from data_prep.folders import ONE_CLASS
from data_prep.items import Item, PrepareError, Scan, folder_items
from sbir_jax.data.images import Modality

_SIDES: dict[Modality, tuple[str, ...]] = {"photo": ("photo",), "sketch": ("sketch_png", "sketch")}
_PARTS: dict[str, tuple[Modality, str]] = {  # side and split
    "trainB": ("photo", ""),
    "trainA": ("sketch", ""),
    "testB": ("photo", "test"),
    "testA": ("sketch", "test"),
}


class Qmul(PairedImages):
    """QMUL Shoe-V2 or Chair-V2: *_photo/, *_sketch_png/ and lists, or trainA/B and testA/B."""

    RAW = "directory of ShoeV2 or of ChairV2"
    EXAMPLE = "--raw=ShoeV2 --data_dir=data --protocol=qmul_shoe_v2"
    TRAIN_CONFIG = "configs/sketchy.py"
    SOURCES = (Source("ShoeV2 and ChairV2", drive="1frltfiEd9ymnODZFHYrbg741kfys1rq1"),)

    @classmethod
    def scan(cls, raw: Path) -> Scan:
        if all((raw / part).is_dir() for part in _PARTS):
            items = [
                dataclasses.replace(item, split=split)
                for part, (modality, split) in _PARTS.items()
                for item in _items(raw, raw / part, modality)
            ]
        else:
            items = _listed(raw)
        of = Counter((item.modality, item.split == "test") for item in items)
        note = "; ".join(
            f"{doing}: {of['photo', test]:,} photos, {of['sketch', test]:,} sketches"
            for doing, test in (("to train on", False), ("to test", True))
        )
        return Scan(items=tuple(items), notes=(note,))


def _items(raw: Path, folder: Path, modality: Modality) -> list[Item]:
    photo_of = str if modality == "photo" else lambda stem: stem.rpartition("_")[0]
    return folder_items(raw, folder, modality, ONE_CLASS, photo_of)


def _listed(raw: Path) -> list[Item]:
    """The layout with lists: what no list names is left out."""
    items = []
    for modality, endings in _SIDES.items():
        folders = [p for end in endings for p in (*raw.glob(f"*_{end}"), raw / end) if p.is_dir()]
        if not folders:
            raise PrepareError(
                f"--raw={raw}: neither trainA/, trainB/, testA/ and testB/ in it, nor "
                f"*_photo/ and *_sketch_png/ ({modality} folder missing); stroke files "
                "(*_Coordinate) are pickles, which are not read"
            )
        found = {Path(i.file).stem: i for i in _items(raw, folders[0], modality)}
        for part, split in (("train", ""), ("test", "test")):
            for stem in _names(raw / f"{modality}_{part}.txt"):
                if stem not in found:
                    raise PrepareError(
                        f"{raw / f'{modality}_{part}.txt'}: {stem} is not in {folders[0].name}/"
                    )
                items.append(dataclasses.replace(found[stem], split=split))
    return items


def _names(path: Path) -> list[str]:
    """Names without suffix: the lists may say .svg where the files are .png."""
    if not path.is_file():
        raise PrepareError(f"{path}: no such file; it says which images are trained or tested on")
    lines = (line.strip().replace("\\", "/") for line in path.read_text().splitlines())
    return list(dict.fromkeys(Path(line).stem for line in lines if line))
