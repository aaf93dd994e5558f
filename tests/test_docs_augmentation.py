"""The page about augmentation shows and names every setting, as the code makes it."""

from __future__ import annotations

import importlib.util
import pathlib

import numpy as np
import pytest
from PIL import Image

from sbir_jax.config import settings

PAGE = pathlib.Path(__file__).parent.parent / "docs" / "augmentation.md"


@pytest.fixture(scope="module")
def maker():
    path = PAGE.with_name("make_augmentation.py")
    spec = importlib.util.spec_from_file_location("make_augmentation", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_setting_is_shown_and_explained(maker):
    """Each of config.augment has a row in the picture and its name on the page, and no others."""
    names = [path.removeprefix("augment.") for path, _ in settings() if path.startswith("augment.")]
    assert not maker.unshown()
    assert set(maker.OFF) == set(names)
    page = PAGE.read_text()
    assert all(f"`{name}`" in page for name in names)


@pytest.mark.parametrize("shown", [{"flip": "paired"}, {"thickness": 1.0}])
def test_the_picture_is_up_to_date(maker, shown, monkeypatch):
    """What the script draws of two rows today is what the committed picture has, but for JPEG."""
    committed = np.asarray(Image.open(maker.PICTURE)).astype(int)
    number = [settings for settings, _ in maker.ROWS].index(shown)
    row = maker._CAPTION + maker.SIZE + maker._SPACE
    wanted = committed[maker._MARGIN + number * row :][: row - maker._SPACE]
    monkeypatch.setattr(maker, "ROWS", maker.ROWS[number : number + 1])
    drawn = np.asarray(maker.picture()).astype(int)
    drawn = drawn[maker._MARGIN :][: row - maker._SPACE]
    assert drawn.shape == wanted.shape
    assert np.abs(drawn - wanted).mean() < 4, "run python docs/make_augmentation.py"
