"""The backbones of every family against timm's answers, which tests/parity/make_fixture.py wrote.

Weights are drawn from names and a seed on both sides, go through our importer as a file would, and
must give the same features: of a sketch at the native size and of a photo at another.
"""

import json
from pathlib import Path

import drawn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
from parity.cases import CASES

from sbir_jax import backbones
from sbir_jax.config import ModelConfig
from sbir_jax.models import dual
from sbir_jax.models.weights import load, place

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def fixture():
    with np.load(DATA / "backbones.npz", allow_pickle=False) as arrays:
        return json.loads((DATA / "backbones.json").read_text()), dict(arrays)


def imported(case, shapes, folder: Path, monkeypatch):
    monkeypatch.setitem(backbones.BACKBONES, case.arch, case.backbone())
    safetensors.numpy.save_file(drawn.weights(shapes), folder / "model.safetensors")
    return load(str(folder), case.arch)


@pytest.mark.parametrize("name", CASES)
def test_backbone_is_timm(name, fixture, tmp_path, monkeypatch):
    """Features of a grey sketch, native, and of a photo, resized, are timm's to 4e-6 relative."""
    shapes, expected = fixture
    case = CASES[name]
    weights = imported(case, shapes[name], tmp_path, monkeypatch)
    config = ModelConfig(backbone=case.arch, head="none", towers="stems")
    for side, size in case.views:
        empty = jax.eval_shape(
            lambda size=size: dual.build(config, jax.random.key(0), image_size=size)[1:]
        )
        graphdef, state = (
            dual.define(config, image_size=size, headless=True),
            place(weights, *empty),
        )
        images = jnp.asarray(drawn.images(size, dual.CHANNELS[side]) * 2 - 1)
        embed = jax.jit(lambda s, x, g=graphdef, side=side: dual.apply_embed(g, *s, x, side))
        found, wanted = np.asarray(embed(state, images)), expected[f"{name}/{side}"]
        error = np.abs(found - wanted).max() / np.abs(wanted).max()
        assert found.shape == wanted.shape and error < 4e-6, (side, size, error)
