"""What published weights are, in numbers and words, for the console."""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from flax import nnx

from sbir_jax import flops
from sbir_jax.backbones import BACKBONES, Spec, ViTSpec
from sbir_jax.models.network import Network
from sbir_jax.models.weights import Weights
from sbir_jax.paths import by_path


def cost(spec: Spec, image_size: int) -> tuple[int, float]:
    """Parameters, and floating point operations to embed one image (`flops.of_program`).

    A multiplication and its addition are two operations; papers often count them as one. Nothing
    is computed or compiled.

    Args:
      spec: of the backbone.
      image_size: side of the image in pixels; of a ViT, that of `spec`.
    """
    model = nnx.eval_shape(lambda: Network(spec, rngs=nnx.Rngs(0)))
    graphdef, params, rest = nnx.split(model, nnx.Param, ...)
    images = jax.ShapeDtypeStruct((1, image_size, image_size, 3), jnp.float32)
    forward = jax.jit(lambda params, rest, images: nnx.merge(graphdef, params, rest)(images))
    work = flops.of_program(forward.trace(params, rest, images).jaxpr)
    return sum(x.size for x in by_path(nnx.to_pure_dict(params)).values()), work


def summary(weights: Weights) -> str:
    """One fact a line: parameters, GFLOPs at the native size, pixels, licence, source, notes."""
    spec, size = BACKBONES[weights.arch].spec, weights.image_size
    if isinstance(spec, ViTSpec):
        spec = dataclasses.replace(spec, image_size=size)
    parameters, work = cost(spec, size)
    rows = {
        "backbone": f"{weights.arch}, {spec.features} features",
        "parameters": f"{parameters:,}",
        "GFLOPs": f"{work / 1e9:,.2f} an image of {size} x {size} (a multiply-add is two)",
        "pixels": f"mean {_triple(weights.mean)}, std {_triple(weights.std)}, of RGB in 0..1",
        "licence": weights.licence,
        "source": weights.source,
        "sha256": weights.sha256,
        **{f"note {i}": note for i, note in enumerate(weights.notes, 1)},
    }
    return "\n".join(f"  {name:<11}{value}" for name, value in rows.items())


def _triple(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:.4g}" for value in values)
