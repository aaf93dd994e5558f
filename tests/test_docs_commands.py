"""Every command of README.md and docs/ works as it stands, on small data, or says why it cannot.

To what a page must look like: doc_pages.py has the comments that speak to this test.
"""

from __future__ import annotations

import doctest
import re
import tomllib
from pathlib import Path

import doc_pages
import pytest
from doc_commands import check_data_prep, check_launch, program, reason
from doc_pages import PAGES, Command
from doc_reader import Reader, cheaply, make_inputs
from front_door import ROOT

from sbir_jax.config import default_config, resolve, settings
from sbir_jax.overrides import override

SLOW = ("docs/lecture.md", "docs/faq.md")  # several kinds of runs to compile


def pages(those: list[Path], slow: tuple[str, ...] = ()):
    """The test is made for each of these pages."""
    names = {page: page.relative_to(ROOT).as_posix() for page in those}
    marks = {page: [pytest.mark.slow] if name in slow else [] for page, name in names.items()}
    return pytest.mark.parametrize(
        "page", [pytest.param(page, marks=marks[page], id=names[page]) for page in those]
    )


with_commands = [page for page in PAGES if doc_pages.commands(page)]
with_sessions = [page for page in PAGES if ">>> " in page.read_text()]


@pages(with_commands)
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


@pages(PAGES)
def test_what_the_text_names_exists(page, monkeypatch, capsys):
    """Settings and commands between backticks are there; no other block hides a command."""
    monkeypatch.chdir(ROOT)
    paths = {path for path, _ in settings()}
    known = paths | {path.rpartition(".")[0] for path in paths}
    for code in doc_pages.inline_code(page):
        for setting in re.findall(r"(?:^|--)config\.([a-z_]+(?:\.[a-z_0-9]+)+)", code):
            assert setting in known or setting == "a.b", code
        if re.match(r"--config\.(?!a\.b)[a-z_.]+=", code):
            resolve(override(default_config(), *doc_pages.simple_commands(code)))
        if re.match(r"(python |)launch\.py [a-z]|python -m data_prep [a-z]", code):
            name, arguments = program(Command(*doc_pages.simple_commands(code)))
            if name == "launch":
                found = check_launch([*arguments, "--help"] if len(arguments) == 1 else arguments)
            else:
                found = check_data_prep(arguments, monkeypatch)
            assert found == 0, f"{code}\n{capsys.readouterr().err}"
    for language, text in doc_pages.other_languages(page):
        hidden = re.search(r"^(\$ )?(python3?|pip|curl|srun) ", text, re.M)
        assert not hidden, f"a command in a block marked {language!r}: {hidden[0]}"


@pages(PAGES)
def test_links_lead_somewhere(page):
    """Every file that a page links to is there, and has the heading, if one is named."""
    for link in doc_pages.links(page):
        if not link.startswith(("http://", "https://")):
            file, _, anchor = link.partition("#")
            target = (page.parent / file).resolve() if file else page
            assert target.exists(), link
            assert not anchor or anchor in doc_pages.anchors(target), link


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> Path:
    """What a reader has at hand; only read it."""
    here = tmp_path_factory.mktemp("inputs")
    make_inputs(here)
    return here


@pages(with_commands, SLOW)
def test_the_commands_run_in_their_order(page, inputs, tmp_path, monkeypatch, capfd):
    """Each exits with 0 in a directory where the page's earlier ones have run, or has a reason."""
    for file in inputs.iterdir():
        if file.name not in ("runs", "data"):
            (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    with cheaply():
        reader = Reader(inputs)
        try:
            for command in doc_pages.commands(page):
                wrong = "" if reason(command) else reader.does(command)
                assert not wrong, f"{wrong}\n{capfd.readouterr().err}"
        finally:
            reader.leave()


@pages(with_sessions)
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
