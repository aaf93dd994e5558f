"""launch.py as a module, and what a failing command prints."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def _load():
    spec = importlib.util.spec_from_file_location("launch", ROOT / "launch.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["launch"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


launch = _load()


def error_line(capsys, *argv: str, code: int = 2) -> str:
    """The only line that a failing command prints."""
    assert launch.main(list(argv)) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("launch.py: ")
    return lines[0]
