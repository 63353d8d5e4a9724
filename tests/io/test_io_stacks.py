from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_cellclf.errors import ImageError, NoImagesError
from napari_cellclf.io import stacks
from napari_cellclf.io.files import read_header
from napari_cellclf.io.rxrx1 import RXRX1
from napari_cellclf.io.stacks import looks_named, read_stack

MakeSite = Callable[..., Path]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose pixels are read."""
    names: list[str] = []
    original = stacks.read_channel

    def spy(path: Path, **options: int | None) -> np.ndarray:
        names.append(path.name)
        return original(path, **options)

    monkeypatch.setattr(stacks, "read_channel", spy)
    return names


def frame(folder: Path, minute: int, pixels: np.ndarray, more: str = "") -> None:
    folder.mkdir(exist_ok=True)
    name = f"Stage({minute:03d})-20230811-Cycle00-embryo03-3{more}.tif"
    rgb = "rgb" if pixels.shape[2:] == (3,) else "minisblack"
    tifffile.imwrite(folder / name, pixels, photometric=rgb)


def test_sites_are_a_lazy_stack(make_site: MakeSite, tmp_path: Path, opened: list[str]) -> None:
    make_site(well="C03")
    make_site(well="B02", channels=(1, 2, 3, 4))
    image = read_stack(tmp_path)
    assert image.axes == "PCYX"
    assert image.shape == (2, 6, 6, 6)
    assert image.channels[5] == "w6 WGA"
    assert opened == []
    rows = image.metadata["sites"]
    assert [row["well"] for row in rows] == ["B02", "C03"]
    assert rows[0]["missing_channels"] == ["w5 MitoTracker", "w6 WGA"]
    assert rows[1]["missing_channels"] == []
    assert image.metadata["missing_channels"] == []
    pixels = np.asarray(image.data)
    assert pixels[0, :, 0, 0].tolist() == [101, 102, 103, 104, 0, 0]
    assert pixels[1, :, 0, 0].tolist() == [101, 102, 103, 104, 105, 106]
    assert not pixels[0, 4:].any()


def test_a_step_of_the_slider_reads_one_site(
    make_site: MakeSite, tmp_path: Path, opened: list[str]
) -> None:
    for well in ("B02", "B03", "B04"):
        make_site(well=well)
    image = read_stack(tmp_path)
    # One layer a channel: each asks for its own plane.
    for channel in range(6):
        np.asarray(image.data[1, channel])
    assert sorted(opened) == [f"B03_s1_w{channel}.png" for channel in range(1, 7)]


def test_channels_that_no_site_has_are_left_out(make_site: MakeSite, tmp_path: Path) -> None:
    make_site(well="B02", channels=(1, 3))
    make_site(well="B03", channels=(1, 4))
    image = read_stack(tmp_path)
    assert image.channels == ("w1 Hoechst", "w3 Phalloidin", "w4 Syto14")
    assert image.metadata["missing_channels"] == ["w2 ConA", "w5 MitoTracker", "w6 WGA"]


def test_a_site_of_another_size_is_named_when_it_is_read(
    make_site: MakeSite, tmp_path: Path
) -> None:
    make_site(well="B02")
    make_site(well="B03", size=7)
    image = read_stack(tmp_path)
    assert np.asarray(image.data[0]).shape == (6, 6, 6)
    with pytest.raises(ImageError, match=r"B03_s1_w1\.png: is 7x7 uint8.*B02_s1_w1\.png is 6x6"):
        np.asarray(image.data[1, 0])


def test_a_whole_plate_is_listed_without_decoding(
    make_site: MakeSite,
    tmp_path: Path,
    opened: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plate = make_site()
    for row in "ABCDEFGHIJKLMN":
        for column in range(1, 23):
            for site in (1, 2):
                for channel in range(1, 7):
                    target = plate / f"{row}{column:02d}_s{site}_w{channel}.png"
                    if not target.exists():
                        target.hardlink_to(plate / f"B02_s1_w{channel}.png")
    headers: list[Path] = []

    def counted(path: Path, **options: Any) -> Any:
        headers.append(path)
        return read_header(path, **options)

    monkeypatch.setattr(stacks, "read_header", counted)
    assert read_stack(tmp_path).shape == (616, 6, 6, 6)
    assert len(headers) == 1
    assert opened == []


def test_frames_are_a_lazy_stack_in_order_of_time(tmp_path: Path) -> None:
    for minute in (100, 9, 51):
        frame(tmp_path, minute, np.full((5, 7), minute, np.uint16))
    image = read_stack(tmp_path)
    assert image.axes == "TYX"
    assert [row["minute"] for row in image.metadata["frames"]] == [9, 51, 100]
    assert image.data.chunks[0] == (1, 1, 1)
    assert np.asarray(image.data)[:, 0, 0].tolist() == [9, 51, 100]


def test_frames_of_different_types_are_widened(tmp_path: Path) -> None:
    frame(tmp_path, 9, np.full((5, 7, 3), 200, np.uint8))
    frame(tmp_path, 51, np.full((5, 7), 60_000, np.uint16))
    image = read_stack(tmp_path)
    assert (image.axes, image.dtype) == ("TYX", np.uint16)
    assert np.asarray(image.data)[:, 0, 0].tolist() == [200, 60_000]


def test_true_colour_frames_keep_their_samples(tmp_path: Path) -> None:
    pixels = np.zeros((5, 7, 3), np.uint8)
    pixels[..., 1] = 9
    frame(tmp_path, 9, pixels)
    assert read_stack(tmp_path).axes == "TYXS"


def test_of_frames_of_different_sizes_the_most_common_is_stacked(tmp_path: Path) -> None:
    frame(tmp_path, 9, np.zeros((7, 5), np.uint16), more="-ROTATED-90")
    frame(tmp_path, 9, np.ones((5, 7), np.uint8))
    frame(tmp_path, 51, np.ones((5, 7), np.uint8))
    frame(tmp_path, 60, np.zeros((2, 5, 7), np.uint8))
    damaged = tmp_path / "Stage(070)-20230811-Cycle00-embryo03-3.tif"
    damaged.write_bytes(b"II*\0")
    image = read_stack(tmp_path)
    assert (image.shape, image.dtype) == ((2, 5, 7), np.uint8)
    assert np.asarray(image.data).all()
    assert [row["minute"] for row in image.metadata["frames"]] == [9, 51]
    assert image.metadata["left_out"] == [
        "Stage(009)-20230811-Cycle00-embryo03-3-ROTATED-90.tif",
        "Stage(060)-20230811-Cycle00-embryo03-3.tif",
        damaged.name,
    ]


def test_frames_of_one_size_leave_nothing_out(tmp_path: Path) -> None:
    frame(tmp_path, 9, np.zeros((5, 7), np.uint8))
    assert read_stack(tmp_path).metadata["left_out"] == []


def test_a_damaged_first_frame_does_not_close_the_movie(tmp_path: Path) -> None:
    for minute in (9, 51):
        frame(tmp_path, minute, np.full((50, 70), minute, np.uint8))
    first = tmp_path / "Stage(009)-20230811-Cycle00-embryo03-3.tif"
    first.write_bytes(first.read_bytes()[:2000])
    image = read_stack(tmp_path)
    assert np.asarray(image.data[-1])[0, 0] == 51


def test_a_damaged_first_file_does_not_close_the_plate(make_site: MakeSite, tmp_path: Path) -> None:
    plate = make_site(well="B02", channels=(1, 2))
    make_site(well="B03", channels=(1, 2))
    (plate / "B02_s1_w1.png").write_bytes(b"")
    image = read_stack(tmp_path)
    assert image.shape == (2, 2, 6, 6)
    assert np.asarray(image.data[1, 0])[0, 0] == 101
    with pytest.raises(ImageError, match=r"B02_s1_w1\.png"):
        np.asarray(image.data[0, 0])


def test_a_plate_of_damaged_files_only_is_refused(make_site: MakeSite, tmp_path: Path) -> None:
    plate = make_site(channels=(1, 2))
    for path in plate.iterdir():
        path.write_bytes(b"")
    with pytest.raises(ImageError, match=r"B02_s1_w1\.png: the file is empty"):
        read_stack(tmp_path)


def test_a_frame_of_another_kind_is_named_when_it_is_read(tmp_path: Path) -> None:
    colours = np.zeros((5, 7, 3), np.uint8)
    colours[..., 1] = 9
    frame(tmp_path, 9, np.zeros((5, 7), np.uint8))
    frame(tmp_path, 51, colours)
    image = read_stack(tmp_path)
    with pytest.raises(ImageError, match=r"Stage\(051\).*5x7x3"):
        np.asarray(image.data[1])


def test_a_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.zeros((5, 7)))
    with pytest.raises(NoImagesError, match=r"no images named like .*B02_s1_w3\.png"):
        read_stack(tmp_path)
    with pytest.raises(NoImagesError, match="not a folder"):
        read_stack(tmp_path / "x.tif")


def test_looks_named(make_site: MakeSite, tmp_path: Path) -> None:
    assert not looks_named(tmp_path)
    plate = make_site("data/images/train/HUVEC-01/Plate1", channels=(1,))
    assert looks_named(plate)
    assert looks_named(plate.parent)
    assert looks_named(tmp_path / "data")
    # It is not a search: somebody's home may have a data set somewhere below.
    assert not looks_named(tmp_path)
    shutil.rmtree(tmp_path / "data")
    frame(tmp_path / "movie", 9, np.zeros((5, 7)))
    assert looks_named(tmp_path / "movie")
    assert not looks_named(tmp_path / "missing")


def test_looking_at_a_folder_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def count(path: Path) -> None:
        looked.append(path.name)

    monkeypatch.setattr(RXRX1, "parse", count)
    for plate in range(1, 30):
        folder = tmp_path / f"Plate{plate}"
        folder.mkdir()
        for index in range(60):
            (folder / f"{index}.txt").touch()
    assert not looks_named(tmp_path)
    assert len(looked) <= 1000


def test_real_folders(real_data: Path) -> None:
    assert looks_named(real_data / "rxrx1")
    assert looks_named(real_data / "drosophila")
    for name in ("blood", "jurkat", "zebrafish", "tiffs"):
        assert not looks_named(real_data / name)
    image = read_stack(real_data / "rxrx1")
    assert image.shape == (24, 6, 512, 512)
    assert image.metadata["sites"][3]["cell_type"] == "HEPG2"
    pixels = np.asarray(image.data[1])
    assert pixels[:4].mean() > 1
    assert not pixels[4:].any()
    movie = np.asarray(read_stack(real_data / "drosophila").data)
    np.testing.assert_array_equal((movie[0] >> 8) * 7, movie[1])
