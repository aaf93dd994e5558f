"""The Sketchy database (Sangkloy, Burnell, Ham, Hays, SIGGRAPH 2016), in its official layout.

rendered_256x256/256x256/photo/tx_<rendering>/<category>/<photo>.jpg
rendered_256x256/256x256/sketch/tx_<rendering>/<category>/<photo>-<k>.png
sketches-06-04/sketches/<category>/<photo>-<k>.svg      (for --sketches=svg)
info-06-04/info/testset.txt, invalid-*.txt              (optional)

Bundles of SAKE and ZSE-SBIR are read too: there the renderings are called tx_<rendering>_ready.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import ClassVar

from data_prep.builder import PairedImages
from data_prep.download import Source
from data_prep.items import (
    BadArgument,
    Item,
    Option,
    PrepareError,
    Scan,
    class_dirs,
    class_items,
    class_key,
)
from data_prep.sketchy_lists import flagged, info_dir, mark_testset
from sbir_jax.config import nearest
from sbir_jax.data.images import Modality
from sbir_jax.data.svg import read_svg

_RENDERED = (
    "",
    "256x256",
    "rendered_256x256/256x256",
    "rendered_256x256",
    "Sketchy/256x256",
    "Sketchy",
)
_VECTORS = ("sketches-06-04/sketches", "sketches-06-04", "sketches")

RENDERINGS = (
    Option("photo_render", "tx_000000000000", "rendering of the photos"),
    Option("sketch_render", "tx_000000000000", "rendering of the sketches"),
)
UNSEEN = Option("unseen", "", "test classes of --split=category: a file or a,b,c (else drawn)")
INVALID = Option(
    "invalid", "keep", "what to do with sketches listed in invalid-*.txt", ("keep", "drop")
)
RENDERED_SOURCE = Source("rendered_256x256.7z", drive="0B7ISyeE8QtDdTjE1MG9Gcy1kSkE")
INFO_SOURCE = Source("info-06-04.7z", drive="0B7ISyeE8QtDdaFhqeTZiNVBYZjA")


class Sketchy(PairedImages):
    """Sketchy, official layout: any rendering or SVG, testset.txt, invalid-*.txt, unseen."""

    RAW = "directory with rendered_256x256/, and info-06-04/ if you have it"
    EXAMPLE = "--raw=Sketchy --data_dir=data"
    TRAIN_CONFIG = "configs/sketchy.py"
    SOURCES = (
        RENDERED_SOURCE,
        INFO_SOURCE,
        Source("sketches-06-04.7z", drive="0B7ISyeE8QtDdbUpYWV8tcFJlY2M", need="--sketches=svg"),
    )
    OPTIONS: ClassVar = (
        *RENDERINGS,
        Option("sketches", "png", "png: as rendered; svg: drawn from the strokes", ("png", "svg")),
        Option(
            "split",
            "instance",
            "instance: testset.txt if there is one, else drawn; category: whole classes",
            ("instance", "category"),
        ),
        UNSEEN,
        INVALID,
    )

    @classmethod
    def scan(
        cls,
        raw: Path,
        *,
        photo_render: str,
        sketch_render: str,
        sketches: str,
        split: str,
        unseen: str,
        invalid: str,
    ) -> Scan:
        if unseen and split != "category":
            raise BadArgument(f"--unseen={unseen}: only with --split=category")
        rendered = rendered_dir(raw)
        if sketches == "svg":
            if sketch_render != "tx_000000000000":
                raise BadArgument(
                    f"--sketch_render={sketch_render}: SVG drawings are rendered as tx_000000000000"
                )
            drawn = _vector_items(raw, rendered)
        else:
            drawn = _scan_side(rendered, "sketch", sketch_render)
        items = [*_scan_side(rendered, "photo", photo_render), *drawn]
        details: dict = {"renderings": {"photo": photo_render, "sketch": sketch_render}}
        info = info_dir(around(raw, rendered))
        items, notes, details["invalid_sketches"] = _without_invalid(items, info, invalid, raw)
        if split == "category":
            items = _mark_unseen(items, unseen)
            return Scan(
                items=tuple(items), split_by="category", notes=tuple(notes), details=details
            )
        if info and (info / "testset.txt").is_file():
            items, matched = mark_testset(items, info / "testset.txt")
            notes.append(f"testset.txt: {matched:,} test photos; train and val drawn from the rest")
            details["testset_photos"] = matched
        else:
            notes.append("no testset.txt found: test drawn by photo instance")
        return Scan(items=tuple(items), notes=tuple(notes), details=details)


def rendered_dir(raw: Path) -> Path:
    """The folder with photo/ and sketch/ in it."""
    for below in _RENDERED:
        folder = raw / below
        if (folder / "photo").is_dir() and (folder / "sketch").is_dir():
            return folder
    raise PrepareError(
        f"--raw={raw}: expected rendered_256x256/256x256/ with photo/ and sketch/ in it, "
        "or one of these folders itself"
    )


def around(raw: Path, rendered: Path) -> tuple[Path, ...]:
    """Where the other archives may have been unpacked."""
    return raw, rendered, rendered.parent, rendered.parent.parent


def drawn_after(stem: str) -> str:
    """Sketch n02691156_10151-3 depicts photo n02691156_10151; "" for a name without a number."""
    return stem.rpartition("-")[0]


def _scan_side(rendered: Path, modality: Modality, render: str) -> list[Item]:
    root = rendered / modality
    found = [folder.name for folder in class_dirs(root)]
    folder = render if render in found else f"{render}_ready"
    if folder not in found:
        raise BadArgument(f"--{modality}_render={render!r}: {nearest(render, found)} in {root}")
    photo_of = drawn_after if modality == "sketch" else str
    return class_items(rendered, root / folder, modality, photo_of)


def _vector_items(raw: Path, rendered: Path) -> list[Item]:
    for root in around(raw, rendered):
        for below in _VECTORS:
            if any((root / below).glob("*/*.svg")):
                folder = root / below
                items = class_items(folder.parent, folder, "sketch", drawn_after)
                # checked.txt and invalid.txt stand beside the drawings of each class.
                return [
                    dataclasses.replace(item, decode=read_svg)
                    for item in items
                    if item.path.suffix != ".txt"
                ]
    raise PrepareError(f"--raw={raw}: no sketches-06-04/sketches/<category>/*.svg in it")


def _without_invalid(
    items: list[Item], info: Path | None, invalid: str, raw: Path
) -> tuple[list[Item], list[str], dict[str, int]]:
    """The items that stay, notes, and how many sketches each list flags."""
    lists = flagged(info, items)
    if not lists and invalid == "drop":
        raise BadArgument(f"--invalid=drop: no invalid-*.txt found near --raw={raw}")
    files = set().union(*lists.values())
    notes = []
    if lists:
        done = "dropped (--invalid=drop)" if invalid == "drop" else "kept (--invalid=keep)"
        notes.append(f"{len(files):,} sketches listed in invalid-*.txt: {done}")
    if invalid == "drop":
        items = [item for item in items if item.file not in files]
    return items, notes, {kind: len(of) for kind, of in lists.items()}


def _mark_unseen(items: list[Item], unseen: str) -> list[Item]:
    if not unseen:
        return items
    classes = {class_key(item.label): item.label for item in items}
    as_file = Path(unseen).is_file()
    names = Path(unseen).read_text(encoding="utf-8").splitlines() if as_file else unseen.split(",")
    names = [name.strip() for name in names if name.strip()]
    unknown = [name for name in names if class_key(name) not in classes]
    if unknown:
        raise BadArgument(
            f"--unseen: no class {unknown[0]!r}; {nearest(unknown[0], classes.values())}"
        )
    chosen = {classes[class_key(name)] for name in names}
    return [
        dataclasses.replace(item, split="test") if item.label in chosen else item for item in items
    ]
