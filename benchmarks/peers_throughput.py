"""The training step and loop that one would write with torch: dual encoder, DataLoader, AdamW.

The encoders have the layout of ours (`sbir_jax.backbones`), the loss is that of
pytorch-metric-learning over both sides joined, the DataLoader decodes with Pillow, crops and flips.
"""

from __future__ import annotations

import io
import random
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from turns import wait_for_turn

TEMPERATURE = 0.1


class Block(nn.Module):
    """As `sbir_jax.models.resnet.Block`."""

    def __init__(self, inputs: int, width: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        sizes = (1, 3, 1) if bottleneck else (3, 3)
        widths = (width, width, 4 * width) if bottleneck else (width, width)
        strides = (1, stride, 1) if bottleneck else (stride, 1)
        layers, channels = [], inputs
        for size, out, step in zip(sizes, widths, strides, strict=True):
            layers += [nn.Conv2d(channels, out, size, step, size // 2, bias=False)]
            layers += [nn.BatchNorm2d(out), nn.ReLU()]
            channels = out
        self.body = nn.Sequential(*layers[:-1])
        self.project = nn.Identity()
        if stride > 1 or inputs != channels:
            self.project = nn.Sequential(
                nn.Conv2d(inputs, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
            )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.body(x) + self.project(x))


def resnet(spec, channels: int) -> nn.Sequential:
    """Images to pooled features."""
    width, bottleneck = spec.widths[0], spec.bottleneck
    if spec.patch_stem:
        layers = [nn.Conv2d(channels, width, 4, 4, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    else:
        layers = [nn.Conv2d(channels, width, 7, 2, 3, bias=False), nn.BatchNorm2d(width)]
        layers += [nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
    inputs = width
    for stage, (depth, width) in enumerate(zip(spec.depths, spec.widths, strict=True)):
        for i in range(depth):
            layers.append(Block(inputs, width, 2 if stage and not i else 1, bottleneck))
            inputs = width * (4 if bottleneck else 1)
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class ViT(nn.Module):
    """As `sbir_jax.models.vit` with a class token: torch's own encoder layers."""

    def __init__(self, spec, channels: int) -> None:
        super().__init__()
        self.patches = nn.Conv2d(channels, spec.width, spec.patch, spec.patch)
        self.token = nn.Parameter(torch.zeros(1, 1, spec.width))
        self.positions = nn.Parameter(0.02 * torch.randn(1, spec.grid**2 + 1, spec.width))
        layer = nn.TransformerEncoderLayer(
            spec.width, spec.heads, 4 * spec.width, 0.0, "gelu", spec.eps, True, True
        )
        self.blocks = nn.TransformerEncoder(layer, spec.depth, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(spec.width, spec.eps)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], dim=1) + self.positions
        return self.norm(self.blocks(x)[:, 0])


class Dual(nn.Module):
    """Two encoders, nothing shared: uint8 [B, C, S, S] of each side to unit float32 [B, D]."""

    def __init__(self, spec, *, dim: int, channels: tuple[int, int]) -> None:
        super().__init__()
        make = ViT if hasattr(spec, "patch") else resnet
        self.trunks = nn.ModuleList(make(spec, channel) for channel in channels)
        self.heads = nn.ModuleList(nn.Linear(spec.features, dim) for _ in channels)

    def forward(self, sketch: torch.Tensor, photo: torch.Tensor) -> list[torch.Tensor]:
        found = []
        for trunk, head, images in zip(self.trunks, self.heads, (sketch, photo), strict=True):
            z = head(trunk(images / 127.5 - 1)).float()
            found.append(nn.functional.normalize(z))
        return found


def make_step(
    spec, *, dim: int, channels: tuple[int, int], variant: str, amp: bool, device: str
) -> Callable:
    """`step(sketch, photo, labels) -> loss`, a tensor that is not waited for."""
    from pytorch_metric_learning.losses import SupConLoss

    model = Dual(spec, dim=dim, channels=channels).to(device)
    layout = torch.channels_last if "channels_last" in variant else torch.contiguous_format
    model = model.to(memory_format=layout)
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3, fused=device == "cuda")
    forward = torch.compile(model) if variant.startswith("compiled") else model
    loss_of = SupConLoss(temperature=TEMPERATURE)

    def step(sketch: torch.Tensor, photo: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        sketch, photo = (
            x.to(device, non_blocking=True).float().contiguous(memory_format=layout)
            for x in (sketch, photo)
        )
        labels = labels.to(device, non_blocking=True)
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device, torch.bfloat16, enabled=amp):
            embeddings = forward(sketch, photo)
        loss = loss_of(torch.cat(embeddings), torch.cat([labels, labels]))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


class Pairs(torch.utils.data.Dataset):
    """A prepared dataset's encoded images in host memory: a sketch, a photo of its class, label."""

    def __init__(self, dataset, size: int) -> None:
        import tensorflow_datasets as tfds

        self.size, self.images = size, {}
        for side in ("sketch", "photo"):
            builder = tfds.builder_from_directory(dataset.path / side / "1.0.0")
            source = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
            self.images[side] = [record["image"] for record in source]
        self.labels = dataset.index("train", "sketch").label
        photos = dataset.index("train", "photo").label
        self.photos = [np.flatnonzero(photos == label) for label in range(len(dataset.classes))]
        self.channels = dataset.channels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, torch.Tensor, int]:
        label = int(self.labels[row])
        photo = int(random.choice(self.photos[label]))
        return self._image("sketch", row), self._image("photo", photo), label

    def _image(self, side: str, row: int) -> torch.Tensor:
        image = Image.open(io.BytesIO(self.images[side][row]))
        image = image.convert("L" if self.channels[side] == 1 else "RGB")
        width, height = image.size
        side_px = random.uniform(0.7, 1.0) ** 0.5 * min(width, height)
        left, top = random.uniform(0, width - side_px), random.uniform(0, height - side_px)
        box = (left, top, left + side_px, top + side_px)
        image = image.resize((self.size, self.size), Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(image)
        if random.random() < 0.5:
            pixels = pixels[:, ::-1]
        pixels = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
        return torch.from_numpy(pixels.copy())


def loader(dataset, *, size: int, batch: int, workers: int) -> Iterator:
    """Batches without end."""
    pairs = Pairs(dataset, size)
    data = torch.utils.data.DataLoader(
        pairs,
        batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )
    while True:
        yield from data


def measure(
    spec,
    *,
    data: tuple[str, Path],
    size: int,
    batch: int,
    dim: int,
    grey: bool,
    variant: str,
    amp: bool,
    seconds: float,
    workers: int,
) -> dict:
    """Images a second of the step alone and, as `loop`, with the DataLoader before it."""
    from sbir_jax.data.source import open_dataset

    device = "cuda" if torch.cuda.is_available() else "cpu"
    channels = (1 if grey else 3, 3)
    began = time.perf_counter()
    step = make_step(spec, dim=dim, channels=channels, variant=variant, amp=amp, device=device)
    rng = torch.Generator().manual_seed(0)
    shapes = [(batch, c, size, size) for c in channels]
    images = [torch.randint(0, 256, s, dtype=torch.uint8, generator=rng) for s in shapes]
    one = tuple(x.to(device) for x in (*images, torch.arange(batch) % 5))
    dataset = open_dataset(*data)

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    def run(batches: Iterator, steps: int) -> float:
        started = time.perf_counter()
        for _ in range(steps):
            sketch, photo, labels = next(batches)
            if not grey and sketch.shape[1] == 1:
                sketch = sketch.expand(-1, 3, -1, -1)
            step(sketch, photo, labels)
        wait()
        return time.perf_counter() - started

    def figures(batches: Iterator) -> dict:
        run(batches, 1)
        each = run(batches, 3) / 3
        part = max(1, round(seconds / 5 / each))
        rates = [2 * batch * part / run(batches, part) for _ in range(5)]
        return {"images_per_s": statistics.median(rates), "rates": rates}

    same = iter(lambda: one, None)
    run(same, 1)
    first = time.perf_counter() - began
    if device == "cuda":
        torch.cuda.empty_cache()  # others warm up beside this one
    wait_for_turn()
    alone = figures(same)
    batches = loader(dataset, size=size, batch=batch, workers=workers)
    return alone | {"first_s": first, "loop": figures(batches)}
