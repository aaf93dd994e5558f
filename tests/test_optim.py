"""The optimiser against formulas written out in NumPy, and against torch."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sbir_jax.config import ModelConfig, OptimConfig
from sbir_jax.models import dual
from sbir_jax.optim import decays, make_optimizer, make_schedule


def draw(seed: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "kernel": rng.normal(size=(3, 4)).astype(np.float32),
        "bias": rng.normal(size=4).astype(np.float32),
    }


def run_steps(config: OptimConfig, params: dict, gradients: list[dict]) -> dict:
    """Parameters after one update a gradient, at a constant learning rate."""
    optimizer = make_optimizer(config, lambda count: config.lr)
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update(gradient, state, params)
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


def test_only_kernels_decay(small_model):
    """With zero gradient a step shrinks every kernel by lr x decay, and nothing else moves."""
    _, params, _ = dual.build(
        ModelConfig(embed_dim=4, head="mlp"), jax.random.key(0), image_size=32
    )
    config = OptimConfig(name="sgd", lr=0.5, weight_decay=0.1, clip_norm=0.0)
    after = run_steps(config, params, [jax.tree.map(jnp.zeros_like, params)])
    shrunk = 0
    for (path, before), value in zip(
        jax.tree_util.tree_leaves_with_path(params), jax.tree.leaves(after), strict=True
    ):
        is_kernel = path[-1].key == "kernel"
        shrunk += is_kernel
        np.testing.assert_allclose(value, before * (0.95 if is_kernel else 1.0), rtol=1e-6)
    assert 0 < shrunk < len(jax.tree.leaves(params))


def test_decay_mask_names_matrices_and_kernels():
    """Arrays with two or more axes decay; vectors and scalars do not."""
    shapes = {"a": (2, 3), "b": (3,), "c": (), "d": (3, 3, 2, 4)}
    mask = decays({name: np.zeros(shape) for name, shape in shapes.items()})
    assert mask == {"a": True, "b": False, "c": False, "d": True}


@pytest.mark.parametrize(("clip", "scale"), [(2.5, 0.5), (5.0, 1.0), (50.0, 1.0), (0.0, 1.0)])
def test_a_long_gradient_is_scaled_to_the_largest_norm(clip, scale):
    """Gradient (3, 4) over two arrays has norm 5: clip_norm 2.5 halves it, 5, 50 and 0 do not."""
    config = OptimConfig(name="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, clip_norm=clip)
    params = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
    after = run_steps(config, params, [{"a": jnp.array([3.0]), "b": jnp.array([4.0])}])
    np.testing.assert_allclose([after["a"][0], after["b"][0]], [-3 * scale, -4 * scale], rtol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_steps_equal_those_of_torch(name):
    """Five steps end where torch's AdamW, with decay of kernels, and SGD, without decay, end."""
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    decay = 0.1 if name == "adamw" else 0.0  # torch couples SGD's decay with the gradient
    config = OptimConfig(name=name, lr=0.05, momentum=0.8, weight_decay=decay, clip_norm=0.0)
    params, gradients = draw(0), [draw(seed) for seed in range(1, 6)]
    theirs = {k: torch.nn.Parameter(torch.tensor(v)) for k, v in params.items()}
    groups = [
        {"params": [theirs["kernel"]], "weight_decay": decay},
        {"params": [theirs["bias"]], "weight_decay": 0.0},
    ]
    optimizer = {
        "adamw": lambda: torch.optim.AdamW(groups, lr=0.05, betas=(0.8, 0.999)),
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
