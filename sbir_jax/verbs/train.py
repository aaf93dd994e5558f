"""`train`: a run, from its beginning or from where it was stopped."""

from __future__ import annotations

import re

from sbir_jax.cli import Flag, Given, UsageError, Verb, make_directory, workdir_of
from sbir_jax.config import resolve
from sbir_jax.meeting import meeting
from sbir_jax.overrides import config_files, load_config, override, stored_config
from sbir_jax.verbs import runs


def train(given: Given, overrides: list[str]) -> None:
    """Train a model, or continue a run that was stopped."""
    workdir = workdir_of(given)
    if given["config"]:
        config = load_config(given["config"], runs.CONFIGS)
    elif (workdir / "config.json").exists():
        config = stored_config(workdir)
    else:
        raise UsageError(f"missing --config=FILE; configs: {', '.join(config_files(runs.CONFIGS))}")
    run = resolve(override(config, overrides))
    profile = _span(given["profile"]) if given["profile"] else None
    where = meeting(*(given[flag] for flag in _MEETING))
    make_directory("workdir", workdir)
    runs.ready_libraries(given["compile_cache"])
    from sbir_jax import hosts

    with hosts.together(where):
        if hosts.is_first():
            runs.draw_demo_once(run)
        hosts.wait("the dataset is there")
        from sbir_jax.train import train as train_run

        train_run(run, workdir, profile=profile)


def _span(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+):(\d+)", text)
    first, last = map(int, found.groups()) if found else (0, 0)
    if not 0 < first <= last:
        raise UsageError(f"--profile={text}: write the first and the last step, as in 10:15")
    return first, last


_MEETING = {
    "distributed": Flag("auto: train with the other processes of this TPU pod or Slurm job"),
    "coordinator": Flag("HOST:PORT of process 0, to train with others anywhere"),
    "num_processes": Flag("how many processes there are"),
    "process_id": Flag("which of them this one is, from 0"),
}

VERBS = {
    "train": Verb(
        train,
        {
            "config": Flag("config file; leave it out to continue the run in --workdir"),
            "workdir": Flag("directory for config, metrics, checkpoints, results (required)"),
            "profile": Flag("steps to trace into WORKDIR/profile, as in 10:15"),
            "compile_cache": Flag(runs.COMPILE_CACHE),
            **_MEETING,
        },
        {"": "--config=configs/quickstart.py --workdir=runs/quickstart"},
    )
}
