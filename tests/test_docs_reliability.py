"""docs/reliability.md says what is so: its tests, its messages and its dependencies are there."""

from __future__ import annotations

import ast
import functools
import re
import tomllib

import pytest
from front_door import ROOT

PAGE = (ROOT / "docs/reliability.md").read_text()
TABLE = re.compile(r"<!-- table -->\n(.*?)<!-- end -->", re.S)
NAMED = re.compile(r"`(test_\w+\.py)::(test_\w+)`")


def cells(table: str) -> list[list[str]]:
    """The rows of a Markdown table below its head."""
    return [[c.strip() for c in line.strip("|").split("|")] for line in table.splitlines()[2:]]


ROWS = [row for table in TABLE.findall(PAGE) for row in cells(table)]


@functools.cache
def defined_in(file: str) -> set[str]:
    """The tests that a file defines."""
    tree = ast.parse((ROOT / "tests" / file).read_text())
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@functools.cache
def said() -> str:
    """Every text in the source of the program, the constant parts of f-strings too."""
    files = [*ROOT.glob("sbir_jax/**/*.py"), *ROOT.glob("data_prep/**/*.py")]
    return "\0".join(
        node.value
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_every_row_names_tests_that_are_there(row):
    """Three cells, the last of nothing but tests."""
    assert len(row) == 3 and all(row)
    named = NAMED.findall(row[2])
    assert named and NAMED.sub("", row[2]).strip(" ,") == ""
    for file, name in named:
        assert name in defined_in(file), f"{file} has no {name}"


def test_every_message_is_in_the_program():
    """What stands between the dots of a quoted message is written so somewhere in the source."""
    quoted = [words for row in ROWS for words in re.findall(r"`([^`]*…[^`]*)`", row[1])]
    assert len(quoted) > 30
    parts = {part.strip() for words in quoted for part in words.split("…")}
    assert [part for part in parts if len(part) > 2 and part not in said()] == []


def test_the_dependencies_are_those_of_the_project():
    """Every core dependency of pyproject.toml has one row, with its purpose, licence and keeper."""
    [table] = re.findall(r"<!-- dependencies -->\n(.*?)<!-- end -->", PAGE, re.S)
    rows = cells(table)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    required = [re.match(r"[\w.-]+", one)[0] for one in project["dependencies"]]
    assert [row[0].strip("`") for row in rows] == required
    assert all(len(row) == 4 and all(row) for row in rows)
