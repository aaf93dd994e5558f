"""Patterns over the paths of parameters: 'trunks/*', '*norm*', 'heads'.

They are shell globs on whole paths, where * also crosses a slash. A pattern takes what it matches
and all below: 'heads' is 'heads/*', and '*/blocks/1' is block 1 but not block 10.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from sbir_jax.setting import ConfigError

_SHOWN = 12  # kinds of parameters named in one error


def patterns(text: str) -> tuple[str, ...]:
    """The patterns of a list such as '*norm*, heads/*'; () of an empty one."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern names the parameter at `path`, or what holds it."""
    pattern = pattern.rstrip("/")
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"{pattern}/*")


def named(pattern: str, paths: Iterable[str], *, setting: str) -> set[str]:
    """The paths that a pattern matches.

    Args:
      pattern: one.
      paths: of all parameters.
      setting: 'optim.freeze=...' as the user wrote it, to begin an error line with.

    Raises:
      ConfigError: none.
    """
    paths = list(paths)
    if found := {path for path in paths if matches(pattern, path)}:
        return found
    kinds = list(dict.fromkeys(_kind(path) for path in paths))
    names = {name: f"*{name}*" for path in paths for name in path.split("/")}
    names |= {name: f"{name}/*" for name in (path.partition("/")[0] for path in paths)}
    close = difflib.get_close_matches(pattern.strip("*/"), names, n=1)
    near = names[close[0]] if close else ""
    hint = f"did you mean {near!r}? " if near else ""
    more = ", ..." if len(kinds) > _SHOWN else ""
    raise ConfigError(
        f"config.{setting}: {pattern!r} matches no parameter; {hint}this model has "
        f"{', '.join(kinds[:_SHOWN])}{more}"
    )


def rates(text: str, *, setting: str) -> tuple[tuple[str, float], ...]:
    """The patterns of 'prompts*: 100, heads/*: 10', each with its number.

    Raises:
      ConfigError: an entry without a pattern or a number above 0.
    """
    found = []
    for entry in patterns(text):
        pattern, _, number = (part.strip() for part in entry.rpartition(":"))
        try:
            rate = float(number)
        except ValueError:
            rate = 0.0
        if not pattern or not 0 < rate <= 1e6:
            raise ConfigError(
                f"config.{setting}={text!r}: {entry!r}: expected PATTERN: NUMBER with a number "
                "above 0, up to 1e6, such as 'heads/*: 10'"
            )
        found.append((pattern, rate))
    return tuple(found)


def _kind(path: str) -> str:
    """A pattern that is valid and short: without the leaf, any number for a number."""
    return re.sub(r"(?<=/)[0-9]+(?=/|$)", "*", path.rpartition("/")[0])
