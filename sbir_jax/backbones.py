"""The backbones by name: what tells each from another. No JAX here, so that `show` answers at once.

Names are those of timm without the input size at the end, since any size will do here:
`vit_base_patch32_clip_quickgelu` is timm's `vit_base_patch32_clip_quickgelu_224`.
"""

from __future__ import annotations

import dataclasses
import re
from typing import Any

Floats3 = tuple[float, float, float]

HALF: Floats3 = (0.5, 0.5, 0.5)
_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))


@dataclasses.dataclass(frozen=True, kw_only=True)
class ResNetSpec:
    """A ResNet: blocks and channels of each stage, block kind, stem."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    bottleneck: bool = False
    patch_stem: bool = False

    @property
    def features(self) -> int:
        """Channels that leave the trunk."""
        return self.widths[-1] * (4 if self.bottleneck else 1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class VGGSpec:
    """A VGG: channels of each convolution, by stage; BatchNorm or none."""

    stages: tuple[tuple[int, ...], ...]
    batch_norm: bool

    @property
    def features(self) -> int:
        """Channels that leave the trunk."""
        return self.stages[-1][-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvNeXtSpec:
    """A ConvNeXt: blocks and channels of each stage."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]

    @property
    def features(self) -> int:
        """Channels that leave the trunk."""
        return self.widths[-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ViTSpec:
    """A vision transformer.

    Attributes:
      patch, width, depth, heads: sides of a patch in pixels, channels, blocks, attention heads.
      pool: what leaves the trunk: "token", the class token; "map", attention from a learned query
        (such a ViT has no class token).
      pre_norm: LayerNorm before the blocks, and patches without bias, as in CLIP.
      act: of the MLPs: gelu (exact), gelu_tanh or quick_gelu.
      layer_scale: a learned scale of each residual branch, as in DINOv2.
      registers: learned tokens that are only attended to.
      eps: of every LayerNorm.
      image_size: pixels of the input's side; a learned position for each patch of it.
      lora_rank: of the low-rank updates of attention; 0 for none.
    """

    patch: int
    width: int
    depth: int
    heads: int
    pool: str = "token"
    pre_norm: bool = False
    act: str = "gelu"
    layer_scale: bool = False
    registers: int = 0
    eps: float = 1e-6
    image_size: int = 224
    lora_rank: int = 0

    @property
    def features(self) -> int:
        """Channels that leave the trunk."""
        return self.width

    @property
    def grid(self) -> int:
        """Patches along a side."""
        return self.image_size // self.patch


Spec = ResNetSpec | VGGSpec | ConvNeXtSpec | ViTSpec


@dataclasses.dataclass(frozen=True, kw_only=True)
class Backbone:
    """One backbone: its spec, and what its published weights are usually fed with.

    Attributes:
      image_size: pixels of the square that the published weights were trained on.
      mean, std: of RGB in 0..1.
    """

    spec: Spec
    image_size: int = 224
    mean: Floats3 = HALF
    std: Floats3 = HALF


def spec_of(name: str, *, image_size: int, width: int = 64, lora_rank: int = 0) -> Spec:
    """The spec of a backbone named in the config.

    `width` counts for patch_resnet only; `image_size`, in pixels, and `lora_rank` for ViTs.
    """
    spec = BACKBONES[name].spec
    if isinstance(spec, ResNetSpec) and spec.patch_stem:
        return dataclasses.replace(spec, widths=(width, 2 * width, 4 * width))
    if isinstance(spec, ViTSpec):
        return dataclasses.replace(spec, image_size=image_size, lora_rank=lora_rank)
    return spec


def short_name(timm_name: str) -> str:
    """timm's architecture name as we write it: `vit_base_patch16_siglip_384` without the size."""
    return re.sub(r"_(?:\d{3})$", "", timm_name)


def _resnet(*depths: int, bottleneck: bool = False) -> Backbone:
    spec = ResNetSpec(depths=depths, widths=(64, 128, 256, 512), bottleneck=bottleneck)
    return Backbone(spec=spec, mean=_IMAGENET[0], std=_IMAGENET[1])


def _vgg16(*, batch_norm: bool) -> Backbone:
    stages = ((64,) * 2, (128,) * 2, (256,) * 3, (512,) * 3, (512,) * 3)
    spec = VGGSpec(stages=stages, batch_norm=batch_norm)
    return Backbone(spec=spec, mean=_IMAGENET[0], std=_IMAGENET[1])


def _convnext(*depths: int, width: int) -> Backbone:
    spec = ConvNeXtSpec(depths=depths, widths=(width, 2 * width, 4 * width, 8 * width))
    return Backbone(spec=spec, mean=_IMAGENET[0], std=_IMAGENET[1])


_SIZES: dict[str, dict[str, Any]] = {
    "tiny": {"width": 192, "depth": 12, "heads": 3},
    "small": {"width": 384, "depth": 12, "heads": 6},
    "base": {"width": 768, "depth": 12, "heads": 12},
    "large": {"width": 1024, "depth": 24, "heads": 16},
}


def _vit(
    size: str,
    patch: int,
    *,
    image_size: int = 224,
    pixels: tuple[Floats3, Floats3] = (HALF, HALF),
    **switches: Any,
) -> Backbone:
    spec = ViTSpec(patch=patch, image_size=image_size, **_SIZES[size], **switches)
    return Backbone(spec=spec, image_size=image_size, mean=pixels[0], std=pixels[1])


def _vits() -> dict[str, Backbone]:
    found = {}
    plain = "tiny/16 small/32 small/16 small/8 base/32 base/16 base/8 large/16"
    for size, side in (word.split("/") for word in plain.split()):
        # Of S/8 there are only DINO's weights, whose pixels are ImageNet's.
        pixels = _IMAGENET if (size, side) == ("small", "8") else (HALF, HALF)
        found[f"vit_{size}_patch{side}"] = _vit(size, int(side), pixels=pixels)
    for size, patch in (("base", 32), ("base", 16), ("large", 14)):
        for act in ("gelu", "quick_gelu"):
            name = f"vit_{size}_patch{patch}_clip" + ("_quickgelu" if act == "quick_gelu" else "")
            found[name] = _vit(size, patch, pixels=_CLIP, pre_norm=True, act=act, eps=1e-5)
    # timm computes SigLIP's B/16 and L/16 with the exact GELU and B/32 with the tanh one.
    for size, patch, act, image_size in (
        ("base", 32, "gelu_tanh", 256), ("base", 16, "gelu", 224), ("large", 16, "gelu", 256),
    ):  # fmt: skip
        name = f"vit_{size}_patch{patch}_siglip"
        found[name] = _vit(size, patch, image_size=image_size, pool="map", act=act)
    for size in ("small", "base", "large"):
        for registers in (0, 4):
            name = f"vit_{size}_patch14" + ("_reg4" if registers else "") + "_dinov2"
            dinov2 = {"layer_scale": True, "registers": registers}
            found[name] = _vit(size, 14, image_size=518, pixels=_IMAGENET, **dinov2)
    return found


BACKBONES: dict[str, Backbone] = {
    # For CPUs; nobody publishes weights of it.
    "patch_resnet": Backbone(
        spec=ResNetSpec(depths=(2, 2, 2), widths=(64, 128, 256), patch_stem=True)
    ),
    "resnet18": _resnet(2, 2, 2, 2),
    "resnet34": _resnet(3, 4, 6, 3),
    "resnet50": _resnet(3, 4, 6, 3, bottleneck=True),
    "resnet101": _resnet(3, 4, 23, 3, bottleneck=True),
    "vgg16": _vgg16(batch_norm=False),
    "vgg16_bn": _vgg16(batch_norm=True),
    "convnext_tiny": _convnext(3, 3, 9, 3, width=96),
    "convnext_small": _convnext(3, 3, 27, 3, width=96),
    "convnext_base": _convnext(3, 3, 27, 3, width=128),
    **_vits(),
}
