"""Published weights in a run: where it starts from, what is evaluated untrained, the verb."""

from __future__ import annotations

import dataclasses
import json

import drawn
import jax
import numpy as np
import pytest
import safetensors.numpy
from front_door import error_line, launch
from test_weights import CONFIG, SHAPES, SMALL
from tiny import TINY, stored, tiny_run

from sbir_jax import backbones, sharding
from sbir_jax.config import ConfigError
from sbir_jax.data.source import open_dataset
from sbir_jax.evaluate import Evaluator, evaluate_workdir
from sbir_jax.knn import knn_workdir
from sbir_jax.load import as_measured, parameters
from sbir_jax.models import dual
from sbir_jax.models.weights import load
from sbir_jax.train import train


@pytest.fixture
def mesh():
    return sharding.make_mesh(jax.devices()[:1])


@pytest.fixture
def source(tmp_path, monkeypatch):
    """A directory with published weights of resnet18, which is a small one here."""
    monkeypatch.setitem(backbones.BACKBONES, "resnet18", SMALL)
    folder = tmp_path / "published"
    folder.mkdir()
    safetensors.numpy.save_file(drawn.weights(SHAPES), folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


def run_of(source, tiny_data, **changes):
    settings = {"model.backbone": "resnet18", "model.weights": str(source)}
    return tiny_run(tiny_data, settings | changes)


def test_a_run_starts_from_published_weights(source, tiny_data, tmp_path, mesh, capfd):
    """The first checkpoint of a run that does not move holds the published values in both towers,
    the log says so, and the workdir keeps where they are from; continued, its own come first."""
    changes = {"optim.lr": 0.0, "model.batch_norm": "frozen", "train.duration": "2 steps"}
    run = run_of(source, tiny_data, **changes)
    train(run, tmp_path / "run", mesh=mesh)
    out = capfd.readouterr()
    assert "starting from published weights: resnet18 of" in out.out + out.err
    weights = load(str(source), "resnet18")
    arrays = stored(tmp_path / "run")
    for side in ("sketch", "photo"):
        for path, value in weights.arrays.items():
            part, _, rest = path.partition("/")
            item = "model_state" if rest.endswith(("/mean", "/var")) else "params"
            np.testing.assert_array_equal(arrays[f"{item}/{part}s/{side}/{rest}"], value)
    np.testing.assert_array_equal(arrays["model_state/pixels/mean"], np.float32([0.1, 0.2, 0.3]))
    about = json.loads((tmp_path / "run/weights.json").read_text())
    assert (about["arch"], about["sha256"]) == ("resnet18", weights.sha256)
    assert "no commercial use" in about["licence"]
    (source / "model.safetensors").unlink()  # no longer needed
    train(run, tmp_path / "run", mesh=mesh)
    out = capfd.readouterr()
    assert "continuing from step 2" in out.out + out.err


def test_pretrained_evaluates_the_published_backbone_alone(source, tiny_data, tmp_path, mesh):
    """--checkpoint=pretrained needs no run; its embeddings are the unit features of both sides."""
    run = run_of(source, tiny_data, **{"model.towers": "stems", "model.head": "mlp"})
    entry = evaluate_workdir(
        tmp_path / "none", checkpoint="pretrained", split="test", run=run, mesh=mesh
    )
    assert (entry["checkpoint"], entry["step"]) == ("pretrained", 0)
    alone = as_measured(run, "pretrained")
    step, params, state = parameters(alone, tmp_path, "pretrained", mesh)
    evaluator = Evaluator(
        alone, open_dataset(TINY, tiny_data), dual.define(alone.model, image_size=32), mesh
    )
    headless = dual.define(alone.model, image_size=32, headless=True)
    for side in dual.MODALITIES:
        found = evaluator.embed("test", side, params, state).vectors
        images = evaluator.dataset.images("test", side).load(
            np.arange(len(found)), size=36, fit="pad"
        )
        pixels = jax.image.resize(
            images.astype(np.float32), (len(found), 32, 32, images.shape[-1]), "linear"
        )
        features = dual.apply_embed(headless, params, state, pixels / 127.5 - 1, side)
        wanted = features / np.linalg.norm(features, axis=1, keepdims=True)
        assert found.shape == (len(found), 12)
        np.testing.assert_allclose(found, wanted, atol=1e-4)
    rows = knn_workdir(tmp_path / "none", checkpoint="pretrained", split="test", run=run, mesh=mesh)
    assert rows[0]["mAP@all"] == pytest.approx(rows[4]["mAP@all"], abs=1e-2)


def test_pretrained_without_weights(tiny_data, tmp_path, mesh):
    """A run that names no weights has no published baseline."""
    with pytest.raises(ConfigError, match="config.model.weights=''.*needs published weights"):
        evaluate_workdir(
            tmp_path, checkpoint="pretrained", split="test", run=tiny_run(tiny_data), mesh=mesh
        )


def test_the_verb_imports_and_tells(source, tmp_path, capsys):
    """`weights` writes what a run can start from and prints sizes, cost, pixels and licence."""
    out = tmp_path / "out"
    argv = ["weights", "--arch=resnet18", f"--from={source}", f"--out={out}"]
    assert launch.main(argv) == 0
    printed = capsys.readouterr().out
    arrays = load(str(out), "resnet18").arrays
    trained = sum(a.size for n, a in arrays.items() if not n.endswith(("/mean", "/var")))
    for part in (f"{trained:,}", "160 x 160", "0.1 0.2 0.3", "no commercial use", "sha256"):
        assert part in printed, printed
    assert f"--config.model.weights={out}" in printed
    # One 7 x 7 convolution of 3 to 8 channels at 80 x 80 is a lower bound of the work.
    flops = float(printed.split("GFLOPs")[1].split()[0])
    assert flops > 2 * 7 * 7 * 3 * 8 * 80 * 80 / 1e9


@pytest.mark.parametrize(
    ("flags", "expected", "code"),
    [
        (["--arch=resnet50"], "missing --from", 2),
        (["--from=a.npz"], "missing --arch=NAME", 2),
        (["--arch=resnet5", "--from=a.npz"], "did you mean 'resnet50'", 2),
        (["--arch=patch_resnet", "--from=a.npz"], "--arch=patch_resnet", 2),
        (["--arch=resnet50", "--from=a.npz"], "a.npz: no such file", 1),
    ],
)
def test_mistakes_of_the_verb(flags, expected, code, capsys, tmp_path, monkeypatch):
    """Each is one line, with what would work."""
    monkeypatch.chdir(tmp_path)
    assert expected in error_line(capsys, "weights", *flags, code=code)


def test_another_start_wins_over_weights(source, finished, tiny_data, tmp_path, mesh):
    """init_from of a run of another model is refused before any weights are read."""
    run = run_of(source / "nowhere", tiny_data, **{"train.init_from": str(finished[1])})
    with pytest.raises(Exception, match="does not fit this model"):
        train(dataclasses.replace(run), tmp_path / "run", mesh=mesh)
