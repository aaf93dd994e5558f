"""The batch that a run diverged on, kept for whoever looks for the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from sbir_jax.batch_sheet import batch_sheet
from sbir_jax.config import RunConfig
from sbir_jax.data.pipeline import images_of
from sbir_jax.step import keys, seen


def views_of(run: RunConfig, step: int, resident: dict, batch: dict[str, Any]) -> tuple:
    """What the encoders saw of the batch of a step, counted from 1, and its ids: `step.seen`."""

    @jax.jit
    def look(resident: dict, batch: dict) -> tuple:
        return seen(run, keys(run.seed, step - 1)[0], resident, batch)

    return look(resident, batch)


def dump_batch(
    run: RunConfig, workdir: Path, step: int, resident: dict[str, jax.Array], batch: dict[str, Any]
) -> Path | None:
    """Writes `batch.npz` and `batch.png` of a step into `workdir/diverged-step-N`.

    The arrays: `sketch`, `photo` uint8 [B, S, S, C], as they were read; `sketch_view`,
    `photo_view` float32 [B, size, size, C], as the encoders saw them; `sketch_label`,
    `sketch_instance`, `photo_label`, `photo_instance` int32 [B].

    Args:
      run: settings.
      workdir: of the run.
      step: counted from 1.
      resident: of the feed.
      batch: of that step.

    Returns:
      The folder; None where this process does not hold the whole batch, or has no room for it.
    """
    if not all(x.is_fully_addressable for x in jax.tree.leaves(batch)):
        return None
    read = dict(zip(("sketch", "photo"), images_of(resident, batch), strict=True))
    views, ids = views_of(run, step, resident, batch)
    arrays = {name: np.asarray(images) for name, images in read.items()}
    for side, view, of in zip(("sketch", "photo"), views, ids, strict=True):
        arrays[f"{side}_view"] = np.asarray(view)
        arrays[f"{side}_label"] = np.asarray(of.label)
        arrays[f"{side}_instance"] = np.asarray(of.instance)
    folder = Path(workdir) / f"diverged-step-{step}"
    try:
        folder.mkdir(exist_ok=True)
        np.savez_compressed(folder / "batch.npz", **arrays)
        batch_sheet(arrays["sketch_view"], arrays["photo_view"]).save(folder / "batch.png")
    except OSError:  # the reason to stop is the loss; a full disk must not hide it
        return None
    return folder
