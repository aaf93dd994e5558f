"""`train`: a run, from its beginning or from where it was stopped."""

from __future__ import annotations

from sbir_jax.cli import Flag, Given, UsageError, Verb, make_directory, workdir_of
from sbir_jax.config import resolve
from sbir_jax.overrides import config_files, load_config, override, stored_config
from sbir_jax.verbs import report, runs


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
    make_directory("workdir", workdir)
    runs.ready_libraries()
    runs.draw_demo_once(run)
    from sbir_jax.train import train as train_run

    summary = train_run(run, workdir)
    if "train_seconds" in summary and not given["no_report"]:
        report.at_the_end(run, workdir)


VERBS = {
    "train": Verb(
        train,
        {
            "config": Flag("config file; leave it out to continue the run in --workdir"),
            "workdir": Flag("directory for config, metrics, checkpoints, results (required)"),
            "no_report": Flag("make no report at the end (of the validation split)", (), False),
        },
        {"": "--config=configs/quickstart.py --workdir=runs/quickstart"},
    )
}
