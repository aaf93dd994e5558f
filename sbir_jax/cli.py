"""The command line: verbs with their flags, config overrides, help, and errors of one line.

A program hands `run` its verbs; each is a function of (its flags by name, tokens of config
overrides). Nothing here imports JAX: help and every mistake answer in 0.1 s.
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from absl import flags

from sbir_jax.config import ConfigError, nearest, settings
from sbir_jax.interrupt import Stopped
from sbir_jax.overrides import config_list

HELP = ("help", "--help", "-h", "-help", "--helpfull", "--helpshort")

Given = dict[str, Any]  # by flag: its text, or of a switch whether it is there
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room on the disk, or none allowed
_REFUSED = (errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO)  # by a disk, often as it fails

# A password in an address, `://user:password@` or `password=`: no message repeats it.
_SECRET = re.compile(r"(://[^\s:/@]*:).*(?=@)|(password=)[^\s&]*")


class UsageError(Exception):
    """A command line that cannot work; the message is one line."""


@dataclasses.dataclass(frozen=True)
class Flag:
    """One flag of a verb.

    Attributes:
      meaning: a line of help.
      only_with: of the verb's modes, those it belongs to; empty for all.
      default: its value when it is not given; False makes it a switch, which takes no value.
    """

    meaning: str
    only_with: tuple[str, ...] = ()
    default: str | bool = ""


@dataclasses.dataclass(frozen=True)
class Verb:
    """One verb.

    Attributes:
      run: what it does; the first line of its docstring is its help.
      flags: by name, in the order that help shows.
      examples: what it does to arguments, for help; what a sole one does need not be said.
      modes: flags of which exactly one must be given, as it decides what the verb does.
      words: what words without a flag are, as in "sketch files"; the verb gets them in place of
        overrides. Empty: it takes none.
    """

    run: Callable[[Given, list[str]], None]
    flags: Mapping[str, Flag] = dataclasses.field(default_factory=dict)
    examples: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"": ""})
    modes: tuple[str, ...] = ()
    words: str = ""


def run(
    argv: list[str],
    verbs: Mapping[str, Verb],
    *,
    about: str,
    configs: Path,
    run_errors: Mapping[str, str],
) -> int:
    """Runs one command line (without the program's name) and returns its exit code.

    0: done, or help was asked for (no arguments ask for help too). 1: the run failed in a way
    its message explains. 2: the command line or a setting is wrong. 130: stopped by Ctrl-C, 143: by
    SIGTERM. A bug in the code keeps its traceback.

    Args:
      argv: the words.
      verbs: by name.
      about: what the program is, for help.
      configs: directory of config files, for help.
      run_errors: exceptions that explain themselves in one line, {module: name}. Only a loaded
        module can have raised one, so they are found without importing anything.
    """
    try:
        if not argv or argv[0] in HELP:
            of_verb = argv[:1] == ["help"] and argv[1:]
            print(_verb_help(verbs, argv[1]) if of_verb else _help(verbs, about, configs))
        elif not set(argv[1:]).isdisjoint(HELP):
            print(_verb_help(verbs, argv[0]))
        else:
            given, overrides = _parse(verbs, argv[0], argv[1:])
            verbs[argv[0]].run(given, overrides)
    except (UsageError, ConfigError, flags.Error) as error:
        return _fail(error, code=2)
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Stopped as stop:
        return _fail(stop, code=stop.code)
    except KeyboardInterrupt:
        return _fail("stopped; the same command continues the run", code=130)
    except OSError as error:
        if error.errno not in _FULL + _REFUSED:
            raise
        place = f" ({error.filename})" if error.filename else ""
        full, refused = "free some, and run the same command", "mend that, and run the same command"
        cure = full if error.errno in _FULL else refused
        return _fail(f"{error.strerror}{place}; {cure}", code=1)
    except Exception as error:
        loaded = [(sys.modules.get(module), name) for module, name in run_errors.items()]
        if isinstance(error, tuple(getattr(m, n) for m, n in loaded if hasattr(m, n))):
            return _fail(error, code=1)
        raise
    return 0


def _fail(error: object, *, code: int) -> int:
    text = _SECRET.sub(r"\1\2...", " ".join(str(error).split()).removeprefix("flag "))
    print(f"launch.py: {text}", file=sys.stderr)
    return code


# What flags name


def workdir_of(given: Given) -> Path:
    """The directory that --workdir names; it need not exist."""
    if not given["workdir"]:
        raise UsageError("missing --workdir=DIR, the directory of the run, as in runs/a")
    workdir = Path(given["workdir"])
    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"--workdir={workdir}: is a file; name a directory")
    return workdir


def make_directory(flag: str, path: Path | None) -> None:
    """Makes the directory that a flag names, if it names one, and checks that it takes files."""
    if path is None:
        return
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--{flag}={path}: cannot be made: {error.strerror}") from None
    if not os.access(path, os.W_OK | os.X_OK):
        raise UsageError(f"--{flag}={path}: cannot be written to")


# Reading the command line


def _parse(verbs: Mapping[str, Verb], name: str, argv: list[str]) -> tuple[Given, list[str]]:
    """Splits a verb's arguments into its own flags and the tokens of overrides, or its words."""
    verb, values = _verb(verbs, name), flags.FlagValues()
    for flag, known in verb.flags.items():
        switch = known.default is False
        define: Any = flags.DEFINE_boolean if switch else flags.DEFINE_string
        define(flag, known.default, known.meaning, flag_values=values, allow_overwrite=False)
    values.set_gnu_getopt(True)
    overrides = values(["", *argv], known_only=True)[1:]
    given = {flag: values[flag].value for flag in verb.flags}
    for flag, value in given.items():
        if str(value).startswith("--"):
            raise UsageError(f"missing value for --{flag}; write --{flag}=VALUE")
    for token in overrides:
        flag = re.match(r"--?([A-Za-z][^=]*)", token)
        if flag and not (flag[1].startswith("config.") and "config" in verb.flags):
            _unknown_flag(name, verb, token, flag[1])
    if overrides and "config" not in verb.flags and not verb.words:
        raise UsageError(f"unexpected argument {overrides[0]!r}; {name} takes none")
    if verb.modes:
        _check_mode(name, verb, [flag for flag in verb.flags if values[flag].present])
    return given, overrides


def _check_mode(name: str, verb: Verb, present: list[str]) -> None:
    chosen = [f"--{mode}" for mode in verb.modes if mode in present]
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)}: {name} takes one of them, not both")
    for flag in present:
        own = [f"--{mode}" for mode in verb.flags[flag].only_with]
        if own and not set(own) & set(chosen):
            without = f", not with {chosen[0]}" if chosen else ""
            raise UsageError(f"--{flag}: goes with {' or '.join(own)}{without}")
    if not chosen:
        *others, last = (f"--{mode}" for mode in verb.modes)
        raise UsageError(f"missing {', '.join(others)} or {last}; see {name} --help")


