"""Vision transformers in two parts, `Stem` (image to tokens) and `Trunk` (blocks and pooling).

The switches of `ViTSpec` cover the plain ViT, CLIP's image tower (LayerNorm before the blocks,
QuickGELU), SigLIP (pooling by attention) and DINOv2 (LayerScale, registers). Features are the
class token after the last LayerNorm, or the output of the attention pool; CLIP's projection into
the space of texts is not used.

Two things of fine-tuning live here: prompts, learned tokens that the trunk appends to its input,
and low-rank updates of attention (LoRA: Hu et al., ICLR 2022).

Source: Dosovitskiy et al., An Image is Worth 16 x 16 Words, ICLR 2021; Radford et al., Learning
Transferable Visual Models from Natural Language Supervision, ICML 2021; Zhai et al., Sigmoid Loss
for Language Image Pre-Training, ICCV 2023; Oquab et al., DINOv2, TMLR 2024; Darcet et al., Vision
Transformers Need Registers, ICLR 2024.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from sbir_jax.backbones import ViTSpec
from sbir_jax.models.acts import gelu, gelu_tanh, quick_gelu
from sbir_jax.models.attention import attend, fits_one_kernel
from sbir_jax.models.convolve import by_rows
from sbir_jax.models.initial import lecun_normal, small_normal
from sbir_jax.models.norms import layer_norm
from sbir_jax.models.remat import through

_ACTS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "quick_gelu": quick_gelu}


class Stem(nnx.Module):
    """Image [B, S, S, C] to tokens [B, T, width]: class token, registers, patches row by row.

    The class token holds its own position: published networks that learn one have it added on
    import.
    """

    def __init__(self, channels: int, spec: ViTSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.conv = nnx.Conv(
            channels,
            spec.width,
            (spec.patch, spec.patch),
            strides=(spec.patch, spec.patch),
            padding="VALID",
            use_bias=not spec.pre_norm,
            kernel_init=lecun_normal,
            dtype=dtype,
            rngs=rngs,
        )
        prefix = {"class_token": int(spec.pool == "token"), "registers": spec.registers}
        self.prefix = tuple(name for name, count in prefix.items() if count)
        for name in self.prefix:
            setattr(self, name, tokens(prefix[name], spec.width, rngs=rngs))
        self.positions = tokens(spec.grid**2, spec.width, rngs=rngs)

    def __call__(self, images: jax.Array, *, train: bool) -> jax.Array:
        x, batch = by_rows(self.conv, images), images.shape[0]  # [B, grid, grid, width]
        x = x.reshape(batch, -1, x.shape[-1]) + self.positions[...].astype(x.dtype)
        first = [repeat(getattr(self, name)[...], batch).astype(x.dtype) for name in self.prefix]
        return jnp.concatenate([*first, x], axis=1)


class Trunk(nnx.Module):
    """Tokens [B, T, width] to float32 [B, width]: the blocks, then LayerNorm and pooling.

    `prompts`, [B, N, width], join the tokens after the positions and before everything else.
    """

    def __init__(self, spec: ViTSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        norm = functools.partial(layer_norm, spec.width, eps=spec.eps, rngs=rngs)
        self.has_norm_pre = spec.pre_norm
        if self.has_norm_pre:
            self.norm_pre = norm(dtype=dtype)
        self.blocks = nnx.List([Block(spec, dtype=dtype, rngs=rngs) for _ in range(spec.depth)])
        self.norm = norm(dtype=jnp.float32)
        self.pools = spec.pool == "map"
        if self.pools:
            self.pool = AttentionPool(spec, dtype=dtype, rngs=rngs)
        self.dtype = dtype
        self.fused = fits_one_kernel(spec.heads, spec.width, dtype)

    def __call__(
        self,
        x: jax.Array,
        *,
        train: bool,
        remat: str = "none",
        prompts: jax.Array | None = None,
    ) -> jax.Array:
        if prompts is not None:
            x = jnp.concatenate([x, prompts.astype(x.dtype)], axis=1)
        if self.has_norm_pre:
            x = self.norm_pre(x)
        real = x.shape[1]
        if self.fused and real % 2:
            x = jnp.pad(x, ((0, 0), (0, 1), (0, 0)))
        for block in self.blocks:
            x = through(block, x, remat=remat, fused=real if self.fused else None)
        if self.pools:
            x = self.norm(x[:, :real]).astype(self.dtype)
            return self.pool(x).astype(jnp.float32)
        return self.norm(x[:, 0])


class Block(nnx.Module):
    """Attention and an MLP, each after a LayerNorm and on a residual path of its own."""

    def __init__(self, spec: ViTSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        norm = functools.partial(layer_norm, spec.width, eps=spec.eps, dtype=dtype, rngs=rngs)
        self.norm1, self.norm2 = norm(), norm()
        self.attention = Attention(spec, dtype=dtype, rngs=rngs)
        self.mlp = MLP(spec, dtype=dtype, rngs=rngs)
        self.scales = spec.layer_scale
        if self.scales:
            self.layer_scale1, self.layer_scale2 = (
                nnx.Param(jnp.full((spec.width,), 1e-5)) for _ in range(2)
            )

    def __call__(self, x: jax.Array, *, fused: int | None) -> jax.Array:
        y = self.attention(self.norm1(x), fused=fused)
        x = x + (y * self.layer_scale1[...].astype(x.dtype) if self.scales else y)
        y = self.mlp(self.norm2(x))
        return x + (y * self.layer_scale2[...].astype(x.dtype) if self.scales else y)


class Attention(nnx.Module):
    """Every token attends to every token: [B, T, width] to the same shape; `fused` as `attend`."""

    def __init__(self, spec: ViTSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.heads = spec.heads
        dense = functools.partial(LowRankLinear, rank=spec.lora_rank, dtype=dtype, rngs=rngs)
        self.qkv = dense(spec.width, 3 * spec.width)
        self.proj = dense(spec.width, spec.width)

    def __call__(self, x: jax.Array, *, fused: int | None) -> jax.Array:
        q, k, v = self.qkv.in_parts(x, 3)  # [B, T, width] each
        return self.proj(attend(q, k, v, self.heads, fused=fused))


class AttentionPool(nnx.Module):
    """A learned query attends to all tokens, then an MLP: [B, T, width] to [B, width] (SigLIP)."""

    def __init__(self, spec: ViTSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        self.heads = spec.heads
        dense = functools.partial(nnx.Linear, kernel_init=lecun_normal, dtype=dtype, rngs=rngs)
        self.query = tokens(1, spec.width, rngs=rngs)
        self.q = dense(spec.width, spec.width)
        self.kv = dense(spec.width, 2 * spec.width)
        self.proj = dense(spec.width, spec.width)
        self.norm = layer_norm(spec.width, eps=spec.eps, dtype=dtype, rngs=rngs)
        self.mlp = MLP(spec, dtype=dtype, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        k, v = jnp.split(self.kv(x), 2, axis=-1)
        x = self.proj(attend(repeat(self.q(self.query[...]), x.shape[0]), k, v, self.heads))
        return (x + self.mlp(self.norm(x)))[:, 0]


class MLP(nnx.Module):
    """Two dense layers, four times as wide between them."""

    def __init__(self, spec: ViTSpec, *, dtype: DTypeLike, rngs: nnx.Rngs):
        dense = functools.partial(nnx.Linear, kernel_init=lecun_normal, dtype=dtype, rngs=rngs)
        self.act = _ACTS[spec.act]
        self.fc1 = dense(spec.width, 4 * spec.width)
        self.fc2 = dense(4 * spec.width, spec.width)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.fc2(self.act(self.fc1(x)))


class LowRankLinear(nnx.Linear):
    """A dense layer x W + b, plus x A B with A [in, rank] and B [rank, out] if `rank` is not 0.

    B starts at zero, so the layer starts as it would be without. The update is not scaled further.
    """

    def __init__(self, inputs: int, outputs: int, *, rank: int, dtype: DTypeLike, rngs: nnx.Rngs):
        super().__init__(inputs, outputs, kernel_init=lecun_normal, dtype=dtype, rngs=rngs)
        self.rank = rank
        if rank:
            self.lora_a = nnx.Param(lecun_normal(rngs.params(), (inputs, rank), jnp.float32))
            self.lora_b = nnx.Param(jnp.zeros((rank, outputs)))

    def __call__(self, x: jax.Array) -> jax.Array:  # type: ignore[override] # no out_sharding
        return self.in_parts(x, 1)[0]

    def in_parts(self, x: jax.Array, count: int) -> list[jax.Array]:
        """[..., in] to equal parts of the outputs, [..., out / count] each.

        Each is a product of its own: to cut activations in parts copies them, and on an H200 the
        copies of q, k and v and of their gradients took 5 % of a ViT-B/16's step.
        """
        x = x.astype(self.dtype)

        def cut(array: nnx.Param) -> list[jax.Array]:
            return jnp.split(array[...].astype(x.dtype), count, axis=-1)

        assert self.bias is not None  # what Flax has by default
        parts = [x @ w + b for w, b in zip(cut(self.kernel), cut(self.bias), strict=True)]
        if self.rank:
            low = x @ self.lora_a[...].astype(x.dtype)
            parts = [y + low @ b for y, b in zip(parts, cut(self.lora_b), strict=True)]
        return parts


def tokens(count: int, width: int, *, rngs: nnx.Rngs) -> nnx.Param:
    """`count` learned tokens: float32 [count, width]."""
    return nnx.Param(small_normal(rngs.params(), (count, width), jnp.float32))


def repeat(x: jax.Array, batch: int) -> jax.Array:
    """[N, width] for each of a batch: [batch, N, width]."""
    return jnp.broadcast_to(x, (batch, *x.shape))
