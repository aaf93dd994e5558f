"""What one setting is: its meaning and valid values, the error of a bad one, durations, stages."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Sequence
from typing import Any


class ConfigError(ValueError):
    """A setting that cannot work. Its message is one line: config path, bad value, valid values."""


def setting(
    default: Any,
    doc: str,
    *,
    choices: tuple[str, ...] = (),
    low: float | None = None,
    high: float | None = None,
) -> Any:
    """A dataclass field with its one-line meaning and its valid values (bounds inclusive)."""
    metadata = {"doc": doc, "choices": choices, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


def nearest(name: object, valid: Iterable[object]) -> str:
    """`; did you mean 'x'?` or the list of valid names, to end an error line with."""
    names = [str(v) for v in valid]
    close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.6)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}valid: {', '.join(names)}"


_DURATION = re.compile(r"\s*([0-9]*\.?[0-9]+(?:e[0-9]+)?)\s*(steps?|epochs?|examples?|%)\s*")


def duration_steps(
    text: str, *, path: str, batch_size: int, epoch_size: int, total: int | None = None
) -> int:
    """Steps in a duration such as '400 steps', '30 epochs', '25600 examples' or '5%'.

    An example is one sketch-photo pair, an epoch is `epoch_size` of them; parts of a step are
    rounded up. Percent needs `total` steps.

    Raises:
      ConfigError: `text` does not parse, is percent without a total, or is not above zero
        (a zero is allowed with `total`, where it switches the thing off).
    """
    match = _DURATION.fullmatch(text)
    units = "steps, epochs or examples" + (", or %" if total is not None else "")
    if not match or (match[2] == "%" and total is None):
        raise ConfigError(
            f"config.{path}={text!r}: expected a number of {units}, such as '400 steps'"
        )
    amount, unit = float(match[1]), match[2].rstrip("s")
    if amount > 1e12:
        raise ConfigError(f"config.{path}={text!r}: at most 1e12")
    scale = {
        "step": 1.0,
        "epoch": epoch_size / batch_size,
        "example": 1 / batch_size,
        "%": (total or 0) / 100,
    }
    steps = math.ceil(round(amount * scale[unit], 6))
    if steps < 1 and total is None:
        raise ConfigError(f"config.{path}={text!r}: must be at least one step")
    return steps


def stages(text: str, *, path: str, names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """A choice that changes during the run, such as 'semi_hard, batch_hard@60%'.

    Returns:
      (name, after how long it begins) of each stage: (('semi_hard', '0 steps'),
      ('batch_hard', '60%')).

    Raises:
      ConfigError: a name that is not one of `names`, a first stage with a beginning, or a later
        one without.
    """
    found = []
    for number, stage in enumerate(text.split(",")):
        name, at, when = (part.strip() for part in stage.partition("@"))
        if name not in names:
            raise ConfigError(f"config.{path}={text!r}: {name!r}: {nearest(name, names)}")
        if number and not _DURATION.fullmatch(when):
            raise ConfigError(
                f"config.{path}={text!r}: {stage.strip()!r} does not say when it begins; write "
                f"NAME@DURATION, such as {name}@60%"
            )
        if at and not number:
            raise ConfigError(
                f"config.{path}={text!r}: {name!r} begins with the run; leave out @{when}"
            )
        found.append((name, when or "0 steps"))
    return tuple(found)


def stage_starts(
    text: str, *, path: str, names: Sequence[str], batch_size: int, epoch_size: int, total: int
) -> tuple[tuple[str, int], ...]:
    """`stages` in steps of a run of `total`: (('semi_hard', 0), ('batch_hard', 240)).

    Raises:
      ConfigError: as `stages`; or a stage would have no step, as it begins after the run has ended
        or not before the one that follows it.
    """
    sizes = {"batch_size": batch_size, "epoch_size": epoch_size, "total": total}
    written = stages(text, path=path, names=names)
    starts = [duration_steps(when, path=path, **sizes) for _, when in written]
    for (name, _), begin, end in zip(written, starts, [*starts[1:], total], strict=True):
        if begin >= end:
            raise ConfigError(
                f"config.{path}={text!r}: {name!r} would have no step: it begins after {begin}, "
                f"and is over after {end}, in this run of {total}"
            )
    return tuple((name, begin) for (name, _), begin in zip(written, starts, strict=True))
