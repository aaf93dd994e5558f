"""Preparation may be killed, run twice at once, and be large: the dataset is whole or absent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from data_prep_trees import sketchy_tree

from data_prep import store as store_module
from data_prep.checking import in_parallel
from data_prep.items import PrepareError
from data_prep.prepare import prepare
from sbir_jax.data.source import open_dataset

ROOT = Path(__file__).parents[1]


def contents(data_dir: Path) -> list[np.ndarray]:
    dataset = open_dataset("pacs", data_dir)
    return [
        dataset.images(split, side).load(range(len(dataset.index(split, side))), 32, "pad")
        for split in ("train", "val", "test")
        for side in ("photo", "sketch")
    ]


def test_a_killed_preparation_leaves_nothing_in_place_and_the_next_one_is_whole(tmp_path):
    """Killed while it writes: no dataset. Run again: the same dataset as without the kill."""
    raw = sketchy_tree(tmp_path / "raw")
    code = (
        "import time\n"
        "from data_prep import store\n"
        "from data_prep.prepare import prepare\n"
        "def wait(*args, **kwargs):\n"
        "    print('writing', flush=True)\n"
        "    time.sleep(60)\n"
        "store.write_index = wait\n"
        f"prepare('pacs', raw={str(raw)!r}, data_dir={str(tmp_path / 'd')!r}, quiet=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert not (tmp_path / "d/pacs").exists()
    (left,) = (tmp_path / "d").iterdir()
    assert left.name.startswith(".pacs.partial-")
    prepare("pacs", raw=raw, data_dir=tmp_path / "d", quiet=True)
    prepare("pacs", raw=raw, data_dir=tmp_path / "e", quiet=True)
    for one, other in zip(contents(tmp_path / "d"), contents(tmp_path / "e"), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("overwrite", [False, True])
def test_two_preparations_at_once_do_not_mix(tmp_path, monkeypatch, overwrite):
    """While one writes, another makes the dataset: the first is dropped, or replaces it whole."""
    data = tmp_path / "d"
    first, second = (
        sketchy_tree(tmp_path / name, instances=n) for name, n in (("one", 5), ("two", 7))
    )
    index = store_module.write_index

    def meanwhile(*args, **kwargs):
        monkeypatch.setattr(store_module, "write_index", index)
        prepare("pacs", raw=second, data_dir=data, quiet=True)
        index(*args, **kwargs)

    monkeypatch.setattr(store_module, "write_index", meanwhile)
    if overwrite:
        prepare("pacs", raw=first, data_dir=data, overwrite=True, quiet=True)
    else:
        with pytest.raises(PrepareError, match="was made by another preparation meanwhile"):
            prepare("pacs", raw=first, data_dir=data, quiet=True)
    assert sum(len(images) for images in contents(data)[::2]) == (10 if overwrite else 14)
    assert [path.name for path in data.iterdir()] == ["pacs"]


def test_results_wait_in_bounded_number():
    """However many images there are, only a few decoded ones are held at a time."""
    started = []
    results = in_parallel(lambda x: started.append(x) or x, range(10_000))
    assert next(results) == 0
    time.sleep(0.05)
    assert len(started) <= 4 * min(os.cpu_count() or 1, 16) + 1
    assert list(results) == list(range(1, 10_000))
