"""What a run says of itself: the right words for each trouble, and none for a healthy run."""

from __future__ import annotations

import functools
from typing import Any

import jax
import numpy as np
import pytest
from tiny import tiny_run

from sbir_jax import health, losses, sharding
from sbir_jax.config import RunConfig, default_config, resolve
from sbir_jax.mining import Ids

# The first 300 steps of configs/quickstart.py, logged at 1, 10, 20, ...: as it is, and with
# --config.loss.name=triplet, miner batch_hard and pairs cross, which collapses.
LOGGED = [1, *range(10, 301, 10)]
HEALTHY = {
    "loss": """8.044 4.997 4.839 4.840 4.824 4.770 4.756 4.777 4.754 4.679 4.567 4.697 4.509 4.483
        4.387 4.504 4.237 4.246 4.162 4.201 4.163 4.362 4.009 4.276 4.001 3.731 3.926 4.364 3.997
        4.001 3.953""",
    "health/mean_cosine": """0.670 0.911 0.982 0.986 0.985 0.980 0.978 0.967 0.966 0.959 0.944 0.943
        0.921 0.924 0.919 0.894 0.902 0.891 0.881 0.850 0.867 0.887 0.841 0.867 0.868 0.839 0.834
        0.855 0.847 0.853 0.844""",
    "health/batch_top1": """0.188 0.172 0.188 0.188 0.203 0.336 0.219 0.211 0.289 0.391 0.391 0.367
        0.508 0.453 0.477 0.508 0.602 0.570 0.531 0.516 0.617 0.570 0.586 0.508 0.664 0.750 0.602
        0.578 0.648 0.570 0.641""",
}
COLLAPSED = {
    "loss": """0.577 0.393 0.281 0.247 0.231 0.222 0.219 0.215 0.213 0.211 0.208 0.209 0.208 0.210
        0.208 0.207 0.205 0.207 0.206 0.206 0.206 0.204 0.204 0.204 0.203 0.203 0.203 0.204 0.204
        0.203 0.203""",
    "health/mean_cosine": """0.670 0.845 0.974 0.992 0.995 0.997 0.998 0.998 0.998 0.999 0.999 0.999
        0.999 0.999 0.999 0.999 0.999 1.000 0.999 0.999 1.000 1.000 1.000 1.000 1.000 1.000 1.000
        1.000 1.000 1.000 1.000""",
    "health/batch_top1": """0.062 0.094 0.156 0.117 0.094 0.133 0.148 0.102 0.070 0.102 0.148 0.062
        0.125 0.109 0.117 0.125 0.117 0.102 0.148 0.102 0.117 0.156 0.102 0.117 0.188 0.141 0.148
        0.117 0.141 0.141 0.078""",
}
FINE = {
    "loss": 1.0,
    "health/mean_cosine": 0.3,
    "health/batch_top1": 0.6,
    "health/valid_anchors": 1.0,
}


def recorded(figures: dict[str, str]) -> list[dict[str, Any]]:
    columns = {name: map(float, text.split()) for name, text in figures.items()}
    rows = zip(LOGGED, *columns.values(), strict=True)
    return [FINE | dict(zip(["step", *columns], row, strict=True)) for row in rows]


def every(step: int, until: int, **figures: float) -> list[dict[str, Any]]:
    """Healthy lines of steps 1, `step`, 2 `step`, ... but for some figures."""
    changed = {name if name == "loss" else f"health/{name}": v for name, v in figures.items()}
    steps = dict.fromkeys([1, *range(step, until + 1, step)])
    return [{"step": s} | FINE | changed for s in steps]


def run_of(**changes: Any) -> RunConfig:
    config = default_config()
    config.update_from_flattened_dict({name.replace("__", "."): v for name, v in changes.items()})
    return resolve(config)


TRIPLET = run_of(loss__name="triplet", loss__triplet__miner="batch_hard")


@pytest.mark.parametrize("spacing", [10, 20, 50])
def test_the_healthy_quickstart_is_never_warned(spacing):
    """At no logged step of it is there a word, though it passes a mean cosine of 0.986."""
    watch = health.Watch(run_of())
    for line in recorded(HEALTHY):
        if line["step"] == 1 or line["step"] % spacing == 0:
            line = dict(line)
            assert watch(line.pop("step"), line) == []


@pytest.mark.parametrize(
    ("spacing", "at", "words"),
    [
        (10, 120, "mean cosine 0.999, above 0.99 since step 30"),
        (20, 120, "mean cosine 0.999, above 0.99 since step 40"),
        (50, 200, "mean cosine 1.000, above 0.99 since step 50"),
    ],
)
def test_collapse_is_said_once_with_what_to_try(spacing, at, words):
    """Batch-hard mining that collapses is called so when a hundred steps have shown it."""
    watch = health.Watch(TRIPLET)
    said = []
    for line in recorded(COLLAPSED):
        if line["step"] == 1 or line["step"] % spacing == 0:
            said += [(line["step"], sentence) for sentence in watch(line["step"], line)]
    sentence = (
        f"embeddings have collapsed: {words}; try config.loss.triplet.miner='semi_hard' or "
        "config.loss.name='infonce'"
    )
    assert said == [(at, sentence)]


def test_nothing_is_said_of_the_first_hundred_steps():
    """Whatever the figures of an untrained encoder, and however often they are logged."""
    lines = every(1, 99, mean_cosine=1.0, batch_top1=0.0, loss=0.2, active_triplets=0.0)
    assert health.warnings(lines, TRIPLET) == {}
    assert health.warnings([], TRIPLET) == {}
    assert health.warnings(every(100, 300, mean_cosine=1.0, batch_top1=0.0), TRIPLET) == {}


