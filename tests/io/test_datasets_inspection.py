"""The report on the files of a data set."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from PIL import Image as Pillow

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.dataset_report import DatasetReport, check_bad
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import CancelledError, DatasetError
from napari_cellclf.io.dataset_inspection import inspect_dataset
from napari_cellclf.io.datasets import read_dataset


def save(
    path: Path, seed: int = 0, *, size: tuple[int, ...] = (8, 9), dtype: str = "uint8"
) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 200, size).astype(dtype)
    if path.suffix == ".tif":
        tifffile.imwrite(path, pixels, photometric="minisblack")
    else:
        Pillow.fromarray(pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two classes of twelve different images each."""
    for number in range(24):
        save(tmp_path / f"{'ab'[number % 2]}/{number:02d}.png", number)
    return tmp_path


def warned(report: DatasetReport, *words: str) -> bool:
    return any(all(word in sentence for word in words) for sentence in report.warnings)


def test_nothing_odd(folder: Path) -> None:
    report = inspect_dataset(read_dataset(folder))
    assert report.n_images == 24
    assert report.counts == {
        name: {"train": 0, "validation": 0, "test": 0, "unsplit": 12} for name in "ab"
    }
    assert dict(report.files.shapes) == {"8x9": 24}
    assert dict(report.files.dtypes) == {"uint8": 24}
    assert dict(report.files.channels) == {"grey": 24}
    assert report.imbalance == 1
    assert (report.unreadable, report.duplicates) == ((), ())
    # That no group is known is worth saying.
    assert len(report.warnings) == 1
    assert "the split is random" in report.warnings[0]


