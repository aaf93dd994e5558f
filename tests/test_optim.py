"""The optimiser against formulas written out in NumPy, and against torch."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_step import optimizer_of

from sbir_jax.config import ConfigError, ModelConfig, OptimConfig, resolve
from sbir_jax.models import dual
from sbir_jax.optim import block_depths, groups, make_optimizer, make_schedule
from sbir_jax.overrides import config_files, load_config
from sbir_jax.paths import by_path

CONFIGS = Path(__file__).parents[1] / "configs"


def draw(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "kernel": rng.normal(size=(3, 4)).astype(np.float32),
        "bias": rng.normal(size=4).astype(np.float32),
    }


def run_steps(config: OptimConfig, params: dict, gradients: list[dict]) -> dict:
    """Parameters after one update a gradient, at a constant learning rate."""
    rule = make_optimizer(config, lambda count: config.lr, params).rule
    state = rule.init(params)
    for gradient in gradients:
        updates, state = rule.update(gradient, state, params)
        params = jax.tree.map(jnp.add, params, updates)
    return params


@pytest.mark.parametrize(("warmup", "total"), [(0, 10), (3, 10), (9, 10), (0, 1)])
def test_learning_rate_rises_in_a_line_then_falls_along_a_half_cosine(warmup, total):
    """The rate of every step is lr t / w in the warm-up, then lr (1 + cos(pi u)) / 2, u in 0..1."""
    schedule = make_schedule(OptimConfig(lr=0.3), warmup_steps=warmup, total_steps=total)
    for step in range(total + 1):
        if step < warmup:
            expected = 0.3 * step / warmup
        else:
            expected = 0.15 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))
        assert float(schedule(step)) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize(("warmup", "total"), [(0, 10), (3, 10)])
def test_other_schedules_fall_in_a_line_or_not_at_all(warmup, total):
    """After the same warm-up the rate is lr (1 - u) with u in 0..1, or lr to the end."""
    for name, after in (("linear", lambda u: 0.3 * (1 - u)), ("constant", lambda u: 0.3)):
        config = OptimConfig(lr=0.3, schedule=name)
        schedule = make_schedule(config, warmup_steps=warmup, total_steps=total)
        for step in range(total + 1):
            u = (step - warmup) / (total - warmup)
            expected = 0.3 * step / warmup if step < warmup else after(u)
            assert float(schedule(step)) == pytest.approx(expected, abs=1e-7)


def test_only_kernels_decay(small_model):
    """With zero gradient a step shrinks every kernel by lr x decay, and nothing else moves."""
    config = ModelConfig(embed_dim=4, head="mlp")
    params = by_path(dual.build(config, jax.random.key(0), image_size=32)[1])
    config = OptimConfig(name="sgd", lr=0.5, weight_decay=0.1, clip_norm=0.0)
    after = run_steps(config, params, [jax.tree.map(jnp.zeros_like, params)])
    kernels = [path for path in params if path.endswith("/kernel")]
    for path, before in params.items():
        shrunk = 0.95 if path in kernels else 1.0
        np.testing.assert_allclose(after[path], before * shrunk, rtol=1e-6)
    assert 0 < len(kernels) < len(params)


def test_what_decays_is_decided_by_shape_and_name():
    """Two or more axes decay, unless it is a bias, a norm, a prompt, a position or a token."""
    yes = {
        "trunks/both/blocks/0/attn/qkv/kernel": (4, 12),
        "stems/photo/conv/kernel": (4, 4, 3, 8),
        "loss/category/weights": (3, 4),
    }
    no = {
        "trunks/both/blocks/0/attn/qkv/bias": (3, 4),  # by head
        "trunks/both/blocks/0/norm/scale": (4,),
        "loss/infonce/log_temperature": (),
        "stems/photo/positions": (16, 4),
        "stems/photo/class_token": (1, 4),
        "stems/photo/registers": (4, 4),
        "prompts/sketch": (3, 4),
    }
    params = {path: np.zeros(shape) for path, shape in (yes | no).items()}
    assert groups(OptimConfig(), params).decays == dict.fromkeys(yes, True) | dict.fromkeys(
        no, False
    )


@pytest.mark.parametrize(("clip", "scale"), [(2.5, 0.5), (5.0, 1.0), (50.0, 1.0), (0.0, 1.0)])
def test_a_long_gradient_is_scaled_to_the_largest_norm(clip, scale):
    """Gradient (3, 4) over two arrays has norm 5: clip_norm 2.5 halves it, 5, 50 and 0 do not."""
    config = OptimConfig(name="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, clip_norm=clip)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    after = run_steps(config, params, [{"a": jnp.array([3.0]), "b": jnp.array([4.0])}])
    np.testing.assert_allclose([after["a"][0], after["b"][0]], [-3 * scale, -4 * scale], rtol=1e-6)


DEPTHS = {
    "vit": {
        "stems/sketch/conv/kernel": 0,
        "stems/sketch/positions": 0,
        "trunks/both/norm_pre/scale": 0,
        **{f"trunks/both/blocks/{i}/attention/qkv/kernel": i + 1 for i in range(12)},
        "trunks/both/norm/scale": 13,
        "prompts/sketch": 13,
        "heads/both/out/kernel": 13,
        "loss/category/weights": 13,
    },
    "stages of two towers": {
        **{
            f"trunks/{side}/{path}": depth
            for side in ("sketch", "photo")
            for path, depth in {
                "stages/0/blocks/0/conv/kernel": 1,
                "stages/0/blocks/1/conv/kernel": 2,
                "stages/1/norm/scale": 3,
                "stages/1/blocks/0/conv/kernel": 3,
                "stages/1/blocks/1/conv/kernel": 4,
                "stages/2/conv/kernel": 5,
                "stages/2/blocks/0/conv/kernel": 5,
                "norm/scale": 6,
            }.items()
        },
        "stems/photo/conv/kernel": 0,
        "heads/photo/out/kernel": 6,
    },
    "stages without blocks": {
        "stems/photo/stage/convs/0/kernel": 0,
        "trunks/photo/stages/0/convs/0/kernel": 1,
        "trunks/photo/stages/0/convs/1/kernel": 1,
        "trunks/photo/stages/1/convs/0/kernel": 2,
        "heads/photo/out/kernel": 3,
    },
}


@pytest.mark.parametrize("model", DEPTHS)
def test_depths_are_read_from_paths(model):
    """Hand-worked: stem 0, block i at i + 1 through all stages, norm, head and loss on top."""
    assert block_depths(DEPTHS[model]) == DEPTHS[model]


def test_layer_decay_halves_the_rate_from_block_to_block():
    """With decay 1/2 over two blocks the rates are 1/8, 1/4, 1/2 and 1; lr_scale multiplies them,
    the last pattern counting; a plain step moves each parameter by lr times its rate."""
    paths = ("stems/a/w", "trunks/a/blocks/0/w", "trunks/a/blocks/1/w", "heads/a/w", "heads/a/v")
    params = {path: jnp.zeros(1) for path in paths}
    config = OptimConfig(
        name="sgd", lr=0.5, momentum=0.0, clip_norm=0.0, layer_decay=0.5,
        lr_scale="heads: 5, *blocks/0*: 3, heads/*/v: 10",
    )  # fmt: skip
    after = run_steps(config, params, [{path: jnp.ones(1) for path in paths}])
    moved = [float(after[path][0]) for path in paths]
    assert moved == [-0.5 / 8, -0.5 * 3 / 4, -0.5 / 2, -0.5 * 5, -0.5 * 10]


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_steps_equal_those_of_torch(name):
    """Five steps end where torch's AdamW, with decay of kernels, and SGD, without decay, end, each
    parameter with the learning rate of its group."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    decay = 0.1 if name == "adamw" else 0.0  # torch couples SGD's decay with the gradient
    config = OptimConfig(
        name=name, lr=0.05, momentum=0.8, beta2=0.9, weight_decay=decay, clip_norm=0.0,
        lr_scale="kernel: 3",
    )  # fmt: skip
    params, gradients = draw(0), [draw(seed) for seed in range(1, 6)]
    theirs = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in params.items()}
    groups = [
        {"params": [theirs["kernel"]], "weight_decay": decay, "lr": 0.15},
        {"params": [theirs["bias"]], "weight_decay": 0.0},
    ]
    optimizer = {
        "adamw": lambda: torch.optim.AdamW(groups, lr=0.05, betas=(0.8, 0.9)),
        "sgd": lambda: torch.optim.SGD(groups, lr=0.05, momentum=0.8),
    }[name]()
    for gradient in gradients:
        for key, value in theirs.items():
            value.grad = torch.tensor(gradient[key])
        optimizer.step()
    ours = run_steps(config, params, gradients)
    for key, value in theirs.items():
        np.testing.assert_allclose(ours[key], value.detach().numpy(), rtol=2e-5, atol=1e-6)


