"""Tables and folders as people have them: what is right is stated here, kind by kind."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from napari_cellclf.errors import DatasetError, InputError
from napari_cellclf.io.csv_tables import escape, read_csv, safe_cell, unescape
from napari_cellclf.io.dataset_tables import read_dataset_csv, write_dataset_csv
from napari_cellclf.io.datasets import read_dataset
from napari_cellclf.io.read import read_image
from napari_cellclf.io.sources import collect_sources

CODES = ["0_1", "1_0", "4E3", "1.10", "1.1", "007", "1e400", "-5", "+/-", "nan", "12"]


def touch(root: Path, *names: str) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def table(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_codes_in_tables_come_out_as_they_went_in(tmp_path: Path) -> None:
    rows = "".join(f"{n}.png,{'ab'[n % 2]},{code}\n" for n, code in enumerate(CODES))
    path = table(tmp_path, f"path,label,sample\n{rows}")
    assert [source.metadata["sample"] for source in collect_sources([path])] == CODES
    data = read_dataset(path, group="sample")
    assert data.groups.tolist() == CODES
    write_dataset_csv(data, tmp_path / "dataset.csv", tmp_path)
    cells = [line.split(",")[3] for line in (tmp_path / "dataset.csv").read_text().splitlines()]
    assert cells == ["sample", *CODES]
    again = read_dataset_csv(tmp_path / "dataset.csv", tmp_path, group_column="sample")
    assert again.groups.tolist() == CODES


@pytest.mark.parametrize("text", ["=1+1", "'=1", "''@x", "'12", "-a", "@", "+1-2", "x"])
def test_cells_that_are_no_formulas_come_back(text: str) -> None:
    assert unescape(escape(text)) == text
    assert safe_cell(text)[:1] not in ("=", "@")


LINES = "path;label;dose, nM\nimg/a.png;größe;1,5\nimg/b.png;µl;2\n"
SEPARATED = {"comma": ",", "semicolon": ";", "tab": "\t", "bar": "|"}


def written_with(mark: str) -> str:
    cells = [line.split(";") for line in LINES.splitlines()]
    quoted = [[f'"{cell}"' if mark in cell else cell for cell in row] for row in cells]
    return "".join(mark.join(row) + "\r\n" for row in quoted)


@pytest.mark.parametrize(
    "encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "utf-16-le", "utf-32"]
)
@pytest.mark.parametrize("mark", SEPARATED.values(), ids=SEPARATED)
@pytest.mark.parametrize(
    "first", ["", "sep={}\r\n", '"sep={}"\r\n'], ids=["plain", "sep", "quoted"]
)
def test_tables_are_read_as_spreadsheets_save_them(
    tmp_path: Path, encoding: str, mark: str, first: str
) -> None:
    path = table(tmp_path, first.format(mark) + written_with(mark), encoding)
    data = read_dataset(path)
    assert data.table["label"].tolist() == ["größe", "µl"]
    assert data.table["dose, nm"].tolist() == ["1,5", "2"]
    assert [source.metadata for source in collect_sources([path])] == [
        {"label": "größe", "dose, nM": "1,5"},
        {"label": "µl", "dose, nM": "2"},
    ]
    assert ("cp1252" in data.source) == (encoding == "cp1252")


def test_what_is_above_and_below_a_table_does_not_matter(tmp_path: Path) -> None:
    path = table(tmp_path, "sep=;\r\n\r\npath;note\r\n1.png;x\r\n\x1a")
    assert read_csv(path).rows == [{"path": "1.png", "note": "x"}]
    path = table(tmp_path, "sep=;\r\n\r\npath;note\r\n1.png;x;y\r\n")
    with pytest.raises(InputError, match="has 2 cells, but line 4 has 3"):
        read_csv(path)


def test_paths_may_be_written_as_on_windows(tmp_path: Path) -> None:
    touch(tmp_path, "a/b/1.png")
    data = read_dataset(table(tmp_path, "path,label\na\\b\\1.png,x\n"))
    assert data.paths == (str(tmp_path / "a/b/1.png"),)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_lines_may_end_in_any_way(tmp_path: Path, ends: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(f"path,note{ends}1.png,x{ends}2.png,y".encode())
    assert [row["note"] for row in read_csv(path).rows] == ["x", "y"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("path,label\n1.png,контроль\n".encode("cp1251"), "as CSV UTF-8"),
        ("path,label\n1.png,对照\n".encode("gbk"), "as CSV UTF-8"),
        ("path,label\n1.png,対照\n".encode("cp932"), "as CSV UTF-8"),
        ("path,label\n1.png,größe\n".encode("mac_roman"), "as CSV UTF-8"),
        ("path,label\n1.png,größe\n".encode("cp437"), "as CSV UTF-8"),
        (b"PK\x03\x04\x14\x00\x06\x00", "is a workbook"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is a workbook"),
        (b"\x89PNG\r\n\x1a\n", "is an image"),
        (b"path\0label\n", "as CSV UTF-8"),
        (b'path,label\n"1.png,a\n2.png,b\n', r"cannot be read as a CSV table: .*\(line 3\)"),
    ],
)
def test_other_tables_are_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    for read in (read_dataset, lambda one: collect_sources([one])):
        with pytest.raises(InputError, match=says) as caught:
            read(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("start", "says"),
    [(b"II*\0", "is an image, not a CSV table"), (b"path,label\n", "is 524,288 MiB large")],
)
def test_what_is_too_large_for_a_table_is_not_read(tmp_path: Path, start: bytes, says: str) -> None:
    path = tmp_path / "huge.csv"
    with path.open("wb") as handle:
        handle.write(start)
        try:
            handle.truncate(2**39)
        except OSError:
            pytest.skip("this file system has no files with holes")
    with pytest.raises(InputError, match=says):
        read_csv(path)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"path,label" + b"," * 2**20, "line 1 of .* is too long for a table"),
        (
            b"path,label\n1.png,a\n2.png," + b"," * (2**20 + 1),
            "line 3 of .* is too long for a table",
        ),
        (b"path,label\n" + b"\n" * 2_000_000, "line 2,000,001 of .* is one too many"),
        (",".join(map(str, range(16_385))).encode(), "has 16,385 columns; give at most 16,384"),
    ],
)
def test_lines_without_measure_are_refused(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=says):
        read_csv(path)


def test_a_workbook_is_refused_beside_images_too(tmp_path: Path) -> None:
    path = tmp_path / "plate.xlsx"
    path.write_bytes(b"PK\x03\x04")
    with pytest.raises(InputError, match="save it from the spreadsheet as CSV UTF-8"):
        collect_sources([path])


def test_rows_of_another_width_are_named(tmp_path: Path) -> None:
    path = table(tmp_path, 'path,label\n1.png,a\n"2\n.png",b\nplate 1, day 2/3.png,b\n4.png\n,,\n')
    for read in (read_dataset, lambda one: collect_sources([one])):
        with pytest.raises(InputError, match="has 2 cells, but line 5 has 3, line 6 has 1; corr"):
            read(path)


def test_two_columns_of_one_name_are_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label,dose,Dose \n1.png,a,1,2\n")
    for read in (read_dataset, lambda one: collect_sources([one])):
        with pytest.raises(InputError, match="two columns 'Dose'; rename or remove one"):
            read(path)


def test_rows_that_name_nothing_or_again_are_counted(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label\n1.png,a\n,b\n1.png,a\n")
    notes: list[str] = []
    assert len(collect_sources([path], on_note=notes.append)) == 1
    assert notes == [
        f"{path}: 1 row names an image again and is left out",
        f"{path}: 1 row names no image",
    ]
    source = read_dataset(path).source
    assert "; 1 row names no image; 1 row names an image again and is left out" in source


@pytest.mark.parametrize("ending", ["stk", "lsm", "btf", "tf8", "svs", "flex", "TIF"])
def test_files_of_other_endings_do_not_vanish(tmp_path: Path, ending: str) -> None:
    touch(tmp_path, "alive/1.png", "dead/a.czi", "dead/b.czi", "dead/c", "dead/notes.txt")
    tifffile.imwrite(tmp_path / f"alive/x.{ending}", np.full((4, 5), 7, np.uint8))
    data = read_dataset(tmp_path)
    assert len(data) == 2
    assert "no classes: dead" in data.source
    assert "3 files have endings that are not read: .czi (2), no ending (1)" in data.source
    notes: list[str] = []
    assert len(collect_sources([tmp_path], on_note=notes.append)) == 2
    assert notes == [
        f"{tmp_path}: 3 files have endings that are not read: .czi (2), no ending (1); convert "
        "them to TIFF or PNG"
    ]
    assert read_image(tmp_path / f"alive/x.{ending}").shape == (4, 5)


@pytest.mark.parametrize(("mode", "axes"), [("L", "YX"), ("RGB", "YXS"), ("P", "YXS"), ("1", "YX")])
def test_bitmaps_are_read(tmp_path: Path, mode: str, axes: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
    picture = Pillow.fromarray(pixels).convert(mode)
    picture.save(tmp_path / "x.bmp")
    found = read_image(tmp_path / "x.bmp")
    assert found.axes == axes
    wanted = np.asarray(picture.convert("L" if axes == "YX" else "RGB"))
    np.testing.assert_array_equal(found.data, wanted)
    whole = (tmp_path / "x.bmp").read_bytes()
    (tmp_path / "x.bmp").write_bytes(whole[:-3])
    with pytest.raises(InputError, match="truncated"):
        read_image(tmp_path / "x.bmp")


def test_classes_may_be_called_checkpoint(tmp_path: Path) -> None:
    touch(
        tmp_path,
        "control/1.png",
        "spindle-checkpoint/1.png",
        "spindle-checkpoint/G1-checkpoint.png",
    )
    touch(tmp_path, "control/1-checkpoint.png")
    data = read_dataset(tmp_path)
    assert data.class_names == ("control", "spindle-checkpoint")
    assert data.counts()["unsplit"].tolist() == [1, 2]
    # Jupyter's copy of the file beside it.
    assert data.source.endswith(f"left out, such as {tmp_path / 'control/1-checkpoint.png'}")


def test_thumbnails_and_our_own_results_do_not_appear(tmp_path: Path) -> None:
    touch(
        tmp_path, "a/1.png", "a/B02_s1_w1_Thumb.tif", "a/B02_s1_w1_thumb3FA2-19.TIF", "b/1.png",
        "a/@eaDir/1.png/thumb.jpg", "@eaDir/2.png", "b/#recycle/3.png",
        "run/run.json", "run/dataset.csv", "run/report/x.png",
        "report/report.txt", "report/dataset.csv", "report/classes-before.png",
    )  # fmt: skip
    data = read_dataset(tmp_path)
    assert [os.path.relpath(path, tmp_path) for path in data.paths] == ["a/1.png", "b/1.png"]
    assert "4 files made by other programs" in data.source
    assert "2 folders of results of this program are left out" in data.source
    assert [Path(one.id).name for one in collect_sources([tmp_path])] == ["1.png", "1.png"]


def test_folders_that_cannot_be_listed_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "a/1.png", "b/1.png", "b/deep/2.png", "c/1.png")
    closed = {str(tmp_path / "b/deep"), str(tmp_path / "c")}
    scandir = os.scandir

    def refuse(path: str) -> object:
        if os.fspath(path) in closed:
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    data = read_dataset(tmp_path)
    assert "no classes: c" in data.source
    for folder in closed:
        assert f"the folder {folder} cannot be listed (Permission denied)" in data.source


def test_parts_of_a_split_of_other_names(tmp_path: Path) -> None:
    for part in ("Training", "Validate", "holdout"):
        touch(tmp_path, f"known/{part}/a/1.png", f"known/{part}/b/1.png")
    data = read_dataset(tmp_path / "known")
    assert sorted(set(data.table["split"])) == ["test", "train", "validation"]
    touch(tmp_path, "other/train/a/1.png", "other/eval/a/1.png", "other/notes/x.txt")
    with pytest.raises(DatasetError, match="the folder train, but eval beside it is no part"):
        read_dataset(tmp_path / "other")
    assert read_dataset(tmp_path / "other", kind="folders").class_names == ("eval", "train")


def test_folders_that_are_one_class_by_their_names_are_named(tmp_path: Path) -> None:
    for folder in ("siRNA-1", "siRNA-2", "ctrl-1"):
        touch(tmp_path, *(f"{folder}/Plate1/B02_s1_w{w}.png" for w in range(1, 7)))
    data = read_dataset(tmp_path)
    assert data.class_names == ("ctrl", "siRNA")
    assert "the folders siRNA-1, siRNA-2 are one class, siRNA, by their names" in data.source
    data = read_dataset(tmp_path, kind="folders")
    assert data.class_names == ("ctrl-1", "siRNA-1", "siRNA-2")


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_one_name_written_in_two_ways_is_one_class(tmp_path: Path, form: str) -> None:
    def written(text: str, how: str) -> str:
        return unicodedata.normalize(how, text)

    touch(tmp_path, written("Größe/1.png", "NFC"), written("Größe/ä.png", "NFD"), "klein/1.png")
    data = read_dataset(tmp_path)
    assert data.class_names == ("Größe", "klein")
    assert len(data) == 3
    donors = "".join(f"{n}.png,x,{written('Müller', n)}\n" for n in ("NFC", "NFD"))
    data = read_dataset(table(tmp_path, f"path,label,donor\n{donors}"), group="donor")
    assert len(set(data.groups)) == 1
    # A spreadsheet may compose what the disk does not, and the other way round.
    names = "".join(f"{name},x\n" for name in ("Größe/1.png", "klein/1.png"))
    listed = table(tmp_path, written(f"path,label\n{names}", form))
    assert all(Path(path).is_file() for path in read_dataset(listed).paths)


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "gr\udcf6sse/1.png", "klein/1.png")
    with pytest.raises(DatasetError, match=r"'gr\\udcf6sse' is in an encoding .*; rename its fol"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_metadata_of_screens_is_read_as_spreadsheets_save_it(
    make_site: Callable[..., Path], tmp_path: Path, mark: str, encoding: str
) -> None:
    make_site("images/HUVEC-01/Plate1")
    rows = [("site_id", "cell_type", "sirna"), ("HUVEC-01_1_B02_1", "HUVEC", "s1.10")]
    text = "".join(mark.join(row) + "\r\n" for row in rows)
    (tmp_path / "metadata.csv").write_bytes(text.encode(encoding))
    (source,) = collect_sources([tmp_path])
    assert source.metadata["sirna"] == "s1.10"
    (tmp_path / "metadata.csv").write_bytes(
        (text + f"HUVEC-01_1_B02_1{mark}x\r\n").encode(encoding)
    )
    with pytest.raises(InputError, match=r"the row of HUVEC-01_1_B02_1 in the table .* has 2 c"):
        collect_sources([tmp_path])


@pytest.mark.parametrize(
    "names", [("01_train", "02_val"), ("trainset", "test set"), ("TRAIN", "dev")]
)
def test_parts_of_a_split_may_be_numbered_or_called_sets(
    tmp_path: Path, names: tuple[str, str]
) -> None:
    for name in names:
        touch(tmp_path, f"{name}/a/1.png", f"{name}/b/1.png")
    data = read_dataset(tmp_path)
    assert data.class_names == ("a", "b")
    assert data.table["split"].tolist()[:2] == ["train", "train"]


def test_what_lies_beside_the_parts_of_a_split_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "train/a/1.png", "test/a/1.png", "stray.png", "more/a/1.czi")
    source = read_dataset(tmp_path).source
    assert "1 image beside these folders has no class and is left out" in source
    assert "no classes: more" in source


def test_a_split_without_training_images_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "learn/a/1.png", "val/a/1.png", "test/a/1.png")
    with pytest.raises(DatasetError, match="holds test and val, but no folder train; rename"):
        read_dataset(tmp_path)
    # A class may be called test.
    touch(tmp_path, "classes/test/1.png", "classes/control/1.png")
    assert read_dataset(tmp_path / "classes").class_names == ("control", "test")


def test_classes_below_batches_are_named(tmp_path: Path) -> None:
    touch(tmp_path, *(f"batch{n}/{name}/1.png" for n in (1, 2) for name in ("alive", "dead")))
    data = read_dataset(tmp_path)
    assert data.class_names == ("batch1", "batch2")
    assert "each of these folders holds the same ones (alive, dead)" in data.source
    data = read_dataset(tmp_path, naming="{batch}/{label}/{image}")
    assert data.class_names == ("alive", "dead")


def test_links_to_nothing_are_named(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.png", "b /1.png", "b/2.png")
    (tmp_path / "c").symlink_to(tmp_path / "drive")
    data = read_dataset(tmp_path)
    assert data.class_names == ("a", "b")
    assert f"the folder {tmp_path / 'c'} cannot be listed (it is a link to nothing)" in data.source


def test_a_kind_that_cannot_be_is_refused(tmp_path: Path) -> None:
    path = table(touch(tmp_path, "a/1.png"), "path,label\na/1.png,x\n")
    with pytest.raises(DatasetError, match="is a folder, which cannot be of the kind 'table'"):
        read_dataset(tmp_path, kind="table")
    with pytest.raises(DatasetError, match="is a file, which cannot be of the kind 'folders'"):
        read_dataset(path, kind="folders")
