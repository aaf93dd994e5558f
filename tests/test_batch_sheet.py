"""`show --batch`: the picture holds what training hands to the encoders, named and laid out."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from front_door import error_line, launch
from PIL import Image
from tiny import small_backbone, tiny_run

from sbir_jax import batch_sheet, sharding
from sbir_jax.mining import Ids
from sbir_jax.models import dual
from sbir_jax.train import train

CHANGED = {
    "augment.thickness": 0.5,
    "augment.partial": 0.5,
    "augment.blur": 0.5,
    "augment.pseudo": 0.5,
    "augment.flip": "paired",
}


def tiles(sheet: Image.Image, count: int, *, side: int) -> list[list[np.ndarray]]:
    """The two tiles of each couple, found by the frames: [count][2], uint8 [side, side, 3]."""
    pixels = np.asarray(sheet)
    found = []
    frame = {tuple(bytes.fromhex(c[1:])) for c in (batch_sheet._INK, batch_sheet._FRAME)}
    height, width = side + 4, 2 * side + batch_sheet._GAP + 4
    for y in range(pixels.shape[0] - height + 1):
        for x in range(pixels.shape[1] - width + 1):
            box = pixels[y : y + height, x : x + width]
            if tuple(box[0, 0]) in frame and (box[0] == box[0, 0]).all():
                edges = (box[-1], box[:, 0], box[:, -1])
                if all((edge == box[0, 0]).all() for edge in edges):
                    left, right = box[2 : 2 + side, 2 : 2 + side], box[2 : 2 + side, -2 - side : -2]
                    found.append([left, right])
    assert len(found) == count
    return found


def test_the_picture_is_what_training_hands_to_the_encoders(tiny_data, tmp_path, monkeypatch):
    """The tiles of step 4 are the images of that step of a run, in whole numbers of grey."""
    run = tiny_run(tiny_data, CHANGED | {"data.cache": "device"})
    given, apply_train = [], dual.apply_train

    def spied(graphdef, params, model_state, sketch, photo, **options):
        jax.debug.callback(lambda *sides: given.append(sides), sketch, photo, ordered=True)
        return apply_train(graphdef, params, model_state, sketch, photo, **options)

    monkeypatch.setattr(dual, "apply_train", spied)
    with small_backbone():
        train(run, tmp_path, mesh=sharding.make_mesh(jax.devices()[:1]))
    jax.effects_barrier()
    assert len(given) == 6
    sheet, about = batch_sheet.picture_of_batch(run, step=4)
    assert "step 4: 8 pairs at 32 px" in about
    for i, couple in enumerate(tiles(sheet, 8, side=96)):
        for tile, images in zip(couple, given[4], strict=True):
            seen = np.broadcast_to((np.asarray(images[i]) + 1) * 127.5, (32, 32, 3))
            assert np.abs(tile[1::3, 1::3] - seen).max() < 0.51
            np.testing.assert_array_equal(tile, tile[1::3, 1::3].repeat(3, 0).repeat(3, 1))


def test_instances_and_classes_are_told_apart():
    """A couple of one instance has a dark frame; other couples, also without instance, a light."""
    rng = np.random.default_rng(0)
    sketch = rng.integers(0, 250, (3, 48, 48, 1)).astype(np.uint8)
    photo = rng.integers(0, 250, (3, 48, 48, 3)).astype(np.uint8)
    sketch_ids = Ids(np.array([0, 1, 1]), np.array([5, -1, 7]))
    photo_ids = Ids(np.array([0, 1, 0]), np.array([5, -1, 8]))
    sheet = batch_sheet.batch_sheet(
        sketch, photo, sketch_ids, photo_ids, classes=["ant", "bee" * 40], title="t"
    )
    assert len(tiles(sheet, 3, side=96)) == 3
    pixels = np.asarray(sheet).reshape(-1, 3)
    dark = (pixels == tuple(bytes.fromhex(batch_sheet._INK[1:]))).all(axis=1).sum()
    assert dark > 2 * (2 * 96) + 2 * 96  # one frame and some letters
    assert sheet.width < 3 * (2 * 96 + 30) + 40  # long names are cut


def test_a_large_batch_is_shown_in_part(tiny_data, monkeypatch):
    """Beyond so many pairs the first are shown, and the title says so."""
    monkeypatch.setattr(batch_sheet, "MOST", 3)
    sheet, about = batch_sheet.picture_of_batch(tiny_run(tiny_data), step=0)
    assert about.endswith("the first 3 are shown")
    assert len(tiles(sheet, 3, side=96)) == 3


def command(run, *more: str) -> list[str]:
    values = {
        f"{group}.{field.name}": getattr(getattr(run, group), field.name)
        for group in ("data", "augment")
        for field in dataclasses.fields(getattr(run, group))
    }
    return ["show", *(f"--config.{path}={value}" for path, value in values.items()), *more]


def test_show_writes_the_picture(tiny_data, tmp_path, capsys):
    """`show --batch` writes a file of the named kind and says what is in it."""
    out = tmp_path / "seen.png"
    run = tiny_run(tiny_data)
    assert launch.main(command(run, "--batch", f"--out={out}", "--step=2")) == 0
    said = capsys.readouterr().out
    assert said.startswith(f"{out}: tiny, step 2: 8 pairs")
    wanted, _ = batch_sheet.picture_of_batch(run, step=2)
    np.testing.assert_array_equal(np.asarray(Image.open(out)), np.asarray(wanted))


@pytest.mark.parametrize(
    "flags, parts",
    [
        (["--out=a.png"], ["--out=a.png", "goes with --batch"]),
        (["--step=1"], ["--step=1", "goes with --batch"]),
        (["--batch", "--step=-1"], ["--step=-1", "whole number"]),
        (["--batch", "--step=x"], ["--step=x", "whole number"]),
        (["--batch", "--out=a.txt"], ["--out=a.txt", ".png"]),
    ],
)
def test_a_mistake_is_one_line(flags, parts, capsys):
    """Flags that cannot work are named with what is valid, before anything is read."""
    line = error_line(capsys, "show", *flags)
    assert all(part in line for part in parts)


def test_a_directory_that_is_not_there_is_one_line(tiny_data, tmp_path, capsys):
    """The file that cannot be written is named."""
    out = tmp_path / "none" / "seen.png"
    line = error_line(capsys, *command(tiny_run(tiny_data), "--batch", f"--out={out}"))
    assert str(out) in line and "No such file" in line