def _unknown_flag(name: str, verb: Verb, token: str, flag: str) -> None:
    own = [f"--{valid}" for valid in verb.flags]
    if own:
        paths = [path for path, _ in settings()]
        if flag in paths:
            raise UsageError(f"{token}: no such flag of {name}; did you mean --config.{flag}?")
        own.append("--config.GROUP.SETTING")
    valid = nearest(f"--{flag}", [*own, "--help"])
    raise UsageError(f"{token}: no such flag of {name}; {valid}")


def _verb(verbs: Mapping[str, Verb], name: str) -> Verb:
    if name not in verbs:
        raise UsageError(f"{name!r}: no such verb; {nearest(name, verbs)}")
    return verbs[name]


# Help


def _help(verbs: Mapping[str, Verb], about: str, configs: Path) -> str:
    lines = [about.strip(), "", "Verbs (python launch.py VERB --help tells more):", ""]
    for name, verb in verbs.items():
        lines += [f"  {name:<12}{_summary(verb)}", " " * 14 + _command(name, verb)]
    return "\n".join([*lines, "", "Configs:", "", config_list(configs)])


def _verb_help(verbs: Mapping[str, Verb], name: str) -> str:
    verb = _verb(verbs, name)
    lines = [f"python launch.py {name}: {_summary(verb)}"]
    lines += ["", f"  {verb.words}"] if verb.words else []
    group: tuple[str, ...] | None = None
    for flag, known in verb.flags.items():
        own = (flag,) if flag in verb.modes else known.only_with
        if own != group:
            group = own
            lines += ["", *([f"With --{' or --'.join(own)}:"] if own else [])]
        default = f" (default: {known.default})" if known.default else ""
        lines.append(f"  --{flag:<16}{known.meaning}{default}")
    if "config" in verb.flags:
        lines += [
            "",
            "  --config.GROUP.SETTING=VALUE",
            "                override one setting, as in --config.data.batch_size=128; to see all",
            "                settings and their valid values: python launch.py show --config=FILE",
        ]
    lines += ["", "Examples:" if len(verb.examples) > 1 else "Example:"]
    for what, arguments in verb.examples.items():
        lines += [f"  # {what}"] if what else []
        lines.append(f"  python launch.py {name} {arguments}".rstrip())
    return "\n".join(lines)


def _summary(verb: Verb) -> str:
    return (verb.run.__doc__ or "").strip().splitlines()[0]


def _command(name: str, verb: Verb) -> str:
    return f"python launch.py {name} {next(iter(verb.examples.values()))}".rstrip()
