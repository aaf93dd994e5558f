"""`configs` and `show`: what can be set."""

from __future__ import annotations

import dataclasses

from sbir_jax.cli import Flag, Given, UsageError, Verb, workdir_of
from sbir_jax.config import default_config, resolve
from sbir_jax.overrides import config_list, load_config, override, settings_table, stored_config
from sbir_jax.verbs import runs


def configs(given: Given, overrides: list[str]) -> None:
    """List the config files, each with the first line of its docstring."""
    print(config_list(runs.CONFIGS))


def show(given: Given, overrides: list[str]) -> None:
    """Print every setting with its meaning and valid values, before and after overrides."""
    if given["config"] and given["workdir"]:
        raise UsageError("--config and --workdir: show reads one of them, not both")
    if given["workdir"]:
        config = stored_config(workdir_of(given))
    else:
        config = load_config(given["config"], runs.CONFIGS) if given["config"] else default_config()
    before = config.to_dict()
    after = dataclasses.asdict(resolve(override(config, overrides)))
    print(settings_table(before, after))


VERBS = {
    "configs": Verb(configs),
    "show": Verb(
        show,
        {
            "config": Flag("config file; leave it out to see the defaults"),
            "workdir": Flag("show the config of this run instead"),
        },
        {"": "--config=configs/quickstart.py --config.optim.lr=3e-4"},
    ),
}
