"""Fine-tuning inside the model: prompts, low-rank updates, frozen BatchNorm."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import small_backbone

from sbir_jax import backbones
from sbir_jax.backbones import Backbone, ViTSpec
from sbir_jax.config import ConfigError, ModelConfig, RunConfig, default_config, resolve
from sbir_jax.models import dual
from sbir_jax.paths import by_path

NAME = "vit_tiny_patch16"


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """vit_tiny_patch16 is a small one here."""
    spec = ViTSpec(patch=8, width=16, depth=2, heads=2)
    monkeypatch.setitem(backbones.BACKBONES, NAME, Backbone(spec=spec))


def build(**changes) -> tuple:
    config = ModelConfig(backbone=NAME, embed_dim=8, **changes)
    return dual.build(config, jax.random.key(0), image_size=16)


def images(batch: int = 3) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    return tuple(jnp.asarray(rng.uniform(-1, 1, (batch, 16, 16, c)), jnp.float32) for c in (1, 3))


def embed(graphdef, params, state) -> list[np.ndarray]:
    """Both sides, by `apply_embed` and by a training pass without dropout."""
    sketch, photo = images()

    def all_of(params, state):
        one = [
            dual.apply_embed(graphdef, params, state, x, side)
            for side, x in (("sketch", sketch), ("photo", photo))
        ]
        key = jax.random.key(1)
        return one, dual.apply_train(graphdef, params, state, sketch, photo, key=key)[0]

    one, trained = jax.jit(all_of)(params, state)
    for first, second in zip(one, trained, strict=True):
        np.testing.assert_allclose(first, second, atol=1e-5)
    return [np.asarray(x) for x in one]


def test_low_rank_updates_change_nothing_at_first():
    """With the same weights, a model with lora_rank=3 embeds as one without, until B moves."""
    plain = build(towers="shared")
    graphdef, params, state = build(towers="shared", lora_rank=3)
    own = {name: value for name, value in by_path(params).items() if "lora" in name}
    assert {name.rpartition("/")[2] for name in own} == {"lora_a", "lora_b"}
    shapes = {n.removeprefix("trunks/both/blocks/"): v.shape for n, v in own.items()}
    assert shapes == {
        f"{i}/attention/{layer}/lora_{part}": shape
        for i in range(2)
        for layer, width in (("qkv", 48), ("proj", 16))
        for part, shape in (("a", (16, 3)), ("b", (3, width)))
    }
    shared = by_path(plain[1])
    tree = jax.tree_util.tree_map_with_path(
        lambda path, x: shared.get(jax.tree_util.keystr(path, simple=True, separator="/"), x),
        params,
    )
    for found, wanted in zip(embed(graphdef, tree, state), embed(*plain), strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    # Moved by A B, attention is that of the kernel W + A B.
    moved = jax.tree_util.tree_map_with_path(
        lambda path, x: x + 0.3 if "lora_b" in str(path[-1]) else x, tree
    )
    merged = plain[1]
    for block in ("0", "1"):
        index = int(block) if int(block) in merged["trunks"]["both"]["blocks"] else block
        for layer in ("qkv", "proj"):
            of = moved["trunks"]["both"]["blocks"][index]["attention"][layer]
            update = np.asarray(of["lora_a"]) @ np.asarray(of["lora_b"])
            target = merged["trunks"]["both"]["blocks"][index]["attention"][layer]
            target["kernel"] = target["kernel"] + update
    wanted = embed(plain[0], merged, plain[2])
    for found, one in zip(embed(graphdef, moved, state), wanted, strict=True):
        np.testing.assert_allclose(found, one, atol=1e-5)


@pytest.mark.parametrize("towers", ["shared", "stems", "dual"])
def test_prompts_are_of_one_side_each(towers):
    """One set a side over whatever is shared; each moves its own side's embeddings alone."""
    graphdef, params, state = build(towers=towers, prompts=2)
    assert {n: v.shape for n, v in by_path(params).items() if "prompt" in n} == {
        "prompts/photo": (2, 16),
        "prompts/sketch": (2, 16),
    }
    before = embed(graphdef, params, state)
    other = params["prompts"]["sketch"] + jnp.linspace(-1, 1, 16)  # a constant, LayerNorm removes
    moved = params | {"prompts": params["prompts"] | {"sketch": other}}
    after = embed(graphdef, moved, state)
    assert np.abs(after[0] - before[0]).max() > 1e-3
    np.testing.assert_array_equal(after[1], before[1])