@pytest.mark.parametrize(
    ("figures", "run", "name", "words"),
    [
        (
            {"mean_cosine": 0.995, "batch_top1": 0.1},
            run_of(),
            "collapse",
            "try a lower config.optim.lr or a longer config.optim.warmup",
        ),
        (
            {"loss": 0.201, "mean_cosine": 0.0, "batch_top1": 0.1, "active_triplets": 1.0},
            TRIPLET,
            "margin",
            "the loss has stayed at its margin, 0.2, since step 220: positives are as far as "
            "negatives; try config.loss.triplet.miner='semi_hard' or config.loss.name='infonce'",
        ),
        (
            {"loss": 0.0, "active_triplets": 0.0},
            TRIPLET,
            "dead_triplets",
            "no triplet has had a loss above 0 since step 220, so nothing is learnt from them; try "
            "a larger config.loss.triplet.margin, or config.loss.triplet.miner='batch_hard'",
        ),
        (
            {"loss": 0.0},
            run_of(loss__name="contrastive"),
            "zero_loss",
            "the loss has been exactly 0 since step 220: nothing is learnt; look at the settings "
            "of config.loss.name='contrastive'",
        ),
    ],
)
def test_each_trouble_has_its_words(figures, run, name, words):
    """One trouble that a hundred steps have shown is one line; one sound step withdraws it."""
    lines = every(20, 300, **figures)
    found = health.warnings(lines, run)
    assert list(found) == [name] and found[name].endswith(words)
    assert health.warnings([*lines[:-2], {"step": 280} | FINE, lines[-1]], run) == {}


@pytest.mark.parametrize(
    ("figures", "run"),
    [
        ({"mean_cosine": 0.999, "batch_top1": 0.7}, TRIPLET),
        ({"loss": 0.2}, run_of(loss__name="triplet + category")),
        ({"loss": 0.2}, run_of(loss__name="triplet", loss__triplet__form="soft")),
        ({"loss": 0.3}, TRIPLET),
    ],
    ids=["retrieves in a cone", "sum of losses", "soft margin", "above the margin"],
)
def test_what_looks_alike_is_not_warned(figures, run):
    """A narrow cone that retrieves, and a loss that only happens to equal the margin's number."""
    assert health.warnings(every(20, 300, **figures), run) == {}


@pytest.mark.parametrize(
    ("changes", "advice"),
    [
        ({"loss__match": "instance"}, "use config.data.sampler='instances', or"),
        ({"loss__match": "instance", "loss__pairs": "intra"}, "config.loss.pairs='intra' never"),
        (
            {"data__sampler": "classes", "data__batch_size": 8, "data__per_class": 8},
            "config.data.batch_size=8 holds one class of config.data.per_class=8",
        ),
        ({}, "config.data.sampler='pairs' gives no class twice, or one class alone: use"),
    ],
)
def test_batches_without_valid_anchors_are_explained_at_once(changes, advice):
    """It is a matter of settings, so two logged steps are enough; the words name which."""
    lines = every(20, 20, valid_anchors=0.0, loss=0.0)
    found = health.warnings(lines, run_of(**changes))
    assert list(found) == ["no_anchors"]
    assert found["no_anchors"].startswith("no image of a batch has a positive and a negative; ")
    assert advice in found["no_anchors"]
    assert health.warnings(lines[:1], run_of(**changes)) == {}


@pytest.mark.parametrize(
    ("case", "name"),
    [("one point", "collapse"), ("far apart", "dead_triplets"), ("one class", "no_anchors")],
)
def test_the_losses_own_diagnostics_are_understood(case, name):
    """The words follow from what `cross_modal` returns for embeddings in each state."""
    label = np.repeat(np.arange(4, dtype=np.int32), 2) * (case != "one class")
    ids = Ids(label, np.full(8, -1, np.int32))
    x = np.eye(4, 6, dtype=np.float32)[label]
    if case == "one point":
        x = np.random.default_rng(0).normal(1, 1e-3, (8, 6)).astype(np.float32)
    compute = jax.jit(functools.partial(losses.cross_modal, TRIPLET.loss))
    y = x[::-1] if case == "one point" else x
    loss, diagnostics = compute(x, y, ids, ids, key=jax.random.key(0))
    line = {"loss": float(loss)} | {f"health/{k}": float(v) for k, v in diagnostics.items()}
    lines = [{"step": step} | line for step in range(20, 301, 20)]
    assert list(health.warnings(lines, TRIPLET)) == [name]


def test_a_run_that_collapses_says_so_once(tiny_data, tmp_path, small_model, capfd):
    """Batch-hard mining on noise, from scratch: the run's own figures, in words on its console."""
    from sbir_jax.train import train

    changes = {
        "loss.name": "triplet",
        "loss.triplet.miner": "batch_hard",
        "data.sampler": "classes",
        "data.batch_size": 40,
        "data.per_class": 8,
        "optim.lr": 0.01,
        "train.duration": "160 steps",
        "train.log_every": "10 steps",
        "train.eval_every": "100%",
    }
    mesh = sharding.make_mesh(jax.devices()[:1])
    train(tiny_run(tiny_data, changes), tmp_path, mesh=mesh)
    lines = capfd.readouterr().err.splitlines()
    said = [line for line in lines if line.startswith("warning: embeddings have collapsed")]
    assert len(said) == 1
