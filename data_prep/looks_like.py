"""Totally-Looks-Like (Rosenfeld, Solbach, Tsotsos, 2018): photos that people paired as alike.

left/<code>.jpg     right/<code>.jpg      one pair a code
list_codes_train.txt, list_codes_test.txt      one code a line: 5,000 and 116 in the lecture's split

One modality on both sides: the right image of a pair is the query (the lecture's anchor), the left
one is searched. There are no classes, so retrieval is by instance, which is the code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from data_prep.builder import PairedImages
from data_prep.folders import ONE_CLASS
from data_prep.items import Item, Option, PrepareError, Scan, image_files
from sbir_jax.data.images import Modality

_MODALITY: dict[str, Modality] = {"left": "photo", "right": "sketch"}
_LISTS = {"": "list_codes_train.txt", "test": "list_codes_test.txt"}


class LooksLike(PairedImages):
    """Totally-Looks-Like: left/<code>.jpg and right/<code>.jpg, photo-to-photo pairs."""

    RAW = "directory with left/, right/ and the two code lists"
    EXAMPLE = "--raw=Totally-Looks-Like-Data --data_dir=data"
    TRAIN_CONFIG = "configs/siamese_triplet.py"
    OPTIONS: ClassVar = (
        Option(
            "codes",
            "list",
            "list: the pairs in list_codes_train.txt and list_codes_test.txt, val drawn from the "
            "first; draw: every pair, splits drawn",
            ("list", "draw"),
        ),
    )

    @classmethod
    def scan(cls, raw: Path, *, codes: str) -> Scan:
        if not all((raw / side).is_dir() for side in _MODALITY):
            raise PrepareError(f"--raw={raw}: expected left/ and right/ in it")
        found = {side: _by_code(raw / side) for side in _MODALITY}
        if codes == "list":
            split_of = _listed(raw, found)
            left_out = len((found["left"].keys() | found["right"].keys()) - split_of.keys())
            notes = [f"{left_out:,} codes are in neither list and left out"] if left_out else []
        else:
            if single := sorted(found["left"].keys() ^ found["right"].keys()):
                raise PrepareError(
                    f"--raw={raw}: {len(single)} images have no partner in the other folder, "
                    f"{_some(single)}"
                )
            split_of, notes = dict.fromkeys(sorted(found["left"]), ""), []
        items = [
            Item(
                path=found[side][code],
                file=found[side][code].relative_to(raw).as_posix(),
                modality=modality,
                label=ONE_CLASS,
                instance_id=f"{ONE_CLASS}/{code}",
                split=split,
                photo_query=modality == "sketch",
            )
            for side, modality in _MODALITY.items()
            for code, split in split_of.items()
        ]
        notes.append(f"one class {ONE_CLASS!r}: retrieval by instance, the pair's code")
        return Scan(items=tuple(items), notes=tuple(notes))


def _by_code(folder: Path) -> dict[str, Path]:
    """The image file of each code, which is its path below the folder without suffix."""
    files: dict[str, Path] = {}
    for path in image_files(folder):
        code = path.relative_to(folder).with_suffix("").as_posix()
        if code in files:
            raise PrepareError(f"{folder}: {files[code].name} and {path.name} have one code")
        files[code] = path
    return files


def _listed(raw: Path, found: dict[str, dict[str, Path]]) -> dict[str, str]:
    """The split of each listed code: "test", or "" for the list that train and val share."""
    split_of: dict[str, str] = {}
    for split, name in _LISTS.items():
        path = raw / name
        if not path.is_file():
            raise PrepareError(
                f"{path}: no such file; without lists, --codes=draw draws the splits"
            )
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        listed = [code for code in (line.strip() for line in lines) if code]
        if not listed:
            raise PrepareError(f"{path}: no code in it")
        if twice := [c for c, n in Counter(listed).items() if n > 1 or c in split_of]:
            raise PrepareError(f"{path}: {len(twice)} codes are listed twice, {_some(twice)}")
        for side, files in found.items():
            if missing := sorted(set(listed) - files.keys()):
                raise PrepareError(
                    f"{path}: {len(missing)} codes have no image in {side}/, {_some(missing)}"
                )
        split_of |= dict.fromkeys(listed, split)
    return split_of


def _some(codes: Sequence[str]) -> str:
    return f"such as {', '.join(codes[:3])}"
