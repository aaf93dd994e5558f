"""Every command of README.md and docs/ works as it stands, on small data, or says why it cannot."""

from __future__ import annotations

import contextlib
import doctest
import re
import shutil
import socket
import subprocess
import threading
import time
import tomllib
from pathlib import Path

import data_prep_trees as trees
import doc_pages
import jax
import numpy as np
import pytest
from doc_commands import check_data_prep, check_launch, program, reason, run_of
from doc_pages import PAGES, Command
from front_door import ROOT, launch
from tiny import small_backbone

import data_prep.__main__ as preparation
from sbir_jax import sharding
from sbir_jax.config import settings

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
NAMES = {page: page.relative_to(ROOT).as_posix() for page in PAGES}

each_page = pytest.mark.parametrize("page", PAGES, ids=NAMES.values())
WITH_COMMANDS = [page for page in PAGES if doc_pages.commands(page)]
SLOW = ("docs/lecture.md",)  # five kinds of runs to compile


# Without running anything


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=NAMES.get)
def test_every_command_is_one_that_is_there(page, monkeypatch, capsys):
    """Verbs, flags, configs, settings, datasets, protocols, extras and scripts exist."""
    monkeypatch.chdir(ROOT)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for command in doc_pages.commands(page):
        name, arguments = program(command)
        code = 0
        if name == "launch":
            code = check_launch(arguments)
        elif name == "data_prep":
            code = check_data_prep(arguments, monkeypatch)
        elif name == "pip":
            for extras in re.findall(r"\[([\w,]+)\]", str(command)):
                assert set(extras.split(",")) <= project["optional-dependencies"].keys(), command
        elif name in ("python", "python3") and not arguments[0].startswith("-"):
            script = (ROOT / arguments[0]).read_text()
            for flag in (word.partition("=")[0] for word in arguments if word.startswith("--")):
                assert f'"{flag}"' in script, f"{command}: {flag}"
        assert code == 0, f"{command}\n{capsys.readouterr().err}"


@each_page
def test_what_the_text_names_exists(page, monkeypatch, capsys):
    """Settings and commands between backticks are there; no other block hides a command."""
    monkeypatch.chdir(ROOT)
    paths = {path for path, _ in settings()}
    known = paths | {path.rpartition(".")[0] for path in paths}
    for code in doc_pages.inline_code(page):
        for setting in re.findall(r"(?:^|--)config\.([a-z_]+(?:\.[a-z_0-9]+)+)", code):
            assert setting in known, code
        if re.match(r"(python |)launch\.py \w|python -m data_prep [a-z]", code):
            name, arguments = program(Command(*doc_pages.simple_commands(code)))
            if name == "launch":
                found = check_launch([*arguments, "--help"] if len(arguments) == 1 else arguments)
            else:
                found = check_data_prep(arguments, monkeypatch)
            assert found == 0, f"{code}\n{capsys.readouterr().err}"
    for language, text in doc_pages.other_languages(page):
        hidden = re.search(r"^(\$ )?(python3?|pip|curl|srun) ", text, re.M)
        assert not hidden, f"a command in a block marked {language!r}: {hidden[0]}"


@each_page
def test_links_lead_somewhere(page):
    """Every file that a page links to is there, and has the heading, if one is named."""
    for link in doc_pages.links(page):
        if not link.startswith(("http://", "https://")):
            file, _, anchor = link.partition("#")
            target = (page.parent / file).resolve() if file else page
            assert target.exists(), link
            assert not anchor or anchor in doc_pages.anchors(target), link


# Running


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """What a reader has at hand: images, drawings, embeddings, datasets, a run; only read them."""
    here = tmp_path_factory.mktemp("inputs")
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
        run_it = "--config=configs/quickstart.py", "--workdir=runs/quickstart"
        assert preparation.main(["folders", "--raw=my_images", "--name=demo", "--val=0.2"]) == 0
        assert launch.main(["train", *run_it, *brief()]) == 0
        assert launch.main(["evaluate", "--workdir=runs/quickstart"]) == 0
    return here


