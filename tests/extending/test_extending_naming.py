"""The example of a naming scheme: Opera Phenix."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile

import napari_cellclf as cc
from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import ImageError, NameParseError
from napari_cellclf.io.dataset_inspection import inspect_dataset
from napari_cellclf.io.prepared import TurnedFile, item_keys
from napari_cellclf.io.sources import collect_sources

#: Channel 10 comes last, though not in the order of letters.
CHANNELS = (1, 2, 3, 10)

Install = Callable[[str, str, str], Path]


@pytest.fixture
def site_packages(install: Install) -> Path:
    return install("naming", "opera-phenix", "opera_phenix:OPERA_PHENIX")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Four wells, two fields, four channels; a pixel is 1000 column + 100 field + channel."""
    folder = tmp_path / "Images"
    folder.mkdir()
    for column in (1, 2, 3, 4):
        for field in (1, 2):
            for channel in CHANNELS:
                name = f"r02c{column:02d}f{field:02d}p01-ch{channel}sk1fk1fl1.tiff"
                value = 1000 * column + 100 * field + channel
                tifffile.imwrite(folder / name, np.full((40, 48), value, np.uint16))
    return folder


@pytest.mark.usefixtures("site_packages")
@pytest.mark.parametrize("channel", [1, 10])
def test_any_file_of_a_field_opens_all_its_channels(images: Path, channel: int) -> None:
    image = cc.read_image(images / f"r02c03f02p01-ch{channel}sk1fk1fl1.tiff")
    assert (image.axes, image.shape) == ("CYX", (4, 40, 48))
    assert image.channels == ("channel 1", "channel 2", "channel 3", "channel 10")
    assert [int(plane[0, 0]) for plane in image.data] == [3201, 3202, 3203, 3210]
    assert image.metadata == {"well": "B03", "site": 2, "plane": 1, "time": 1}


def test_a_folder_is_a_row_for_each_field(images: Path, site_packages: Path) -> None:
    tifffile.imwrite(images / "overview.tif", np.zeros((8, 8), np.uint8))
    sources = collect_sources([images])
    assert len(sources) == 9
    assert [source.metadata.get("well") for source in sources].count("B01") == 2
    assert collect_sources([images / "r02c01f01p01-ch10sk1fk1fl1.tiff"])[0].id.endswith(
        "r02c01f01p01-ch1sk1fk1fl1.tiff"
    )


@pytest.mark.usefixtures("site_packages")
def test_wells_stay_on_one_side_of_a_split(images: Path, tmp_path: Path) -> None:
    table = tmp_path / "labelled.csv"
    rows = [
        f"Images/r02c{column:02d}f{field:02d}p01-ch1sk1fk1fl1.tiff,{'ab'[column % 2]}"
        for column in (1, 2, 3, 4)
        for field in (1, 2)
    ]
    table.write_text("path,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    data = cc.read_dataset(table)
    assert data.group_column == "well"
    assert data.table["well"].tolist() == ["B01", "B01", "B02", "B02", "B03", "B03", "B04", "B04"]


def _write(folder: Path, column: int, channel: int, value: int) -> Path:
    path = folder / f"r02c{column:02d}f01p01-ch{channel}sk1fk1fl1.tiff"
    tifffile.imwrite(path, np.full((40, 48), value, np.uint16))
    return path


@pytest.mark.usefixtures("site_packages")
def test_what_is_kept_of_an_image_depends_on_all_its_files(images: Path) -> None:
    item = TurnedFile(str(_write(images, 1, 1, 0)))
    prepare = Preprocessing(channels=[ChannelSpec(name="channel 1")])
    before = item_keys([item], prepare, "keep")
    assert item_keys([item], prepare, "keep") == before
    os.utime(_write(images, 1, 3, 7), ns=(1, 1))
    assert item_keys([item], prepare, "keep") != before


@pytest.mark.usefixtures("site_packages")
def test_images_that_share_a_channel_are_no_copies(images: Path, tmp_path: Path) -> None:
    first, second = (_write(images, column, 1, 0) for column in (1, 2))
    table = tmp_path / "labelled.csv"
    table.write_text(f"path,label\n{first},a\n{second},b\n", encoding="utf-8")
    report = inspect_dataset(cc.read_dataset(table))
    assert report.duplicates == ()
    assert list(report.files.channels) == ["channel 1 + channel 2 + channel 3 + channel 10"]


@pytest.mark.usefixtures("site_packages")
def test_channels_of_two_sizes_are_named(images: Path) -> None:
    path = images / "r02c01f01p01-ch10sk1fk1fl1.tiff"
    tifffile.imwrite(path, np.zeros((8, 8), np.uint16))
    with pytest.raises(ImageError, match=r"ch10sk1fk1fl1\.tiff: is 8x8 uint16, but .*40x48"):
        cc.read_image(path)


@pytest.mark.usefixtures("site_packages")
def test_one_channel_in_two_files_is_refused(images: Path) -> None:
    twice = images / "r02c01f01p01-ch1sk1fk1fl1.tif"
    tifffile.imwrite(twice, np.zeros((40, 48), np.uint16))
    with pytest.raises(NameParseError, match="same channel of one image"):
        collect_sources([images])


def test_a_command_in_another_process_knows_the_names(
    images: Path, site_packages: Path, tmp_path: Path
) -> None:
    out = tmp_path / "predictions.csv"
    done = subprocess.run(
        [sys.executable, "-m", "napari_cellclf", "predict", "rxrx1-celltype", str(images), "--out",
         str(out), "--channels", *(f"w{i}=channel {c}" for i, c in enumerate(CHANNELS, start=1))],
        env=os.environ | {"PYTHONPATH": str(site_packages)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with out.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert {row["well"] for row in rows} == {"B01", "B02", "B03", "B04"}
