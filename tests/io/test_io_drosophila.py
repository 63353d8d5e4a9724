from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st

import napari_cellclf as cc
from napari_cellclf.io.drosophila import DROSOPHILA
from napari_cellclf.io.named_images import find_images
from napari_cellclf.io.naming import parse_name

NAME = "Stage(060)-20230811-Cycle00-embryo03-3"


@given(
    minute=st.integers(0, 999),
    day=st.integers(1, 28),
    cycle=st.integers(0, 99),
    embryo=st.integers(0, 99),
    slice_=st.integers(0, 30),
    factor=st.none() | st.integers(2, 9),
    rotation=st.none() | st.sampled_from([45, 90, 135, 180, 270]),
    rotated=st.sampled_from(["-ROTATED-", "-rotated-", "-ROTATE-", "-rot", "_rot_", "-"]),
    swapped=st.booleans(),
    ending=st.sampled_from([".tif", ".tiff", ".TIF", ".png"]),
)
def test_names_round_trip(
    minute: int,
    day: int,
    cycle: int,
    embryo: int,
    slice_: int,
    factor: int | None,
    rotation: int | None,
    rotated: str,
    swapped: bool,
    ending: str,
) -> None:
    base = f"Stage({minute:03d})-202308{day:02d}-Cycle{cycle:02d}-embryo{embryo:02d}-{slice_}"
    steps = [
        "" if factor is None else f"-MULTIPLIED-{factor}",
        "" if rotation is None else f"{rotated}{rotation}",
    ]
    name = base + "".join(reversed(steps) if swapped else steps) + ending
    said = DROSOPHILA.parse(Path("folder", name))
    assert said is not None
    assert list(said.values())[:7] == [
        minute, f"202308{day:02d}", cycle, embryo, slice_, rotation or 0, factor or 1,
    ]  # fmt: skip


def stage(minute: str, slice_: int, done: str) -> str:
    return f"Stage({minute})-20230811-Cycle00-embryo03-{slice_}{done}.tif"


def test_turning_and_multiplying_add_up() -> None:
    path = Path(f"{NAME}-ROTATED-270-MULTIPLIED-2-ROTATED-180-MULTIPLIED-3.tif")
    said = DROSOPHILA.parse(path)
    assert said is not None
    assert (said["rotation"], said["factor"]) == (90, 6)


@pytest.mark.parametrize(
    "name",
    [
        "Stage(060).tif",
        f"{NAME}-SHARPENED-3.tif",
        f"{NAME}-checkpoint.tif",
        f"._{NAME}.tif",
        f"{NAME}.csv",
        "frame(480)-embryo05.png",
    ],
)
def test_other_names_are_refused(name: str) -> None:
    assert parse_name(Path(name)) is None


def test_copies_of_an_embryo_are_one_group() -> None:
    groups = {
        said["group"]
        for minute in ("060", "061")
        for slice_ in (1, 2)
        for done in ("", "-ROTATED-90", "-MULTIPLIED-7")
        if (said := DROSOPHILA.parse(Path(stage(minute, slice_, done))))
    }
    assert groups == {"20230811-Cycle00-embryo03"}


def test_metadata_of_an_image(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.tif"
    tifffile.imwrite(path, np.ones((4, 5), "uint16"))
    assert cc.read_image(path).metadata == {
        "minute": 60,
        "date": "20230811",
        "cycle": 0,
        "embryo": 3,
        "slice": 3,
        "rotation": 0,
        "factor": 1,
        "group": "20230811-Cycle00-embryo03",
    }


@pytest.mark.parametrize("samples", [3, 4])
@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_equal_colours_become_one_channel(tmp_path: Path, samples: int, planar: str) -> None:
    path = tmp_path / f"{NAME}.tif"
    grey = np.random.default_rng(0).integers(0, 255, (7, 9), np.uint8)
    pixels = np.stack([grey] * 3 + [np.full_like(grey, 255)] * (samples - 3), -1)
    if planar == "separate":
        pixels = np.moveaxis(pixels, -1, 0)
    tifffile.imwrite(path, pixels, photometric="rgb", planarconfig=planar)
    image = cc.read_image(path)
    assert image.axes == "YX"
    np.testing.assert_array_equal(image.data, grey)


def test_unequal_colours_stay(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.tif"
    pixels = np.full((7, 9, 3), 8, np.uint8)
    pixels[3, 4, 2] = 9
    tifffile.imwrite(path, pixels, photometric="rgb")
    image = cc.read_image(path)
    assert (image.axes, image.channels) == ("YXS", ("red", "green", "blue"))


def test_frames_are_in_order_of_time_without_checkpoints(tmp_path: Path) -> None:
    for minute in (100, 9, 51):
        (tmp_path / f"Stage({minute:03d})-20230811-Cycle00-embryo03-3.tif").touch()
    (tmp_path / f"{NAME}-checkpoint.tif").touch()
    (tmp_path / f"._{NAME}.tif").touch()
    (tmp_path / ".ipynb_checkpoints").mkdir()
    (tmp_path / ".ipynb_checkpoints" / f"{NAME}.tif").touch()
    named = find_images(tmp_path).named
    assert [image.fields["minute"] for image in named] == [9, 51, 100]


def test_the_published_pair(real_data: Path) -> None:
    folder = real_data / "drosophila"
    raw = cc.read_image(folder / f"{NAME}.tif")
    published = cc.read_image(folder / f"{NAME}-MULTIPLIED-7.tif")
    assert (raw.axes, raw.shape, raw.dtype) == ("YX", (420, 1110), np.uint16)
    assert (published.axes, published.shape, published.dtype) == ("YX", (420, 1110), np.uint8)
    np.testing.assert_array_equal(published.data, (raw.data >> 8) * 7)
    for image, factor in ((raw, 1), (published, 7)):
        assert (image.metadata["minute"], image.metadata["embryo"]) == (60, 3)
        assert image.metadata["factor"] == factor
