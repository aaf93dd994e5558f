"""The Python of docs/search.md runs as it stands, and importing the package stays light."""

from __future__ import annotations

import doctest
import subprocess
import sys

from data_prep_trees import photo, save, sketch
from front_door import ROOT


def test_the_session_of_the_page_gives_what_it_shows(finished, small_model, tmp_path, monkeypatch):
    """In a directory with runs/quickstart, my_photos and sketch.png, as a doctest."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs/quickstart").symlink_to(finished[1])
    for i in range(3):
        save(photo(i), tmp_path / f"my_photos/{i}.png")
    save(sketch(1), tmp_path / "sketch.png")
    monkeypatch.chdir(tmp_path)
    failed, tried = doctest.testfile(
        str(ROOT / "docs/search.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert tried >= 6 and failed == 0


def test_importing_the_package_imports_neither_jax_nor_numpy():
    """The names of the Python API are loaded when they are first used; others do not exist."""
    code = (
        "import sys, sbir_jax\n"
        "print([m for m in ('jax', 'numpy', 'flax') if m in sys.modules])\n"
        "try: sbir_jax.Indx\n"
        "except AttributeError as error: print(error)\n"
        "print(sbir_jax.Index.__name__, 'jax' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines() == [
        "[]",
        "module 'sbir_jax' has no attribute 'Indx'",
        "Index False",
    ]
