"""The encoders: torch's arithmetic, the published sizes, and what the two towers share."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from sbir_jax import sharding
from sbir_jax.backbones import BACKBONES, ConvNeXtSpec, ResNetSpec, VGGSpec, ViTSpec
from sbir_jax.config import ModelConfig
from sbir_jax.models import dual
from sbir_jax.models.network import Network
from sbir_jax.paths import by_path


def randomise(model: nnx.Module, seed: int) -> None:
    """Random values everywhere, so that swapped scales, biases or statistics cannot hide."""
    rng = np.random.default_rng(seed)
    state = nnx.state(model)

    def draw(path, x):
        name = str(path[-1])
        noise = rng.standard_normal(x.shape).astype(np.float32)
        if x.ndim == 1:
            return jnp.asarray(1 + 0.2 * noise if name in ("scale", "var") else 0.2 * noise)
        return jnp.asarray(noise * np.sqrt(1 / np.prod(x.shape[:-1])))

    flat = [(p, v.replace(draw(p, v.get_value()))) for p, v in nnx.to_flat_state(state)]
    nnx.update(model, nnx.from_flat_state(flat))


def torch_forward(torch, backbone: Network, images: np.ndarray, *, train: bool) -> np.ndarray:
    """The same network written with torch.nn.functional, from the v1.5 layout."""
    fn = torch.nn.functional

    def tensor(x):
        return torch.from_numpy(np.array(x))

    def conv(layer, x, stride, padding):
        weight = tensor(layer.kernel.get_value()).permute(3, 2, 0, 1)
        return fn.conv2d(x, weight, stride=stride, padding=padding)

    def norm(layer, x):
        stats = [tensor(v.get_value()) for v in (layer.mean, layer.var)]
        affine = [tensor(v.get_value()) for v in (layer.scale, layer.bias)]
        return fn.batch_norm(x, *stats, *affine, training=train, eps=1e-5)

    x = torch.from_numpy(images).permute(0, 3, 1, 2)
    x = fn.relu(norm(backbone.stem.norm, conv(backbone.stem.conv, x, 2, 3)))
    x = fn.max_pool2d(x, 3, stride=2, padding=1)
    for block in backbone.trunk.blocks:
        stride = block.project.strides[0] if block.has_projection else 1
        shortcut = x
        if block.has_projection:
            shortcut = norm(block.project_norm, conv(block.project, x, stride, 0))
        bottleneck = len(block.convs) == 3
        plan = [(1, 0), (stride, 1), (1, 0)] if bottleneck else [(stride, 1), (1, 1)]
        for i, (layer, (step, pad)) in enumerate(zip(block.convs, plan, strict=True)):
            x = norm(block.norms[i], conv(layer, x, step, pad))
            if i < len(plan) - 1:
                x = fn.relu(x)
        x = fn.relu(x + shortcut)
    return x.mean(dim=(2, 3)).numpy()


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("bottleneck", [False, True])
def test_resnet_is_torch_arithmetic(bottleneck, train):
    """Stem, both block kinds and both BatchNorm modes equal torch at an even and an odd size."""
    torch = pytest.importorskip("torch", reason="parity with torch needs torch")
    torch.set_num_threads(1)  # idle torch threads spin, and starve XLA's on small machines
    spec = ResNetSpec(depths=(1, 2), widths=(8, 12), bottleneck=bottleneck)
    backbone = Network(spec, rngs=nnx.Rngs(0))
    randomise(backbone, seed=1)
    for size in (32, 45):
        images = np.random.default_rng(size).standard_normal((4, size, size, 3), np.float32)
        expected = torch_forward(torch, backbone, images, train=train)
        with jax.default_matmul_precision("highest"):
            found = nnx.jit(lambda m, x: m(x, train=train))(nnx.clone(backbone), images)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "parameters"),
    # torchvision's published counts less the 1000-way classifier.
    [
        ("resnet18", 11_176_512),
        ("resnet34", 21_284_672),
        ("resnet50", 23_508_032),
        ("resnet101", 42_500_160),
    ],
)
def test_resnets_have_the_published_sizes(name, parameters):
    """Stem and trunk hold exactly the parameters of the published network."""
    abstract = nnx.eval_shape(lambda: Network(BACKBONES[name].spec, rngs=nnx.Rngs(0)))
    shapes = [x.shape for x in jax.tree.leaves(nnx.state(abstract, nnx.Param))]
    assert sum(int(np.prod(shape)) for shape in shapes) == parameters


def tiny(**changes) -> ModelConfig:
    return ModelConfig(width=8, embed_dim=16, **changes)


def build(config: ModelConfig) -> tuple:
    return dual.build(config, jax.random.key(0), image_size=32)


def images(seed: int, batch: int = 4) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(seed)
    sides = [rng.standard_normal((batch, 32, 32, c), np.float32) for c in (1, 3)]
    return jnp.asarray(sides[0]), jnp.asarray(sides[1])


@pytest.mark.parametrize(
    ("towers", "head", "normalize"),
    [("dual", "linear", "unit"), ("stems", "mlp", "sr"), ("shared", "mlp", "unit")],
)
def test_embeddings_are_unit_float32(towers, head, normalize):
    """Every variant gives float32 unit vectors for both sides, also from bfloat16 activations."""
    config = tiny(towers=towers, head=head, normalize=normalize, dtype="bfloat16")
    graphdef, params, state = build(config)
    assert {x.dtype for x in jax.tree.leaves(params)} == {jnp.dtype("float32")}
    key = jax.random.key(1)

    def embed_all(params, state, sketch, photo):
        sides, _ = dual.apply_train(graphdef, params, state, sketch, photo, key=key)
        given = {"sketch": sketch, "photo": photo}
        return *sides, *(dual.apply_embed(graphdef, params, state, x, n) for n, x in given.items())

    for side in jax.jit(embed_all)(params, state, *images(0)):
        assert side.shape == (4, 16) and side.dtype == jnp.float32
        np.testing.assert_allclose(np.linalg.norm(side, axis=1), 1, atol=1e-5)


def changed_by(config: ModelConfig, side: int) -> set[str]:
    """Names of the parts whose gradient a loss on one side's embeddings reaches."""
    graphdef, params, state = build(config)

    def loss(params):
        sides, _ = dual.apply_train(graphdef, params, state, *images(0), key=jax.random.key(1))
        return (sides[side] * jnp.arange(16)).sum()

    grads = jax.jit(jax.grad(loss))(params)
    return {
        f"{part}/{name}"
        for part, names in grads.items()
        for name, tree in names.items()
        if any(np.abs(x).max() > 0 for x in jax.tree.leaves(tree))
    }


