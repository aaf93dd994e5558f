"""What a command of the documentation asks for, read by our own parsers and not executed."""

from __future__ import annotations

import dataclasses

from doc_pages import Command
from front_door import ROOT

import data_prep.__main__ as preparation
from data_prep.arguments import builder_of, check_common, completed
from data_prep.protocol import load_protocol
from sbir_jax import cli
from sbir_jax.config import RunConfig, default_config, resolve
from sbir_jax.overrides import load_config, override
from sbir_jax.verbs import RUN_ERRORS, VERBS, runs
from sbir_jax.verbs.evaluate import SHORT

INSTALLS = "CI runs the installing commands of the README, and no test installs anything"
PUBLISHED = "published weights cannot be had here; tests/test_weights.py imports made-up ones"


def program(command: Command) -> tuple[str, list[str]]:
    """(launch | data_prep | another program, its arguments); also behind srun and its like."""
    words = list(command.words)
    for i, word in enumerate(words):
        if word.rpartition("/")[2] == "launch.py":
            return "launch", words[i + 1 :]
        if words[i : i + 2] == ["-m", "data_prep"]:
            return "data_prep", words[i + 2 :]
    return words[0], words[1:]


def of_flag(arguments: list[str], flag: str) -> str:
    """The value of --flag=VALUE, or nothing."""
    found = [a.partition("=")[2] for a in arguments if a.startswith(f"--{flag}=")]
    return found[0] if found else ""


def run_of(arguments: list[str]) -> RunConfig | None:
    """The settings of a command that names a config file."""
    file = of_flag(arguments, "config")
    if not file:
        return None
    overrides = [word for word in arguments if word.startswith("--config.")]
    return resolve(override(load_config(str(ROOT / file), ROOT / "configs"), overrides))


def reason(command: Command) -> str:
    """Why a command is not executed; empty if it is."""
    name, arguments = program(command)
    if name in (".", "pip") or command.words[1:3] == ("-m", "venv") or "pytest" in arguments:
        return INSTALLS
    if name == "launch":
        run = run_of(arguments)
        published = arguments[0] == "weights" or "--checkpoint=pretrained" in arguments
        if published or (run and run.model.weights):
            return PUBLISHED
    return command.not_run


def check_launch(arguments: list[str]) -> int:
    """Reads a command line as `launch.py` does, flags, config and settings; the exit code."""

    def only_read(given: cli.Given, overrides: list[str]) -> None:
        """Does nothing."""
        if "config" in VERBS[arguments[0]].flags:
            file = given["config"]
            config = load_config(file, runs.CONFIGS) if file else default_config()
            short = [f"--config.eval.{of}={given[of]}" for of in SHORT if given.get(of)]
            resolve(override(config, overrides + short))
        if "checkpoint" in given:
            runs.checkpoint(given)
        if "split" in given:
            runs.split(given)

    verbs = {name: dataclasses.replace(verb, run=only_read) for name, verb in VERBS.items()}
    return cli.run(arguments, verbs, about="", configs=runs.CONFIGS, run_errors=RUN_ERRORS)


def check_data_prep(arguments: list[str], monkeypatch) -> int:
    """Reads a command line of `data_prep` to the last option; the exit code."""

    def only_read(dataset, *, raw, data_dir, protocol, dry_run, overwrite, seed, name, **options):
        common = {key: options.pop(key) for key in ("val", "test", "max_side")}
        choices = {key: options.pop(key) for key in ("on_error", "on_counts")}
        check_common(name=name or dataset, **common, **choices)
        of_protocol = load_protocol(protocol).options if protocol else {}
        completed(builder_of(dataset), options, of_protocol)

    monkeypatch.setattr(preparation, "prepare", only_read)
    monkeypatch.setattr(preparation, "download_all", lambda *_: ())
    return preparation.main(arguments)
