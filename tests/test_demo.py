"""The generated demo dataset: reproducible, named like Sketchy, honest about what is drawn."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from sklearn.metrics import average_precision_score

from data_prep.demo import NAMES, draw, instance
from data_prep.demo.canvas import SIZE, fitted, look
from data_prep.demo.objects import CATEGORIES
from data_prep.items import BadArgument

INSTANCES, SKETCHES = 5, 2


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Path:
    """Every category, a few instances each."""
    out = tmp_path_factory.mktemp("demo")
    draw(out, instances=INSTANCES, sketches=SKETCHES)
    return out


def _files(root: Path) -> dict[str, bytes]:
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


def _grey(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("L"), np.float64)


def _edges(grey: np.ndarray) -> np.ndarray:
    """Gradient magnitude of a slightly smoothed picture, away from its border."""
    smooth = Image.fromarray(grey.astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))
    dy, dx = np.gradient(np.asarray(smooth, np.float64))
    strength = np.hypot(dx, dy)
    strength[[0, 1, -2, -1]] = 0
    strength[:, [0, 1, -2, -1]] = 0
    return strength


def _outline(category: int, number: int, long_side: float = 0.8 * SIZE) -> np.ndarray:
    """The object's contours as its parameters state them: 255 on the lines, no hand, no paint."""
    parts, pose = instance(CATEGORIES[category], np.random.default_rng((0, category, number, 0)))
    view, page = fitted(parts, pose, long_side), Image.new("L", (SIZE, SIZE))
    pen = ImageDraw.Draw(page)
    for part in parts:
        dots = look(part.outline, view).ravel().tolist()
        if part.closed:
            pen.polygon(dots, fill=0)
            pen.line(dots + dots[:2], fill=255, width=2)
        else:
            pen.line(dots, fill=255, width=2)
    return np.asarray(page, np.float64)


def _framed(ink: np.ndarray) -> np.ndarray:
    """Ink cut to its bounding box, resized to 32 x 32, blurred and scaled to unit length."""
    ys, xs = np.nonzero(ink > 100)
    cut = Image.fromarray(ink.astype(np.uint8)).crop(
        (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    )
    small = cut.resize((32, 32), Image.Resampling.BOX).filter(ImageFilter.GaussianBlur(1.5))
    vector = np.asarray(small, np.float64).ravel()
    vector = vector - vector.mean()
    return vector / np.linalg.norm(vector)


def test_the_same_seed_writes_the_same_bytes_and_another_seed_other_ones(tmp_path):
    """Every byte of every file follows from the seed."""
    some = dict(instances=2, sketches=2, categories=("cat", "house", "sailboat", "key"))
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        draw(tmp_path / name, seed=seed, **some)
    a, b, c = (_files(tmp_path / name) for name in "abc")
    assert len(a) == 4 * 2 * (1 + 2)
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a)
    assert len(set(a.values())) == len(a)  # no picture twice


def test_asking_for_more_leaves_the_rest_as_it_was(drawn, tmp_path):
    """A file depends on the seed and its own name, not on how much else is drawn."""
    draw(tmp_path, instances=1, sketches=1, categories=("umbrella", "fish"))
    whole = _files(drawn)
    few = _files(tmp_path)
    assert len(few) == 4
    assert all(whole[name] == data for name, data in few.items())


def test_files_are_named_as_in_sketchy(drawn):
    """Sketch `<id>-<k>` stands beside photo `<id>`, k counts from 1, and ids are unique."""
    photos = sorted((drawn / "photo").rglob("*.jpg"))
    assert {p.parent.name for p in photos} == set(NAMES)
    assert len(NAMES) >= 16
    assert len({p.stem for p in photos}) == len(photos) == len(NAMES) * INSTANCES
    assert all(re.fullmatch(r"d\d\d_\d{4}", p.stem) for p in photos)
    wanted = {f"{p.parent.name}/{p.stem}-{k}.png" for p in photos for k in range(1, SKETCHES + 1)}
    sketches = drawn / "sketch"
    assert {str(f.relative_to(sketches)) for f in sketches.rglob("*.*")} == wanted


def test_sketches_are_dark_lines_on_white_paper(drawn):
    """Grey, 128 x 128, some ink but not too much, and paper that is white."""
    for path in (drawn / "sketch").rglob("*.png"):
        picture = Image.open(path)
        assert (picture.format, picture.mode, picture.size) == ("PNG", "L", (SIZE, SIZE))
        grey = np.asarray(picture)
        assert 0.005 < (grey < 128).mean() < 0.25, path
        assert (grey == 255).mean() > 0.6, path
        assert grey.min() < 80, path


