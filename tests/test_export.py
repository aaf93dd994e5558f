"""Exported encoders give the vectors of those they were exported from, without this package."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
from front_door import error_line, launch
from tiny import small_backbone

from sbir_jax import backbones, load_encoders, sharding
from sbir_jax.backbones import Backbone, ViTSpec
from sbir_jax.config import ModelConfig
from sbir_jax.models import dual
from sbir_jax.retrieval import RetrievalError
from sbir_jax.retrieval.export import load_exported


@pytest.fixture(scope="module")
def exported(finished, tmp_path_factory):
    """(encoders, directory they were exported into by launch.py, workdir with results)."""
    folder = tmp_path_factory.mktemp("exported")
    workdir = shutil.copytree(finished[1], folder / "run")
    with small_backbone():
        encoders = load_encoders(workdir, mesh=sharding.make_mesh(jax.devices()[:1]))
        metric = {"value": 0.25, "interval": [0.125, 0.5], "chance": 0.0625}
        entry = {
            "dataset": "tiny", "split": "test", "checkpoint": "best", "distance": "cosine",
            "ties": "pessimistic", "levels": ["category"],
            "category": {"queries": 10, "gallery": 5, "mAP@all": metric},
        }  # fmt: skip
        step = encoders.source["step"]
        entries = {
            "test/best": entry | {"step": step},
            "test/latest": entry | {"step": step + 1, "dataset": "of another checkpoint"},
        }
        (workdir / "results.json").write_text(json.dumps(entries))
        launch.main(["export", f"--workdir={workdir}", f"--out={folder / 'out'}"])
    return encoders, folder / "out", workdir


def squares(encoders, side: str, n: int) -> list[np.ndarray]:
    size, channels = encoders.run.data.load_size, {"sketch": 1, "photo": 3}[side]
    return list(np.random.default_rng(n).integers(0, 256, (n, size, size, channels), np.uint8))


@pytest.mark.parametrize("side", ["sketch", "photo"])
def test_reloaded_programs_give_the_vectors_of_the_live_encoders(exported, side):
    """To rounding, whether or not the live encoders compile that size of batch."""
    encoders, out, _ = exported
    program = getattr(load_exported(out), side)
    for rows in (1, 3, 8):
        images = squares(encoders, side, rows)
        expected = encoders.embed(images, side)
        np.testing.assert_allclose(program(np.stack(images)), expected, atol=1e-6)


def test_another_process_needs_jax_alone(exported, tmp_path):
    """The lines of the model card run where sbir_jax cannot be imported."""
    encoders, out, _ = exported
    images = squares(encoders, "sketch", 2)
    np.save(tmp_path / "images.npy", np.stack(images))
    card = (out / "README.md").read_text()
    lines = card.partition("```python\n")[2].partition("```")[0]
    code = (
        "import sys; sys.modules['sbir_jax'] = sys.modules['flax'] = None\n"
        f"{lines}\nimport numpy as np\n"
        f"np.save({str(tmp_path / 'out.npy')!r}, embed(np.load({str(tmp_path / 'images.npy')!r})))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=out, check=True)
    found = np.load(tmp_path / "out.npy")
    np.testing.assert_allclose(found, encoders.embed(images, "sketch"), atol=1e-6)


def test_one_file_is_for_every_platform(exported):
    """Each artefact says that it holds programs for CPU, CUDA and TPU."""
    _, out, _ = exported
    for side in ("sketch", "photo"):
        program = jax.export.deserialize(bytearray((out / f"{side}.jaxexport").read_bytes()))
        assert set(program.platforms) == {"cpu", "cuda", "tpu"}


def test_the_card_says_data_results_and_terms(exported):
    """Fingerprint, the results of this checkpoint and of no other, and where weights are from."""
    encoders, out, workdir = exported
    card = (out / "README.md").read_text()
    dataset = json.loads((workdir / "dataset.json").read_text())
    assert dataset["fingerprint"] in card and encoders.identity.weights in card
    assert "| mAP@all | 0.2500 | 0.1250 to 0.5000 | 0.0625 |" in card
    assert "of another checkpoint" not in card
    assert "protocol: none of the literature" in card
    assert "starting weights: none, drawn at random" in card
    about = json.loads((out / "encoders.json").read_text())
    assert str(workdir) not in card + json.dumps(about)  # nobody else's business
    assert about["preprocessing"] == {"fit": "pad", "load_size": 36, "image_size": 32}


def test_what_cannot_be_exported_or_loaded_is_one_line(exported, tmp_path, capsys):
    """No run, no --out, no export and a damaged one."""
    _, out, workdir = exported
    assert "missing --out" in error_line(capsys, "export", f"--workdir={workdir}")
    line = error_line(capsys, "export", f"--workdir={tmp_path}", f"--out={tmp_path}", code=1)
    assert "no run there" in line
    with pytest.raises(RetrievalError, match="no exported encoders"):
        load_exported(tmp_path)
    copy = shutil.copytree(out, tmp_path / "copy")
    (copy / "photo.jaxexport").write_bytes(b"damaged")
    with pytest.raises(RetrievalError, match="no exported encoders"):
        load_exported(copy)


@pytest.mark.parametrize("pool", ["token", "map"])
def test_every_kind_of_backbone_takes_any_number_of_images(pool):
    """A transformer with prompts, class token or pooling query traces for an unknown batch."""
    with pytest.MonkeyPatch.context() as patch:
        spec = ViTSpec(patch=8, width=16, depth=1, heads=2, pool=pool)
        patch.setitem(backbones.BACKBONES, "vit_tiny_patch16", Backbone(spec=spec))
        config = ModelConfig(backbone="vit_tiny_patch16", embed_dim=8, prompts=2)
        graphdef, *state = dual.build(config, jax.random.key(0), image_size=16)
    (batch,) = jax.export.symbolic_shape("b")
    shape = jax.ShapeDtypeStruct((batch, 16, 16, 3), np.float32)
    embed = jax.jit(lambda images: dual.apply_embed(graphdef, *state, images, "photo"))
    (out,) = jax.export.export(embed)(shape).out_avals
    assert out.shape == (batch, 8)
