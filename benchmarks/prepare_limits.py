"""Time and peak memory of preparing many images: python benchmarks/prepare_limits.py 20000 100000

For each number N, N/2 photos and N/2 sketches of 64 px in 50 classes are written to a temporary
directory and prepared in a process of its own. Images of real size take longer and more disk; the
memory that they take does not depend on how many there are, and what is kept of each file does.
"""

from __future__ import annotations

import io
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = 50


def draw(root: Path, count: int) -> None:
    """`count` images; their bytes are varied by a few pixels, so that no two are identical."""
    rng = np.random.default_rng(0)
    for side, mode, end in (("photo", "RGB", "JPEG"), ("sketch", "L", "PNG")):
        folders = [root / side / f"class{c:02}" for c in range(CLASSES)]
        for folder in folders:
            folder.mkdir(parents=True)
        for i in range(count // 2):
            image = Image.new(mode, (64, 64), "white")
            ImageDraw.Draw(image).line(rng.integers(0, 64, 8).tolist(), fill=0, width=2)
            data = io.BytesIO()
            image.save(data, end)
            (folders[i % CLASSES] / f"{i:07}.{end.lower()}").write_bytes(data.getvalue())


def main(counts: list[int]) -> None:
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            draw(Path(scratch, "raw"), count)
            command = [sys.executable, __file__, "--prepare", scratch]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            print(f"{count:9,} images: {done.stdout.strip()}", flush=True)


def measure(scratch: Path) -> None:
    from data_prep.prepare import prepare

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    started = time.monotonic()
    prepare("pacs", raw=scratch / "raw", data_dir=scratch / "data", quiet=True)
    seconds = time.monotonic() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{seconds:.0f} s, peak memory {peak:.0f} MiB, of which {before:.0f} before it began")


if __name__ == "__main__":
    if sys.argv[1] == "--prepare":
        measure(Path(sys.argv[2]))
    else:
        main([int(text) for text in sys.argv[1:]])
