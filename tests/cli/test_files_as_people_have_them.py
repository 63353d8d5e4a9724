"""The commands on tables and folders as people have them: the right values, kind by kind."""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image as Pillow

from napari_cellclf.cli.app import build_parser

Run = Callable[..., Any]
WritePng = Callable[[Path, int], None]
CODES = ["0_1", "1_0", "4E3", "1.10", "1.1", "007", "-5", "+/-"]


@pytest.fixture
def sites(plate: Path) -> list[Path]:
    """The first file of each of two sites."""
    return [plate / f"HUVEC-01/Plate1/{well}_s1_w1.png" for well in ("B02", "B03")]


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_codes_in_tables_come_out_as_they_went_in(
    cellclf: Run, bundle: Path, sites: list[Path], tmp_path: Path
) -> None:
    columns = [f"c{number}" for number in range(len(CODES))]
    listed = tmp_path / "t.csv"
    listed.write_text(f"path,{','.join(columns)}\n{sites[0]},{','.join(CODES)}\n")
    assert cellclf("predict", bundle, listed, "--out", tmp_path / "p.csv").code == 0
    (row,) = read(tmp_path / "p.csv")
    assert [row[name] for name in columns] == CODES
    (line,) = cellclf("predict", bundle, listed, "--json").lines
    assert [json.loads(line)["metadata"][name] for name in columns] == CODES


def test_groups_that_look_like_numbers_are_not_one(
    cellclf: Run, write_png: WritePng, tmp_path: Path
) -> None:
    text = "path,label,group\n"
    for number, group in enumerate(("1.1", "1.10", "0_1", "1") * 2):
        write_png(tmp_path / f"{number}.png", number)
        text += f"{number}.png,{'ab'[number // 4]},{group}\n"
    (tmp_path / "t.csv").write_text(text)
    done = cellclf("data", tmp_path / "t.csv", "--out", tmp_path / "report")
    assert "kept together by: group (4 groups)" in done.lines
    rows = read(tmp_path / "report/dataset.csv")
    assert [row["group"] for row in rows] == ["1.1", "1.10", "0_1", "1"] * 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp1252", "utf-16"])
@pytest.mark.parametrize(
    "form", ["path;label\n{};größe\n{};klein\n", "sep=|\npath|label\n{}|größe\n{}|klein\n"]
)
def test_tables_are_read_as_spreadsheets_save_them(
    cellclf: Run, bundle: Path, sites: list[Path], tmp_path: Path, encoding: str, form: str
) -> None:
    listed = tmp_path / "t.csv"
    listed.write_bytes(form.format(*sites).encode(encoding))
    done = cellclf("data", listed)
    assert [line.split()[0] for line in done.lines[3:5]] == ["größe", "klein"]
    done = cellclf("predict", bundle, listed, "--out", tmp_path / "p.csv")
    assert done.code == 0
    assert len(read(tmp_path / "p.csv")) == 2
    assert ("read as Western European text (cp1252)" in done.err) == (encoding == "cp1252")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("t.csv", b"path,label\n1.png,a\nplate 1, day 2/2.png,b\n", "line 3 has 3"),
        ("t.csv", b"path,label,dose,dose\n1.png,a,1,2\n", "two columns 'dose'"),
        ("t.csv", b"path,label\n1.png," + b"a" * 200_000 + b"\n", "field larger than field limit"),
        ("t.xlsx", b"PK\x03\x04", "is a workbook, not a CSV table"),
        ("t.csv", "path,label\n1.png,контроль\n".encode("cp1251"), "save the table as CSV UTF-8"),
    ],
)
@pytest.mark.parametrize("command", ["data", "predict", "train", "evaluate", "tune"])
def test_tables_that_cannot_be_right_are_refused_by_every_command_alike(
    cellclf: Run, bundle: Path, tmp_path: Path, command: str, name: str, content: bytes, says: str
) -> None:
    (tmp_path / name).write_bytes(content)
    model = [bundle] if command in ("predict", "evaluate") else []
    out = [] if command in ("data", "predict") else ["--out", tmp_path / "out"]
    trials = ["--trials", 2] if command == "tune" else []
    done = cellclf(command, *model, tmp_path / name, *out, *trials)
    assert done.code == 1
    assert says in done.err
    assert done.err.count("\n") == 1


