"""The cache beside a dataset: complete or absent, noticed when wrong, and never needed."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY

from sbir_jax.data import cache
from sbir_jax.data.source import DatasetError, open_dataset

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def dataset(tiny_data, tmp_path):
    ignore = shutil.ignore_patterns("cache")
    shutil.copytree(tiny_data / TINY, tmp_path / TINY, ignore=ignore)
    return open_dataset(TINY, tmp_path)


def whole(images):
    """All squares at once, straight from the records."""
    yield images.load(range(len(images)), size=36, fit="pad")


def made(dataset, decode=whole, side="photo"):
    return cache.open_or_make(dataset, "train", side, size=36, fit="pad", decode=decode)


def refused(images):
    raise AssertionError("decoded again")


@pytest.mark.parametrize("side", ["sketch", "photo"])
def test_what_is_cached_is_what_was_decoded(dataset, side):
    """Made once and read after that, in any order, also by a pickled copy; nothing else is left."""
    images = dataset.images("train", side)
    first, how = made(dataset, side=side)
    assert how == "decoded"
    again, how = made(dataset, refused, side)
    assert how == "read"
    rows = [3, 0, 19, 3]
    reference = images.load(rows, size=36, fit="pad")
    for cached in (first, again, pickle.loads(pickle.dumps(again))):
        np.testing.assert_array_equal(cached.load(rows, size=36, fit="pad"), reference)
    left = {path.suffix for path in (dataset.path / "cache").iterdir()}
    assert left == {".npy", ".json", ".lock"}


def test_a_row_or_size_that_is_not_there_is_refused(dataset):
    """A negative row is not the last one, and squares of another size are not made up."""
    cached, _ = made(dataset)
    for row in (-1, 20):
        with pytest.raises(IndexError, match=rf"^record {row}: .* has 20 records$"):
            cached.load([row], size=36, fit="pad")
    with pytest.raises(ValueError, match="holds other squares than 32 px, pad"):
        cached.load([0], size=32, fit="pad")


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def header(path: Path) -> None:
    path.write_bytes(b"not an array" + path.read_bytes()[12:])


def stale(path: Path) -> None:
    note = path.with_suffix(".json")
    note.write_text(json.dumps(json.loads(note.read_text()) | {"fingerprint": "other"}))


def unnoted(path: Path) -> None:
    path.with_suffix(".json").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "bytes instead of 77,760"),
        (flip, "its checksum differs"),
        (header, "cannot be read"),
        (stale, "made from another fingerprint"),
        (unnoted, "cannot be read"),
    ],
)
def test_a_wrong_cache_is_named_and_made_again(dataset, damage, words):
    """Cut short, one bit flipped, of other images: the words say so, and it is right again."""
    made(dataset)
    damage(cache.path_of(dataset, "train", "photo", 36, "pad"))
    cached, how = made(dataset)
    assert how.startswith("train-photo-36-pad.npy rebuilt: ")
    assert words in how
    reference = dataset.images("train", "photo").load(range(20), size=36, fit="pad")
    np.testing.assert_array_equal(cached.load(range(20), size=36, fit="pad"), reference)
    assert made(dataset, refused)[1] == "read"


def test_a_cache_cut_short_in_use_is_one_line(dataset):
    """The run stops with the file's name; a mapped file would end the process."""
    cached, _ = made(dataset)
    cut(cache.path_of(dataset, "train", "photo", 36, "pad"))
    with pytest.raises(DatasetError, match=r"train-photo-36-pad\.npy: cut short while in use"):
        cached.load([19], size=36, fit="pad")


def test_without_room_or_permission_there_is_no_cache(dataset, monkeypatch):
    """A full disk leaves no file; where the directory cannot be made, the words say which."""
    usage = shutil.disk_usage(dataset.path)._replace(free=2 * 77_760 - 1)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage)
        cached, why = made(dataset, refused)
    assert cached is None
    assert "of disk are free" in why

    def full(images):
        raise OSError(28, "No space left on device")
        yield

    assert made(dataset, full)[0] is None
    assert {path.suffix for path in (dataset.path / "cache").iterdir()} == {".lock"}
    shutil.rmtree(dataset.path / "cache")
    (dataset.path / "cache").touch()
    cached, why = made(dataset, refused)
    assert cached is None
    assert why == f"{dataset.path / 'cache'}: File exists"


MAKE = """
import sys, time
from sbir_jax.data import cache
from sbir_jax.data.source import open_dataset
def slowly(images):
    for row in range(len(images)):
        if row == 10:
            print("half", flush=True)
            time.sleep(float(sys.argv[2]))
        yield images.load([row], size=36, fit="pad")
dataset = open_dataset("tiny", sys.argv[1])
print(cache.open_or_make(dataset, "train", "photo", size=36, fit="pad", decode=slowly)[1])
"""


def maker(dataset, seconds: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", MAKE, str(dataset.path.parent), str(seconds)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )


def test_two_processes_make_it_once_and_a_killed_one_is_replaced(dataset):
    """Killed half way, a writer leaves no cache; of a writer and a second process one decodes."""
    with maker(dataset, 600) as killed:
        assert killed.stdout.readline() == "half\n"
        killed.send_signal(signal.SIGKILL)
    path = cache.path_of(dataset, "train", "photo", 36, "pad")
    assert not path.exists()
    with maker(dataset, 1.5) as writer:
        assert writer.stdout.readline() == "half\n"
        cached, how = made(dataset, refused)  # waits
        assert writer.stdout.read() == "decoded\n"
    assert how == "read"
    assert not path.with_suffix(".part").exists()
    reference = dataset.images("train", "photo").load(range(20), size=36, fit="pad")
    np.testing.assert_array_equal(cached.load(range(20), size=36, fit="pad"), reference)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_reading_batches_does_not_hold_the_split(tmp_path):
    """Eight passes over a file of 48 MiB, 8 rows at a time, leave it as small as before."""
    shape = (1024, 128, 128, 3)
    path = tmp_path / "squares.npy"
    np.lib.format.open_memmap(path, "w+", np.uint8, shape).flush()
    images = cache.CachedImages(path, shape, "pad", 128)

    def resident_kib() -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])

    def passes(count: int) -> None:
        for start in list(range(0, 1024, 8)) * count:
            images.load(range(start, start + 8), size=128, fit="pad")

    passes(1)
    before = resident_kib()
    tracemalloc.start()
    try:
        passes(8)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2 * 8 * 128 * 128 * 3
    assert resident_kib() - before < 8 * 1024


def test_a_file_is_closed_with_the_last_that_reads_it(dataset):
    """A run that opens many splits does not run out of files."""
    images = made(dataset)[0]
    images.load([0], size=36, fit="pad")
    opened = images._file
    os.fstat(opened)
    del images
    with pytest.raises(OSError):
        os.fstat(opened)