@contextlib.contextmanager
def cheaply():
    """Small networks on one of the eight devices, and half the time to compile them."""
    make = sharding.make_mesh
    jax.config.update("jax_disable_most_optimizations", True)
    try:
        with pytest.MonkeyPatch.context() as patch, small_backbone():
            patch.setattr(sharding, "make_mesh", lambda of=None: make(of or jax.devices()[:1]))
            yield
    finally:
        jax.config.update("jax_disable_most_optimizations", False)


def brief(more: tuple[str, ...] = ()) -> list[str]:
    """The overrides that make a `train` command short; those of `more` win."""
    short = {f"--config.{name}": f"--config.{name}={value}" for name, value in BRIEF.items()}
    return list((short | {word.partition("=")[0]: word for word in more}).values())


def place(path: str, inputs: Path) -> None:
    """Makes runs/NAME or data/NAME, unless it is there, from those at hand, or NAME=PATH a copy."""
    path, _, source = path.partition("=")
    at_hand = {"runs": "runs/quickstart", "data": "data/demo"}[path.partition("/")[0]]
    if not Path(path).exists():
        shutil.copytree(source or inputs / at_hand, path)


def run_launch(command: Command, arguments: list[str], inputs: Path) -> int:
    """Executes a command of `launch.py` here, a new training cut to two steps."""
    named = {path for word in arguments for path in word.partition("=")[2].split(",")}
    run = run_of(arguments)
    begins = arguments[0] == "train" and run is not None
    wanted = {f"data/{run.data.name}"} if run else set()
    for path in GIVEN:
        if path in (wanted if begins else wanted | named):
            place(path, inputs)
    if begins:
        short = brief(command.run_with)
        replaced = {word.partition("=")[0] for word in short}
        arguments = [a for a in arguments if a.partition("=")[0] not in replaced] + short
    return launch.main(arguments)


@contextlib.contextmanager
def serving(arguments: list[str]):
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


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.slow if NAMES[page] in SLOW else (), id=NAMES[page])
        for page in WITH_COMMANDS
    ],
)
def test_the_commands_run_in_their_order(page, inputs, tmp_path, monkeypatch, capfd):
    """Each exits with 0 in a directory where the page's earlier ones have run, or has a reason."""
    for file in inputs.iterdir():
        if file.name not in ("runs", "data"):
            (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    place("data/demo", inputs)
    port = 8000
    with cheaply(), contextlib.ExitStack() as servers:
        for command in doc_pages.commands(page):
            for path in command.given:
                place(path, inputs)
            if reason(command):
                continue
            name, arguments = program(command)
            expected = 0
            if name == "launch" and arguments[0] == "serve":
                port, code = servers.enter_context(serving(arguments)), 0
            elif name == "launch":
                code = run_launch(command, arguments, inputs)
            elif name == "data_prep":
                code = preparation.main(arguments)
                if arguments[1:] == [] and preparation.BUILDERS[arguments[0]].SOURCES:
                    expected = 2  # it tells where the archives are, and that --raw is missing
            elif name == "curl":
                words = [word.replace(":8000", f":{port}") for word in arguments]
                code = subprocess.run(["curl", "--fail", *words]).returncode
            else:
                pytest.fail(f"{command}: cannot be run by this test; say why: <!-- not run: -->")
            assert code == expected, f"{command}\n{capfd.readouterr().err}"


@pytest.mark.parametrize(
    "page", [page for page in PAGES if ">>> " in page.read_text()], ids=NAMES.get
)
def test_the_python_of_a_page_gives_what_it_shows(page, inputs, tmp_path, monkeypatch):
    """As a doctest, in a directory with runs/quickstart, my_photos, sketch.png and the like."""
    for file in inputs.iterdir():
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    with cheaply():
        failed, tried = doctest.testfile(
            str(page), module_relative=False, optionflags=doctest.ELLIPSIS
        )
    assert tried and not failed
