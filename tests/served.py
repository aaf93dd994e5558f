"""A small index and its encoders, as the server uses them."""

from __future__ import annotations

from pathlib import Path

from data_prep_trees import photo, save
from tiny import small_backbone

from sbir_jax import Index, load_encoders
from sbir_jax.retrieval.engine import BATCHES, one_device


def make_index(workdir: Path, folder: Path, photos: int = 30):
    """(index, encoders) of some photos, in the sub-directories a, b and c."""
    for i in range(photos):
        save(photo(i, size=(36, 36)), folder / f"photos/{'abc'[i % 3]}/{i:02}.png")
    with small_backbone():
        encoders = load_encoders(workdir, mesh=one_device(), batches=BATCHES)
        return Index.build(folder / "photos", encoders, folder / "index"), encoders
