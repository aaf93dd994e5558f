"""timm's answers: names, shapes and pooled features of the small networks and of whole ones."""

from __future__ import annotations

from typing import Any

import drawn
import numpy as np
import timm
import torch
from parity.cases import Case
from timm.models.vgg import VGG

Shapes = dict[str, tuple[int, ...]]


def build(case: Case, size: int) -> torch.nn.Module:
    """timm's network of a case for images of `size`, with values of its own."""
    if case.timm.startswith("vgg"):  # its channels are no argument of create_model
        plan = [step for stage in case.arguments["stages"] for step in (*stage, "M")]
        norm = torch.nn.BatchNorm2d if case.timm.endswith("_bn") else None
        return VGG(plan, num_classes=10, norm_layer=norm).eval()
    arguments = dict(case.arguments)
    if "img_size" in arguments:
        arguments["img_size"] = size
    return timm.create_model(case.timm, num_classes=10, **arguments).eval()


def shapes(case: Case) -> Shapes:
    """Every tensor of the network at its native size."""
    return shapes_of(build(case, case.sizes[0]))


def shapes_of(model: torch.nn.Module) -> Shapes:
    """Every tensor of a network by name."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def features(case: Case, size: int, images: np.ndarray) -> np.ndarray:
    """Pooled features, float32 [B, F], of float32 images [B, size, size, 1 or 3] in 0..1.

    Weights are those `drawn` for the native size, loaded as timm loads published ones: positions
    are resampled. Grey images are repeated in three channels.
    """
    model = build(case, size)
    tensors = drawn.weights(shapes(case))
    loaded = {name: torch.from_numpy(np.asarray(value)) for name, value in tensors.items()}
    if "pos_embed" in loaded:
        from timm.models.vision_transformer import checkpoint_filter_fn

        loaded = checkpoint_filter_fn(loaded, model)
    model.load_state_dict(loaded, strict=True)
    mean, std = (np.array(x, np.float32) for x in (case.backbone().mean, case.backbone().std))
    rgb = np.broadcast_to(images, (*images.shape[:-1], 3))
    pixels = torch.from_numpy(((rgb - mean) / std).transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        if case.timm.startswith("vgg"):
            return model.forward_features(pixels).mean((2, 3)).numpy()
        return model.forward_head(model.forward_features(pixels), pre_logits=True).numpy()


def everything(case: Case) -> dict[str, Any]:
    """What the fixture keeps of a case: its shapes, and the features of its views."""
    found = {"shapes": shapes(case)}
    for side, size in case.views:
        images = drawn.images(size, {"sketch": 1, "photo": 3}[side])
        found[side] = features(case, size, images)
    return found
