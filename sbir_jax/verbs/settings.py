"""`configs` and `show`: what can be set, and what a batch then looks like."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from sbir_jax.cli import Flag, Given, UsageError, Verb, workdir_of
from sbir_jax.config import RunConfig, default_config, resolve
from sbir_jax.overrides import config_list, load_config, override, settings_table, stored_config
from sbir_jax.verbs import runs


def configs(given: Given, overrides: list[str]) -> None:
    """List the config files, each with the first line of its docstring."""
    print(config_list(runs.CONFIGS))


def show(given: Given, overrides: list[str]) -> None:
    """Print every setting with its meaning and valid values, or picture a training batch."""
    for flag in ("out", "step"):
        if given[flag] and not given["batch"]:
            raise UsageError(f"--{flag}={given[flag]}: goes with --batch")
    if given["config"] and given["workdir"]:
        raise UsageError("--config and --workdir: show reads one of them, not both")
    if given["workdir"]:
        config = stored_config(workdir_of(given))
    else:
        config = load_config(given["config"], runs.CONFIGS) if given["config"] else default_config()
    before = config.to_dict()
    run = resolve(override(config, overrides))
    if given["batch"]:
        _show_batch(run, given["out"] or "batch.png", given["step"] or "0")
    else:
        print(settings_table(before, dataclasses.asdict(run)))


def _show_batch(run: RunConfig, out: str, step: str) -> None:
    if not (step.isdecimal() and int(step) < 2**31):
        raise UsageError(f"--step={step}: expected a whole number from 0 to {2**31 - 1:,}")
    if Path(out).suffix.lower() not in _PICTURES:
        raise UsageError(f"--out={out}: valid endings: {', '.join(_PICTURES)}")
    runs.ready_libraries()
    runs.draw_demo_once(run)
    from sbir_jax.batch_sheet import picture_of_batch

    picture, about = picture_of_batch(run, step=int(step))
    try:
        picture.save(out)
    except OSError as error:
        raise UsageError(f"--out={out}: cannot be written: {error.strerror}") from error
    print(f"{out}: {about}")


_PICTURES = (".png", ".jpg", ".webp")


VERBS = {
    "configs": Verb(configs),
    "show": Verb(
        show,
        {
            "config": Flag("config file; leave it out to see the defaults"),
            "workdir": Flag("show the config of this run instead"),
            "batch": Flag("write the picture of a training batch as the model sees it", (), False),
            "out": Flag("with --batch: file of the picture (batch.png)"),
            "step": Flag("with --batch: steps taken before it (0)"),
        },
        {
            "every setting": "--config=configs/quickstart.py --config.optim.lr=3e-4",
            "a batch after augmentation": "--config=configs/quickstart.py --batch --out=batch.png",
        },
    ),
}