def test_what_vanishes_is_counted_and_named(
    cellclf: Run, bundle: Path, write_png: WritePng, plate: Path, tmp_path: Path
) -> None:
    write_png(tmp_path / "d/alive/1.png", 1)
    write_png(tmp_path / "d/spindle-checkpoint/1.png", 2)
    (tmp_path / "d/dead").mkdir()
    (tmp_path / "d/dead/1.czi").touch()
    done = cellclf("data", tmp_path / "d")
    assert [line.split()[0] for line in done.lines[3:5]] == ["alive", "spindle-checkpoint"]
    assert "no classes: dead" in done.lines[0]
    assert "1 file has an ending that is not read: .czi (1)" in done.lines[0]
    (plate / "HUVEC-01/Plate1/B02_s1_w1_thumb.png").touch()
    (plate / "HUVEC-01/x.nd2").touch()
    done = cellclf("predict", bundle, plate)
    assert len(done.lines) == 3
    assert "1 file made by another program (a thumbnail, a copy) is left out" in done.err
    assert "1 file has an ending that is not read: .nd2 (1)" in done.err


def test_our_own_report_does_not_appear(cellclf: Run, write_png: WritePng, tmp_path: Path) -> None:
    for name in "ab":
        write_png(tmp_path / f"{name}/1.png", 1)
    first = cellclf("data", tmp_path, "--out", tmp_path / "report")
    again = cellclf("data", tmp_path, "--out", tmp_path / "report", "--overwrite")
    assert again.lines[2:6] == first.lines[2:6]
    assert "1 folder of results of this program is left out" in again.lines[0]


def test_the_kind_of_data_can_be_chosen(cellclf: Run, write_png: WritePng, tmp_path: Path) -> None:
    for folder in ("siRNA-1", "siRNA-2", "ctrl-1"):
        for channel in range(1, 7):
            write_png(tmp_path / f"{folder}/Plate1/B02_s1_w{channel}.png", channel)
    done = cellclf("data", tmp_path)
    assert "the folders siRNA-1, siRNA-2 are one class, siRNA" in done.lines[0]
    done = cellclf("data", tmp_path, "--kind", "folders")
    assert [line.split()[0] for line in done.lines[3:6]] == ["ctrl-1", "siRNA-1", "siRNA-2"]


def test_tables_are_written_for_excel_on_request(
    cellclf: Run, bundle: Path, sites: list[Path], tmp_path: Path
) -> None:
    listed = tmp_path / "t.csv"
    listed.write_text(f"path,label\n{sites[0]},nuclei\n{sites[1]},reticulum\ngone.png,nuclei\n")
    assert cellclf("predict", bundle, listed, "--out", tmp_path / "p.csv", "--excel").code == 3
    assert cellclf("data", listed, "--out", tmp_path / "data", "--excel").code == 3
    assert cellclf("evaluate", bundle, listed, "--out", tmp_path / "e", "--excel").code == 3
    for name in ("p", "p.bad_files", "data/dataset", "data/bad_files", "e/predictions"):
        assert (tmp_path / f"{name}.csv").read_bytes().startswith(b"\xef\xbb\xbf")
    # What was written is read again.
    assert cellclf("data", tmp_path / "p.csv").lines[0].startswith("2 images")
    assert cellclf("data", tmp_path / "data/dataset.csv").lines[0].startswith("3 images")


def test_excel_gets_all_that_is_said_of_an_image(
    cellclf: Run, telling: Path, plate: Path, tmp_path: Path
) -> None:
    table = tmp_path / "p.csv"
    assert cellclf("predict", telling, plate, "--sets", "--out", table, "--excel").code == 0
    with table.open(encoding="utf-8-sig", newline="") as file:
        first, second = csv.DictReader(file)
    columns = ["prediction_set", "unlike", "unlike_score", "remarks"]
    assert [name for name in first if name in columns] == columns
    for row in (first, second):
        assert set(row["prediction_set"].split("; ")) == {"nuclei", "reticulum"}
        assert row["unlike"] == str(float(row["unlike_score"]) > 1)
        assert "constant channel" in row["remarks"] or "empty image" in row["remarks"]


def mixed(folder: Path, write_png: WritePng, odd: str) -> Path:
    """Two classes of twelve grey images, and one image or more that does not go with them."""
    for number in range(24):
        write_png(folder / f"{'ab'[number % 2]}/{number:02d}.png", 100 * (number % 2) + number)
    if odd == "empty":
        (folder / "a/broken.png").write_bytes(b"")
    elif odd == "damaged":
        whole = bytearray((folder / "a/02.png").read_bytes())
        whole[len(whole) // 2] ^= 0xFF
        (folder / "a/02.png").write_bytes(whole)
    elif odd == "colour":
        for number in range(4):
            pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), np.uint8)
            Pillow.fromarray(pixels).save(folder / f"b/colour{number}.png")
    elif odd == "planes":
        for number in range(4):
            planes = np.full((3, 16, 16), number, np.uint8)
            tifffile.imwrite(
                folder / f"b/z{number}.tif", planes, imagej=True, metadata={"axes": "ZYX"}
            )
    return folder


