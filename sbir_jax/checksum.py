"""The CRC-32 of a file, with a progress bar where it takes long."""

from __future__ import annotations

import os
import zlib
from typing import BinaryIO

from tqdm import tqdm

_BLOCK = 16 << 20  # bytes read between two moves of the bar


def crc32_of(file: BinaryIO, *, doing: str) -> int:
    """The CRC-32 of an open file from where it stands to its end; the bar is called `doing`."""
    crc, length = 0, os.fstat(file.fileno()).st_size - file.tell()
    with tqdm(
        total=length, desc=doing, unit="B", unit_scale=True, delay=2, leave=False, disable=None
    ) as bar:
        while block := file.read(_BLOCK):
            crc = zlib.crc32(block, crc)
            bar.update(len(block))
    return crc
