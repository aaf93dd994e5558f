"""How published files name and lay out the arrays of each backbone.

One naming is matched with ours, that of timm (torchvision's, for ResNet and VGG); the other
layouts, of big_vision and of the first ViTs, are turned into it. Only names, shapes and axes
are here; nothing is read.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable

import numpy as np

from sbir_jax.backbones import BACKBONES, ConvNeXtSpec, ResNetSpec, Spec, VGGSpec, ViTSpec

Arrays = dict[str, np.ndarray]

# What a file may hold that a backbone has no use for: classifiers, projections, counters.
_IGNORED = {
    ResNetSpec: r"fc\..*|.*\.num_batches_tracked",
    VGGSpec: r"pre_logits\..*|head\..*|classifier\..*|.*\.num_batches_tracked",
    ConvNeXtSpec: r"head\.fc\..*",
    ViTSpec: r"head\..*|mask_token|pre_logits\..*",
}
_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def is_ignored(spec: Spec, name: str) -> bool:
    """Whether a tensor of a file is knowingly left out."""
    return bool(re.fullmatch(_IGNORED[type(spec)], name))


def timm_name(spec: Spec, path: str) -> str:
    """timm's name of an array of ours: `trunk/blocks/0/convs/1/kernel` to `layer1.0.conv2.weight`.

    Args:
      spec: of the backbone.
      path: of an array of `backbone.Backbone`.
    """
    module, _, leaf = path.rpartition("/")
    if leaf == "layer_scale" or re.fullmatch(r"layer_scale[12]", leaf):
        gamma = "gamma" if leaf == "layer_scale" else f"ls{leaf[-1]}.gamma"
        return f"{_MODULES[type(spec)](spec, module)}.{gamma}"
    if tokens := _TOKENS.get(path):
        return tokens
    return f"{_MODULES[type(spec)](spec, module)}.{_LEAVES.get(leaf, leaf)}"


def to_timm_layout(path: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that timm gives an array whose shape is `shape` here."""
    if path in _TOKENS:
        return (1, *shape)
    if path.endswith("kernel"):
        return (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]
    return shape


def from_timm_layout(path: str, array: np.ndarray) -> np.ndarray:
    """An array as laid out here: kernels [h, w, in, out] and [in, out], tokens [n, width]."""
    if path in _TOKENS:
        return array[0]
    if path.endswith("kernel"):
        return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
    return array


def positions_split(arrays: Arrays, spec: ViTSpec) -> tuple[Arrays, ViTSpec]:
    """Adds a ViT's position of the class token to it; says what grid the other positions are for.

    Raises:
      ValueError: the positions are not those of a square.
    """
    positions = arrays.get("pos_embed")
    if positions is None or positions.ndim != 3:
        return arrays, spec
    count = positions.shape[1]
    grid = math.isqrt(count)
    prefix = count - grid**2
    if prefix not in (0, 1) or (prefix and spec.pool != "token"):
        raise ValueError(f"pos_embed holds {count} positions, which are no square of patches")
    arrays = dict(arrays)
    if prefix and "cls_token" in arrays:
        halves = arrays["cls_token"], positions[:, :1]  # of float16, say: added as float32
        arrays["cls_token"] = sum(half.astype(np.float32) for half in halves)
    arrays["pos_embed"] = positions[:, prefix:]
    return arrays, dataclasses.replace(spec, image_size=grid * spec.patch)


def looks_like(arrays: Arrays) -> list[str]:
    """Backbones whose sizes a file has, by its most telling tensors; [] if none is known."""
    shapes = {name: array.shape for name, array in arrays.items()}
    return [name for name, of in BACKBONES.items() if _fits(of.spec, shapes)]


def big_vision_to_timm(arrays: Arrays) -> tuple[Arrays, list[str]]:
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
    found = {
        name: np.concatenate([of[i] for i in sorted(of)])
        if len(of) > 1
        else next(iter(of.values()))
        for name, of in parts.items()
    }
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
            target = f"{match.expand(timm)}.{_LEAVES.get(leaf, leaf)}"
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