def test_prompts_are_tokens_without_a_place():
    """Swapped prompts change nothing: they are attended to, and have no position."""
    graphdef, params, state = build(towers="shared", prompts=2)
    swapped = params | {"prompts": {n: p[::-1] for n, p in params["prompts"].items()}}
    for one, other in zip(
        embed(graphdef, params, state), embed(graphdef, swapped, state), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)


def test_frozen_batch_norm_keeps_its_statistics():
    """Frozen, a training pass embeds as evaluation does, and leaves the statistics as they are."""
    rng = np.random.default_rng(0)
    sketch, photo = (jnp.asarray(rng.standard_normal((4, 32, 32, c)), jnp.float32) for c in (1, 3))
    with small_backbone():
        for batch_norm in ("frozen", "live"):
            config = ModelConfig(embed_dim=8, batch_norm=batch_norm)
            graphdef, params, state = dual.build(config, jax.random.key(0), image_size=32)
            state = jax.tree.map(lambda x: x + 0.25, state)
            key = jax.random.key(1)
            embeddings, after = dual.apply_train(graphdef, params, state, sketch, photo, key=key)
            same = [
                bool((a == b).all())
                for a, b in zip(*map(jax.tree.leaves, (state, after)), strict=True)
            ]
            alone = dual.apply_embed(graphdef, params, state, photo, "photo")
            close = np.abs(embeddings[1] - alone).max() < 1e-5
            assert (all(same), close) == (batch_norm == "frozen",) * 2
            np.testing.assert_array_equal(after["pixels"]["mean"], state["pixels"]["mean"])


def test_no_head_embeds_with_the_features():
    """head='none': embeddings are the pooled features, normalised, and there are no parameters."""
    config = ModelConfig(backbone=NAME, embed_dim=16, head="none")
    graphdef, params, state = dual.build(config, jax.random.key(0), image_size=16)
    assert not by_path(params.get("heads", {}))
    headless = dual.define(config, image_size=16, headless=True)
    features = dual.apply_embed(headless, params, state, images()[1], "photo")
    wanted = features / np.linalg.norm(features, axis=1, keepdims=True)
    found = dual.apply_embed(graphdef, params, state, images()[1], "photo")
    np.testing.assert_allclose(found, wanted, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"model.prompts": 2}, ["config.model.prompts=2", "patch_resnet is no ViT"]),
        ({"model.backbone": "resnet50", "model.lora_rank": 4}, ["config.model.lora_rank=4"]),
        (
            {"model.backbone": "vit_small_patch14_dinov2"},
            ["config.data.image_size=64", "multiple of 14", "vit_small_patch14_dinov2"],
        ),
        (
            {"model.backbone": "vgg16", "data.image_size": 16},
            ["config.data.image_size=16", "at least 32 for vgg16"],
        ),
        ({"model.weights": "x.npz"}, ["config.model.weights='x.npz'", "patch_resnet"]),
        ({"model.batch_norm": "frozen"}, ["config.model.batch_norm='frozen'", "model.weights"]),
        (
            {"model.backbone": "resnet50", "model.head": "none"},
            ["config.model.embed_dim=128", "2048 features of resnet50"],
        ),
        ({"model.backbone": "vit_tiny"}, ["config.model.backbone='vit_tiny'", "vit_tiny_patch16"]),
    ],
)
def test_settings_of_the_model_that_cannot_work(changes, expected):
    """Each is refused at the start, in one line that names it and what would work."""
    config = default_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(ConfigError) as caught:
        resolve(config)
    for part in expected:
        assert part in str(caught.value)


def test_every_backbone_can_be_chosen():
    """Each name resolves at its native size; published ones also with weights."""
    for name, backbone in backbones.BACKBONES.items():
        run = RunConfig()
        weights = "" if name == "patch_resnet" else "a.npz"
        model = dataclasses.replace(run.model, backbone=name, weights=weights)
        data = dataclasses.replace(run.data, image_size=backbone.image_size, load_size=518)
        values = dataclasses.asdict(dataclasses.replace(run, model=model, data=data))
        assert resolve(values).model.backbone == name
