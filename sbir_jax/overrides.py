"""Config files, the config a run keeps, and `--config.group.setting=value` on top of either.

`ml_collections` types and applies the overrides. What it reports as a traceback (an unknown
setting, a broken config file) is found here first and told in one line.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib.util
import json
import operator
import os
import re
import shutil
import textwrap
from collections.abc import Iterator
from pathlib import Path

import ml_collections
from absl import flags
from ml_collections import config_flags

from sbir_jax.config import ConfigError, RunConfig, default_config, nearest, resolve, settings


class NumberParser(flags.ArgumentParser):
    """Numbers of the command line; a whole one may be written 1e3, which `int` would refuse."""

    def __init__(self, kind: type) -> None:
        self.kind = kind

    def parse(self, argument: str | float) -> int | float:
        try:
            return self.kind(argument)
        except ValueError:
            pass
        try:
            number = float(argument)
        except ValueError:
            raise ValueError("expected a number") from None
        if not number.is_integer():
            raise ValueError("expected a whole number")
        return int(number)

    def flag_type(self) -> str:
        return self.kind.__name__


for _kind in (int, float):
    config_flags.register_flag_parser_for_type(_kind, NumberParser(_kind))


def config_files(directory: Path) -> list[str]:
    """The config files in a directory, as a user would type them from here."""
    paths = sorted(path for path in directory.glob("*.py") if not path.name.startswith("_"))
    return [min(os.path.relpath(path), str(path), key=len) for path in paths]


def config_list(directory: Path) -> str:
    """The config files in a directory, one a line, with the first line of their docstrings."""
    files = config_files(directory)
    width = max(map(len, files), default=0)
    rows = []
    for file in files:
        try:
            source = Path(file).read_text(encoding="utf-8")
            doc = ast.get_docstring(ast.parse(source)) or "(no docstring)"
        except SyntaxError as error:
            doc = f"(line {error.lineno}: {error.msg})"
        rows.append(f"  {file:<{width}}  {doc.splitlines()[0]}")
    return "\n".join(rows) or f"  (none in {directory})"


def load_config(name: str, directory: Path) -> ml_collections.ConfigDict:
    """The ConfigDict that `get_config()` of a file returns; `file.py:word` calls get_config(word).

    Args:
      name: path of the file, from the current directory.
      directory: where config files are; an error about a missing file names the nearest of them.

    Raises:
      ConfigError: the file is not there, is broken (names the line), returns something else, or
        settings that cannot work.
    """
    config = call_config(name, directory, "get_config")
    if not isinstance(config, ml_collections.ConfigDict):
        kind, file = type(config).__name__, name.split(":", 1)[0]
        raise ConfigError(
            f"--config={name}: get_config() of {file} returned {kind}, "
            "not the ConfigDict of default_config()"
        )
    _check(config, f"--config={name}")
    return config


def call_config(name: str, directory: Path, function: str) -> object:
    """What a function of a config file returns, iterators as lists; `load_config` explains `name`.

    Raises:
      ConfigError: the file is not there, is broken (names the line), or has no such function.
    """
    file, *argument = name.split(":", 1)
    path = Path(file)
    if path.suffix != ".py" or not path.is_file():
        valid = nearest(file, config_files(directory))
        raise ConfigError(f"--config={name}: no such config file; {valid}")
    spec = importlib.util.spec_from_file_location("config_file", path)
    assert spec and spec.loader  # as for every name that ends in .py
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        found = getattr(module, function)(*argument)
        found = list(found) if isinstance(found, Iterator) else found
    except SyntaxError as error:
        line = f"{error.filename}, line {error.lineno}: {error.msg}"
        raise ConfigError(f"--config={name}: {line}") from None
    except Exception as error:
        line = _line(error, path)
        if line is None and not hasattr(module, function):
            raise ConfigError(f"--config={name}: {file} defines no {function}()") from None
        where = f"{file}, line {line}" if line else file
        reason = f"{type(error).__name__}: {error}"
        raise ConfigError(f"--config={name}: {where}: {reason}") from error
    return found


def stored_config(workdir: Path) -> ml_collections.ConfigDict:
    """The config a run keeps in `workdir/config.json`.

    A setting that is newer than the run gets its default.

    Raises:
      ConfigError: the file is missing, unreadable, or holds settings that cannot work.
    """
    path = workdir / "config.json"
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise ConfigError(f"{path}: not the config of a run: {error}") from None
    values = _filled(stored, dataclasses.asdict(RunConfig()))
    _check(values, str(path))
    return ml_collections.ConfigDict(values)


def override(config: ml_collections.ConfigDict, tokens: list[str]) -> ml_collections.ConfigDict:
    """Applies `--config.group.setting=value` tokens to `config`, in place, and returns it.

    Raises:
      ConfigError: no such setting, or a group of them.
      absl.flags.Error: a value of the wrong type, none at all, or a setting given twice.
    """
    for token in tokens:
        _check_path(token)
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict("config", config, flag_values=values, sys_argv=["", *tokens])
    for name in values:
        values[name].allow_overwrite = False  # a setting given twice is an error, not a guess
    values.set_gnu_getopt(True)
    extra = values(["", *tokens])[1:]
    if extra:
        raise ConfigError(f"unexpected argument {extra[0]!r}; flags are written --name=value")
    return config


def _check(config: ml_collections.ConfigDict | dict, source: str) -> None:
    try:
        resolve(config)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}") from None


def _filled(stored: object, defaults: object) -> object:
    """`stored`, with defaults for the keys it lacks."""
    if not (isinstance(stored, dict) and isinstance(defaults, dict)):
        return stored
    filled = {key: _filled(value, defaults.get(key)) for key, value in stored.items()}
    return defaults | filled


def _check_path(token: str) -> None:
    match = re.match(r"--?config\.([^=]*)", token)
    paths = [path for path, _ in settings()]
    if not match or match[1] in paths:
        return
    path = match[1]
    group = [valid for valid in paths if valid.startswith(path + ".")]
    if group:
        raise ConfigError(f"{token}: a group of settings; set one of {', '.join(group)}")
    parent, _, leaf = path.rpartition(".")
    same_leaf = [valid for valid in paths if valid.rpartition(".")[2] == leaf]
    near = difflib.get_close_matches(path, paths, n=1, cutoff=0.7) or same_leaf
    hint = f"did you mean --config.{near[0]}? " if near else ""
    siblings = [valid for valid in paths if parent and valid.startswith(parent + ".")]
    valid = ", ".join(siblings or default_config())
    raise ConfigError(f"{token}: no such setting; {hint}valid: {valid}")


def _line(error: Exception, path: Path) -> int | None:
    """The last line of the file at `path` that `error` passed through."""
    line, trace = None, error.__traceback__
    while trace:
        if Path(trace.tb_frame.f_code.co_filename).absolute() == path.absolute():
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def settings_table(before: dict, after: dict) -> str:
    """Every setting: default, value before and after overrides (blank if unchanged), meaning.

    Args:
      before: nested settings of the config file, unchecked.
      after: nested settings once overrides are applied, complete.
    """
    defaults = dataclasses.asdict(RunConfig())
    rows = {}
    for path, field in settings():
        default, file, final = (_lookup(tree, path) for tree in (defaults, before, after))
        limits = field.metadata
        valid = " | ".join(map(str, limits["choices"]))
        if limits["low"] is not None:
            valid = f"{limits['low']:,} to {limits['high']:,}"
        rows[path] = (
            repr(default),
            "" if file == default else repr(file),
            "" if final == file else repr(final),
            limits["doc"] + (f" [{valid}]" if valid else ""),
        )
    header = ("default", "config file", "override", "meaning [valid values]")
    widths = [max(len(row[i]) for row in (header, *rows.values())) + 2 for i in range(3)]
    name_width = max(len(path.rpartition(".")[2]) for path in rows) + 4
    room = max(48, shutil.get_terminal_size((120, 24)).columns - name_width - sum(widths))
    indent = " " * (name_width + sum(widths))

    def line(name: str, cells: tuple[str, ...]) -> str:
        columns = zip(cells[:3], widths, strict=True)
        start = name.ljust(name_width) + "".join(cell.ljust(width) for cell, width in columns)
        return start + f"\n{indent}".join(textwrap.wrap(cells[3], room))

    lines, group = [line("", header)], ""
    for path, cells in rows.items():
        parent, _, name = path.rpartition(".")
        if parent != group:
            lines += ["", f"{parent}: {operator.attrgetter(parent)(RunConfig()).__doc__}"]
            group = parent
        lines.append(line(f"  {name}", cells))
    return "\n".join([*lines, "", "A run uses the rightmost value of each row."])


def _lookup(tree: object, path: str) -> object:
    for name in path.split("."):
        tree = tree.get(name) if isinstance(tree, dict) else None
    return tree
