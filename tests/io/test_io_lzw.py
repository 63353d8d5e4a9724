"""LZW data that would crash the decoder, and with it napari."""

from __future__ import annotations

from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.errors import UnreadableImageError
from napari_cellclf.io.files import read_file
from napari_cellclf.io.tiff_checks import lzw_is_sound


def packed(*codes: tuple[int, int]) -> bytes:
    """Pack (code, bits) as TIFF 6.0 does."""
    text = "".join(f"{code:0{bits}b}" for code, bits in codes)
    return int(text.ljust(-(-len(text) // 8) * 8, "0"), 2).to_bytes(-(-len(text) // 8), "big")


@given(
    size=st.sampled_from([0, 1, 2, 255, 256, 700, 2000, 3900, 4200, 9000, 50_000]),
    values=st.sampled_from([1, 2, 7, 256]),
    seed=st.integers(0, 1000),
)
def test_what_encoders_write_is_sound(size: int, values: int, seed: int) -> None:
    data = np.random.default_rng(seed).integers(0, values, size, np.uint8).tobytes()
    assert lzw_is_sound(imagecodecs.lzw_encode(data))


@pytest.mark.parametrize("first", [258, 300, 511])
def test_a_table_that_begins_with_no_literal_is_not(first: int) -> None:
    assert not lzw_is_sound(packed((256, 9), (first, 9), (257, 9)))


@pytest.mark.parametrize("length", [1, 253, 254, 255, 766, 767, 1790, 1791, 3000, 5000])
def test_a_later_table_is_looked_at_too(length: int) -> None:
    # Codes grow as the table does: one bit early, as TIFF has it.
    widths = [9] * 254 + [10] * 512 + [11] * 1024 + [12] * 5000
    codes = [(256, 9), *((65, width) for width in widths[:length]), (256, widths[length])]
    assert lzw_is_sound(packed(*codes, (66, 9), (257, 9)))
    assert not lzw_is_sound(packed(*codes, (511, 9), (257, 9)))


def test_the_older_variant_is_called_what_it_is(tmp_path: Path) -> None:
    """It is not damaged."""
    path = tmp_path / "old.tif"
    pixels = np.zeros((8, 8), np.uint8)
    tifffile.imwrite(path, pixels, compression="lzw", photometric="minisblack")
    with tifffile.TiffFile(path) as tif:
        start = tif.pages[0].dataoffsets[0]
    content = bytearray(path.read_bytes())
    # The Clear code, 256, in nine bits from the low end.
    content[start : start + 2] = b"\x00\x01"
    path.write_bytes(content)
    with pytest.raises(UnreadableImageError, match=r"LZW of before TIFF 6\.0") as refused:
        read_file(path)
    assert "damaged" not in str(refused.value)


def test_endless_clearing_is_not() -> None:
    assert not lzw_is_sound(packed(*[(256, 9)] * 4000))


def test_such_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.ones((20, 30), np.uint16), compression="lzw")
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as tif:
        start = tif.pages.first.dataoffsets[0]
    data[start : start + 3] = packed((256, 9), (511, 9))[:3]
    path.write_bytes(data)
    with pytest.raises(UnreadableImageError, match=r"x\.tif: its LZW data are damaged"):
        read_file(path)
