"""The demo's categories, in the order of their numbers: append, never reorder.

`tilt` is how far an instance may be turned in the picture plane, in degrees to either side;
`scenes` are the names of the places it is photographed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.demo import household, kitchen, nature, travel
from data_prep.demo.parts import Drawing


class Category(NamedTuple):
    """One kind of object."""

    name: str
    build: Callable[[Drawing, np.random.Generator], None]
    tilt: float
    scenes: Sequence[str]


CATEGORIES: tuple[Category, ...] = (
    Category("airplane", travel.airplane, 22, ("sky", "sky", "field", "sea", "studio")),
    Category("bicycle", travel.bicycle, 6, ("street", "field", "room", "studio")),
    Category("bottle", kitchen.bottle, 12, ("room", "room", "studio", "leaves")),
    Category("butterfly", nature.butterfly, 50, ("leaves", "leaves", "desk", "sky", "studio")),
    Category("car", travel.car, 5, ("street", "street", "field", "studio")),
    Category("cat", nature.cat, 14, ("room", "leaves", "field", "desk", "studio")),
    Category("chair", household.chair, 6, ("room", "room", "field", "studio")),
    Category("cup", kitchen.cup, 8, ("room", "room", "desk", "field", "studio")),
    Category("fish", nature.fish, 25, ("deep", "deep", "desk", "studio")),
    Category("flower", nature.flower, 14, ("leaves", "field", "room", "studio")),
    Category("guitar", household.guitar, 45, ("room", "desk", "studio", "leaves")),
    Category("house", travel.house, 3, ("field", "field", "street")),
    Category("key", household.key, 80, ("desk", "desk", "leaves", "studio")),
    Category("lamp", household.lamp, 4, ("room", "room", "studio")),
    Category("mushroom", nature.mushroom, 12, ("field", "leaves", "desk", "studio")),
    Category("sailboat", travel.sailboat, 8, ("sea", "sea", "sea", "studio")),
    Category("snail", nature.snail, 12, ("field", "leaves", "desk", "studio")),
    Category("teapot", kitchen.teapot, 8, ("room", "room", "desk", "studio")),
    Category("tree", nature.tree, 4, ("field", "field", "street", "sky")),
    Category("umbrella", household.umbrella, 28, ("street", "field", "sky", "room", "studio")),
)
