"""A picture of a training batch, as the encoders see it."""

from __future__ import annotations

import numpy as np
from PIL import Image

_MOST, _COLUMNS, _GAP = 32, 8, 2


def batch_sheet(sketch: np.ndarray, photo: np.ndarray) -> Image.Image:
    """The first pairs of a batch, each sketch above its photo.

    Args:
      sketch: float32 [B, size, size, C] in -1..1; what is not finite is black.
      photo: the same.
    """
    rows = [
        np.concatenate([_coloured(s), _coloured(p)]) for s, p in zip(sketch, photo, strict=True)
    ]
    rows = rows[:_MOST]
    height, width = rows[0].shape[:2]
    lines = -(-len(rows) // _COLUMNS)
    columns = min(len(rows), _COLUMNS)
    sheet = Image.new("RGB", (columns * (width + _GAP), lines * (height + 3 * _GAP)), "white")
    for number, pair in enumerate(rows):
        y, x = divmod(number, _COLUMNS)
        sheet.paste(Image.fromarray(pair), (x * (width + _GAP), y * (height + 3 * _GAP)))
    return sheet


def _coloured(image: np.ndarray) -> np.ndarray:
    bright = np.nan_to_num((image + 1) * 127.5, nan=0.0, posinf=0.0, neginf=0.0)
    bright = np.clip(np.rint(bright), 0, 255).astype(np.uint8)
    return np.broadcast_to(bright, (*bright.shape[:2], 3)) if bright.shape[-1] == 1 else bright
