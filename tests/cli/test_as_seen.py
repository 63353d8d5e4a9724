"""What a file says about its pixels, seen through `cellclf predict`."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

#: Arguments to a result with `code`, `out`, `err` and `lines`.
Run = Callable[..., Any]
GREY = np.full((16, 16), 40, np.uint8)


def _dark_fraction(cellclf: Run, model: Path, out: Path, *paths: Path) -> list[float]:
    result = cellclf("predict", model, *paths, "--out", out, "--overwrite")
    assert result.code == 0, result.err
    with out.open(newline="") as file:
        return [float(row["p_dark"]) for row in csv.DictReader(file)]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P"])
def test_grey_saved_as_rgb_is_predicted_as_grey(
    cellclf: Run, grey_bundle: Path, tmp_path: Path, mode: str
) -> None:
    Pillow.fromarray(GREY).save(tmp_path / "a.png")
    Pillow.fromarray(GREY).convert(mode).save(tmp_path / "b.png")
    first, second = _dark_fraction(
        cellclf, grey_bundle, tmp_path / "p.csv", tmp_path / "a.png", tmp_path / "b.png"
    )
    assert first == second > 0.5


def test_a_picture_means_what_its_file_says(
    cellclf: Run, grey_bundle: Path, tmp_path: Path
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY)
    tifffile.imwrite(tmp_path / "b.tif", 255 - GREY, photometric="miniswhite")
    wide = np.full((16, 16), 40 * 4095 / 255, np.float64).round().astype(np.uint16)
    tifffile.imwrite(tmp_path / "c.tif", wide, bitspersample=12)
    Pillow.fromarray(GREY).convert("CMYK").save(tmp_path / "d.tif")
    dark = _dark_fraction(cellclf, grey_bundle, tmp_path / "p.csv", tmp_path)
    assert dark == pytest.approx([dark[0]] * 4, abs=2e-3)
    assert dark[0] > 0.5


def test_several_images_in_a_file_are_rows_or_refused(
    cellclf: Run, grey_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.tif"
    with tifffile.TiffWriter(path) as file:
        for level in (0, 215):
            file.write(GREY + np.uint8(level), photometric="minisblack")
    dark = _dark_fraction(cellclf, grey_bundle, tmp_path / "p.csv", path)
    assert dark[0] > 0.5 > dark[1]
    with tifffile.TiffWriter(path) as file:
        file.write(GREY, photometric="minisblack")
        file.write(GREY[:8], photometric="minisblack")
    result = cellclf("predict", grey_bundle, path)
    assert result.code != 0
    assert "2 different images (16x16 uint8, 8x16 uint8)" in result.err


def test_axes_are_not_taken_for_channels(cellclf: Run, bundle: Path, tmp_path: Path) -> None:
    planes = np.zeros((3, 20, 20), np.uint8)
    tifffile.imwrite(tmp_path / "z.tif", planes, imagej=True, metadata={"axes": "ZYX"})
    result = cellclf("predict", bundle, tmp_path / "z.tif")
    assert result.code != 0
    assert "if the 3 planes along Z are its channels, save them as channels" in result.err
    last = np.zeros((20, 20, 3), np.uint8)
    tifffile.imwrite(tmp_path / "last.tif", last, photometric="minisblack")
    result = cellclf("predict", bundle, tmp_path / "last.tif")
    assert result.code != 0
    assert "20 pages of 20x3 pixels" in result.err


def test_one_channel_of_another_name_is_refused(
    cellclf: Run, bundle: Path, grey_bundle: Path, tmp_path: Path
) -> None:
    path = tmp_path / "x.ome.tif"
    tifffile.imwrite(path, GREY, metadata={"axes": "YX", "Channel": {"Name": "GFP"}})
    assert cellclf("predict", grey_bundle, path).code == 0
    result = cellclf("predict", bundle, path)
    assert result.code != 0
    assert "it has GFP" in result.err


def test_labels_of_fiji_do_not_stop_training(cellclf: Run, tmp_path: Path) -> None:
    for label in ("few", "many"):
        (tmp_path / "data" / label).mkdir(parents=True)
        for number in range(6):
            name = f"{label}_{number:02d}"
            tifffile.imwrite(
                tmp_path / "data" / label / f"{name}.tif",
                np.random.default_rng(number).integers(0, 255, (2, 32, 32), np.uint8),
                imagej=True,
                metadata={
                    "axes": "CYX",
                    "mode": "composite",
                    "Labels": [f"c:{c}/2 - {name}.czi" for c in (1, 2)],
                },
            )
    result = cellclf("train", tmp_path / "data", "--out", tmp_path / "run", "--epochs", "1")
    assert result.code == 0, result.err


def test_a_large_image_is_predicted_as_a_small_one(
    cellclf: Run, tmp_path: Path, grey_bundle: Path
) -> None:
    # Over the size from which a file is decoded part by part.
    large = np.zeros((9000, 8000), np.uint8)
    large[:4500] = 80
    tifffile.imwrite(tmp_path / "a.tif", large, tile=(512, 512), compression="zlib")
    tifffile.imwrite(tmp_path / "b.tif", large[::100, ::100])
    first, second = _dark_fraction(
        cellclf, grey_bundle, tmp_path / "p.csv", tmp_path / "a.tif", tmp_path / "b.tif"
    )
    assert first == pytest.approx(second, abs=1e-4)
