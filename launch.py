"""Train and evaluate sketch-to-photo retrieval: python launch.py VERB --flag=value ...

A run is one config file, overrides of single settings, and a workdir that keeps all it makes:

  python launch.py train --config=configs/pacs_cpu.py --config.optim.lr=3e-4 --workdir=runs/a
  python launch.py evaluate --workdir=runs/a
"""

# This file knows flags, verbs and one-line errors; the work is in sbir_jax. To add a verb, write
# a function of (given, overrides) and add it to VERBS. Heavy imports stay inside the verbs: help,
# `configs`, `show` and every user error answer in 0.1 s, where importing JAX takes a second.

from __future__ import annotations

import dataclasses
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

from absl import flags

from sbir_jax.config import ConfigError, RunConfig, default_config, nearest, resolve, settings
from sbir_jax.overrides import (
    config_files,
    config_list,
    load_config,
    override,
    settings_table,
    stored_config,
)

CONFIGS = Path(__file__).resolve().parent / "configs"
HELP = ("help", "--help", "-h", "-help", "--helpfull", "--helpshort")

# Errors that explain themselves in one line, by module. Only a loaded module can have raised
# one, so `sys.modules` finds these classes without importing anything.
RUN_ERRORS = {
    "sbir_jax.data.source": "DatasetError",
    "sbir_jax.checkpoint": "CheckpointError",
    "sbir_jax.train": "TrainingDiverged",
    "data_prep.items": "PrepareError",
}


class UsageError(Exception):
    """A command line that cannot work; the message is one line."""


# Verbs: each takes its own flags as {name: value} and the tokens of config overrides.


def train(given: dict[str, str], overrides: list[str]) -> None:
    """Train a model, or continue a run that was stopped."""
    workdir = _workdir(given)
    if given["config"]:
        config = load_config(given["config"], CONFIGS)
    elif (workdir / "config.json").exists():
        config = stored_config(workdir)
    else:
        raise UsageError(f"missing --config=FILE; configs: {', '.join(config_files(CONFIGS))}")
    run = resolve(override(config, overrides))
    _make_workdir(workdir)
    _ready_libraries()
    _draw_demo_once(run)
    from sbir_jax.train import train as train_run

    train_run(run, workdir)


def evaluate(given: dict[str, str], overrides: list[str]) -> None:
    """Measure retrieval of a trained (or untrained) model on a whole split."""
    workdir, checkpoint, split = _workdir(given), given["checkpoint"], given["split"]
    if checkpoint not in ("best", "latest", "none") and not checkpoint.isdecimal():
        valid = nearest(checkpoint, ("best", "latest", "none"))
        raise UsageError(f"--checkpoint={checkpoint}: {valid}, or a step number")
    if split not in ("test", "val", "train"):
        raise UsageError(f"--split={split}: {nearest(split, ('test', 'val', 'train'))}")
    if (workdir / "config.json").exists():
        if given["config"]:
            raise UsageError(
                f"--config={given['config']}: {workdir} holds its own config; leave --config out"
            )
        config = stored_config(workdir)
        for token in overrides:
            if re.match(r"--?config\.(?!data\.dir\b|eval\.)", token):
                raise UsageError(
                    f"{token}: evaluate can change only config.data.dir and config.eval.* of a run"
                )
    elif checkpoint == "none" and given["config"]:
        config = load_config(given["config"], CONFIGS)
    elif checkpoint == "none":
        raise UsageError(
            f"--workdir={workdir}: no run there; --checkpoint=none needs --config=FILE"
        )
    else:
        raise UsageError(
            f"--workdir={workdir}: no run there (no config.json); make one with "
            f"python launch.py train --config=FILE --workdir={workdir}"
        )
    run = resolve(override(config, overrides))
    _make_workdir(workdir)
    _ready_libraries()
    _draw_demo_once(run)
    from sbir_jax.evaluate import evaluate_workdir

    evaluate_workdir(workdir, checkpoint=checkpoint, split=split, run=run)


def configs(given: dict[str, str], overrides: list[str]) -> None:
    """List the config files, each with the first line of its docstring."""
    print(config_list(CONFIGS))


def show(given: dict[str, str], overrides: list[str]) -> None:
    """Print every setting with its meaning and valid values, before and after overrides."""
    if given["config"] and given["workdir"]:
        raise UsageError("--config and --workdir: show reads one of them, not both")
    if given["workdir"]:
        config = stored_config(_workdir(given))
    else:
        config = load_config(given["config"], CONFIGS) if given["config"] else default_config()
    before = config.to_dict()
    after = dataclasses.asdict(resolve(override(config, overrides)))
    print(settings_table(before, after))


@dataclasses.dataclass(frozen=True)
class Verb:
    """A verb's function, its flags as {name: (default, meaning)}, and an example's arguments."""

    run: Callable[[dict[str, str], list[str]], None]
    flags: dict[str, tuple[str, str]]
    example: str


VERBS = {
    "train": Verb(
        train,
        {
            "config": ("", "config file; leave it out to continue the run in --workdir"),
            "workdir": ("", "directory for config, metrics, checkpoints, results (required)"),
        },
        "--config=configs/quickstart.py --workdir=runs/quickstart",
    ),
    "evaluate": Verb(
        evaluate,
        {
            "workdir": ("", "directory of the run to evaluate; results go there (required)"),
            "checkpoint": ("best", "best, latest, a step number, or none (untrained)"),
            "split": ("test", "test, val or train"),
            "config": ("", "config file, only for --checkpoint=none and a workdir without a run"),
        },
        "--workdir=runs/quickstart",
    ),
    "configs": Verb(configs, {}, ""),
    "show": Verb(
        show,
        {
            "config": ("", "config file; leave it out to see the defaults"),
            "workdir": ("", "show the config of this run instead"),
        },
        "--config=configs/quickstart.py --config.optim.lr=3e-4",
    ),
}


