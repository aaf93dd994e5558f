"""What can be wrong with a checkpoint, each in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

_SHOWN = 8  # mismatching arrays named in one error


class CheckpointError(RuntimeError):
    """A checkpoint that is missing, damaged or of another model, said in one line."""


class CheckpointDamaged(CheckpointError):
    """A checkpoint that is there and is not what was saved."""


def unreadable(where: Path, reason: object) -> CheckpointDamaged:
    """A checkpoint, or a directory of them, that is there and cannot be read, and why."""
    return CheckpointDamaged(f"{where} cannot be read: {_first_line(reason)}")


def unsaved(where: Path, error: object) -> CheckpointError:
    """A checkpoint that did not get onto the disk, and why."""
    full = any(words in str(error) for words in ("No space left", "ENOSPC", "RESOURCE_EXHAUSTED"))
    why = "no space left on the disk" if full else _first_line(error)
    return CheckpointError(
        f"{where} cannot be saved: {why}; what was saved before is whole, and the same command "
        "continues from there"
    )


def check_fits(
    where: Path, wanted: dict[str, dict[str, Any]], stored: dict[str, dict[str, Any]]
) -> None:
    """Returns if the arrays in a checkpoint are those wanted, item by item, in shape and dtype.

    Raises:
      CheckpointError: they are not; names the first of what is missing, unlike and left over.
    """
    problems = []
    for name, arrays in wanted.items():
        have = stored.get(name) or {}
        for path, leaf in arrays.items():
            if path not in have:
                problems.append(f"{name}/{path} is missing")
            elif tuple(have[path].shape) != tuple(leaf.shape):
                problems.append(
                    f"{name}/{path} is {have[path].shape}, expected {tuple(leaf.shape)}"
                )
            elif have[path].dtype != leaf.dtype:
                problems.append(f"{name}/{path} is {have[path].dtype}, expected {leaf.dtype}")
        problems += [f"{name}/{path} is not in this model" for path in have if path not in arrays]
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        shown = "; ".join(problems[:_SHOWN])
        raise CheckpointError(f"{where} does not fit this model: {shown}{more}")


def _first_line(reason: object) -> str:
    """One line of a reason that may have many."""
    return (str(reason).splitlines() or [type(reason).__name__])[0][:200]