def test_files_that_cannot_be_read_are_listed(folder: Path) -> None:
    whole = folder.joinpath("a/00.png").read_bytes()
    folder.joinpath("a/00.png").write_bytes(whole[: len(whole) // 2])
    folder.joinpath("b/01.png").write_bytes(b"")
    folder.joinpath("b/03.png").write_text("<html>not found</html>")
    data = read_dataset(folder)
    folder.joinpath("b/05.png").unlink()
    report = inspect_dataset(data)
    reasons = {Path(path).name: reason for path, reason in report.unreadable}
    assert sorted(reasons) == ["00.png", "01.png", "03.png", "05.png"]
    assert "truncated" in reasons["00.png"]
    assert "empty" in reasons["01.png"]
    assert "web page" in reasons["03.png"]
    assert "no such file" in reasons["05.png"]
    assert report.bad_by_class == {"a": 1, "b": 3}
    assert warned(report, "4 images of 24 cannot be used")
    assert warned(report, "training would refuse these files: 4 of 24 images cannot be used")


def test_a_class_is_never_lost(folder: Path) -> None:
    folder.joinpath("c").mkdir()
    folder.joinpath("c/only.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    report = inspect_dataset(read_dataset(folder))
    assert warned(report, "training would refuse these files: no image of class c can be used")


@pytest.mark.parametrize(
    ("total", "bad", "refused"), [(25, 1, False), (25, 2, True), (300, 3, False)]
)
def test_one_bad_image_or_one_in_a_hundred_of_a_split_is_forgiven(
    total: int, bad: int, refused: int
) -> None:
    table = pd.DataFrame({"path": [f"{n}.png" for n in range(total)], "label": "a", "split": ""})
    data = Dataset(table, (ClassSpec(name="a"),))
    reasons = dict.fromkeys(range(bad), "it is damaged")
    with pytest.raises(DatasetError, match="2 of 25") if refused else nullcontext():
        check_bad(data, reasons)


def test_copies_are_found_contradictory_ones_first(folder: Path) -> None:
    def copy(source: str, target: str) -> None:
        folder.joinpath(target).write_bytes(folder.joinpath(source).read_bytes())

    copy("a/02.png", "a/copy.png")
    copy("a/04.png", "b/copy.png")
    data = read_dataset(folder)
    split = np.where([path.endswith("a/copy.png") for path in data.paths], "test", "train")
    report = inspect_dataset(data.with_splits(split))
    assert [one.contradictory for one in report.duplicates] == [True, False]
    assert report.duplicates[0].labels == ("a", "b")
    assert [one.leaks for one in report.duplicates] == [False, True]
    assert report.warnings[0].startswith("1 image is labelled in two ways, such as")
    assert warned(report, "1 image has a copy on the other side")
    assert warned(report, "2 files are copies")


def test_one_file_with_two_labels(tmp_path: Path) -> None:
    save(tmp_path / "1.png")
    table = tmp_path / "table.csv"
    table.write_text("path,label\n1.png,a\n1.png,b\n")
    report = inspect_dataset(read_dataset(table))
    assert report.duplicates[0].contradictory
    assert dict(report.files.shapes) == {"8x9": 1}


def test_odd_sizes_types_and_channels(folder: Path) -> None:
    save(folder / "a/large.png", 50, size=(20, 20))
    save(folder / "b/deep.tif", 51, dtype="uint16")
    save(folder / "b/colour.png", 52, size=(8, 9, 3))
    report = inspect_dataset(read_dataset(folder))
    assert report.files.shapes["20x20"] == 1
    assert dict(report.files.dtypes) == {"uint8": 26, "uint16": 1}
    assert dict(report.files.channels) == {"grey": 26, "RGB": 1}
    assert warned(report, "1 image is of another size than 8x9 (1 20x20)")
    assert warned(report, "different types (26 uint8, 1 uint16)")
    assert warned(report, "different channels (26 grey, 1 RGB)")
    assert [Path(path).name for path, _ in report.unreadable] == ["colour.png"]


def test_several_planes_in_one_file_are_odd(folder: Path) -> None:
    path = folder / "a/movie.tif"
    tifffile.imwrite(path, np.zeros((5, 8, 9), "uint8"), metadata={"axes": "TYX"})
    report = inspect_dataset(read_dataset(folder))
    assert report.files.multi_plane == {str(path): "T=5 Y=8 X=9"}
    assert warned(report, "1 file holds several planes", "T=5")


def test_channels_are_no_planes(tmp_path: Path) -> None:
    tmp_path.joinpath("a").mkdir()
    tifffile.imwrite(
        tmp_path / "a/1.tif", np.zeros((3, 8, 9), "uint16"), metadata={"axes": "CYX"}, imagej=True
    )
    report = inspect_dataset(read_dataset(tmp_path))
    assert report.files.multi_plane == {}
    assert dict(report.files.channels) == {"3 channels": 1}


def test_sites_are_looked_at_channel_by_channel(tmp_path: Path) -> None:
    for kind in ("HUVEC", "RPE"):
        for channel in (1, 2):
            save(tmp_path / f"{kind}-01/Plate1/B02_s1_w{channel}.png", channel + ord(kind[0]))
            save(tmp_path / f"{kind}-01/Plate2/B02_s1_w{channel}.png", channel * ord(kind[1]))
    save(tmp_path / "RPE-01/Plate2/B02_s1_w2.png", size=(9, 9))
    tmp_path.joinpath("RPE-01/Plate1/B02_s1_w2.png").write_bytes(b"")
    tmp_path.joinpath("HUVEC-01/Plate2/B02_s1_w2.png").unlink()
    report = inspect_dataset(read_dataset(tmp_path))
    assert dict(report.files.channels) == {"w1 + w2": 1, "w1": 1}
    reasons = [reason for _, reason in report.unreadable]
    assert "B02_s1_w2.png" in reasons[0]
    assert "must be of one size" in reasons[1]
    assert warned(report, "every class is of one experiment")


def test_channels_that_differ_in_their_last_word_are_told_apart(tmp_path: Path) -> None:
    for number, channel in enumerate(("GFP (488)", "GFP (561)")):
        save(tmp_path / f"a/B02 {channel}.tif", number)
    report = inspect_dataset(read_dataset(tmp_path, naming="{well} {channel}.tif"))
    assert dict(report.files.channels) == {"GFP (488) + GFP (561)": 1}


def test_grey_stored_as_colours_is_grey(tmp_path: Path) -> None:
    grey = np.random.default_rng(0).integers(0, 99, (8, 9)).astype("uint8")
    name = "Stage({:03d})-20230811-Cycle00-embryo03-3.tif"
    tifffile.imwrite(tmp_path / name.format(60), np.stack([grey] * 3, -1), photometric="rgb")
    coloured = np.stack([grey, grey // 2, grey], -1)
    tifffile.imwrite(tmp_path / name.format(69), coloured, photometric="rgb")
    report = inspect_dataset(read_dataset(tmp_path))
    assert dict(report.files.channels) == {"grey": 1, "RGB": 1}


def test_groups_and_their_splits(folder: Path) -> None:
    data = read_dataset(folder)
    data = Dataset(
        data.table.assign(plate=np.arange(24) % 6), data.classes, "plate", "guessed"
    ).split()
    report = inspect_dataset(data)
    assert len(report.groups) == 6
    assert report.groups["0"] == {"a": 2, "b": 2}
    assert sorted(report.group_splits.values()) == [
        "test", "train", "train", "train", "train", "validation",
    ]  # fmt: skip
    assert (report.leaks, report.warnings) == ((), ())
    leaking = inspect_dataset(data.split("random", allow_leakage=True))
    assert leaking.leakage_allowed
    assert leaking.warnings[0].startswith("LEAKAGE ALLOWED: ")
    assert set(leaking.leaks) <= set(leaking.groups)
    assert "+" in leaking.group_splits[leaking.leaks[0]]


def test_classes_that_are_rare_or_missing(folder: Path) -> None:
    data = read_dataset(folder)
    keep = (data.labels == 0) | (np.arange(24) % 6 == 0)
    splits = np.where(data.labels == 0, "test", "train")
    splits[0] = "train"
    rare = data.subset(keep).with_splits(splits[keep])
    report = inspect_dataset(
        Dataset(rare.table, (*rare.classes, ClassSpec(name="never")), source="x")
    )
    assert warned(report, "there is no image of never")
    assert warned(report, "no test image of b")
    assert warned(report, "fewer than 10 images of b")
    assert warned(report, "a has 6 times as many images as b")
    assert report.imbalance == 6


def test_the_report_is_plain_values(folder: Path) -> None:
    report = inspect_dataset(read_dataset(folder))
    assert json.loads(json.dumps(report.to_dict()))["files"]["shapes"] == {"8x9": 24}


def test_progress_and_stop(folder: Path) -> None:
    data = read_dataset(folder)
    seen: list[Progress] = []
    inspect_dataset(data, on_progress=seen.append)
    assert [(one.done, one.total) for one in seen] == [(n, 24) for n in range(1, 25)]
    seen.clear()
    with pytest.raises(CancelledError, match="after looking at 3 of 24"):
        inspect_dataset(data, on_progress=seen.append, should_stop=lambda: len(seen) == 3)