def main(argv: list[str]) -> int:
    """Runs one command line (without the program's name) and returns its exit code.

    0: done, or help was asked for (no arguments ask for help too). 1: the run failed in a way
    its message explains. 2: the command line or a setting is wrong. 130: stopped by Ctrl-C.
    A bug in the code keeps its traceback.
    """
    try:
        if not argv or argv[0] in HELP:
            print(_verb_help(argv[1]) if argv[:1] == ["help"] and argv[1:] else _help())
        elif not set(argv[1:]).isdisjoint(HELP):
            print(_verb_help(argv[0]))
        else:
            given, overrides = _parse(argv[0], argv[1:])
            VERBS[argv[0]].run(given, overrides)
    except (UsageError, ConfigError, flags.Error) as error:
        return _fail(error, code=2)
    except BrokenPipeError:  # the reader of our output, such as `head`, has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return _fail("stopped; the same command continues the run", code=130)
    except Exception as error:
        if isinstance(error, _run_errors()):
            return _fail(error, code=1)
        raise
    return 0


# Reading the command line


def _parse(name: str, argv: list[str]) -> tuple[dict[str, str], list[str]]:
    """Splits a verb's arguments into its own flags and the tokens of config overrides."""
    verb, values = _verb(name), flags.FlagValues()
    for flag, (default, meaning) in verb.flags.items():
        flags.DEFINE_string(flag, default, meaning, flag_values=values, allow_overwrite=False)
    values.set_gnu_getopt(True)
    overrides = values(["", *argv], known_only=True)[1:]
    given = {flag: values[flag].value for flag in verb.flags}
    for flag, value in given.items():
        if value.startswith("--"):
            raise UsageError(f"missing value for --{flag}; write --{flag}=VALUE")
    for token in overrides:
        flag = re.match(r"--?([A-Za-z][^=]*)", token)
        if flag and not (flag[1].startswith("config.") and "config" in verb.flags):
            _unknown_flag(name, token, flag[1])
    if overrides and "config" not in verb.flags:
        raise UsageError(f"unexpected argument {overrides[0]!r}; {name} takes none")
    return given, overrides


def _unknown_flag(verb: str, token: str, flag: str) -> None:
    own = [f"--{valid}" for valid in VERBS[verb].flags]
    if own:
        paths = [path for path, _ in settings()]
        if flag in paths:
            raise UsageError(f"{token}: no such flag of {verb}; did you mean --config.{flag}?")
        own.append("--config.GROUP.SETTING")
    valid = nearest(f"--{flag}", [*own, "--help"])
    raise UsageError(f"{token}: no such flag of {verb}; {valid}")


def _verb(name: str) -> Verb:
    if name not in VERBS:
        raise UsageError(f"{name!r}: no such verb; {nearest(name, VERBS)}")
    return VERBS[name]


def _workdir(given: dict[str, str]) -> Path:
    if not given["workdir"]:
        raise UsageError("missing --workdir=DIR, the directory of the run, as in runs/a")
    workdir = Path(given["workdir"])
    if workdir.exists() and not workdir.is_dir():
        raise UsageError(f"--workdir={workdir}: is a file; name a directory")
    return workdir


def _make_workdir(workdir: Path) -> None:
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--workdir={workdir}: cannot be made: {error.strerror}") from None
    if not os.access(workdir, os.W_OK | os.X_OK):
        raise UsageError(f"--workdir={workdir}: cannot be written to")


def _run_errors() -> tuple[type[Exception], ...]:
    loaded = [(sys.modules.get(module), name) for module, name in RUN_ERRORS.items()]
    return tuple(getattr(module, name) for module, name in loaded if hasattr(module, name))


def _fail(error: object, *, code: int) -> int:
    text = " ".join(str(error).split()).removeprefix("flag ")
    print(f"launch.py: {text}", file=sys.stderr)
    return code


# Before a run


def _ready_libraries() -> None:
    """Settles what must be settled before JAX, Grain and Orbax are imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # remarks of XLA about the host's CPU
    from absl import logging

    # Orbax and TFDS log each of their steps, and Orbax a traceback before an error of ours.
    logging.set_verbosity(logging.FATAL)
    flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl's global flags


def _draw_demo_once(run: RunConfig) -> None:
    demo = Path(run.data.dir) / "demo"
    if run.data.name == "demo" and not demo.exists():
        print(f"drawing the demo dataset into {demo} first", flush=True)
        from data_prep.prepare import prepare

        prepare("demo", data_dir=run.data.dir)


# Text


def _help() -> str:
    lines = [__doc__.strip(), "", "Verbs (python launch.py VERB --help tells more):", ""]
    for name, verb in VERBS.items():
        lines += [f"  {name:<10}{verb.run.__doc__}", " " * 12 + _example(name)]
    return "\n".join([*lines, "", "Configs:", "", config_list(CONFIGS)])


def _verb_help(name: str) -> str:
    verb = _verb(name)
    lines = [f"python launch.py {name}: {verb.run.__doc__}", ""]
    for flag, (default, meaning) in verb.flags.items():
        lines.append(f"  --{flag:<12}{meaning}" + (f" (default: {default})" if default else ""))
    if "config" in verb.flags:
        lines += [
            "  --config.GROUP.SETTING=VALUE",
            "                override one setting, as in --config.data.batch_size=128; to see all",
            "                settings and their valid values: python launch.py show --config=FILE",
        ]
    return "\n".join([*lines, "", "Example:", f"  {_example(name)}"])


def _example(name: str) -> str:
    return f"python launch.py {name} {VERBS[name].example}".strip()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
