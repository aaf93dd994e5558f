"""A reader of the documentation: what is at hand, and commands executed in a directory, briefly."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import data_prep_trees as trees
import jax
import numpy as np
import pytest
from doc_commands import program, run_of
from doc_pages import Command
from front_door import ROOT, launch
from tiny import small_backbone

import data_prep.__main__ as preparation
from sbir_jax import sharding

# A run of two steps: these replace what a config or a command says.
BRIEF = {
    "data.image_size": "32",
    "data.load_size": "36",
    "data.batch_size": "8",
    "data.per_class": "2",
    "optim.warmup": "1 steps",
    "train.duration": "2 steps",
    "train.log_every": "1 steps",
    "train.eval_every": "2 steps",
    "eval.batch_size": "16",
}
GIVEN = ("runs/quickstart", "runs/a", "runs/b", "data/pacs")  # where a page needs them


def make_inputs(here: Path) -> None:
    """What every reader has: images, drawings, embeddings, and the quickstart's dataset and run."""
    tree = {"classes": ("ant", "bee", "cow", "dog", "elk"), "instances": 10}
    trees.sketchy_tree(here / "my_images", photos="photos", sketches="sketches", **tree)
    trees.sketchy_tree(here / "PACS", **tree)
    trees.sketchy_tree(here / "MY_IMAGES", photos="photos", sketches="drawings", **tree)
    for i in range(20):
        trees.save(trees.photo(i), here / f"LOGOS/photos/brand{i}.png")
        trees.save(trees.photo(100 + i), here / f"LOGOS/queries/brand{i}-1.png")
    for i in range(8):
        trees.save(trees.photo(i), here / f"my_photos/{i}.png")
    trees.save(trees.sketch(1), here / "sketch.png")
    trees.save(trees.photo(1), here / "holiday.jpg")
    svg = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><path d="M1 1L8 8"/></svg>'
    (here / "other.svg").write_text(svg)
    (here / "drawings.ndjson").write_text('{"drawing": [[[0, 255], [0, 255]]]}\n')
    rng = np.random.default_rng(0)
    for name, rows in (("sketches", 30), ("photos", 250)):
        vectors, labels = rng.normal(size=(rows, 8)).astype(np.float32), np.arange(rows) % 3
        np.savez(here / f"{name}.npz", embeddings=vectors, labels=labels)
        np.save(here / f"{name}.npy", vectors)
        (here / f"{name}.txt").write_text("".join(f"{label}\n" for label in labels))
    for name in ("configs", "benchmarks", "data_prep"):
        (here / name).symlink_to(ROOT / name)
    with cheaply(), contextlib.chdir(here):
        run = "--config=configs/quickstart.py", "--workdir=runs/quickstart"
        assert preparation.main(["folders", "--raw=my_images", "--name=demo", "--val=0.2"]) == 0
        assert launch.main(["train", *run, *_brief()]) == 0
        assert launch.main(["evaluate", "--workdir=runs/quickstart"]) == 0


@contextlib.contextmanager
def cheaply() -> Iterator[None]:
    """Small networks on one of the eight devices, and half the time to compile them."""
    make = sharding.make_mesh
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with pytest.MonkeyPatch.context() as patch, small_backbone():
            patch.setattr(sharding, "make_mesh", lambda of=None: make(of or jax.devices()[:1]))
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


class Reader:
    """Executes commands in the current directory; a server that one starts stays until `leave`."""

    def __init__(self, inputs: Path) -> None:
        self._inputs = inputs
        self._servers = contextlib.ExitStack()
        self._port = 8000
        self.leave = self._servers.close
        self.place("data/demo")

    def place(self, path: str) -> None:
        """Makes runs/NAME or data/NAME from what is at hand, or NAME=PATH from what is here."""
        path, _, source = path.partition("=")
        at_hand = {"runs": "runs/quickstart", "data": "data/demo"}[path.partition("/")[0]]
        if not Path(path).exists():
            shutil.copytree(source or self._inputs / at_hand, path)

    def does(self, command: Command) -> str:
        """Executes a command; what went wrong, or nothing."""
        for path in command.given:
            self.place(path)
        name, arguments = program(command)
        expected = 0
        if name == "launch" and arguments[0] == "serve":
            self._port = self._servers.enter_context(_serving(arguments))
            code = 0
        elif name == "launch":
            code = self._launch(command, arguments)
        elif name == "data_prep":
            code = preparation.main(arguments)
            builder = preparation.BUILDERS.get(arguments[0])
            if arguments[1:] == [] and builder and builder.SOURCES:
                expected = 2  # it tells where the archives are, and that --raw is missing
        elif name == "curl":
            if shutil.which("curl") is None:
                pytest.skip("there is no curl on this machine")
            words = [word.replace(":8000", f":{self._port}") for word in arguments]
            code = subprocess.run(["curl", "--fail", *words]).returncode
        else:
            return f"{command}: cannot be run by this test; say why: <!-- not run: ... -->"
        return "" if code == expected else f"{command}: exit code {code}"

    def _launch(self, command: Command, arguments: list[str]) -> int:
        """A command of `launch.py`, a new training cut to two steps, a sweep listed only."""
        named = {path for word in arguments for path in word.partition("=")[2].split(",")}
        run = run_of(arguments)
        begins = arguments[0] == "train" and run is not None
        wanted = {f"data/{run.data.name}"} if run else set()
        for path in GIVEN:
            if path in (wanted if begins else wanted | named):
                self.place(path)
        if begins:
            short = _brief(command.run_with)
            replaced = {word.partition("=")[0] for word in short}
            arguments = [a for a in arguments if a.partition("=")[0] not in replaced] + short
        if arguments[0] == "sweep" and "--dry_run" not in arguments:
            arguments = [*arguments, "--dry_run"]
        return launch.main(arguments)


def _brief(more: tuple[str, ...] = ()) -> list[str]:
    """The overrides that make a `train` command short; those of `more` win."""
    short = {f"--config.{name}": f"--config.{name}={value}" for name, value in BRIEF.items()}
    return list((short | {word.partition("=")[0]: word for word in more}).values())


@contextlib.contextmanager
def _serving(arguments: list[str]) -> Iterator[int]:
    """`launch.py serve` in a thread, on a free port, which it gives; stopped at the end."""
    import uvicorn

    made, real, codes = [], uvicorn.Server, []
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*arguments, f"--port={port}"]
    thread = threading.Thread(target=lambda: codes.append(launch.main(words)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(uvicorn, "Server", lambda config: made.append(real(config)) or made[-1])
        thread.start()
        until = time.monotonic() + 120
        while thread.is_alive() and not (made and made[0].started) and time.monotonic() < until:
            time.sleep(0.02)
        try:
            assert made and made[0].started, f"the server did not start: {codes}"
            yield port
        finally:
            for server in made:
                server.should_exit = True
            thread.join()
    assert codes == [0]