def _fits(spec: Spec, shapes: dict[str, tuple[int, ...]]) -> bool:
    if isinstance(spec, ResNetSpec):
        return (
            not spec.patch_stem
            and shapes.get("conv1.weight", ())[:1] == spec.widths[:1]
            and ("layer1.0.conv3.weight" in shapes) == spec.bottleneck
            and _depths("layer{}.{}.conv1.weight", 1, shapes) == spec.depths
        )
    if isinstance(spec, VGGSpec):
        convs = [n for n in shapes if n.startswith("features.") and len(shapes[n]) == 4]
        return (
            len(convs) == sum(map(len, spec.stages))
            and ("features.1.running_mean" in shapes) == spec.batch_norm
        )
    if isinstance(spec, ConvNeXtSpec):
        return (
            shapes.get("stem.0.weight", ())[:1] == spec.widths[:1]
            and _depths("stages.{}.blocks.{}.gamma", 0, shapes) == spec.depths
        )
    return (
        shapes.get("patch_embed.proj.weight") == (spec.width, 3, spec.patch, spec.patch)
        and f"blocks.{spec.depth - 1}.norm1.weight" in shapes
        and f"blocks.{spec.depth}.norm1.weight" not in shapes
        and ("norm_pre.weight" in shapes) == spec.pre_norm
        and ("blocks.0.ls1.gamma" in shapes) == spec.layer_scale
        and ("attn_pool.latent" in shapes) == (spec.pool == "map")
        and shapes.get("reg_token", (1, 0))[1] == spec.registers
    )


def _depths(pattern: str, first: int, shapes: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    """How many blocks each stage has, of the stages and blocks that `pattern` names."""
    depths = []
    while pattern.format(first + len(depths), 0) in shapes:
        count = 1
        while pattern.format(first + len(depths), count) in shapes:
            count += 1
        depths.append(count)
    return tuple(depths)


def _resnet(spec: ResNetSpec, module: str) -> str:
    fixed = {"stem/conv": "conv1", "stem/norm": "bn1"}
    if module in fixed:
        return fixed[module]
    _, _, number, *rest = module.split("/")
    stage, left = 0, int(number)
    while left >= spec.depths[stage]:
        left -= spec.depths[stage]
        stage += 1
    kind = {
        "convs": "conv",
        "norms": "bn",
        "project": "downsample.0",
        "project_norm": "downsample.1",
    }
    inner = kind[rest[0]] + (str(int(rest[1]) + 1) if len(rest) > 1 else "")
    return f"layer{stage + 1}.{left}.{inner}"


def _vgg(spec: VGGSpec, module: str) -> str:
    *where, kind, number = module.split("/")  # stem/stage/convs/0, trunk/stages/1/norms/2
    stage = 0 if where[0] == "stem" else int(where[2]) + 1
    step = 3 if spec.batch_norm else 2  # convolution, (norm,) ReLU
    first = sum(step * len(widths) + 1 for widths in spec.stages[:stage])
    return f"features.{first + step * int(number) + (kind == 'norms')}"


def _convnext(spec: ConvNeXtSpec, module: str) -> str:
    fixed = {"stem/conv": "stem.0", "stem/norm": "stem.1", "trunk/norm": "head.norm"}
    if module in fixed:
        return fixed[module]
    _, _, stage, *rest = module.split("/")
    inner = "/".join(rest)
    inner = {"norm": "downsample.0", "conv": "downsample.1"}.get(inner, inner)
    inner = re.sub(r"conv$", "conv_dw", re.sub(r"(fc[12])$", r"mlp.\1", inner))
    return f"stages.{stage}.{inner}".replace("/", ".")


def _vit(spec: ViTSpec, module: str) -> str:
    part, _, inner = module.partition("/")
    if part == "stem":
        return "patch_embed.proj"
    inner = re.sub(r"^pool\b", "attn_pool", inner.replace("attention", "attn"))
    return inner.replace("/", ".")


_MODULES = {ResNetSpec: _resnet, VGGSpec: _vgg, ConvNeXtSpec: _convnext, ViTSpec: _vit}
_TOKENS = {
    "stem/class_token": "cls_token",
    "stem/registers": "reg_token",
    "stem/positions": "pos_embed",
    "trunk/pool/query": "attn_pool.latent",
}
