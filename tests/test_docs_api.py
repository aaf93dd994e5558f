"""docs/api.md says what the docstrings say, of functions that are as it shows them."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re

import pytest
from front_door import ROOT

import sbir_jax

pytest.importorskip("griffe", reason="docs/make_api.py reads docstrings with griffe")

PAGE = ROOT / "docs/api.md"
_ENTRY = re.compile(
    r"^#### `([\w.]+)\.(\w+)`\n\n```python\n(.*?)\n```\n(.*?)(?=^#|\Z)", re.M | re.S
)


def entries() -> list[tuple[str, str, str, str]]:
    """(module, name, signature, text) of each function and class of the page."""
    return _ENTRY.findall(PAGE.read_text())


def test_the_page_is_up_to_date():
    """Running docs/make_api.py would not change the page."""
    spec = importlib.util.spec_from_file_location("make_api", PAGE.with_name("make_api.py"))
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert maker.render() == PAGE.read_text(), "run python docs/make_api.py"


def test_every_entry_can_be_imported_and_called_as_shown():
    """Python itself finds each name there, with these parameters in this order, and a text."""
    assert len(entries()) > 50
    for module, name, signature, text in entries():
        thing = getattr(importlib.import_module(module), name)
        assert text.strip(), f"{module}.{name} has no docstring"
        assert inspect.isclass(thing) == signature.startswith("class "), name
        if not inspect.isclass(thing):
            (shown,) = ast.parse(f"def {signature}: pass").body
            every = inspect.signature(thing).parameters.values()
            keyword = [p.name for p in every if p.kind is p.KEYWORD_ONLY]
            others = [p.name for p in every if p.kind is p.POSITIONAL_OR_KEYWORD]
            assert [arg.arg for arg in shown.args.args] == others, name
            assert [arg.arg for arg in shown.args.kwonlyargs] == keyword, name


def test_what_the_package_exports_is_on_the_page():
    """Every name of `sbir_jax.__all__` has an entry."""
    assert set(sbir_jax.__all__) <= {name for _, name, _, _ in entries()}
