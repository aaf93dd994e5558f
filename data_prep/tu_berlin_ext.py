"""TU-Berlin sketches (Eitz, Hays, Alexa, SIGGRAPH 2012) with the photos of Zhang et al. (2016).

png/<class>/<n>.png                    20,000 sketches, 80 of each of 250 classes
ImageResized/<class>/<name>.JPEG       photos; folders without spaces, some of them misspelt

Folders named as SAKE (png_ready, ImageResized_ready) and doodle2search (sketches, images) repackage
them are read too. Classes are called as the sketch folders are. There are no links between images.
"""

from __future__ import annotations

from pathlib import Path

from data_prep.builder import PairedImages
from data_prep.download import Source
from data_prep.items import Scan, class_items, found_dir, named_alike

_SKETCHES = ("png", "png_ready", "sketches", "TU-Berlin/sketches", "TUBerlin/png_ready")
_PHOTOS = ("ImageResized", "ImageResized_ready", "images", "TUBerlin/ImageResized_ready", "photos")
# Photo folders whose name is more than the class without spaces and signs.
_MISSPELT = {
    "chandeler": "chandelier",
    "diamod": "diamond",
    "griaffe": "giraffe",
    "mouse": "mouse (animal)",
    "pipe": "pipe (for smoking)",
    "spacesshuttle": "space shuttle",
    "spidar": "spider",
    "tromobone": "trombone",
    "wristwatching": "wrist-watch",
}


class TuBerlinExt(PairedImages):
    """TU-Berlin sketches with the Extended photos; misspelt photo folders are matched."""

    RAW = "directory with png/ (sketches) and ImageResized/ (photos)"
    EXAMPLE = "--raw=TU-Berlin --data_dir=data --protocol=tu_berlin_ext_sake"
    TRAIN_CONFIG = "configs/zero_shot.py"
    SOURCES = (
        Source(
            "sketches_png.zip",
            url="http://cybertron.cg.tu-berlin.de/eitz/projects/classifysketch/sketches_png.zip",
        ),
        Source("ImageResized.zip", drive="0B2U-hnwRkpRrMFVvTmFQa3dmSUk"),
    )

    @classmethod
    def scan(cls, raw: Path) -> Scan:
        sketch_root = found_dir(raw, _SKETCHES, "sketches")
        photo_root = found_dir(raw, _PHOTOS, "photos")
        sketches = class_items(raw, sketch_root, "sketch", lambda stem: "")
        label_of = named_alike({item.label for item in sketches}, _MISSPELT)
        photos = class_items(raw, photo_root, "photo", str, label_of)
        return Scan(items=(*photos, *sketches), notes=("no sketch is linked to a photo",))
