"""The run that a verb works on: its settings and its workdir, and what must be ready before it."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from absl import flags

from sbir_jax import cpus
from sbir_jax.cli import Given, UsageError, make_directory, workdir_of
from sbir_jax.config import RunConfig, nearest, resolve
from sbir_jax.overrides import load_config, override, stored_config

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CHECKPOINT = "best, latest, a step, none (untrained) or pretrained (published)"
COMPILE_CACHE = (
    "directory of compiled programs, or off (default: one in the user's cache directory)"
)
_UNTRAINED = ("none", "pretrained")  # these need no run


def to_measure(given: Given, overrides: list[str]) -> tuple[Path, RunConfig]:
    """The workdir, and the settings of its run or, where there is none, those of --config.

    Raises:
      UsageError: there is neither; or overrides of what a run cannot change any more.
      ConfigError: overrides that are not valid.
    """
    workdir = workdir_of(given)
    if (workdir / "config.json").exists():
        if given["config"]:
            raise UsageError(
                f"--config={given['config']}: {workdir} holds its own config; leave --config out"
            )
        config = stored_config(workdir)
        for token in overrides:
            if re.match(r"--?config\.(?!data\.dir\b|eval\.)", token):
                raise UsageError(
                    f"{token}: of a run only config.data.dir and config.eval.* can change here"
                )
    elif given["checkpoint"] in _UNTRAINED and given["config"]:
        config = load_config(given["config"], CONFIGS)
    elif given["checkpoint"] in _UNTRAINED:
        raise UsageError(
            f"--workdir={workdir}: no run there; --checkpoint={given['checkpoint']} needs "
            "--config=FILE"
        )
    else:
        raise UsageError(
            f"--workdir={workdir}: no run there (no config.json); make one with "
            f"python launch.py train --config=FILE --workdir={workdir}"
        )
    run = resolve(override(config, overrides))
    make_directory("workdir", workdir)
    ready_libraries()
    draw_demo_once(run)
    return workdir, run


def checkpoint(given: Given) -> str:
    """The value of --checkpoint.

    Raises:
      UsageError: it is none.
    """
    checkpoint = given["checkpoint"]
    words = ("best", "latest", *_UNTRAINED)
    if checkpoint not in words and not checkpoint.isdecimal():
        valid = nearest(checkpoint, words)
        raise UsageError(f"--checkpoint={checkpoint}: {valid}, or a step number")
    return checkpoint


def split(given: Given) -> str:
    """The value of --split.

    Raises:
      UsageError: it is none.
    """
    if given["split"] not in ("test", "val", "train"):
        valid = nearest(given["split"], ("test", "val", "train"))
        raise UsageError(f"--split={given['split']}: {valid}")
    return given["split"]


def ready_libraries(compile_cache: str = "") -> None:
    """Settles what must be settled before JAX, Grain and Orbax are used.

    `compile_cache`: the value of --compile_cache, if the verb has it.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # remarks of XLA about the host's CPU
    from absl import logging

    # Orbax and TFDS log each of their steps, and Orbax a traceback before an error of ours.
    logging.set_verbosity(logging.FATAL)
    flags.FLAGS.mark_as_parsed()  # Grain's worker processes read absl's global flags
    from sbir_jax.compile_cache import use_compile_cache

    cpus.run_in_own_thread()
    if compile_cache not in ("", "off"):
        make_directory("compile_cache", Path(compile_cache))
    if why := use_compile_cache(compile_cache):
        print(f"no compilation cache: {why}", file=sys.stderr)


def draw_demo_once(run: RunConfig) -> None:
    demo = Path(run.data.dir) / "demo"
    if run.data.name == "demo" and not demo.exists():
        print(f"drawing the demo dataset into {demo} first", flush=True)
        from data_prep.prepare import prepare

        prepare("demo", data_dir=run.data.dir)
