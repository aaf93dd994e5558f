"""A short run on real sketches and photos, from raw folders to a restored evaluation."""

from __future__ import annotations

import shutil
from pathlib import Path

import jax
import pytest
from tiny import metric_lines, tiny_run

from data_prep.prepare import prepare
from sbir_jax import sharding
from sbir_jax.evaluate import evaluate_workdir
from sbir_jax.train import train

PACS = Path(__file__).parents[2] / "shared/data/pacs"


@pytest.mark.skipif(not PACS.is_dir(), reason="no PACS images beside the checkout")
@pytest.mark.usefixtures("small_model")
def test_real_images_are_prepared_trained_on_and_evaluated_after_a_restore(tmp_path):
    """12 photos and 12 sketches of each class: two steps, and a restored evaluation that agrees."""
    raw = tmp_path / "raw"
    for folder in PACS.glob("*/*"):
        target = raw / folder.relative_to(PACS)
        target.mkdir(parents=True)
        for file in sorted(folder.iterdir())[:12]:
            shutil.copy(file, target)
    prepare("pacs", raw=raw, data_dir=tmp_path, val=0.25, test=0.25, quiet=True)
    run = tiny_run(tmp_path, {"data.name": "pacs", "train.duration": "2 steps"})
    mesh = sharding.make_mesh(jax.devices()[:1])
    summary = train(run, tmp_path / "run", mesh=mesh)
    losses = [x["loss"] for x in metric_lines(tmp_path / "run") if x["kind"] == "train"]
    assert len(losses) == 2
    entry = evaluate_workdir(tmp_path / "run", checkpoint="best", split="val", run=run, mesh=mesh)
    assert entry["category"]["queries"] > 5
    for name, value in summary["validation"].items():
        level, _, metric = name.partition("/")
        assert entry[level][metric]["value"] == value, name
    tested = evaluate_workdir(tmp_path / "run", checkpoint="best", split="test", run=run, mesh=mesh)
    assert 0 < tested["category"]["mAP@all"]["value"] < 1
