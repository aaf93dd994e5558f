"""The one place where the bytes of an image file become clean pixels.

Data preparation, training, and later the indexing of a user's photos all decode here, so that a
transparent drawing, a rotated phone picture or a 16-bit scan looks the same to each of them.
Pure functions of bytes and arrays; Pillow is the decoder.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any, Literal

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

Modality = Literal["photo", "sketch"]
Fit = Literal["pad", "squash", "crop"]

MODALITIES: tuple[Modality, ...] = ("photo", "sketch")
# Pillow's own limit against decompression bombs; a 12,000 x 7,000 scan still passes.
MAX_PIXELS = 89_478_485
WHITE = 255


class BadImage(ValueError):
    """Bytes that cannot become pixels. Its message says why in plain words; it knows no file."""


def read_image(
    data: bytes, modality: Modality, *, min_side: int = 0, max_pixels: int | None = None
) -> np.ndarray:
    """Decodes the bytes of one image file into upright 8-bit pixels on a white background.

    The EXIF orientation is applied, transparency is composited on white, 16-bit samples are scaled
    to 8 bits, and palette, CMYK, grey and 1-bit images are converted. Of an animation, the first
    frame is read. Colour profiles are ignored.

    Args:
      data: the whole file.
      modality: "photo" returns colour, "sketch" grey.
      min_side: above 0, a large JPEG may be decoded at 1/2, 1/4 or 1/8 of its size (several times
        faster), as long as both sides keep at least this many pixels.
      max_pixels: of the image as it is in the file; `MAX_PIXELS` by default, and at most.

    Returns:
      uint8 [height, width, 3] for a photo, uint8 [height, width] for a sketch.

    Raises:
      BadImage: empty, not an image, truncated or damaged, or larger than `max_pixels`.
    """
    image = _opened(data, max_pixels or MAX_PIXELS)
    if min_side:
        image.draft(None, (min_side, min_side))
    try:
        image.load()
        image = _on_white(_upright(image))
        image = image.convert("RGB" if modality == "photo" else "L")
    except BadImage:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, ...
        raise BadImage(f"damaged or truncated ({error})") from error
    return np.asarray(image)


def is_plain_jpeg(data: bytes, *, max_side: int) -> bool:
    """Whether a photo can be stored as it is: an upright 8-bit RGB JPEG that is small enough.

    Args:
      data: bytes that `read_image` accepts.
      max_side: largest shorter side, in pixels.
    """
    image = _opened(data, MAX_PIXELS)
    return (
        image.format == "JPEG"
        and image.mode == "RGB"
        and _orientation(image) == 1
        and min(image.size) <= max_side
    )


def shrink(image: np.ndarray, *, max_side: int) -> np.ndarray:
    """Scales an image down so that its shorter side is at most `max_side` pixels.

    Args:
      image: uint8 [height, width] or [height, width, 3].

    Returns:
      uint8 of the same rank and aspect ratio; the input itself if it is small enough.
    """
    height, width = image.shape[:2]
    scale = max_side / min(height, width)
    if scale >= 1:
        return image
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


def to_square(image: np.ndarray, size: int, fit: Fit) -> np.ndarray:
    """Fits an image into a square, with antialiased bicubic resampling.

    Args:
      image: uint8 [height, width] or [height, width, 3].
      size: side of the square, in pixels.
      fit: "pad" keeps the whole image and its aspect ratio, centred on white; "squash" stretches;
        "crop" keeps the aspect ratio and cuts out the centre.

    Returns:
      uint8 [size, size, C], C = 1 for a grey image and 3 for a colour one.

    Raises:
      ValueError: unknown `fit`.
    """
    height, width = image.shape[:2]
    if fit not in ("pad", "squash", "crop"):
        raise ValueError(f"fit={fit!r}: valid: pad, squash, crop")
    if height == width == size:
        return image.reshape(size, size, -1)
    box = None
    target = (size, size)
    if fit == "pad":
        scale = size / max(height, width)
        target = (max(1, round(width * scale)), max(1, round(height * scale)))
    elif fit == "crop":
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    resized = Image.fromarray(image).resize(target, Image.Resampling.BICUBIC, box=box)
    pixels = np.asarray(resized).reshape(target[1], target[0], -1)
    if target == (size, size):
        return pixels
    square = np.full((size, size, pixels.shape[2]), WHITE, np.uint8)
    top, left = (size - target[1]) // 2, (size - target[0]) // 2
    square[top : top + target[1], left : left + target[0]] = pixels
    return square


def encode_photo(image: np.ndarray) -> bytes:
    """uint8 [height, width, 3] as JPEG, quality 95."""
    return _encoded(image, format="JPEG", quality=95)


def encode_sketch(image: np.ndarray) -> bytes:
    """uint8 [height, width] as 8-bit grey PNG: lossless, and twice as fast to decode as RGB."""
    return _encoded(image, format="PNG")


def _encoded(image: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, **options)
    return buffer.getvalue()


def _opened(data: bytes, max_pixels: int) -> Image.Image:
    """The image with its header read and its size checked; pixels are not decoded yet."""
    if not data:
        raise BadImage("empty file")
    too_large = f"too large: the limit is {max_pixels / 1e6:.0f} megapixels"
    try:
        image = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage(too_large) from error
    except UnidentifiedImageError as error:
        raise BadImage(_not_an_image(data)) from error
    except Exception as error:
        raise BadImage(f"damaged or truncated ({error})") from error
    if image.width * image.height > max_pixels:
        raise BadImage(f"{too_large}, this has {image.width} x {image.height} pixels")
    return image


def _not_an_image(data: bytes) -> str:
    head = data[:512].lstrip().lower()
    if b"<svg" in head:
        return "an SVG drawing: export it as PNG first"
    if head.startswith((b"<!doctype", b"<html", b"<head", b"<?xml")):
        return "not an image (a web page or XML text)"
    return "not an image, or a format that is not supported"


def _orientation(image: Image.Image) -> int:
    # A broken EXIF block says nothing about the pixels, so it counts as upright.
    with contextlib.suppress(Exception):
        return image.getexif().get(0x0112, 1)
    return 1


def _upright(image: Image.Image) -> Image.Image:
    return image if _orientation(image) == 1 else ImageOps.exif_transpose(image)


def _on_white(image: Image.Image) -> Image.Image:
    """Transparency composited on white, and samples of more than 8 bits scaled to 8."""
    if image.mode.startswith(("I", "F")):
        return _eight_bits(image)
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (WHITE, WHITE, WHITE, WHITE))
    return Image.alpha_composite(white, image)


def _eight_bits(image: Image.Image) -> Image.Image:
    """16-bit grey (modes I;16 and I) as 8-bit grey; Pillow's own conversion clips at 255."""
    samples = np.asarray(image)
    if image.mode == "F" or samples.min() < 0 or samples.max() > 0xFFFF:
        raise BadImage(f"pixels of mode {image.mode} outside 0-65535: save it with 8 or 16 bits")
    grey = np.round(samples / 257).astype(np.uint8)
    transparent = image.info.get("transparency")
    if isinstance(transparent, int):
        grey[samples == transparent] = WHITE
    return Image.fromarray(grey)
