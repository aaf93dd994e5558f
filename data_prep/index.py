"""The sidecar `index.npz`: label and instance of every record, so sampling decodes nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from data_prep.checking import Checked
from data_prep.items import SPLITS
from sbir_jax.data.images import MODALITIES


def write_index(dataset_dir: Path, *, classes: Sequence[str], checked: Sequence[Checked]) -> None:
    """Reads the written records back and stores their labels and instances, in record order.

    Keys: `classes` and `instance_ids` (unicode, sorted); for each split and modality
    `<split>/<modality>/label` (int32 [N]) and `<split>/<modality>/instance` (int32 [N], a position
    in `instance_ids`, -1 without a link). N is 0 for a modality that a split lacks.
    """
    instance_ids = sorted({c.item.instance_id for c in checked} - {""})
    number = {name: i for i, name in enumerate(instance_ids)} | {"": -1}
    arrays: dict[str, Any] = {
        "classes": np.asarray(classes, dtype=np.str_),
        "instance_ids": np.asarray(instance_ids, dtype=np.str_),
    }
    for modality in MODALITIES:
        builder = tfds.builder_from_directory(dataset_dir / modality / "1.0.0")
        for split in SPLITS:
            rows = np.empty((0, 2), np.int32)
            if split in builder.info.splits:
                source = builder.as_data_source(
                    split, decoders={"image": tfds.decode.SkipDecoding()}
                )
                rows = np.asarray(
                    [(r["label"], number[r["instance_id"].decode()]) for r in source], np.int32
                )
            arrays[f"{split}/{modality}/label"] = rows[:, 0]
            arrays[f"{split}/{modality}/instance"] = rows[:, 1]
    np.savez_compressed(dataset_dir / "index.npz", **arrays)
