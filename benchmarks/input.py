"""Images a second of each way to feed a step, alone, and of PyTorch's DataLoader at the same work.

Batches of 64 sketches and 64 photos of a prepared dataset, squares of `--size` px as uint8, in
shuffled order. PyTorch reads the same bytes from one file an image, decodes and squares them with
Pillow as we do, and collates. Each method runs in a process of its own, in turns.

    python benchmarks/input.py --data_dir=data --name=pacs --size=96
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 64
METHODS = ("none", "host", "device", "torch, 0 workers", "torch, 2 workers")


def ours(cache: str, asked: argparse.Namespace) -> Iterator[Any]:
    """Batches as the step gets them, on the device."""
    import jax

    from sbir_jax import sharding
    from sbir_jax.data.pipeline import images_of, make_feed
    from sbir_jax.data.source import open_dataset
    from sbir_jax.data_config import DataConfig

    config = DataConfig(
        name=asked.name, dir=asked.data_dir, cache=cache, load_size=asked.size, batch_size=BATCH
    )
    dataset = open_dataset(asked.name, asked.data_dir)
    feed = make_feed(dataset, config, seed=0, mesh=sharding.make_mesh())
    if feed.cache != cache:
        raise SystemExit(feed.words)
    gather = jax.jit(images_of)
    for batch in feed.batches(0, 1 << 30):
        yield jax.block_until_ready(gather(feed.resident, batch))


def theirs(workers: int, asked: argparse.Namespace, folder: str) -> Iterator[Any]:
    """Batches of PyTorch's DataLoader, in host memory."""
    import torch
    from PIL import Image, ImageOps

    class Pairs(torch.utils.data.Dataset):
        def __init__(self):
            self.files = [sorted(Path(folder, side).iterdir()) for side in ("sketch", "photo")]

        def __len__(self) -> int:
            return len(self.files[0])

        def __getitem__(self, row: int) -> tuple[torch.Tensor, ...]:
            sketch, photo = self.files
            other = int(torch.randint(len(photo), ()))
            return self.read(sketch[row], "L", 255), self.read(photo[other], "RGB", (255,) * 3)

        @staticmethod
        def read(file: Path, mode: str, white: Any) -> torch.Tensor:
            size = (asked.size, asked.size)
            image = Image.open(file).convert(mode)
            return torch.from_numpy(
                np.array(ImageOps.pad(image, size, Image.Resampling.BICUBIC, white))
            )

    loader = torch.utils.data.DataLoader(
        Pairs(), BATCH, shuffle=True, drop_last=True, num_workers=workers
    )
    while True:
        yield from loader


def export(asked: argparse.Namespace, folder: str) -> None:
    """The stored bytes of the training split, one file an image."""
    import tensorflow_datasets as tfds

    for side in ("sketch", "photo"):
        Path(folder, side).mkdir()
        builder = tfds.builder_from_directory(Path(asked.data_dir, asked.name, side, "1.0.0"))
        source = builder.as_data_source("train", decoders={"image": tfds.decode.SkipDecoding()})
        for row, record in enumerate(source):
            Path(folder, side, f"{row:07}").write_bytes(record["image"])


def rate(method: str, asked: argparse.Namespace, folder: str) -> float:
    """Images a second over `--seconds`, after three batches."""
    if method.startswith("torch"):
        batches = theirs(int(method.split()[1]), asked, folder)
    else:
        batches = ours(method, asked)
    for _ in range(3):
        next(batches)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < asked.seconds:
        next(batches)
        count += 2 * BATCH
    return count / (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data_dir", default="data")
    parser.add_argument("--name", default="demo")
    parser.add_argument("--size", type=int, default=96)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--method", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.method:
        print(json.dumps(rate(asked.method, asked, asked.folder)))
        return
    with tempfile.TemporaryDirectory() as folder:
        export(asked, folder)
        rates: dict[str, list[float]] = {method: [] for method in METHODS}
        for _ in range(asked.rounds):
            for method, found in rates.items():
                child = [sys.executable, *sys.argv, f"--method={method}", f"--folder={folder}"]
                out = subprocess.run(child, check=True, stdout=subprocess.PIPE, text=True)
                found.append(json.loads(out.stdout.splitlines()[-1]))
    for method, found in rates.items():
        print(f"| {method} | {statistics.median(found):,.0f} | {min(found):,.0f} |")


if __name__ == "__main__":
    main()
