"""The demo's categories, in the order of their numbers: append, never reorder.

`tilt` is how far an instance may be turned in the picture plane, in degrees to either side;
`scenes` are the names of the places it is photographed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from data_prep.demo import animals, household, kitchen, outdoors, vehicles
from data_prep.demo.parts import Drawing


class Category(NamedTuple):
    """One kind of object."""

    name: str
    build: Callable[[Drawing, np.random.Generator], None]
    tilt: float
    scenes: Sequence[str]


CATEGORIES: tuple[Category, ...] = (
    Category("airplane", vehicles.airplane, 22, ("sky", "sky", "sky", "studio")),
    Category("bicycle", vehicles.bicycle, 4, ("street", "field", "room", "studio")),
    Category("bottle", kitchen.bottle, 5, ("room", "room", "field", "studio")),
    Category("butterfly", animals.butterfly, 50, ("leaves", "leaves", "desk", "sky", "studio")),
    Category("car", vehicles.car, 3, ("street", "street", "field", "studio")),
    Category("cat", animals.cat, 14, ("room", "garden", "desk", "leaves", "studio")),
    Category("chair", household.chair, 3, ("room", "room", "field", "studio")),
    Category("cup", kitchen.cup, 5, ("room", "room", "field", "studio")),
    Category("fish", animals.fish, 25, ("deep", "deep", "desk", "studio")),
    Category("flower", outdoors.flower, 14, ("garden", "garden", "field", "room")),
    Category("guitar", household.guitar, 45, ("room", "desk", "desk", "studio")),
    Category("house", outdoors.house, 3, ("field", "field", "street")),
    Category("key", household.key, 80, ("desk", "desk", "desk", "studio")),
    Category("lamp", household.lamp, 4, ("room", "room", "studio")),
    Category("mushroom", outdoors.mushroom, 10, ("garden", "garden", "field", "desk")),
    Category("sailboat", vehicles.sailboat, 8, ("sea", "sea", "sea", "studio")),
    Category("snail", animals.snail, 12, ("field", "desk", "desk", "studio")),
    Category("teapot", kitchen.teapot, 5, ("room", "room", "field", "studio")),
    Category("tree", outdoors.tree, 3, ("field", "field", "street")),
    Category("umbrella", household.umbrella, 28, ("street", "field", "sky", "room", "studio")),
)
