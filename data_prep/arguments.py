"""Checks of what the user asks preparation for, before any file is read."""

from __future__ import annotations

import contextlib
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from data_prep.builder import PairedImages
from data_prep.domainnet import Domainnet
from data_prep.flickr15k import Flickr15k
from data_prep.folders import Folders
from data_prep.fs_coco import FsCoco
from data_prep.generated import Demo
from data_prep.items import BadArgument
from data_prep.looks_like import LooksLike
from data_prep.looks_like_demo import LooksLikeDemo
from data_prep.pacs import Pacs
from data_prep.photos import Photos
from data_prep.qmul import Qmul
from data_prep.quickdraw import Quickdraw
from data_prep.quickdraw_ext import QuickdrawExt
from data_prep.sketchy import Sketchy
from data_prep.sketchy_ext import SketchyExt
from data_prep.tu_berlin_ext import TuBerlinExt
from sbir_jax.config import nearest

BUILDERS: dict[str, type[PairedImages]] = {
    builder.name: builder
    for builder in (
        Demo,
        Pacs,
        Sketchy,
        SketchyExt,
        TuBerlinExt,
        Quickdraw,
        QuickdrawExt,
        Qmul,
        FsCoco,
        Flickr15k,
        Domainnet,
        LooksLike,
        LooksLikeDemo,
        Folders,
        Photos,
    )
}
_CHOICES = {"on_error": ("fail", "skip"), "on_counts": ("fail", "note")}


def builder_of(dataset: str) -> type[PairedImages]:
    if dataset not in BUILDERS:
        raise BadArgument(f"dataset {dataset!r}: {nearest(dataset, BUILDERS)}")
    return BUILDERS[dataset]


def check_common(*, name: str, val: float, test: float, max_side: int, **choices: str) -> None:
    """Checks what every dataset takes; `choices` are on_error and on_counts.

    Raises:
      BadArgument: naming the flag, its value and what is valid.
    """
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise BadArgument(f"--name={name!r}: use letters, digits, '_', '-' and '.'")
    for flag, value in choices.items():
        if value not in _CHOICES[flag]:
            raise BadArgument(f"--{flag}={value!r}: valid: {', '.join(_CHOICES[flag])}")
    for flag, share in (("val", val), ("test", test)):
        if not 0 < share < 1:
            raise BadArgument(f"--{flag}={share}: valid above 0 and below 1")
    if val + test >= 1:
        raise BadArgument(f"--val={val} --test={test}: together valid below 1")
    if not 16 <= max_side <= 4096:
        raise BadArgument(f"--max_side={max_side}: valid from 16 to 4096 pixels")


def completed(
    builder: type[PairedImages], given: Mapping[str, Any], protocol: Mapping[str, Any]
) -> dict[str, Any]:
    """The dataset's own options: as given, else as the protocol says, else the defaults."""
    own = {option.name: option for option in builder.OPTIONS}
    for key, value in given.items():
        if key not in own:
            raise BadArgument(f"--{key}: no such option of {builder.name}; {nearest(key, own)}")
        if own[key].choices and value not in own[key].choices:
            raise BadArgument(f"--{key}={value!r}: {nearest(value, own[key].choices)}")
    return {key: given.get(key, protocol.get(key, own[key].default)) for key in own}


def raw_dir(
    builder: type[PairedImages], raw: str | Path | None, stack: contextlib.ExitStack
) -> Path:
    """What --raw names; a temporary directory where a dataset can do without."""
    if raw is None:
        if builder.NEEDS_RAW:
            example = f"python -m data_prep {builder.name} {builder.EXAMPLE}"
            raise BadArgument(f"--raw is missing; example: {example}")
        return Path(stack.enter_context(tempfile.TemporaryDirectory()))
    raw = Path(raw)
    if builder.NEEDS_RAW and not raw.exists():
        raise BadArgument(f"--raw={raw}: no such file or directory")
    return raw


def make_data_dir(data_dir: Path) -> None:
    """Makes the directory of prepared datasets, and checks that it takes files."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=data_dir):
            pass
    except OSError as error:
        raise BadArgument(
            f"--data_dir={data_dir}: cannot write there ({error.strerror})"
        ) from error
