"""Draws train, val and test by photo instance, so that no sketch of a test photo is trained on."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import defaultdict
from collections.abc import Sequence

from data_prep.items import SPLITS, Item, PrepareError


def draw_splits(
    items: Sequence[Item], *, by: str = "instance", val: float, test: float, seed: int
) -> list[Item]:
    """Fills in every empty `split`.

    The unit is the photo instance: a photo, with all sketches that name it, goes to one split, also
    where the photo itself is absent. An item without an instance is its own unit. The draw is
    stratified by class and by what a unit holds (photos, sketches, or both); classes with fewer
    than three units of a kind are drawn from together. With `by="category"` the unit is the class.

    A split that some items already name is complete: only train, and the splits nobody named, are
    drawn into. The draw depends on the names of the units and on the seed, not on file order, and
    each stratum of three units or more reaches every drawn split.

    Args:
      items: with `split` in train, val, test or "".
      val, test: share of the units of a stratum, from 0 to below 1 together.
      seed: any integer.

    Returns:
      The items in their given order, each with a split.

    Raises:
      PrepareError: one instance is named in two splits, or a split would stay empty.
    """
    units: dict[str, list[Item]] = defaultdict(list)
    for item in items:
        units[_unit(item, by)].append(item)
    declared = {unit: _declared(unit, members) for unit, members in units.items()}
    named = set(declared.values())
    shares = {
        split: share
        for split, share in (("test", test), ("val", val))
        if split not in named and share > 0
    }

    strata: dict[tuple, list[str]] = defaultdict(list)
    for unit, members in units.items():
        if not declared[unit]:
            kind = tuple(sorted({item.modality for item in members}))
            strata[() if by == "category" else (members[0].label, kind)].append(unit)
    rare = [key for key, stratum in strata.items() if len(stratum) < 3]
    if len(rare) > 1:
        strata[("", "rare")] = [unit for key in rare for unit in strata.pop(key)]

    drawn = dict(declared)
    for stratum in strata.values():
        drawn |= _draw(stratum, shares, seed)
    _check_filled(set(drawn.values()), by, len(units))
    return [dataclasses.replace(item, split=drawn[_unit(item, by)]) for item in items]


def _unit(item: Item, by: str) -> str:
    if by == "category":
        return item.label
    return f"instance {item.instance_id}" if item.instance_id else f"file {item.file}"


def _declared(unit: str, members: list[Item]) -> str:
    splits = sorted({item.split for item in members} - {""})
    if len(splits) > 1:
        raise PrepareError(
            f"{unit} is in two splits, {splits[0]} and {splits[1]}: "
            "a photo and its sketches belong to one"
        )
    return splits[0] if splits else ""


def _draw(stratum: list[str], shares: dict[str, float], seed: int) -> dict[str, str]:
    # Ordered by a hash, so that a new file moves few others to another split.
    order = sorted(
        stratum, key=lambda unit: (hashlib.sha256(f"{seed}/{unit}".encode()).digest(), unit)
    )
    drawn: dict[str, str] = {}
    for split, share in shares.items():
        count = round(share * len(stratum))
        if len(stratum) > len(shares):
            count = max(1, count)
        # At least one unit stays for train.
        count = min(count, len(order) - 1)
        drawn |= dict.fromkeys(order[:count], split)
        order = order[count:]
    return drawn | dict.fromkeys(order, "train")


def _check_filled(filled: set[str], by: str, units: int) -> None:
    missing = [split for split in SPLITS if split not in filled]
    if not missing:
        return
    noun = "classes" if by == "category" else "photo instances"
    raise PrepareError(
        f"nothing is left for split {' or '.join(missing)}: {units} {noun} in all, at least 3 are "
        "needed, with --val and --test above 0; where splits are given by hand, leave those of the "
        "train rows empty and the missing split is drawn from them"
    )
