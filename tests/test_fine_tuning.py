"""Frozen parameters cost nothing and stay; the moving average is what is evaluated."""

from __future__ import annotations

import numpy as np
import pytest
from test_step import draw_batch, host, optimizer_of
from tiny import metric_lines, small_backbone, stored, tiny_run

from sbir_jax import sharding
from sbir_jax.config import ConfigError, RunConfig
from sbir_jax.data.source import open_dataset
from sbir_jax.dimensions import dimensions_workdir
from sbir_jax.evaluate import evaluate_workdir
from sbir_jax.evaluator import Evaluator
from sbir_jax.knn import knn_workdir
from sbir_jax.models import dual
from sbir_jax.paths import by_path, replaced
from sbir_jax.step import make_init, make_train_step
from sbir_jax.train import train

pytestmark = pytest.mark.usefixtures("small_model")

HEADS = {"optim.train": "*norm*, heads/*", "optim.freeze": "stems/*"}


def started(run: RunConfig, mesh):
    """(step function, first state, batch): as in a run, at a constant learning rate."""
    optimizer = optimizer_of(run, run.optim)
    state = sharding.put_copy(mesh, make_init(run, optimizer, classes=3)())
    step = make_train_step(run, dual.define(run.model, image_size=32), optimizer, state)
    return step, state, sharding.put_rows(mesh, draw_batch())


def test_frozen_parameters_stay_to_the_bit_and_take_no_memory(mesh):
    """After three steps of norms and heads alone, without the stems, these have moved and no other
    bit has; AdamW holds two moments of each of them and nothing else."""
    step, state, batch = started(tiny_run("unused", HEADS), mesh)
    before = by_path(host(state.params))
    for _ in range(3):
        state, metrics = step(state, {}, batch)
    after = by_path(host(state.params))
    moved = {path for path in before if not np.array_equal(before[path], after[path])}
    assert moved == {
        path
        for path in before
        if not path.startswith("stems") and ("norm" in path or path.startswith("heads"))
    }
    held = by_path(state.opt_state)
    moments = [path for path, x in held.items() if x.ndim]
    assert sum(held[path].size for path in moments) == 2 * sum(before[p].size for p in moved)
    norm = np.sqrt(sum((after[path] ** 2).sum() for path in moved))
    assert float(metrics["optim/param_norm"]) == pytest.approx(norm, rel=1e-5)


def test_gradients_of_what_is_frozen_are_not_computed(mesh):
    """With stems and trunks frozen a step takes under half the arithmetic of a full one."""
    flops = {}
    for frozen in ("", "stems, trunks"):
        step, state, batch = started(tiny_run("unused", {"optim.freeze": frozen}), mesh)
        flops[frozen] = step.lower(state, {}, batch).cost_analysis()["flops"]
    assert flops["stems, trunks"] < 0.5 * flops[""]


def test_the_average_follows_its_formula(mesh):
    """Parameters and BatchNorm statistics, over four steps, against a loop in NumPy: the decay is
    (1 + t) / (10 + t), but no more than 0.2, which the fourth passes."""
    run = tiny_run("unused", {"optim.ema": 0.2, "optim.freeze": "stems/*"})
    step, state, batch = started(run, mesh)
    live = lambda state: by_path(host((state.params, state.model_state)))  # noqa: E731
    expected = live(state)
    for decay in (1 / 10, 2 / 11, 0.2, 0.2):
        state, _ = step(state, {}, batch)
        for path, value in live(state).items():
            expected[path] = decay * expected[path] + (1 - decay) * value
    found = by_path(host(state.evaluated))
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, rtol=1e-5, atol=1e-7, err_msg=path)
    apart = [path for path, value in live(state).items() if not np.allclose(value, found[path])]
    assert any("trunks" in path and path.startswith("0/") for path in apart)  # parameters
    assert any(path.startswith("1/") for path in apart)  # statistics
    assert not any("stems" in path for path in state.ema.params)


@pytest.fixture(scope="module")
def averaged(tiny_data, tmp_path_factory, mesh):
    """(run, workdir, console) of a finished run with a moving average; only read it."""
    changes = {"optim.ema": 0.9, "optim.lr": 0.03, "optim.freeze": "stems/*"}
    run, workdir = tiny_run(tiny_data, changes), tmp_path_factory.mktemp("averaged")
    with small_backbone():
        train(run, workdir, mesh=mesh)
    return run, workdir


