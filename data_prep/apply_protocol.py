"""A protocol meets the files: which items are tested, and whether there are as many as expected."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from typing import Any

from data_prep.items import BadArgument, Item, PrepareError, Scan, class_key
from data_prep.protocol import Protocol, load_protocol

# The one option that may differ from the protocol's: it counts each variant.
_FREE = "gallery"


def protocol_for(name: str, dataset: str, given: dict[str, Any]) -> Protocol:
    """The protocol of that name, if it goes with a dataset and the options that were given.

    Raises:
      BadArgument: it does not, or it cannot be run.
    """
    protocol = load_protocol(name)
    if protocol.obstacle:
        raise BadArgument(f"--protocol={name}: {protocol.obstacle}")
    if protocol.dataset != dataset:
        raise BadArgument(f"--protocol={name}: is of dataset {protocol.dataset}, not {dataset}")
    for option, value in given.items():
        fixed = protocol.options.get(option)
        if fixed not in (None, value) and option != _FREE:
            raise BadArgument(f"--{option}={value}: --protocol={name} says {fixed}")
    if protocol.zero_shot and given.get("unseen"):
        raise BadArgument(f"--unseen: --protocol={name} names the unseen classes")
    return protocol


def mark(protocol: Protocol, scan: Scan, *, strict: bool) -> Scan:
    """The scan with the protocol's test classes in test; other classes than its own left out.

    Raises:
      PrepareError: classes without images (with `strict` only; else a note).
    """
    known = [*(protocol.unseen or ()), *(protocol.seen or ())]
    keys = {class_key(name) for name in known}
    present = {class_key(item.label) for item in scan.items}
    notes = [f"protocol {protocol.name}: {protocol.title}"]
    if missing := [name for name in known if class_key(name) not in present]:
        problem = f"{len(missing)} of its classes have no images: {_some(missing)}"
        if strict:
            raise PrepareError(
                f"protocol {protocol.name}: {problem}; --on_counts=note goes on without them"
            )
        notes.append(problem)
    items = [item for item in scan.items if class_key(item.label) in keys]
    if len(items) < len(scan.items):
        others = sorted({item.label for item in scan.items if class_key(item.label) not in keys})
        notes.append(f"{len(others)} classes are not of it and left out: {_some(others)}")
    if protocol.unseen:
        unseen = {class_key(name) for name in protocol.unseen}
        items = [
            dataclasses.replace(item, split="test" if class_key(item.label) in unseen else "")
            for item in items
        ]
    return dataclasses.replace(
        scan,
        items=tuple(items),
        split_by="category" if protocol.zero_shot else scan.split_by,
        notes=(*notes, *scan.notes),
    )


def differences(protocol: Protocol, items: Sequence[Item], gallery: str) -> list[str]:
    """One line for each number that is not the expected one; numbers not known are not compared.

    Args:
      items: with their final splits.
      gallery: variant of the gallery.
    """
    counts = protocol.counts
    of = Counter((item.modality, item.split == "test") for item in items)
    seen = None
    if counts.seen_sketches is not None:
        seen = counts.seen_sketches + (counts.held_back_sketches or 0)
    expected = {
        "test sketches": (of["sketch", True], counts.queries),
        f"test photos ({gallery})": (of["photo", True], counts.gallery[gallery]),
        "sketches to train and validate on": (of["sketch", False], seen),
        f"photos to train and validate on ({gallery})": (
            of["photo", False],
            counts.seen_photos[gallery],
        ),
    }
    tested = Counter((class_key(i.label), i.modality) for i in items if i.split == "test")
    for name, row in counts.per_class.items():
        key = class_key(name)
        expected[f"{name}, test sketches"] = tested[key, "sketch"], row.get("queries")
        expected[f"{name}, test photos ({gallery})"] = tested[key, "photo"], row.get(gallery)
    return [
        f"{what}: {here:,} here, {wanted:,} expected"
        for what, (here, wanted) in expected.items()
        if wanted is not None and here != wanted
    ]


def remembered(
    protocol: Protocol, options: dict[str, Any], items: Sequence[Item], differing: Sequence[str]
) -> dict[str, Any]:
    """What a prepared dataset, and every result on it, says about its protocol; JSON-ready."""
    held_out = {item.label for item in items if item.split == "val"} if protocol.zero_shot else ()
    return {
        "name": protocol.name,
        "title": protocol.title,
        "fingerprint": protocol.fingerprint(options),
        "options": {name: options[name] for name in protocol.options},
        "level": protocol.level,
        "within_class": protocol.within_class,
        "metrics": protocol.metrics,
        "unseen_classes": len(protocol.unseen or ()),
        "classes_held_out_for_validation": sorted(held_out),
        "counts_that_differ": list(differing),
    }


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
