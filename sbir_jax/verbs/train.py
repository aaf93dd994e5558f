"""`train`: a run, from its beginning or from where it was stopped."""

from __future__ import annotations

import dataclasses
import re
import tempfile
from pathlib import Path

from ml_collections import ConfigDict

from sbir_jax.cli import Flag, Given, UsageError, Verb, make_directory, workdir_of
from sbir_jax.config import RunConfig, resolve
from sbir_jax.meeting import meeting
from sbir_jax.overrides import config_files, load_config, override, stored_config
from sbir_jax.verbs import report, runs


def train(given: Given, overrides: list[str]) -> None:
    """Train a model, or continue a run that was stopped."""
    dry = given["dry_run"] and not given["workdir"]
    workdir = Path() if dry else workdir_of(given)
    if given["wandb"]:
        overrides = [*overrides, f"--config.train.wandb={given['wandb']}"]
    if given["from"]:
        config = _stored_elsewhere(given, workdir)
    elif given["config"]:
        config = load_config(given["config"], runs.CONFIGS)
    elif (workdir / "config.json").exists():
        config = stored_config(workdir)
    else:
        raise UsageError(f"missing --config=FILE; configs: {', '.join(config_files(runs.CONFIGS))}")
    run = resolve(override(config, overrides))
    if given["dry_run"]:
        _try_out(run, given)
        return
    profile = _span(given["profile"]) if given["profile"] else None
    where = meeting(*(given[flag] for flag in _MEETING))
    make_directory("workdir", workdir)
    runs.ready_libraries(given["compile_cache"])
    from sbir_jax import hosts

    source = Path(given["from"]) if given["from"] else None
    with hosts.together(where):
        if hosts.is_first():
            runs.draw_demo_once(run)
        hosts.wait("the dataset is there")
        from sbir_jax.train import train as train_run

        summary = train_run(run, workdir, profile=profile, source=source)
        if "train_seconds" in summary and not given["no_report"]:
            report.at_the_end(run, workdir)


def _stored_elsewhere(given: Given, workdir: Path) -> ConfigDict:
    source = Path(given["from"])
    if given["config"]:
        raise UsageError("--config and --from: train takes one of them, not both")
    if source.resolve() == workdir.resolve():
        raise UsageError(f"--from={source}: is --workdir itself; name a new --workdir")
    if not (source / "config.json").exists():
        raise UsageError(f"--from={source}: no run there (no config.json)")
    return stored_config(source)


def _try_out(run: RunConfig, given: Given) -> None:
    """Looks at a run; the demo dataset, where it has not been drawn yet, is drawn aside."""
    for flag in ("profile", "from", *_MEETING):
        if given[flag]:
            raise UsageError(f"--{flag}={given[flag]}: goes without --dry_run")
    runs.ready_libraries(given["compile_cache"])
    with tempfile.TemporaryDirectory() as folder:
        if run.data.name == "demo" and not (Path(run.data.dir) / "demo").exists():
            data = dataclasses.replace(run.data, dir=folder)
            run = dataclasses.replace(run, data=data)
            from data_prep.prepare import prepare

            print("drawing the demo dataset, for this dry run only", flush=True)
            prepare("demo", data_dir=folder, quiet=True)
        from sbir_jax.dry_run import dry_run

        dry_run(run, Path(given["workdir"]) if given["workdir"] else None)


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
            "from": Flag("run again what another workdir holds, with its settings and data"),
            "dry_run": Flag("look at everything, take two steps, and write nothing", (), False),
            "wandb": Flag("project of Weights & Biases that also gets the metrics"),
            "no_report": Flag("make no report at the end (of the validation split)", (), False),
            "profile": Flag("steps to trace into WORKDIR/profile, as in 10:15"),
            "compile_cache": Flag(runs.COMPILE_CACHE),
            **_MEETING,
        },
        {
            "from the beginning, or from where it was stopped": (
                "--config=configs/quickstart.py --workdir=runs/quickstart"
            ),
            "does it fit, how long does a step take? nothing is written": (
                "--config=configs/quickstart.py --dry_run"
            ),
            "the same run again, in another workdir": "--from=runs/quickstart --workdir=runs/again",
        },
    )
}