@pytest.mark.parametrize(
    ("odd", "goes_on"), [("empty", True), ("damaged", True), ("colour", False), ("planes", False)]
)
def test_what_data_foretells_is_what_train_does(
    cellclf: Run, write_png: WritePng, tmp_path: Path, odd: str, goes_on: bool
) -> None:
    folder = mixed(tmp_path / "images", write_png, odd)
    foretold = cellclf("data", folder)
    assert foretold.code == 3
    assert ("training would leave 1 image out" in foretold.out) == goes_on
    assert ("training would refuse these files in " in foretold.out) != goes_on
    # An option of another command is no remedy.
    assert "--channels" not in foretold.out
    done = cellclf("train", folder, "--epochs", 1, "--out", tmp_path / "run")
    assert (done.code == 0) == goes_on
    if goes_on:
        assert done.err.count("is left out") == 1
    else:
        # The same sentence.
        reason = done.err.splitlines()[-1].removeprefix("cellclf: error: ")
        assert reason in foretold.out


def test_the_table_that_predict_writes_can_be_trained_from(
    cellclf: Run, bundle: Path, plate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(plate)
    table = tmp_path / "answers.csv"
    assert cellclf("predict", bundle, "HUVEC-01", "--out", table).code == 0
    assert [row["image"] for row in read(table)] == [
        f"HUVEC-01/Plate1/{well}_s1_w1.png" for well in ("B02", "B03")
    ]
    # Its names of images are those that were typed here.
    done = cellclf("data", table)
    assert done.lines[0].startswith("2 images of the table")
    assert done.lines[3].split()[:2] == ["nuclei", "1"]
    assert "cannot be used" not in done.out


def test_a_run_may_have_any_name(cellclf: Run, write_png: WritePng, tmp_path: Path) -> None:
    folder = mixed(tmp_path / "images", write_png, "")
    out = tmp_path / "größe, 2. Versuch (neu)"
    assert cellclf("train", folder, "--epochs", 1, "--out", out).code == 0
    shown = cellclf("predict", out / "model.cellclf", folder / "a")
    assert shown.code == 0
    assert len(shown.lines) == 13


def test_the_same_options_have_the_same_names_everywhere() -> None:
    """Where a command has one, it is called so, and `--force` is `--overwrite`."""
    parsers = dict(commands(build_parser()))
    with_option = {
        option: {name for name, parser in parsers.items() if option in parser.format_help()}
        for option in ("--overwrite", "--force", "--size", "--every", "--json", "--kind", "--excel")
    }
    assert with_option["--overwrite"] == with_option["--force"]
    assert {"data", "predict", "evaluate", "models fetch"} <= with_option["--overwrite"]
    assert {"train", "tune", "models import"} <= with_option["--size"]
    assert {"data", "train", "tune", "evaluate"} == with_option["--every"]
    assert {"data", "train", "tune", "evaluate"} == with_option["--kind"]
    assert {"data", "train", "tune", "evaluate", "predict", "info"} <= with_option["--json"]
    assert {"data", "evaluate", "predict"} == with_option["--excel"]


def commands(
    parser: argparse.ArgumentParser, before: str = ""
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Go over all commands and their parsers."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield f"{before}{name}", below
                yield from commands(below, f"{before}{name} ")


def test_what_came_of_it_is_one_json_document(
    cellclf: Run, write_png: WritePng, tmp_path: Path
) -> None:
    folder = mixed(tmp_path / "images", write_png, "")
    (line,) = cellclf("data", folder, "--json").lines
    assert json.loads(line)["n_images"] == 24
    out = tmp_path / "run"
    done = cellclf("train", folder, "--epochs", 1, "--size", "8x12", "--json", "--out", out)
    document = json.loads(done.out)
    assert Path(document["model"]).is_dir()
    assert document["metrics"]["n"] > 0
    assert json.loads((out / "run.json").read_text())["config"]["size"] == [8, 12]


def test_many_failures_are_few_lines(
    cellclf: Run, bundle: Path, sites: list[Path], tmp_path: Path
) -> None:
    gone = "".join(f"gone/{number:05d}.tif\n" for number in range(300))
    (tmp_path / "t.csv").write_text(f"path\n{gone}{sites[0]}\n")
    done = cellclf("predict", bundle, tmp_path / "t.csv")
    assert done.code == 3
    assert len(done.err.splitlines()) < 10
    assert "... and 299 more images for the same reason as" in done.err
