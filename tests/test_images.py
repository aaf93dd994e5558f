"""Every way an image file goes wrong or looks odd becomes clean pixels, or one plain reason."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from data_prep_trees import encoded, photo, sketch
from PIL import Image, ImageDraw

from sbir_jax.data import images
from sbir_jax.data.images import BadImage, read_image, shrink, to_square


def strokes(mode: str, paper, ink) -> Image.Image:
    """A filled box (ink) at columns 8-23, rows 4-11 of a 32 x 16 sheet."""
    image = Image.new(mode, (32, 16), paper)
    ImageDraw.Draw(image).rectangle((8, 4, 23, 11), fill=ink)
    return image


EXPECTED = np.full((16, 32), 255, np.uint8)
EXPECTED[4:12, 8:24] = 0


def palette_with_transparency() -> bytes:
    image = Image.new("P", (32, 16), 0)
    image.putpalette([0, 0, 0, 0, 0, 0])
    ImageDraw.Draw(image).rectangle((8, 4, 23, 11), fill=1)
    return encoded(image, "PNG", transparency=0)


def sixteen_bit_png() -> bytes:
    return encoded(Image.fromarray(EXPECTED.astype(np.uint16) * 257), "PNG")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(strokes("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), "PNG"), id="rgba"),
        pytest.param(encoded(strokes("LA", (0, 0), (0, 255)), "PNG"), id="grey-alpha"),
        pytest.param(palette_with_transparency(), id="palette-transparency"),
        pytest.param(
            encoded(strokes("RGBA", (0, 0, 0, 0), (0, 0, 0, 255)), "WEBP", lossless=True), id="webp"
        ),
        pytest.param(encoded(strokes("L", 255, 0), "PNG"), id="grey"),
        pytest.param(encoded(strokes("1", 1, 0), "PNG"), id="one-bit"),
        pytest.param(encoded(strokes("RGB", "white", "black").quantize(4), "GIF"), id="gif"),
        pytest.param(sixteen_bit_png(), id="16-bit"),
        pytest.param(encoded(strokes("CMYK", (0, 0, 0, 0), (0, 0, 0, 255)), "TIFF"), id="cmyk"),
        pytest.param(encoded(strokes("RGB", "white", "black"), "BMP"), id="bmp"),
    ],
)
@pytest.mark.parametrize("modality", ["photo", "sketch"])
def test_every_encoding_of_a_drawing_gives_the_same_pixels(data, modality):
    """Black strokes on white or transparent paper decode to the hand-written array, always."""
    pixels = read_image(data, modality)
    assert pixels.dtype == np.uint8
    expected = EXPECTED if modality == "sketch" else np.stack([EXPECTED] * 3, axis=-1)
    np.testing.assert_array_equal(pixels, expected)


def test_half_transparent_ink_is_mixed_with_white():
    """Alpha 128 of black on nothing is 255 * (1 - 128/255) = 127 grey, not black."""
    data = encoded(Image.new("RGBA", (4, 4), (0, 0, 0, 128)), "PNG")
    np.testing.assert_allclose(read_image(data, "sketch"), 127, atol=1)


def test_sixteen_bits_are_scaled_and_not_clipped():
    """Grey level v of 65535 becomes v / 257; Pillow's conversion would clip nearly all at 255."""
    ramp = np.linspace(0, 65535, 256, dtype=np.uint16).reshape(16, 16)
    pixels = read_image(encoded(Image.fromarray(ramp), "PNG"), "sketch")
    np.testing.assert_array_equal(pixels, np.arange(256).reshape(16, 16))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation):
    """All eight orientations of a picture, undone by NumPy's flips, give the upright picture."""
    upright = np.zeros((24, 40), np.uint8)
    upright[:12, :20] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(stored)), "JPEG", quality=100, exif=exif)
    pixels = read_image(data, "sketch")
    assert pixels.shape == (24, 40)
    np.testing.assert_allclose(pixels, upright, atol=3)
    plain = images.is_plain_jpeg(data, max_side=256)
    assert not plain, "a grey JPEG is not a plain RGB one"


