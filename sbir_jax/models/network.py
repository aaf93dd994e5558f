"""One network whole, of any family: what is imported, measured and held against a reference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from sbir_jax.backbones import ConvNeXtSpec, ResNetSpec, Spec, VGGSpec, ViTSpec
from sbir_jax.models import convnext, resnet, vgg, vit
from sbir_jax.paths import by_path

_FAMILIES = {ResNetSpec: resnet, VGGSpec: vgg, ConvNeXtSpec: convnext, ViTSpec: vit}


def make_stem(channels: int, spec: Spec, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Module:
    """The first part: image [B, H, W, channels] to a map or tokens."""
    return _FAMILIES[type(spec)].Stem(channels, spec, dtype=dtype, rngs=rngs)


def make_trunk(spec: Spec, *, dtype: DTypeLike, rngs: nnx.Rngs) -> nnx.Module:
    """The second part: what a stem gives to float32 features [B, spec.features]."""
    return _FAMILIES[type(spec)].Trunk(spec, dtype=dtype, rngs=rngs)


class Network(nnx.Module):
    """Stem and trunk: images [B, H, W, 3], normalised as the weights want, to [B, features]."""

    def __init__(self, spec: Spec, *, rngs: nnx.Rngs):
        self.stem = make_stem(3, spec, dtype=jnp.float32, rngs=rngs)
        self.trunk = make_trunk(spec, dtype=jnp.float32, rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool = False) -> jax.Array:
        return self.trunk(self.stem(images, train=train), train=train)


def shapes_of(spec: Spec) -> dict[str, jax.ShapeDtypeStruct]:
    """Every array of a backbone, parameters and BatchNorm's statistics, by path; none is made."""
    model = nnx.eval_shape(lambda: Network(spec, rngs=nnx.Rngs(0)))
    return by_path(nnx.to_pure_dict(nnx.state(model)))
