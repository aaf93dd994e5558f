"""The runs of a sweep: what `get_sweep()` of a config file asks for, checked and named."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from pathlib import Path

from absl import flags

from sbir_jax.config import ConfigError, RunConfig, resolve
from sbir_jax.overrides import call_config, load_config, override

_LONGEST = 100  # characters of a directory's name


@dataclasses.dataclass(frozen=True)
class Point:
    """One run of a sweep.

    Attributes:
      recipe: what it shares with the runs that differ from it by their seed alone.
      name: of its directory in the sweep's workdir.
      tokens: its overrides, as the command line has them.
      run: its settings, whole.
    """

    recipe: str
    name: str
    tokens: tuple[str, ...]
    run: RunConfig


def sweep_points(config: str, directory: Path, tokens: list[str]) -> list[Point]:
    """The runs of a sweep, in its order, each checked as `train` would check it.

    Args:
      config: name of the config file, as for `overrides.load_config`.
      directory: where config files are.
      tokens: overrides of the command line, for every run.

    Raises:
      ConfigError: the file, an entry or an override is wrong; names the entry.
    """
    entries = call_config(config, directory, "get_sweep")
    if not isinstance(entries, (list, tuple)) or not entries:
        raise ConfigError(f"--config={config}: get_sweep() gave {entries!r}, not a list of runs")
    points: dict[str, Point] = {}
    for number, entry in enumerate(entries):
        where = f"--config={config}: entry {number} of get_sweep()"
        given, overrides = _parts(entry, where)
        recipe = given or name_of(overrides)
        seeded = f"seed={overrides['seed']}" if "seed" in overrides else ""
        name = ",".join(part for part in (safe(recipe), seeded) if part) or "default"
        own = tuple(f"--config.{path}={value}" for path, value in overrides.items())
        swept = [f"--config.{path}" for path in overrides]
        for token in tokens:
            if token.split("=", 1)[0].replace("--", "-") in [s.replace("--", "-") for s in swept]:
                raise ConfigError(f"{token}: {where} sets it too")
        try:
            run = resolve(override(load_config(config, directory), [*tokens, *own]))
        except (ConfigError, flags.Error) as error:
            raise ConfigError(f"{where}: {error}") from error
        if name in points:
            raise ConfigError(f"{where}: {name!r} is there already; give it another name")
        points[name] = Point(recipe or "default", name, own, run)
    return list(points.values())


def name_of(overrides: dict[str, object]) -> str:
    """A directory's name for overrides, whatever their order: "name=triplet,lr=0.003".

    The seed is left out. A setting goes by its last word where no other of the overrides has it.
    """
    paths = sorted(path for path in overrides if path != "seed")
    leaves = [path.rpartition(".")[2] for path in paths]
    words = [
        f"{leaf if leaves.count(leaf) == 1 else path}={overrides[path]}"
        for path, leaf in zip(paths, leaves, strict=True)
    ]
    return safe(",".join(words))


def safe(name: str) -> str:
    """A name that every file system takes; two different ones stay different."""
    found = re.sub(r"[^A-Za-z0-9_.+=,*-]+", "_", name).strip(".")
    found = found.replace("*", "x")
    if found == name and len(found) <= _LONGEST:
        return found
    return f"{found[: _LONGEST - 9]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _parts(entry: object, where: str) -> tuple[str, dict[str, object]]:
    given, overrides = entry if isinstance(entry, tuple) and len(entry) == 2 else ("", entry)
    if not isinstance(given, str) or not isinstance(overrides, dict):
        raise ConfigError(f"{where}: {entry!r}: expected a dict of overrides, or (name, dict)")
    for path, value in overrides.items():
        if not isinstance(path, str) or not isinstance(value, (bool, int, float, str)):
            raise ConfigError(f"{where}: {path!r}: {value!r}: expected a number, a word or a bool")
    return given, overrides