def test_photos_are_colourful_pictures(drawn):
    """RGB JPEG, 128 x 128, never blank, and as a set of every hue."""
    hues = []
    for path in (drawn / "photo").rglob("*.jpg"):
        picture = Image.open(path)
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (SIZE, SIZE))
        pixels = np.asarray(picture, np.float64)
        assert pixels.std() > 8, path
        assert (pixels.max(axis=2) - pixels.min(axis=2)).mean() > 4, path
        hues.append(np.asarray(picture.convert("HSV"))[..., 0].ravel()[::64])
    share = np.histogram(np.concatenate(hues), bins=6, range=(0, 256))[0] / sum(map(len, hues))
    assert share.min() > 0.01


def test_a_sketch_agrees_with_its_own_instance(drawn):
    """Ink matches the contours of its own parameters better than those of its class mates."""
    hits = []
    for c, name in enumerate(NAMES):
        contours = np.stack([_framed(_outline(c, i)) for i in range(INSTANCES)])
        for i in range(INSTANCES):
            for k in range(1, SKETCHES + 1):
                ink = 255 - _grey(drawn / f"sketch/{name}/d{c:02d}_{i:04d}-{k}.png")
                hits.append(int(np.argmax(contours @ _framed(ink))) == i)
    print(f"sketch to own contours: {np.mean(hits):.3f} of {len(hits)}, chance {1 / INSTANCES}")
    assert np.mean(hits) > 0.75


def test_a_photo_shows_its_own_instance(drawn):
    """At the best place and size, a photo's edges fit its own contours better than another's."""
    wins = []
    sizes = np.linspace(0.58, 0.9, 9) * SIZE
    for c, name in enumerate(NAMES):
        bank = []
        for i in (0, 1):
            lines = np.stack([_outline(c, i, size) for size in sizes])
            lines -= lines.mean(axis=(1, 2), keepdims=True)
            bank.append(lines / np.linalg.norm(lines, axis=(1, 2), keepdims=True))
        templates = np.conj(np.fft.rfft2(np.stack(bank)))  # [instance, size, row, column]
        for i in (0, 1):
            edges = np.minimum(_edges(_grey(drawn / f"photo/{name}/d{c:02d}_{i:04d}.jpg")), 25)
            fit = np.fft.irfft2(np.fft.rfft2(edges) * templates).max(axis=(1, 2, 3))
            wins.append(fit[i] > fit[1 - i])
    print(f"photo to own contours: {np.mean(wins):.3f} of {len(wins)}, chance 0.5")
    assert np.mean(wins) > 0.85


def test_comparing_pixels_is_not_enough(drawn):
    """Cosine similarity of 16 x 16 edge maps ranks far below what an encoder has to reach."""
    rows, photos, labels, queries, asked = SIZE // 16, [], [], [], []

    def shrink(picture: np.ndarray) -> np.ndarray:
        vector = picture.reshape(16, rows, 16, rows).mean(axis=(1, 3)).ravel()
        vector = vector - vector.mean()
        return vector / np.linalg.norm(vector)

    for name in NAMES:
        for path in (drawn / "photo" / name).iterdir():
            photos.append(shrink(_edges(_grey(path))))
            labels.append(name)
        for path in (drawn / "sketch" / name).iterdir():
            queries.append(shrink(255 - _grey(path)))
            asked.append(name)
    scores = np.stack(queries) @ np.stack(photos).T
    relevant = np.array(asked)[:, None] == np.array(labels)
    ap = [average_precision_score(r, s) for r, s in zip(relevant, scores, strict=True)]
    print(f"pixel baseline mAP@all {np.mean(ap):.3f}, chance about {1 / len(NAMES):.3f}")
    assert np.mean(ap) < 0.35


@pytest.mark.parametrize(
    ("bad", "parts"),
    [
        (dict(instances=0), ("instances=0", "at least 1")),
        (dict(sketches=-2), ("sketches=-2", "at least 1")),
        (dict(seed=-1), ("seed=-1", "at least 0")),
        (dict(categories=("hose",)), ("'hose'", "house")),
    ],
)
def test_a_bad_argument_is_named_in_one_line(tmp_path, bad, parts):
    """The error names the argument, its value and what is valid, and nothing is written."""
    with pytest.raises(BadArgument) as caught:
        draw(tmp_path, **bad)
    message = str(caught.value)
    assert "\n" not in message
    assert all(part in message for part in parts)
    assert not list(tmp_path.iterdir())
