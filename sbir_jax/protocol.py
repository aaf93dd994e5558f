"""What evaluating a dataset that follows a published protocol changes.

The protocol itself was applied, and written into the dataset's report, by `data_prep`.
"""

from __future__ import annotations

import dataclasses

from sbir_jax.config import ConfigError, RunConfig
from sbir_jax.data.source import Dataset
from sbir_jax.eval_config import EvalConfig


def protocol_settings(run: RunConfig, dataset: Dataset, protocol: str) -> RunConfig:
    """The settings with the metrics of a protocol before those asked for by themselves.

    Args:
      protocol: its name; "" changes nothing.

    Raises:
      ConfigError: the dataset was not prepared for it.
    """
    if not protocol:
        return run
    followed = dataset.protocol
    if followed is None or followed["name"] != protocol:
        own = followed["name"] if followed else "none"
        raise ConfigError(
            f"--protocol={protocol}: dataset {dataset.name!r} was prepared for {own}; prepare "
            f"another: python -m data_prep DATASET --protocol={protocol} --raw=DIR"
        )
    asked = [followed["metrics"]]
    asked += [run.eval.metrics] if run.eval.metrics != EvalConfig().metrics else []
    return dataclasses.replace(run, eval=dataclasses.replace(run.eval, metrics=",".join(asked)))


def seen_splits(dataset: Dataset, split: str) -> list[str]:
    """The splits whose photos are of seen classes, and join a generalised gallery."""
    held_out = dataset.protocol and dataset.protocol["classes_held_out_for_validation"]
    return ["train", "val"] if held_out and split == "test" else ["train"]
