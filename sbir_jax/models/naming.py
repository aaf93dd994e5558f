"""How published files name and lay out the arrays of each backbone.

One naming is matched with ours, that of timm (torchvision's too, for ResNet and VGG); others are
turned into it first. Only names, shapes and axes are here; nothing is read.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable
from typing import Any

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
LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


def is_ignored(spec: Spec, name: str) -> bool:
    """Whether a tensor of a file is knowingly left out."""
    return bool(re.fullmatch(_IGNORED[type(spec)], name))


def timm_name(spec: Spec, path: str) -> str:
    """timm's name of an array of ours: `trunk/blocks/0/convs/1/kernel` to `layer1.0.conv2.weight`.

    Args:
      spec: of the backbone.
      path: of an array of `network.Network`.
    """
    module, _, leaf = path.rpartition("/")
    if leaf == "layer_scale" or re.fullmatch(r"layer_scale[12]", leaf):
        gamma = "gamma" if leaf == "layer_scale" else f"ls{leaf[-1]}.gamma"
        return f"{_MODULES[type(spec)](spec, module)}.{gamma}"
    if tokens := _TOKENS.get(path):
        return tokens
    return f"{_MODULES[type(spec)](spec, module)}.{LEAVES.get(leaf, leaf)}"


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
        token, position = (half.astype(np.float32) for half in halves)
        arrays["cls_token"] = token + position
    arrays["pos_embed"] = positions[:, prefix:]
    return arrays, dataclasses.replace(spec, image_size=grid * spec.patch)


def looks_like(arrays: Arrays) -> list[str]:
    """Backbones whose sizes a file has, by its most telling tensors; [] if none is known."""
    shapes = {name: array.shape for name, array in arrays.items()}
    return [name for name, of in BACKBONES.items() if _fits(of.spec, shapes)]


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
    depths: list[int] = []
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


_MODULES: dict[type[Spec], Callable[[Any, str], str]] = {
    ResNetSpec: _resnet,
    VGGSpec: _vgg,
    ConvNeXtSpec: _convnext,
    ViTSpec: _vit,
}
_TOKENS = {
    "stem/class_token": "cls_token",
    "stem/registers": "reg_token",
    "stem/positions": "pos_embed",
    "trunk/pool/query": "attn_pool.latent",
}
