"""Published weights in a run: where it starts from, what is evaluated untrained, the verb."""

from __future__ import annotations

import dataclasses
import json

import drawn
import jax
import numpy as np
import pytest
import safetensors.numpy
from front_door import ROOT, error_line, launch
from parity.cases import CASES
from test_backbones import DATA
from test_weights import CONFIG, SHAPES, SMALL
from tiny import TINY, stored, tiny_run

from sbir_jax import backbones
from sbir_jax.config import ConfigError, resolve
from sbir_jax.data.source import open_dataset
from sbir_jax.evaluate import evaluate_workdir
from sbir_jax.evaluator import Evaluator
from sbir_jax.knn import knn_workdir
from sbir_jax.load import as_measured, parameters
from sbir_jax.models import dual
from sbir_jax.models.weights import load, resample_positions
from sbir_jax.optim import everything, groups
from sbir_jax.overrides import load_config
from sbir_jax.paths import by_path
from sbir_jax.step import draw
from sbir_jax.train import train


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


def test_a_run_starts_from_published_weights(tiny_data, tmp_path, mesh, capfd, monkeypatch):
    """CLIP's recipe: two steps move LayerNorms and prompts, and leave the published rest to the
    bit. The log and the workdir say where it is from; continued, the run needs the file no more."""
    case = CASES["clip_quickgelu"]
    monkeypatch.setitem(backbones.BACKBONES, case.arch, case.backbone())
    shapes = json.loads((DATA / "backbones.json").read_text())["clip_quickgelu"]
    source = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(drawn.weights(shapes), source)
    recipe = {
        "model.backbone": case.arch,
        "model.weights": str(source),
        "model.towers": "shared",
        "model.head": "none",
        "model.embed_dim": 64,
        "model.prompts": 2,
        "optim.train": "*norm*, prompts",
        "optim.warmup": "0 steps",
        "train.duration": "2 steps",
    }
    run = tiny_run(tiny_data, recipe)
    train(run, tmp_path / "run", mesh=mesh)
    out = capfd.readouterr()
    assert f"starting from published weights: {case.arch} of" in out.out + out.err
    weights, arrays = load(str(source), case.arch), stored(tmp_path / "run")
    for path, value in weights.arrays.items():
        part, _, rest = path.partition("/")
        found = arrays[f"params/{part}s/both/{rest}"]
        if path == "stem/positions":
            value = resample_positions(value, 1)
        assert (found == value).all() == ("norm" not in path), path
    assert arrays["params/prompts/sketch"].shape == (2, 64)
    np.testing.assert_array_equal(arrays["model_state/pixels/mean"], np.float32(weights.mean))
    about = json.loads((tmp_path / "run/weights.json").read_text())
    assert (about["arch"], about["sha256"]) == (case.arch, weights.sha256)
    source.unlink()
    train(run, tmp_path / "run", mesh=mesh)
    out = capfd.readouterr()
    assert "continuing from step 2" in out.out + out.err


def test_patterns_of_the_recipes_name_parameters():
    """The optimiser settings of every config that starts from weights fit its model."""
    recipes = 0
    for path in sorted((ROOT / "configs").glob("*.py")):
        run = resolve(load_config(str(path), ROOT / "configs"))
        if run.model.weights:
            recipes += 1
            params, _, loss_params = jax.eval_shape(lambda run=run: draw(run, classes=3))
            moved = groups(run.optim, by_path(everything(params, loss_params))).rates
            assert any(not name.startswith("loss/") for name in moved), path
    assert recipes >= 5


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
