"""How many operations a program has: against arithmetic by hand, XLA's count and published ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from sbir_jax import flops, sharding
from sbir_jax.backbones import BACKBONES
from sbir_jax.compile import compile_ahead
from sbir_jax.models.summary import cost


def counted(function, *shapes) -> float:
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return flops.of_program(jax.jit(function).trace(*arrays).jaxpr)


def conv(x, kernel, **options):
    strides = options.pop("strides", (1, 1))
    padding = options.pop("padding", "VALID")
    return jax.lax.conv_general_dilated(
        x, kernel, strides, padding, dimension_numbers=("NHWC", "HWIO", "NHWC"), **options
    )


def test_a_product_is_two_operations_a_multiply_add_over_all_devices():
    """[m, k] x [k, n] are 2 m k n operations, split over eight devices or not."""
    mesh = sharding.make_mesh()
    left = jax.ShapeDtypeStruct((64, 128), jnp.float32, sharding=sharding.split(mesh))
    right = jax.ShapeDtypeStruct((128, 32), jnp.float32, sharding=sharding.replicated(mesh))
    assert compile_ahead(jax.jit(jnp.matmul), left, right).flops == 2 * 64 * 128 * 32
    by_hand = jax.shard_map(
        jnp.matmul,
        mesh=mesh,
        in_specs=(PartitionSpec("data"), PartitionSpec()),
        out_specs=PartitionSpec("data"),
    )
    assert flops.of_program(jax.jit(by_hand).trace(left, right).jaxpr) == 2 * 64 * 128 * 32


@pytest.mark.parametrize("groups", (1, 2))
def test_a_convolution_counts_as_xla_counts_it(groups):
    """Without padding or stride, which are counted otherwise: XLA's own number; and so is its
    kernel's gradient."""

    def loss(x, kernel):
        return (conv(x, kernel, feature_group_count=groups) ** 2).sum()

    shapes = (2, 9, 8, 6), (3, 2, 6 // groups, 4)
    arrays = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    products = 2 * (2 * 7 * 7 * 4) * (3 * 2 * 6 // groups)
    assert counted(lambda *given: conv(*given, feature_group_count=groups), *shapes) == products
    lowered = jax.jit(lambda *given: conv(*given, feature_group_count=groups)).lower(*arrays)
    assert lowered.cost_analysis()["flops"] == products
    assert counted(jax.grad(loss, 1), *shapes) == 2 * products


def test_the_gradient_of_a_stride_is_as_dear_as_its_convolution():
    """The zeros that a strided convolution's gradient puts between pixels are no work."""

    def loss(x, kernel):
        return (conv(x, kernel, strides=(2, 2), padding=((1, 1), (1, 1))) ** 2).sum()

    shapes = (2, 8, 8, 3), (3, 3, 3, 5)
    once = 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)
    assert counted(jax.grad(loss, 1), *shapes) == 2 * once
    assert counted(jax.grad(loss, (0, 1)), *shapes) == 3 * once


def test_loops_and_branches():
    """Every turn of a scan counts, of branches the dearest, of what is in a checkpoint all."""

    def turns(x):
        return jax.lax.scan(lambda x, _: (x @ x, None), x, length=5)[0]

    def either(x):
        return jax.lax.cond(x[0, 0] > 0, lambda x: x @ x @ x, lambda x: x @ x, x)

    once = 2 * 8**3
    assert counted(turns, (8, 8)) == 5 * once
    assert counted(either, (8, 8)) == 2 * once
    assert counted(jax.checkpoint(lambda x: x @ x), (8, 8)) == once
    assert counted(lambda x: x + 1, (8, 8)) == 0


@pytest.mark.parametrize(
    "name, parameters, giga_multiply_adds",
    (("resnet50", 25.557, 4.09), ("resnet18", 11.690, 1.81), ("vgg16", 138.36, 15.47)),
)
def test_backbones_cost_what_torchvision_says(name, parameters, giga_multiply_adds):
    """GFLOPS of torchvision's table of weights at 224 pixels, which counts a multiply-add as one
    and the classifier too, which we do not have; a ResNet's stem is 8 x 8 here, with zeros."""
    features = BACKBONES[name].spec.features
    zeros = 0 if name == "vgg16" else 112 * 112 * 64 * 3 * (8 * 8 - 7 * 7) / 1e9
    classifier = {"vgg16": (123.643, 0.1236)}.get(name, (1e-6 * 1001 * features, 1e-9 * features))
    found, operations = cost(BACKBONES[name].spec, 224)
    assert found / 1e6 + classifier[0] == pytest.approx(parameters, rel=2e-3)
    assert operations / 2e9 - zeros + classifier[1] == pytest.approx(giga_multiply_adds, rel=5e-3)