def test_decoupled_decay_of_sgd_does_not_enter_the_momentum():
    """Two steps by hand: v = m v + g, then p = p - lr (v + decay p) (Loshchilov, Hutter)."""
    config = OptimConfig(name="sgd", lr=0.1, momentum=0.5, weight_decay=0.2, clip_norm=0.0)
    params, gradients = draw(0), [draw(1), draw(2)]
    after = run_steps(config, params, gradients)
    for key, decay in (("kernel", 0.2), ("bias", 0.0)):
        value, velocity = params[key].astype(np.float64), 0.0
        for gradient in gradients:
            velocity = 0.5 * velocity + gradient[key]
            value = value - 0.1 * (velocity + decay * value)
        np.testing.assert_allclose(after[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"freeze": "trunk"}, "config.optim.freeze='trunk': 'trunk' matches no parameter"),
        (
            {"train": "*norms*, *"},
            "config.optim.train='*norms*, *': '*norms*' matches no parameter",
        ),
        ({"freeze": "*"}, "config.optim.freeze='*': every parameter of the model would be frozen"),
        (
            {"train": "heads", "freeze": "heads/*"},
            "config.optim.train='heads' with config.optim.freeze='heads/*': every parameter",
        ),
        ({"freeze": "loss"}, "config.optim.freeze='loss': 'loss' matches no parameter"),
        ({"lr_scale": "tail: 2"}, "config.optim.lr_scale='tail: 2': 'tail' matches no parameter"),
        (
            {"lr_scale": "heads: 2", "freeze": "heads"},
            "config.optim.lr_scale='heads: 2': 'heads' matches only frozen parameters",
        ),
        ({"layer_decay": 0.5}, "config.optim.layer_decay=0.5: this model has no blocks"),
    ],
)
def test_groups_that_cannot_be_are_one_line(changes, error):
    """A pattern for no parameter, nothing left to train, no blocks: setting, value, reason."""
    paths = ("stems/conv/kernel", "heads/out/kernel", "loss/category/weights")
    with pytest.raises(ConfigError) as caught:
        groups(OptimConfig(**changes), {path: np.zeros((2, 2)) for path in paths})
    assert str(caught.value).startswith(error)
    assert "\n" not in str(caught.value)


def test_train_and_freeze_choose_together_and_the_loss_always_learns():
    """Trained is what `train` names, less what `freeze` names; without them, everything."""
    paths = ("stems/norm/scale", "trunks/norm/scale", "trunks/conv/kernel", "loss/category/weights")
    params = {path: np.zeros(2) for path in paths}
    for changes, chosen in (
        ({}, (0, 1, 2, 3)),
        ({"train": "*norm*"}, (0, 1, 3)),
        ({"freeze": "trunks/*"}, (0, 3)),
        ({"train": "*norm*", "freeze": "stems"}, (1, 3)),
    ):
        assert list(groups(OptimConfig(**changes), params).rates) == [paths[i] for i in chosen]


@pytest.mark.parametrize("config", config_files(CONFIGS))
def test_the_patterns_of_every_config_fit_its_model(config):
    """What a config trains, freezes and scales is there, in its model and its loss."""
    run = resolve(load_config(config, CONFIGS))
    trained = optimizer_of(run, run.optim).trained
    assert ("prompts/sketch" in trained) == (run.model.prompts > 0)
