"""Images in the tiles of a TIFF file are held against the room for them before decoding."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.errors import ImageTooLargeError, UnreadableImageError
from napari_cellclf.io.embedded_images import _DECLARED
from napari_cellclf.io.files import read_file, read_memory
from napari_cellclf.io.memory import MemoryFile


def colour(image: np.ndarray) -> np.ndarray:
    return np.stack([image] * 3, -1)


#: Compression, samples, and the encoder of a grey image.
ENCODERS: dict[str, tuple[int, int, Callable[[np.ndarray], bytes]]] = {
    "JPEG": (7, 1, imagecodecs.jpeg8_encode),
    "JPEG of DNG": (34892, 1, imagecodecs.jpeg8_encode),
    "PNG": (34933, 1, imagecodecs.png_encode),
    "JPEG 2000": (34712, 1, lambda image: imagecodecs.jpeg2k_encode(image, codecformat="j2k")),
    "JPEG 2000 in a box": (33003, 1, lambda image: imagecodecs.jpeg2k_encode(image)),
    "JPEG XR": (22610, 1, imagecodecs.jpegxr_encode),
    "WebP": (50001, 3, lambda image: imagecodecs.webp_encode(colour(image), lossless=True)),
    "lossy WebP": (50001, 3, lambda image: imagecodecs.webp_encode(colour(image), level=80)),
}
#: Those that do not tell how large they are, or only to their decoders.
UNKNOWN = {
    "JPEG XL": (50002, imagecodecs.jpegxl_encode),
    "LERC": (34887, imagecodecs.lerc_encode),
}


def tiff_around(stream: bytes, compression: int, samples: int = 1, side: int = 64) -> bytes:
    """Put a stream into a TIFF of one strip, as it is."""
    tags: list[tuple[int, int, int, int]] = [
        (256, 4, 1, side),
        (257, 4, 1, side),
        (258, 3, 1, 8),
        (259, 3, 1, compression),
        (262, 3, 1, 1 if samples == 1 else 2),
        (273, 4, 1, 0),
        (277, 3, 1, samples),
        (278, 4, 1, side),
        (279, 4, 1, len(stream)),
    ]
    start = 8 + 2 + 12 * len(tags) + 4
    content = struct.pack("<2sHIH", b"II", 42, 8, len(tags))
    for tag, kind, count, value in tags:
        content += struct.pack("<HHII", tag, kind, count, start if tag == 273 else value)
    return content + struct.pack("<I", 0) + stream


def scene(height: int, width: int) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return ((rows * 3 + columns * 2) % 251).astype(np.uint8)


@pytest.mark.parametrize("name", ENCODERS)
@settings(deadline=None, max_examples=15)
@given(height=st.integers(16, 90), width=st.integers(16, 90))
def test_the_size_in_a_header_is_that_of_the_image(name: str, height: int, width: int) -> None:
    compression, samples, encode = ENCODERS[name]
    stream = encode(scene(height, width))
    assert _DECLARED[compression](stream, True) == height * width * samples


@pytest.mark.parametrize("name", ENCODERS)
def test_an_image_that_fits_is_read(tmp_path: Path, name: str) -> None:
    compression, samples, encode = ENCODERS[name]
    path = tmp_path / "x.tif"
    path.write_bytes(tiff_around(encode(scene(64, 64)), compression, samples))
    assert read_file(path).shape == (64, 64)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_image_larger_than_its_strip_is_refused(tmp_path: Path, name: str) -> None:
    compression, samples, encode = ENCODERS[name]
    content = tiff_around(encode(scene(600, 600)), compression, samples)
    path = tmp_path / "x.tif"
    path.write_bytes(content)
    with pytest.raises(ImageTooLargeError, match=f"declares {360_000 * samples} values"):
        read_file(path)
    with pytest.raises(ImageTooLargeError, match="a compressed part declares"):
        read_memory(MemoryFile("x.tif", content))


def test_a_header_behind_a_long_segment_is_found(tmp_path: Path) -> None:
    stream = imagecodecs.jpeg8_encode(scene(600, 600))
    comment = b"\xff\xee\xff\xf0" + bytes(0xFFEE)
    path = tmp_path / "x.tif"
    path.write_bytes(tiff_around(stream[:2] + comment + stream[2:], 7))
    with pytest.raises(ImageTooLargeError, match="declares 360000 values"):
        read_file(path)


@pytest.mark.parametrize("name", UNKNOWN)
def test_what_does_not_tell_its_size_is_refused(tmp_path: Path, name: str) -> None:
    compression, encode = UNKNOWN[name]
    path = tmp_path / "x.tif"
    path.write_bytes(tiff_around(encode(scene(64, 64)), compression))
    with pytest.raises(UnreadableImageError, match="save it again with LZW or deflate"):
        read_file(path)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("damage", ["cut", "empty", "other"])
def test_a_stream_without_a_header_is_refused(tmp_path: Path, name: str, damage: str) -> None:
    compression, samples, encode = ENCODERS[name]
    stream: Any = {"cut": encode(scene(64, 64))[:9], "empty": bytes(50), "other": b"Lerc2 " * 9}
    path = tmp_path / "x.tif"
    path.write_bytes(tiff_around(stream[damage], compression, samples))
    with pytest.raises(UnreadableImageError):
        read_file(path)