def oversized_png() -> bytes:
    """A valid header that promises 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


BAD = {
    "empty": (b"", "empty file"),
    "web page": (b"<!DOCTYPE html><html>404</html>", "not an image \\(a web page"),
    "svg": (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "an SVG drawing"),
    "text": (b"hello " * 100, "not an image"),
    "truncated jpeg": (encoded(photo(1), "JPEG")[:-200], "damaged or truncated"),
    "truncated png": (encoded(photo(1), "PNG")[:-500], "damaged or truncated"),
    "truncated webp": (encoded(photo(1), "WEBP")[:-100], "damaged|not an image"),
    "header only": (encoded(photo(1), "JPEG")[:20], "not an image|damaged"),
    "oversized": (oversized_png(), "too large: the limit is 89 megapixels"),
    "float": (encoded(Image.new("F", (4, 4), 0.5), "TIFF"), "pixels of mode F"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_bytes_are_refused_with_a_plain_reason(name):
    """Bytes that are no whole image raise BadImage, one line, whatever the decoder raised."""
    data, reason = BAD[name]
    with pytest.raises(BadImage, match=reason) as caught:
        read_image(data, "photo")
    assert "\n" not in str(caught.value)


def test_between_the_limits_of_pillow_and_ours_is_refused_too(monkeypatch):
    """Pillow only warns up to twice its limit; a file above the limit is refused all the same."""
    monkeypatch.setattr(images, "MAX_PIXELS", 1000)
    with pytest.raises(BadImage, match="40 x 32 pixels"):
        read_image(encoded(photo(1), "PNG"), "photo")


def test_a_caller_may_allow_fewer_pixels():
    """A limit of a caller's own is said in the same words, and what is within it is read."""
    data = encoded(photo(1), "PNG")
    assert read_image(data, "photo", max_pixels=40 * 32).shape == (32, 40, 3)
    with pytest.raises(BadImage, match="too large.*40 x 32 pixels"):
        read_image(data, "photo", max_pixels=40 * 32 - 1)


def test_an_animation_gives_its_first_frame():
    """Of a two-frame GIF, black then white, the pixels are black."""
    buffer = io.BytesIO()
    frames = [Image.new("L", (8, 8), 0), Image.new("L", (8, 8), 255)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    assert read_image(buffer.getvalue(), "sketch").max() == 0


def test_a_reduced_jpeg_keeps_the_asked_side_and_the_picture():
    """Decoding at reduced scale leaves at least `min_side` pixels and the same mean colours."""
    data = encoded(photo(3).resize((800, 640), Image.Resampling.BICUBIC), "JPEG")
    full, reduced = read_image(data, "photo"), read_image(data, "photo", min_side=128)
    assert full.shape == (640, 800, 3)
    assert 128 <= min(reduced.shape[:2]) < 640
    np.testing.assert_allclose(reduced.mean((0, 1)), full.mean((0, 1)), atol=1)


@pytest.mark.parametrize(("shape", "expected"), [((64, 128), (32, 64)), ((20, 300), (20, 300))])
def test_shrink_bounds_the_shorter_side_and_keeps_the_aspect(shape, expected):
    """The shorter side comes down to the limit, never up."""
    assert shrink(np.zeros((*shape, 3), np.uint8), max_side=32).shape == (*expected, 3)


def half_dark(height: int, width: int) -> np.ndarray:
    image = np.full((height, width), 200, np.uint8)
    image[:, : width // 2] = 40
    return image


def test_pad_centres_the_whole_image_on_white():
    """A 2:1 image fills the width; a quarter of the square above and below it is white."""
    square = to_square(half_dark(32, 64), 16, "pad")
    assert square.shape == (16, 16, 1)
    assert (square[:4] == 255).all() and (square[12:] == 255).all()
    assert (square[4:12, :7] < 60).all() and (square[4:12, 9:] > 180).all()


def test_squash_fills_the_square():
    """A 2:1 image is stretched: no white, dark left half, light right half."""
    square = to_square(half_dark(32, 64), 16, "squash")[..., 0]
    assert (square[:, :7] < 60).all() and (square[:, 9:] > 180).all()


def test_crop_cuts_the_centre():
    """Of a 3:1 image with dark outer thirds, only the light middle remains."""
    image = np.full((20, 60, 3), 30, np.uint8)
    image[:, 20:40] = 220
    square = to_square(image, 10, "crop")
    assert square.shape == (10, 10, 3) and (square > 200).all()


def test_downscaling_is_antialiased():
    """One-pixel black and white columns become mid grey, not a moire of either."""
    columns = np.tile(np.array([0, 255], np.uint8), (64, 32))
    square = to_square(columns, 16, "squash")
    np.testing.assert_allclose(square, 127, atol=12)


def test_a_square_of_the_right_size_is_untouched():
    """No resampling when there is nothing to resample."""
    pixels = np.asarray(photo(5, size=(16, 16)))
    np.testing.assert_array_equal(to_square(pixels, 16, "pad"), pixels)


def test_unknown_fit_names_the_valid_ones():
    """A bad `fit` is one line with the valid names."""
    with pytest.raises(ValueError, match="fit='stretch': valid: pad, squash, crop"):
        to_square(np.zeros((4, 4), np.uint8), 2, "stretch")


def test_encoding_round_trips():
    """A stored sketch is bit-equal; a stored photo is a plain JPEG close to its pixels."""
    grey = np.asarray(sketch(1).convert("L"))
    np.testing.assert_array_equal(read_image(images.encode_sketch(grey), "sketch"), grey)
    smooth = np.asarray(photo(2, size=(4, 4)).resize((64, 64), Image.Resampling.BICUBIC))
    data = images.encode_photo(smooth)
    assert images.is_plain_jpeg(data, max_side=64) and not images.is_plain_jpeg(data, max_side=63)
    assert np.abs(read_image(data, "photo").astype(int) - smooth).mean() < 3
