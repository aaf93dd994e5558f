"""The tiny dataset, run and backbone that the tests of training and evaluation share."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from data_prep_trees import photo, save, sketch

from sbir_jax.config import RunConfig, default_config, resolve

TINY = "tiny"
ITEMS = ("params", "model_state", "loss_params", "opt_state", "memory", "ema", "sampler")  # saved


def tiny_tree(root: Path) -> Path:
    """`photos/<class>/p<i>.png` and two sketches of each, 36 px, of five classes."""
    for c, label in enumerate(("ant", "bee", "cow", "dog", "elk")):
        for i in range(8):
            number = 100 * c + i
            save(photo(number, size=(36, 36)), root / f"photos/{label}/p{i}.png")
            for k in (1, 2):
                picture = sketch(10 * number + k, size=(36, 36))
                save(picture, root / f"sketches/{label}/p{i}-{k}.png")
    return root


def tiny_run(data_dir: Path, changes: dict[str, Any] | None = None) -> RunConfig:
    """A run of six steps on the tiny dataset, with some settings changed."""
    config = default_config()
    config.update_from_flattened_dict(
        {
            "data.name": TINY,
            "data.dir": str(data_dir),
            "data.image_size": 32,
            "data.load_size": 36,
            "data.batch_size": 8,
            "model.width": 8,
            "model.embed_dim": 8,
            "optim.warmup": "2 steps",
            "train.duration": "6 steps",
            "train.log_every": "1 steps",
            "train.eval_every": "2 steps",
            "eval.batch_size": 16,
        }
        | (changes or {})
    )
    return resolve(config)


@contextlib.contextmanager
def small_backbone() -> Iterator[None]:
    """One residual block instead of six: a step compiles in a quarter of the time."""
    from sbir_jax.backbones import ResNetSpec
    from sbir_jax.models import dual

    spec = ResNetSpec(depths=(1,), widths=(8,), patch_stem=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dual, "model_spec", lambda config, image_size: spec)
        yield


def metric_lines(workdir: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl without what depends on the clock."""
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [
        {name: value for name, value in line.items() if not name.startswith("perf/")}
        for line in lines
    ]


def stored(workdir: Path, which: str = "latest") -> dict[str, np.ndarray]:
    """Every array of a checkpoint, as any Orbax reader sees it, by item and path."""
    import jax
    from orbax.checkpoint import v1 as ocp

    from sbir_jax.checkpoint import Checkpoints

    with Checkpoints(workdir, metric="category/mAP@all", read_only=True) as checkpoints:
        step = checkpoints.find(which)
    saved, arrays = workdir.absolute() / f"checkpoints/{step}", {}
    here = jax.sharding.SingleDeviceSharding(jax.devices()[0])  # wherever they were saved
    items = {n: of for n, of in ocp.checkpointables_metadata(saved).metadata.items() if n in ITEMS}
    for item, of in sorted(items.items()):
        like = {p: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here) for p, x in of.items()}
        loaded = ocp.load(saved, like, checkpointable_name=item)
        arrays |= {f"{item}/{path}": np.asarray(value) for path, value in loaded.items()}
    return arrays


def assert_same_run(one: Path, other: Path) -> None:
    """Bit-equal parameters, BatchNorm statistics, optimiser and so on, and equal metrics."""
    assert metric_lines(one) == metric_lines(other)
    first, second = stored(one), stored(other)
    assert first.keys() == second.keys()
    for item in ("params", "model_state", "opt_state"):
        assert any(path.startswith(item) for path in first)
    for path, value in first.items():
        np.testing.assert_array_equal(value, second[path], err_msg=path)
