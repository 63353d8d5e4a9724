"""Real TIFF files of many programs, and some that are broken."""

from __future__ import annotations

import csv
import time
import tracemalloc
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from napari_cellclf.core.image import Image
from napari_cellclf.errors import ImageError, ImageTooLargeError, UnreadableImageError
from napari_cellclf.io.decoding import silenced
from napari_cellclf.io.files import read_file, read_header
from napari_cellclf.io.read import read_image

Row = dict[str, str]


@pytest.fixture(scope="module")
def catalogue(real_data: Path) -> list[Row]:
    with (real_data / "tiffs" / "CATALOGUE.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_every_readable_file_has_its_shape_axes_and_dtype(
    catalogue: list[Row], real_data: Path
) -> None:
    # The catalogue has one path twice, with two shapes; the file has one of them.
    expected = defaultdict(set)
    for row in catalogue:
        if row["tifffile_reads_it"] == "yes":
            expected[row["path"]].add((row["shape"], row["axes"], row["dtype"]))
    assert len(expected) >= 90
    # Colours from a palette, which tifffile leaves as numbers.
    expected["image-tiff/palette-1c-8b.tiff"] = {("(151, 157, 3)", "YXS", "uint8")}
    expected["twelvemonkeys/flower-palette-08.tif"] = {("(43, 73, 3)", "YXS", "uint8")}
    # Its colours are multiplied by their transparency.
    del expected["twelvemonkeys/lzw-buffer-overflow.tif"]
    for path, described in expected.items():
        image = read_image(real_data / "tiffs" / path)
        assert (str(image.shape), image.axes, str(image.dtype)) in described, path
        header = read_header(real_data / "tiffs" / path)
        assert (header.shape, header.axes) == (image.shape, image.axes)
        assert header.dtype == image.dtype


def test_pixels_are_those_that_tifffile_reads(catalogue: list[Row], real_data: Path) -> None:
    import tifffile

    for row in catalogue[:40]:
        path = real_data / "tiffs" / row["path"]
        if not row["path"].startswith("cellorganizer/brain"):
            with silenced("tifffile"):
                expected = tifffile.imread(path)
            np.testing.assert_array_equal(read_file(path).data, expected, str(path))


def test_broken_files_give_one_clear_error_each(
    catalogue: list[Row], real_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = [row["path"] for row in catalogue if row["tifffile_reads_it"] == "no"]
    assert len(broken) == 10
    for name in broken:
        path = real_data / "tiffs" / name
        tracemalloc.start()
        started = time.process_time()
        with pytest.raises((UnreadableImageError, ImageTooLargeError)) as error:
            read_image(path)
        seconds = time.process_time() - started
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert str(path) in str(error.value)
        assert "\n" not in str(error.value)
        assert "<tifffile" not in str(error.value)
        assert seconds < 5
        assert peak < 2**30
    assert not caplog.records


def test_nothing_is_logged_or_warned(
    catalogue: list[Row], real_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for row in catalogue:
        if "bbbc022" in row["path"] or "exampletiffs" in row["path"]:
            read_image(real_data / "tiffs" / row["path"])
    assert not caplog.records


@pytest.mark.parametrize(
    ("name", "pixel_size"),
    [
        ("bbbc022-nfme/IXMtest_E08_s7_w1213F759E-5EA8-47EC-A584-85DF8EC1E280.tif", 0.645),
        ("wnd-charm/binuc2.tiff", 0.19539264),
    ],
)
def test_pixel_size_in_micrometres(real_data: Path, name: str, pixel_size: float) -> None:
    image = read_image(real_data / "tiffs" / name)
    assert image.pixel_size == pytest.approx((pixel_size, pixel_size))


def test_other_microscopy_collections(real_data: Path) -> None:
    cell = read_image(next((real_data / "jurkat" / "Anaphase").glob("*.tif")))
    assert (cell.axes, cell.shape, cell.dtype) == ("CYX", (3, 40, 40), np.uint16)
    blood = read_image(next((real_data / "blood" / "basophil").glob("*.jpg")))
    assert blood.axes == "YXS"
    assert blood.channels == ("red", "green", "blue")


def test_truncated_real_files_raise_only_our_errors(
    real_data: Path, tmp_path: Path, read_or_error: Callable[..., Image | ImageError]
) -> None:
    rng = np.random.default_rng(0)
    names = ["wnd-charm/binuc1.tiff", "exampletiffs/shapes_lzw_planar.tif", "stardist/mask3d.tif"]
    copy = tmp_path / "copy.tif"
    for name in names:
        data = (real_data / "tiffs" / name).read_bytes()
        whole = read_image(real_data / "tiffs" / name)
        for cut in rng.integers(0, len(data) - 1, 25):
            copy.write_bytes(data[:cut])
            got = read_or_error(copy)
            if isinstance(got, ImageError):
                assert str(copy) in str(got)
            else:
                # What was cut off was no pixel.
                np.testing.assert_array_equal(got.data, whole.data)
