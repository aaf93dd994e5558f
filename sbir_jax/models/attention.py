"""Attention of tokens to tokens: as products anywhere, or as one kernel on NVIDIA's GPUs."""

from __future__ import annotations

import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike


def fits_one_kernel(heads: int, width: int, dtype: DTypeLike) -> bool:
    """Whether cuDNN's fused attention serves `heads` of together `width` channels on this machine:
    half precision, compute capability 8 or more.

    As products, attention takes more than a third of a ViT-B/16's step on an H200, most of it to
    write and read the weights, [heads, T, S] for each image.
    """
    capability = getattr(jax.local_devices()[0], "compute_capability", "")
    if not re.fullmatch(r"\d+\.\d+", capability) or float(capability) < 8:
        return False
    size = width // heads
    return jnp.dtype(dtype) in (jnp.bfloat16, jnp.float16) and size % 8 == 0 and size <= 128


def attend(
    q: jax.Array, k: jax.Array, v: jax.Array, heads: int, *, fused: int | None = None
) -> jax.Array:
    """Attention of [B, T, width] to [B, S, width] in `heads` parts of the channels.

    Args:
      q, k, v: of one dtype.
      heads: divides the width.
      fused: None, or for cuDNN's kernel, whose gradient wants T and S even: how many of the T = S
        tokens are real. The others come last and are not attended to.

    Returns:
      [B, T, width]; of a token that is not real, anything finite.
    """
    q, k, v = (x.reshape(*x.shape[:2], heads, -1) for x in (q, k, v))
    if fused is None:
        x = jax.nn.dot_product_attention(q, k, v)  # [B, T, heads, width / heads]
    else:
        masked: dict[str, Any] = {}
        if fused < q.shape[1]:
            lengths = jnp.full(q.shape[0], fused, jnp.int32)
            masked = {"query_seq_lengths": lengths, "key_value_seq_lengths": lengths}
        x = jax.nn.dot_product_attention(q, k, v, implementation="cudnn", **masked)
    return x.reshape(*x.shape[:2], -1)
