"""Small networks of every family, as timm builds them and as we do.

Each case: our backbone, changes of its spec, timm's architecture and the same changes there, and
the image sizes: the native one, and another, which positions are resampled to.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from sbir_jax.backbones import BACKBONES, Backbone


@dataclasses.dataclass(frozen=True)
class Case:
    """One network; sizes are in pixels, the native one first."""

    arch: str
    spec: dict[str, Any]
    timm: str
    arguments: dict[str, Any]
    sizes: tuple[int, ...]

    @property
    def views(self) -> tuple[tuple[str, int], ...]:
        """What the fixture has features of: a sketch of the native size, a photo of the other."""
        return tuple(zip(("sketch", "photo"), self.sizes, strict=True))

    def backbone(self) -> Backbone:
        """The backbone of the registry, made small."""
        whole = BACKBONES[self.arch]
        return dataclasses.replace(
            whole, spec=dataclasses.replace(whole.spec, **self.spec), image_size=self.sizes[0]
        )


def _vit(arch: str, timm: str, sizes: tuple[int, int]) -> Case:
    return Case(
        arch,
        {"width": 64, "depth": 2, "heads": 2, "image_size": sizes[0]},
        timm,
        {"embed_dim": 64, "depth": 2, "num_heads": 2, "img_size": sizes[0]},
        sizes,
    )


def _resnet(arch: str) -> Case:
    depths, widths = (1, 2, 1, 1), (64, 32, 24, 16)
    arguments = {"layers": depths, "channels": widths}
    return Case(arch, {"depths": depths, "widths": widths}, arch, arguments, (64, 45))


_CONVNEXT = ((1, 2, 1, 1), (16, 24, 32, 40))
_VGG = ((64, 16), (24,), (32, 40))

CASES = {
    "resnet18": _resnet("resnet18"),
    "resnet50": _resnet("resnet50"),
    "vgg16": Case("vgg16", {"stages": _VGG}, "vgg16", {"stages": _VGG}, (64, 45)),
    "vgg16_bn": Case("vgg16_bn", {"stages": _VGG}, "vgg16_bn", {"stages": _VGG}, (64, 45)),
    "convnext": Case(
        "convnext_tiny",
        {"depths": _CONVNEXT[0], "widths": _CONVNEXT[1]},
        "convnext_tiny",
        {"depths": _CONVNEXT[0], "dims": _CONVNEXT[1]},
        (64, 75),
    ),
    "vit": _vit("vit_tiny_patch16", "vit_tiny_patch16_224", (64, 96)),
    "clip": _vit("vit_base_patch32_clip", "vit_base_patch32_clip_224", (96, 64)),
    "clip_quickgelu": _vit(
        "vit_base_patch32_clip_quickgelu", "vit_base_patch32_clip_quickgelu_224", (96, 64)
    ),
    "siglip": _vit("vit_base_patch16_siglip", "vit_base_patch16_siglip_224", (64, 80)),
    "siglip_tanh": _vit("vit_base_patch32_siglip", "vit_base_patch32_siglip_256", (96, 64)),
    # DINOv2's grid is 37 a side at its native size; here 7 shrinks to 4, antialiased.
    "dinov2": _vit("vit_small_patch14_dinov2", "vit_small_patch14_dinov2", (98, 56)),
    "dinov2_reg4": _vit("vit_small_patch14_reg4_dinov2", "vit_small_patch14_reg4_dinov2", (98, 56)),
}