@pytest.mark.parametrize(
    ("towers", "parts"),
    [
        ("dual", {"stems/sketch", "trunks/sketch", "heads/sketch"}),
        ("stems", {"stems/sketch", "trunks/both", "heads/both"}),
        ("shared", {"stems/both", "trunks/both", "heads/both"}),
    ],
)
def test_towers_share_what_they_say(towers, parts):
    """A loss on sketches reaches the sketch tower and what is shared, not the photo's own parts."""
    reached = changed_by(tiny(towers=towers), side=0)
    if towers == "stems":
        # A trunk shared in one pass mixes both sides' BatchNorm statistics, hence the photo stem.
        reached -= {"stems/photo"}
    assert reached == parts


def test_siamese_network_treats_both_sides_alike():
    """A shared encoder gives one grey image the same embedding as a sketch and as a photo."""
    graphdef, params, state = build(tiny(towers="shared"))
    sketch, _ = images(0)
    as_sketch = dual.apply_embed(graphdef, params, state, sketch, "sketch")
    as_photo = dual.apply_embed(graphdef, params, state, jnp.tile(sketch, (1, 1, 1, 3)), "photo")
    np.testing.assert_allclose(as_sketch, as_photo, atol=1e-6)


def test_training_moves_batch_statistics_and_embedding_does_not():
    """A training pass returns new running statistics: 0.9 old plus 0.1 of the batch."""
    graphdef, params, state = build(tiny())
    sketch, photo = images(0, batch=64)
    train = jax.jit(lambda *a: dual.apply_train(graphdef, *a, key=jax.random.key(1))[1])
    new = train(params, state, sketch, photo)
    stem = params["stems"]["sketch"]["conv"]["kernel"]
    maps = jax.lax.conv_general_dilated(
        sketch, stem, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_allclose(
        new["stems"]["sketch"]["norm"]["mean"], 0.1 * maps.mean((0, 1, 2)), atol=1e-5
    )
    np.testing.assert_allclose(
        new["stems"]["sketch"]["norm"]["var"], 0.9 + 0.1 * maps.var((0, 1, 2)), atol=1e-4
    )


def test_definition_needs_no_parameters():
    """`define` gives the same graph definition as building the model."""
    config = tiny(towers="stems", head="mlp", dropout=0.1)
    assert dual.define(config, image_size=32) == build(config)[0]


FAMILIES = {
    "vgg16_bn": VGGSpec(stages=((8,), (8, 12)), batch_norm=True),
    "convnext_tiny": ConvNeXtSpec(depths=(1, 1), widths=(8, 12)),
    "vit_tiny_patch16": ViTSpec(
        patch=16, width=16, depth=2, heads=2, layer_scale=True, registers=2, lora_rank=2
    ),
    "vit_base_patch16_siglip": ViTSpec(patch=16, width=16, depth=1, heads=2, pool="map"),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains_in_bfloat16(name, monkeypatch):
    """On eight devices, a loss on both sides reaches every parameter, in float32; but for the
    first half of low-rank updates, whose second half starts at zero."""
    spec = dataclasses.replace(FAMILIES[name], **({"image_size": 32} if "vit" in name else {}))
    monkeypatch.setattr(dual, "model_spec", lambda config, image_size: spec)
    prompts = 2 if "vit" in name else 0
    config = tiny(backbone=name, towers="stems", dtype="bfloat16", prompts=prompts)
    graphdef, params, state = build(config)
    mesh = sharding.make_mesh()
    sides = sharding.put_rows(mesh, tuple(map(np.asarray, images(0, batch=8))))

    def loss(params, sketch, photo):
        found, _ = dual.apply_train(graphdef, params, state, sketch, photo, key=jax.random.key(1))
        return ((found[0] + 2 * found[1]) * jnp.arange(16)).sum()

    for path, gradient in by_path(jax.jit(jax.grad(loss))(params, *sides)).items():
        assert gradient.dtype == jnp.float32 and np.isfinite(gradient).all()
        assert (np.abs(gradient).max() > 0) != path.endswith("lora_a"), path
