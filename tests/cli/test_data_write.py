"""cellclf data --write: the images that the network would see, as files in folders."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

import napari_cellclf as cc
from napari_cellclf.core.image import rotate_image
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.io.written_images import WriteOptions, write_images

#: Arguments to a result with `code`, `out`, `err` and `lines`.
Run = Callable[..., Any]


@pytest.fixture
def embryos(tmp_path: Path) -> Path:
    """Two stages of four embryos, 16 bits, dark, as cameras save them."""
    folder = tmp_path / "raw"
    folder.mkdir()
    random = np.random.default_rng(0)
    for minute in (51, 60):
        for embryo in range(1, 5):
            name = f"Stage({minute:03d})-20230811-Cycle00-embryo{embryo:02d}-1.tif"
            tifffile.imwrite(folder / name, random.integers(0, 14_000, (30, 40), np.uint16))
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "dataset.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_the_second_project_made_is_written(
    cellclf: Run, embryos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = cellclf("data", embryos, "--write", out, "--preset", "drosophila-seed")
    assert result.code == 0, result.err
    rows = rows_of(out)
    assert {row["split"] for row in rows} == {"train", "validation", "test"}
    for row in rows:
        path = out / row["path"]
        assert path.suffix == ".png"
        assert path.parts[-3:-1] == (row["split"], row["label"])
        original = cc.read_image(row["original"])
        turned = rotate_image(original, float(row["turned"]), "keep").to_cyx()[0]
        # The upper 8 bits, 7 times as bright, saturating.
        expected = np.minimum((turned >> 8).astype(int) * 7, 255)
        np.testing.assert_array_equal(np.asarray(Pillow.open(path)), expected)
        image = cc.read_image(path)
        np.testing.assert_array_equal(image.data, expected)
        assert image.metadata["factor"] == 7
        assert image.metadata["rotation"] == int(row["turned"])
    angles = sorted({float(row["turned"]) for row in rows if row["split"] == "train"})
    assert angles == [0, 45, 90, 135, 180, 270]
    assert {row["turned"] for row in rows if row["split"] != "train"} == {"0"}


def test_what_was_written_is_the_same_data_set(cellclf: Run, embryos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert cellclf("data", embryos, "--every", 1, "--write", out).code == 0
    split = read_dataset(embryos, every=1).split()
    for source in (out / "dataset.csv", out):
        again = read_dataset(source, kind="splits") if source == out else read_dataset(source)
        again = again.split("given")
        assert sorted(zip(again.table["label"], again.table["split"], strict=True)) == sorted(
            zip(split.table["label"], split.table["split"], strict=True)
        )
    for row in rows_of(out):
        np.testing.assert_array_equal(
            cc.read_image(out / row["path"]).data, cc.read_image(row["original"]).data
        )


@pytest.mark.parametrize(("bits", "ending"), [(8, "png"), (16, "tif"), (16, "png")])
def test_bits_and_formats(
    cellclf: Run, embryos: Path, tmp_path: Path, bits: int, ending: str
) -> None:
    out = tmp_path / "out"
    done = cellclf("data", embryos, "--write", out, "--bits", bits, "--format", ending)
    assert done.code == 0, done.err
    for row in rows_of(out):
        image = cc.read_image(out / row["path"])
        assert (image.dtype, row["path"][-3:]) == (f"uint{bits}", ending)
        raw = cc.read_image(row["original"]).data
        expected = raw if bits == 16 else np.rint(np.float32(raw) * np.float32(255 / 65535))
        np.testing.assert_allclose(image.data, expected, atol=1 if bits == 8 else 0)


def test_sites_keep_their_channels(tmp_path: Path, plate: Path) -> None:
    data = read_dataset(plate, label="well").split("random", fractions=(0.5, 0.0, 0.5))
    written = write_images(data, tmp_path / "out", WriteOptions())
    assert written.bad == ()
    for path, original in zip(
        written.dataset.paths, written.dataset.table["original"], strict=True
    ):
        image, wanted = cc.read_image(path), cc.read_image(original)
        assert image.channels == wanted.channels
        np.testing.assert_array_equal(image.data, wanted.data)


def test_bad_images_are_listed_and_others_go_on(
    cellclf: Run, embryos: Path, tmp_path: Path
) -> None:
    path = sorted(embryos.iterdir())[0]
    path.write_bytes(path.read_bytes()[:200])
    out = tmp_path / "out"
    result = cellclf("data", embryos, "--write", out)
    assert "1 image was not written; bad_files.csv says why" in result.err
    assert len(rows_of(out)) == 7
    assert path.name in (out / "bad_files.csv").read_text()


def test_nothing_is_written_over_or_half(cellclf: Run, embryos: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine.txt").touch()
    result = cellclf("data", embryos, "--write", tmp_path / "out")
    assert result.code != 0
    assert "exists already; choose a folder that is new or empty" in result.err
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
    data = read_dataset(embryos).split()
    with pytest.raises(cc.errors.CancelledError):
        write_images(data, tmp_path / "stopped", WriteOptions(), should_stop=lambda: True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "raw"]


def test_nothing_is_written_among_the_data(cellclf: Run, embryos: Path) -> None:
    result = cellclf("data", embryos, "--write", embryos / "a" / "out")
    assert result.code != 0
    assert "would be taken for more data; choose a folder beside it" in result.err
    assert not (embryos / "a").exists()


def test_classes_of_any_name_are_written(cellclf: Run, tmp_path: Path) -> None:
    labels = ["nul", "con.1", "a/b", "Ab", "aB", "..", "ä" * 200]
    rows = ["path,label"]
    for label in labels:
        for _ in range(3):
            path = tmp_path / f"{len(rows)}.tif"
            tifffile.imwrite(path, np.full((8, 8), len(rows), "uint8"))
            rows.append(f"{path},{label}")
    (tmp_path / "t.csv").write_text("\n".join(rows), encoding="utf-8")
    assert cellclf("data", tmp_path / "t.csv", "--write", tmp_path / "out").code == 0
    names = {path.name for path in (tmp_path / "out" / "train").iterdir()}
    assert names == {"nul_", "con_.1", "a_b", "Ab", "aB_", "_", "ä" * 100}
    assert set(read_dataset(tmp_path / "out" / "dataset.csv").class_names) == set(labels)


def test_options_of_writing_need_it(cellclf: Run, embryos: Path) -> None:
    result = cellclf("data", embryos, "--bits", 8)
    assert result.code != 0
    assert "belong to --write" in result.err
