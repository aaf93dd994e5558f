"""Reads and decodes every image once, before anything is written, and says what is wrong."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from data_prep.items import Item
from sbir_jax.data.images import BadImage

# Strokes are darker than this grey level; paper, pencil shading and JPEG noise are lighter.
INK_LEVEL = 192
BLANK_INK = 0.0005
INVERTED_INK = 0.6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checked:
    """What one look at a file's bytes found.

    sha256: of the file's bytes; "" where they could not be read.
    problem: why the file cannot be used, or "".
    ink: share of a sketch's pixels that are strokes; nan for photos and bad files.
    """

    item: Item
    sha256: str
    problem: str = ""
    ink: float = float("nan")

    @property
    def blank(self) -> bool:
        return self.ink < BLANK_INK

    @property
    def inverted(self) -> bool:
        """Mostly dark: likely white strokes on black."""
        return self.ink > INVERTED_INK


def check_images(items: Sequence[Item], *, decode: bool = True, quiet: bool) -> list[Checked]:
    """Hashes every file and, with `decode`, decodes it; the results keep the items' order."""
    doing = "checking images" if decode else "reading files"
    bar = progress(in_parallel(lambda item: _check(item, decode), items), len(items), doing, quiet)
    return list(bar)


def _check(item: Item, decode: bool) -> Checked:
    try:
        data = item.read()
    except OSError as error:
        return Checked(item=item, sha256="", problem=f"cannot be read ({error.strerror})")
    sha256 = hashlib.sha256(data).hexdigest()
    if not decode:
        return Checked(item=item, sha256=sha256)
    try:
        pixels = item.pixels(data)
    except BadImage as error:
        return Checked(item=item, sha256=sha256, problem=str(error))
    ink = float(np.mean(pixels < INK_LEVEL)) if item.kind == "sketch" else float("nan")
    return Checked(item=item, sha256=sha256, ink=ink)


def in_parallel(function: Callable, inputs: Iterable) -> Iterator:
    """Maps with threads, in order, with a bounded number of results waiting.

    Pillow and hashlib release the interpreter lock, so threads use every core; the bound keeps
    memory constant however many images there are.
    """
    workers = min(os.cpu_count() or 1, 16)
    inputs = iter(inputs)
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque(pool.submit(function, x) for x in itertools.islice(inputs, 4 * workers))
        while waiting:
            yield waiting.popleft().result()
            waiting.extend(pool.submit(function, x) for x in itertools.islice(inputs, 1))


def progress(inputs: Iterable | None, total: int, doing: str, quiet: bool) -> tqdm:
    """A progress bar on a terminal, a line every ten seconds elsewhere."""
    terminal = sys.stderr.isatty()
    return tqdm(
        inputs,
        total=total,
        desc=doing,
        unit=" images",
        mininterval=0.1 if terminal else 10.0,
        delay=1.0,
        disable=quiet,
        leave=terminal,
    )
