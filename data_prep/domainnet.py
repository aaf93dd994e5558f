"""DomainNet (Peng, Bai, Xia, Huang, Saenko, Wang, ICCV 2019): real photos against drawings.

real/<class>/<name>.jpg, sketch/<class>/<name>.jpg, quickdraw/<class>/<name>.png
real_train.txt, real_test.txt, sketch_train.txt, ...      lines: real/<class>/<name>.jpg <number>

345 classes, equal names in all domains. The official lists decide what is tested, and of the
cleaned version what is left out; without lists, splits are drawn. There are no links.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from data_prep.builder import PairedImages
from data_prep.download import Source
from data_prep.items import Item, Option, PrepareError, Scan, class_items, found_dir
from sbir_jax.data.images import Modality

_ADDRESS = "http://csr.bu.edu/ftp/visda/2019/multi-source/"


class Domainnet(PairedImages):
    """DomainNet: real/<class>/ searched by sketch/<class>/ or quickdraw/<class>/."""

    RAW = "directory with real/, sketch/ or quickdraw/, and the *_train.txt and *_test.txt lists"
    EXAMPLE = "--raw=DomainNet --data_dir=data --queries=sketch"
    TRAIN_CONFIG = "configs/zero_shot.py"
    SOURCES = (
        Source("real.zip", url=f"{_ADDRESS}real.zip"),
        Source("sketch.zip", url=f"{_ADDRESS}sketch.zip"),
        Source("quickdraw.zip", page=f"{_ADDRESS}quickdraw.zip", need="--queries=quickdraw"),
        Source("real_train.txt, ...", page="https://ai.bu.edu/M3SDA", need="the official split"),
    )
    OPTIONS: ClassVar = (
        Option("queries", "sketch", "domain of the queries", ("sketch", "quickdraw")),
    )

    @classmethod
    def scan(cls, raw: Path, *, queries: str) -> Scan:
        items: list[Item] = []
        notes = ["no sketch is linked to a photo"]
        domains: dict[Modality, str] = {"photo": "real", "sketch": queries}
        for modality, domain in domains.items():
            photo_of = str if modality == "photo" else lambda stem: ""
            found = class_items(
                raw, found_dir(raw, (domain,), f"{modality} images"), modality, photo_of
            )
            listed = _listed(raw, domain)
            if listed is None:
                notes.append(f"no {domain}_train.txt and {domain}_test.txt: its splits are drawn")
                items += found
                continue
            kept = [dataclasses.replace(i, split=listed[i.file]) for i in found if i.file in listed]
            if not kept:
                raise PrepareError(f"{raw / f'{domain}_train.txt'}: names no file of {domain}/")
            if left_out := len(found) - len(kept):
                notes.append(f"{left_out:,} files of {domain}/ are in neither list and left out")
            items += kept
        return Scan(items=tuple(items), notes=tuple(notes))


def _listed(raw: Path, domain: str) -> dict[str, str] | None:
    """The split of each listed file: "test", or "" for the list that train and val share."""
    split_of: dict[str, str] = {}
    for part, split in (("train", ""), ("test", "test")):
        path = raw / f"{domain}_{part}.txt"
        if not path.is_file():
            return None
        for line in path.read_text(encoding="utf-8").splitlines():
            if name := line.strip().rpartition(" ")[0]:
                split_of[name] = split
    return split_of
