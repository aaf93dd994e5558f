"""The batch that a run diverged on, kept for whoever looks for the reason."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sbir_jax.batch_sheet import draw_views, views_of
from sbir_jax.config import RunConfig
from sbir_jax.data.pipeline import images_of
from sbir_jax.data.resident import Split
from sbir_jax.dispatch import one

_SIDES = ("sketch", "photo")


def dump_batch(
    run: RunConfig,
    workdir: Path,
    resident: dict[str, jax.Array | Split],
    batches: dict[str, Any],
    step: int,
    place: int,
    *,
    classes: Sequence[str],
) -> Path | None:
    """Writes `batch.npz` and `batch.png` of a step into `workdir/diverged-step-N`.

    The arrays: `sketch`, `photo` uint8 [B, S, S, C], as they were read; `sketch_view`,
    `photo_view` float32 [B, size, size, C] in -1..1, as the encoders saw them; `sketch_label`,
    `sketch_instance`, `photo_label`, `photo_instance` int32 [B].

    Args:
      run: settings.
      workdir: of the run.
      resident: of the feed.
      batches: of the dispatch that took it, [n, B, ...].
      step: counted from 1.
      place: of the step among those of the dispatch, from 0.
      classes: names by label.

    Returns:
      The folder; None where this process does not hold the whole batch, or has no room for it.
    """
    if not all(x.is_fully_addressable for x in jax.tree.leaves(batches)):
        return None
    batch = one(batches, place)
    read = images_of(resident, batch)
    views, ids = views_of(run, step, resident, batch)
    arrays: dict[str, Any] = {}
    for side, images, view, of in zip(_SIDES, read, views, ids, strict=True):
        arrays |= {side: np.asarray(images), f"{side}_view": view}
        arrays |= {f"{side}_label": of.label, f"{side}_instance": of.instance}
    folder = Path(workdir) / f"diverged-step-{step}"
    try:
        folder.mkdir(exist_ok=True)
        np.savez_compressed(folder / "batch.npz", **arrays)
        draw_views(views, ids, classes=classes, title=f"step {step}").save(folder / "batch.png")
    except OSError:  # the reason to stop is the loss; a full disk must not hide it
        return None
    return folder
