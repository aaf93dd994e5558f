"""What the verbs on an index share: the index, its encoders, and flags of numbers and names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from sbir_jax.cli import Flag, Given, UsageError
from sbir_jax.config import nearest

if TYPE_CHECKING:
    from sbir_jax.retrieval.encoders import Encoders
    from sbir_jax.retrieval.store import Store

INDEX = Flag("directory of an index, or postgresql://... (required)")
NAME = Flag("of the index in a database", default="photos")
MOVED = Flag("where the run of the index is now, if it was moved")


def opened(given: Given, **options: Any) -> tuple[Store, Encoders]:
    """An index, and the encoders that it was made with; options of `load_encoders`."""
    from sbir_jax.retrieval.queries import encoders_of
    from sbir_jax.retrieval.store import open_store

    index = open_store(given["index"], given["name"])
    return index, encoders_of(index, given["workdir"], **options)


def path(given: Given, flag: str, meaning: str) -> Path:
    """The directory that a flag names, which it must."""
    if not given[flag]:
        raise UsageError(f"missing --{flag}=DIR, {meaning}")
    return Path(given[flag])


def method(given: Given) -> str:
    """How photos are searched: a way that the store of --index has."""
    from sbir_jax.retrieval.store import methods_of

    return one_of(given, "method", methods_of(given["index"]))


def one_of(given: Given, flag: str, valid: tuple[str, ...]) -> Any:
    """The value of a flag with few valid ones."""
    if given[flag] not in valid:
        raise UsageError(f"--{flag}={given[flag]}: {nearest(given[flag], valid)}")
    return given[flag]


def number(given: Given, flag: str, *, low: int, high: int) -> int:
    """The whole number that a flag gives."""
    text = given[flag]
    if not (text.isdecimal() and low <= int(text) <= high):
        raise UsageError(f"--{flag}={text}: expected a whole number from {low} to {high:,}")
    return int(text)


def real(given: Given, flag: str, *, low: float, high: float) -> float:
    """The number that a flag gives."""
    try:
        value = float(given[flag])
    except ValueError:
        value = float("nan")
    if not low <= value <= high:
        raise UsageError(f"--{flag}={given[flag]}: expected a number from {low:g} to {high:g}")
    return value
