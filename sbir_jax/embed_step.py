"""The embedding step: images to vectors, compiled once for each number of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from flax import nnx
from jax.sharding import Mesh

from sbir_jax import sharding
from sbir_jax.config import RunConfig
from sbir_jax.data import augment
from sbir_jax.models import dual
from sbir_jax.models.compiling import compiler_options


def make_embed_step(
    run: RunConfig, graphdef: nnx.GraphDef, *, mesh: Mesh
) -> Callable[..., jax.Array]:
    """`embed(params, model_state, images, modality) -> float32 [B, D]`, jitted.

    `images` is uint8 [B, S, S, C], split over the mesh; every device gets all embeddings.
    """

    def embed(params: Any, model_state: Any, images: jax.Array, modality: str) -> jax.Array:
        images = augment.resize(images, run.data.image_size)
        params = sharding.gathered(mesh, params)
        return dual.apply_embed(graphdef, params, model_state, images, modality)

    return jax.jit(
        embed,
        static_argnames="modality",
        out_shardings=sharding.replicated(mesh),
        compiler_options=compiler_options(
            dual.model_spec(run.model, run.data.image_size),
            mesh.devices.flat[0].platform,
            deterministic=False,
        ),
    )