def average_of(workdir, which: str = "latest") -> dict[str, np.ndarray]:
    """The averaged model, {'params/...': , 'model_state/...': }, put together by hand."""
    arrays = stored(workdir, which)
    own = {path: x for path, x in arrays.items() if path.startswith(("params/", "model_state/"))}
    return own | {path[4:]: x for path, x in arrays.items() if path.startswith("ema/")}


def test_the_validation_of_a_run_is_of_its_average(averaged, mesh):
    """Scores logged at the last step are those of the saved average, and not of the parameters."""
    run, workdir = averaged
    arrays, average = stored(workdir), average_of(workdir)
    assert sorted(p[4:] for p in arrays if p.startswith("ema/params")) == sorted(
        p for p in arrays if p.startswith("params/") and not p.startswith("params/stems")
    )
    evaluator = Evaluator(
        run,
        open_dataset(run.data.name, run.data.dir),
        dual.define(run.model, image_size=32),
        mesh,
    )
    shapes = sharding.shapes_of(
        mesh, lambda: dual.build(run.model, dual.init_key(0), image_size=32)[1:]
    )
    like = dict(zip(("params", "model_state"), shapes, strict=True))
    scores = [
        evaluator.validate(*sharding.put_copy(mesh, replaced(like, arrays)).values())[0]
        for arrays in (average, arrays)
    ]
    logged = [line for line in metric_lines(workdir) if line["kind"] == "val"][-1]
    assert {name: logged[name] for name in scores[0]} == pytest.approx(scores[0])
    assert scores[0] != scores[1]


VERBS = {
    "evaluate": lambda run, path, mesh: evaluate_workdir(
        path, run=run, checkpoint="best", split="val", mesh=mesh
    ),
    "knn": lambda run, path, mesh: knn_workdir(
        path, run=run, checkpoint="best", split="val", mesh=mesh
    ),
    "dimensions": lambda run, path, mesh: dimensions_workdir(
        path, run=run, others={}, checkpoint="best", split="val", mesh=mesh
    ),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_embeds_with_the_average(averaged, mesh, monkeypatch, verb):
    """What `evaluate`, `knn` and `dimensions` embed with is the saved average, bit for bit."""
    run, workdir = averaged
    given = []

    class Stop(Exception):
        pass

    def embed(self, split, modality, params, model_state):
        given.append(by_path({"params": params, "model_state": model_state}))
        raise Stop

    monkeypatch.setattr(Evaluator, "embed", embed)
    with pytest.raises(Stop):
        VERBS[verb](run, workdir, mesh)
    expected = average_of(workdir, "best")
    assert given[0].keys() == expected.keys()
    for path, value in expected.items():
        np.testing.assert_array_equal(given[0][path], value, err_msg=path)


def test_a_run_starts_from_the_average_of_another(averaged, tiny_data, tmp_path, mesh):
    """With init_from and rate 0 the parameters are the other run's average, and so is their own."""
    _, source = averaged
    changes = {"train.init_from": str(source), "optim.lr": 0.0, "optim.ema": 0.5}
    train(tiny_run(tiny_data, changes | {"train.duration": "1 steps"}), tmp_path, mesh=mesh)
    found = stored(tmp_path)
    for path, value in average_of(source, "best").items():
        if path.startswith("params/"):
            np.testing.assert_array_equal(found[path], value, err_msg=path)
            np.testing.assert_allclose(found[f"ema/{path}"], value, rtol=1e-6, err_msg=path)


def test_the_first_line_of_a_run_counts_what_is_trained(averaged, tmp_path, mesh, capfd):
    """Trained and frozen parameters, as counted here from the shapes."""
    run, workdir = averaged
    train(run, workdir, mesh=mesh)  # finished: it says what it is and stops
    params = by_path(dual.build(run.model, dual.init_key(0), image_size=32)[1])
    frozen = sum(x.size for path, x in params.items() if path.startswith("stems"))
    trained = sum(x.size for x in params.values()) - frozen
    first = capfd.readouterr().err.splitlines()[0]
    assert f"; {trained:,} parameters trained, {frozen:,} frozen; " in first


def test_a_pattern_without_a_parameter_stops_a_run_before_it_claims_its_workdir(
    tiny_data, tmp_path, mesh
):
    """One line with the setting and what this model has; nothing is written."""
    run = tiny_run(tiny_data, {"optim.freeze": "trunk/*"})
    with pytest.raises(ConfigError, match=r"^config.optim.freeze='trunk/\*': .*'trunks/\*'"):
        train(run, tmp_path / "run", mesh=mesh)
    assert not (tmp_path / "run").exists()
