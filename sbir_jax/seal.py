"""Checksums of the files of a checkpoint: what changed after it was saved is noticed and named.

A bit that flips inside an array would otherwise be trained on: the store checks its own index,
not the values. `seal.json` lies in the checkpoint and goes when it goes.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from sbir_jax.checksum import crc32_of

_NAME = "seal.json"


def write_seal(folder: Path) -> None:
    """Adds the sizes and CRC-32s of all files under `folder`."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.name != _NAME)
    sums = {p.relative_to(folder).as_posix(): [p.stat().st_size, _crc(p)] for p in files}
    partial = folder / (_NAME + ".partial")
    partial.write_text(json.dumps(sums, indent=1) + "\n")
    partial.replace(folder / _NAME)


def broken(folder: Path, items: Collection[str] = ()) -> str:
    """The first file that is not as it was sealed, in words; "" if all are.

    A checkpoint without a seal passes: it was saved by an older version, or its process was
    killed between the save and the seal.

    Args:
      folder: of the checkpoint.
      items: the items whose files to read; all by default. Files of no item are always read.
    """
    try:
        sums = json.loads((folder / _NAME).read_text())
    except FileNotFoundError:
        return ""
    except (OSError, ValueError):
        return f"{_NAME} is damaged"
    if not isinstance(sums, dict):
        return f"{_NAME} is damaged"
    for name, expected in sums.items():
        item, _, inside = name.partition("/")
        if items and inside and item not in items:
            continue
        try:
            if (folder / name).stat().st_size != expected[0]:
                return f"{name} has lost or gained bytes"
            if _crc(folder / name) != expected[1]:
                return f"{name} is not what was saved (checksum)"
        except OSError as error:
            return f"{name}: {error.strerror}"
        except (TypeError, IndexError):
            return f"{_NAME} is damaged"
    return ""


def _crc(path: Path) -> int:
    with path.open("rb") as file:
        return crc32_of(file, doing=f"checking {path.name}")
