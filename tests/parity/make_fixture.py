"""Writes tests/data/backbones.json and .npz, which tests/test_backbones.py compares with.

Needs timm (1.0.31 made the committed files). From the root of the repository:

  PYTHONPATH=tests python -m parity.make_fixture
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from parity import reference
from parity.cases import CASES

DATA = Path(__file__).resolve().parents[1] / "data"


def main() -> None:
    """Computes every case with timm and writes both files."""
    shapes, arrays = {}, {}
    for name, case in CASES.items():
        found = reference.everything(case)
        shapes[name] = found.pop("shapes")
        arrays |= {f"{name}/{key}": value for key, value in found.items()}
        print(name, {key: value.shape for key, value in found.items()})
    DATA.mkdir(exist_ok=True)
    text = json.dumps(shapes, separators=(",", ":"))
    (DATA / "backbones.json").write_text(text.replace('},"', '},\n"') + "\n")
    np.savez_compressed(DATA / "backbones.npz", **arrays)


if __name__ == "__main__":
    main()
