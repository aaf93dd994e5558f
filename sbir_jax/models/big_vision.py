"""ViTs as big_vision and vision_transformer store them, turned into timm's names and axes."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from sbir_jax.models.naming import LEAVES, Arrays


def to_timm(arrays: Arrays) -> tuple[Arrays, list[str]]:
    """A ViT of big_vision, or of vision_transformer, with timm's names and layouts.

    Blocks may be apart (`encoderblock_0`) or stacked (`encoderblock`). What has no counterpart
    keeps its name.

    Returns:
      The arrays, and the names of those outside the image tower, which were left out.
    """
    prefixes = ("params/img/", "params/", "opt/target/", "")
    prefix = next((p for p in prefixes if f"{p}embedding/kernel" in arrays), "")
    parts: dict[str, dict[int, np.ndarray]] = {}
    for name, array in arrays.items():
        if name.startswith(prefix):
            for inner, single in _unstacked(name.removeprefix(prefix), array):
                target, order, flatten = _timm_part(inner)
                parts.setdefault(target, {})[order] = flatten(single)
    joined = {name: [of[i] for i in sorted(of)] for name, of in parts.items()}
    found = {name: np.concatenate(of) if len(of) > 1 else of[0] for name, of in joined.items()}
    return found, [name for name in arrays if not name.startswith(prefix)]


def _unstacked(name: str, array: np.ndarray) -> list[tuple[str, np.ndarray]]:
    stacked = "Transformer/encoderblock/"
    if not name.startswith(stacked):
        return [(name, array)]
    inner = name.removeprefix(stacked)
    return [(f"Transformer/encoderblock_{i}/{inner}", single) for i, single in enumerate(array)]


_BIG_VISION = (
    (r"embedding", "patch_embed.proj"),
    (r"Transformer/encoder_norm", "norm"),
    (r"Transformer/encoderblock_(\d+)/LayerNorm_0", r"blocks.\1.norm1"),
    (r"Transformer/encoderblock_(\d+)/LayerNorm_[12]", r"blocks.\1.norm2"),
    (r"Transformer/encoderblock_(\d+)/MlpBlock_\d/Dense_0", r"blocks.\1.mlp.fc1"),
    (r"Transformer/encoderblock_(\d+)/MlpBlock_\d/Dense_1", r"blocks.\1.mlp.fc2"),
    (r"Transformer/encoderblock_(\d+)/MultiHead\w+/out", r"blocks.\1.attn.proj"),
    (r"Transformer/encoderblock_(\d+)/MultiHead\w+/(?:query|key|value)", r"blocks.\1.attn.qkv"),
    (r"MAPHead_0/MultiHead\w+/query", "attn_pool.q"),
    (r"MAPHead_0/MultiHead\w+/(?:key|value)", "attn_pool.kv"),
    (r"MAPHead_0/MultiHead\w+/out", "attn_pool.proj"),
    (r"MAPHead_0/LayerNorm_0", "attn_pool.norm"),
    (r"MAPHead_0/MlpBlock_0/Dense_0", "attn_pool.mlp.fc1"),
    (r"MAPHead_0/MlpBlock_0/Dense_1", "attn_pool.mlp.fc2"),
    (r"head|pre_logits", r"\g<0>"),
)
_BIG_VISION_TOKENS = {
    "cls": "cls_token",
    "pos_embedding": "pos_embed",
    "Transformer/posembed_input/pos_embedding": "pos_embed",
    "MAPHead_0/probe": "attn_pool.latent",
}


def _timm_part(name: str) -> tuple[str, int, Callable[[np.ndarray], np.ndarray]]:
    """timm's name of an array, its place among those joined there, and its change of layout."""
    if name in _BIG_VISION_TOKENS:
        return _BIG_VISION_TOKENS[name], 0, lambda x: x
    module, _, leaf = name.rpartition("/")
    for pattern, timm in _BIG_VISION:
        if match := re.fullmatch(pattern, module):
            target = f"{match.expand(timm)}.{LEAVES.get(leaf, leaf)}"
            role = module.rpartition("/")[2]
            order = {"key": 1, "value": 2}.get(role, 0)
            if leaf != "kernel":
                return target, order, lambda x: x.reshape(-1)
            if role in ("query", "key", "value"):  # [in, heads, width / heads]
                return target, order, lambda x: x.reshape(len(x), -1).T
            if role == "out":  # [heads, width / heads, out]
                return target, order, lambda x: x.reshape(-1, x.shape[-1]).T
            return target, order, lambda x: x.transpose(3, 2, 0, 1) if x.ndim == 4 else x.T
    return name, 0, lambda x: x
