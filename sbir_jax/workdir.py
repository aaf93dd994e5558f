"""What a workdir remembers of its run, and whether a run may continue there.

`config.json` holds every setting and `dataset.json` says which prepared dataset was trained on.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from pathlib import Path
from typing import Any

from sbir_jax.config import ConfigError, RunConfig, resolve, settings
from sbir_jax.data.source import Dataset
from sbir_jax.overrides import stored_config

# Settings that a resumed run may change: they alter no number of the training itself, or as
# little as another number of devices does (float32 rounding).
_FREE = {
    "data.dir", "data.cache", "data.workers", "train.log_every", "train.eval_every", "train.wandb",
    "train.fsdp", "train.steps_per_dispatch", "model.remat",
    "eval.batch_size", "eval.metrics", "eval.memory_mib",
}  # fmt: skip


def check_same_run(run: RunConfig, dataset: Dataset, workdir: Path) -> None:
    """Checks that a run which has saved checkpoints in `workdir` is this run.

    Before its first checkpoint a run has nothing to continue, so any other may take its place.

    Raises:
      ConfigError: it has other settings (names them), or saw other images under this name.
    """
    workdir = Path(workdir)
    has_checkpoint = any(p.name.isdecimal() for p in workdir.glob("checkpoints/*"))
    if not (has_checkpoint and (workdir / "config.json").exists()):
        return
    stored = resolve(stored_config(workdir))
    # The confusable sampler learns from validations.
    free = _FREE - ({"train.eval_every"} if run.data.sampler == "confusable" else set())
    changed = [
        f"config.{name}={_get(run, name)!r} (was {_get(stored, name)!r})"
        for name, _ in settings()
        if name not in free and _get(stored, name) != _get(run, name)
    ]
    if changed:
        raise ConfigError(
            f"{workdir} holds a run with other settings: {', '.join(changed)}; "
            "choose another --workdir"
        )
    check_same_images(dataset, workdir)


def check_same_images(dataset: Dataset, workdir: Path) -> None:
    """Checks that a run in `workdir` has seen this dataset.

    Raises:
      ConfigError: it saw other images under this name.
    """
    try:
        seen = json.loads((Path(workdir) / "dataset.json").read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return  # lost or damaged: it guards against a mistake, and is not needed to continue
    if seen != dataset.fingerprint:
        raise ConfigError(
            f"{workdir} holds a run on other images: {dataset.path} has been prepared again from "
            "other files or options since; choose another --workdir"
        )


def remember_run(run: RunConfig, dataset: Dataset, workdir: Path) -> None:
    """Writes `config.json` and `dataset.json`.

    Raises:
      ConfigError: the workdir cannot be made or written to.
    """
    workdir = Path(workdir)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / "config.json", dataclasses.asdict(run))
        identity = {"name": dataset.name, "fingerprint": dataset.fingerprint}
        write_json(workdir / "dataset.json", identity)
    except OSError as error:
        raise ConfigError(f"--workdir={workdir}: {error.strerror}") from error


def write_json(path: Path, value: dict[str, Any] | list) -> None:
    """Replaces the file whole: a reader sees the old content or the new, never a part."""
    scratch = path.with_suffix(".json.partial")
    scratch.write_text(json.dumps(value, indent=2) + "\n")
    scratch.replace(path)


def _get(run: RunConfig, path: str) -> Any:
    return functools.reduce(getattr, path.split("."), run)
