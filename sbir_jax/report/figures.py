"""What all figures of a report have in common: their look, and becoming a PIL image.

A figure is narrow (4.8 inches), so that its letters are still read on a phone; the page puts two
beside each other where there is room.
"""

from __future__ import annotations

import io
import warnings

import matplotlib as mpl
from matplotlib.figure import Figure
from PIL import Image

WIDTH, _DPI = 4.8, 200  # inches
# Colours that are told apart without seeing red or green; lines differ in their dashes too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0307f", "#7a5c00", "#444444", "#56b4e9", "#e69f00")
DASHES = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (6, 2, 1, 2)))
GREY = "#9aa1ab"

# Names are the user's: a "$" in them is no mathematics.
styled = mpl.rc_context(
    {
        "text.parse_math": False,
        "font.family": "DejaVu Sans",
        "font.size": 10,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.spines.top": False,
        "axes.spines.right": False,
        "text.color": "#1d2430",
        "axes.labelcolor": "#1d2430",
    }
)


def blank(height: float) -> Figure:
    """An empty figure of the common width; use it in a function that is `styled`."""
    return Figure(figsize=(WIDTH, height), layout="constrained", dpi=_DPI)


def rendered(figure: Figure) -> Image.Image:
    """The picture of a figure."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Letters that the font lacks are drawn as boxes; the tables have them.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        figure.savefig(buffer, format="png", dpi=_DPI)
    return Image.open(buffer).convert("RGB")


def short(name: object, room: int = 22) -> str:
    """A name on one line of at most `room` letters."""
    words = " ".join("".join(c if c.isprintable() else " " for c in str(name)).split())
    return words if len(words) <= room else words[: room - 1] + "…"
