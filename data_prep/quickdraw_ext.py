"""QuickDraw-Extended (Dey, Riba, Dutta, Llados, Song, CVPR 2019).

QuickDraw_sketches_final/<class>/<key id>.png     330,000 sketches of 110 classes, as quoted
QuickDraw_images_final/<class>/<name>.jpg         204,000 photos

Class names mix spaces, underscores and hyphens (palm tree, fire_hydrant, hot-air_balloon). There
are no links between sketches and photos.
"""

from __future__ import annotations

from pathlib import Path

from data_prep.builder import PairedImages
from data_prep.download import Source
from data_prep.items import Scan, class_items, found_dir, named_alike

SKETCHES = ("QuickDraw_sketches_final", "QuickDraw_sketches", "sketches")
PHOTOS = ("QuickDraw_images_final", "EXTEND_image_quickdraw", "images", "photos")
_ADDRESS = "http://datasets.cvc.uab.es/QuickDraw/"


class QuickdrawExt(PairedImages):
    """QuickDraw-Extended: QuickDraw_sketches_final/<class>/ and QuickDraw_images_final/<class>/."""

    RAW = "directory with QuickDraw_sketches_final/ and QuickDraw_images_final/"
    EXAMPLE = "--raw=QuickDraw --data_dir=data --protocol=quickdraw_ext"
    TRAIN_CONFIG = "configs/zero_shot.py"
    SOURCES = tuple(
        Source(name, url=_ADDRESS + name)
        for name in ("QuickDraw_sketches_final.zip", "QuickDraw_images_final.zip")
    )

    @classmethod
    def scan(cls, raw: Path) -> Scan:
        sketch_root, photo_root = (
            found_dir(raw, SKETCHES, "sketches"),
            found_dir(raw, PHOTOS, "photos"),
        )
        photos = class_items(raw, photo_root, "photo")
        label_of = named_alike({item.label for item in photos}, {})
        sketches = class_items(raw, sketch_root, "sketch", lambda stem: "", label_of)
        return Scan(items=(*photos, *sketches), notes=("no sketch is linked to a photo",))
