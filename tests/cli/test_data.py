"""cellclf data: the report before training."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from PIL import Image as Pillow

from napari_cellclf.io.datasets import read_dataset

if TYPE_CHECKING:
    from conftest import Result

    Run = Callable[..., Result]


@pytest.fixture
def embryos(tmp_path: Path) -> Path:
    """Two classes, six embryos, two times of each."""
    for number, kind in enumerate(("early", "late")):
        for embryo in range(1, 7):
            for time in (1, 2):
                path = tmp_path / f"data/{kind}/t{time}-embryo{embryo}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.full((8, 9), 100 * number + 10 * embryo + time, np.uint8)
                Pillow.fromarray(pixels).save(path)
    return tmp_path / "data"


def test_the_report(cellclf: Run, embryos: Path) -> None:
    done = cellclf("data", embryos)
    assert done.code == 0
    rows = [line.split() for line in done.lines]
    assert ["early", "12", "8", "2", "2"] in rows
    assert "kept together by: embryo (6 groups)" in done.lines
    assert "nothing odd was found" in done.lines
    assert "\x1b" not in done.out
    assert done.err == ""


def test_leakage_is_red_on_a_terminal_only(
    cellclf: Run, embryos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("data", embryos, "--split", "random", "--allow-leakage")
    assert "\x1b" not in cellclf(*command).out
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    (red,) = (line for line in cellclf(*command).lines if "\x1b" in line)
    assert red.startswith("\x1b[31m  - LEAKAGE ALLOWED: ")
    assert red.endswith("\x1b[0m")


def test_everything_is_written(cellclf: Run, embryos: Path, tmp_path: Path) -> None:
    out = tmp_path / "report"
    done = cellclf("data", embryos, "--out", out, "--seed", 3, "--copies", 4)
    assert done.code == 0
    assert sorted(path.name for path in out.iterdir()) == [
        "classes-after.png", "classes-before.png", "dataset.csv", "report.txt",
    ]  # fmt: skip
    assert out.joinpath("report.txt").read_text(encoding="utf-8") == done.out
    # The table is data, split in the same way.
    data = read_dataset(out / "dataset.csv", group="embryo")
    assert data.paths == read_dataset(embryos).paths
    assert data.sha256 == read_dataset(embryos).split(seed=3).sha256
    again = cellclf("data", out / "dataset.csv", "--group-by", "embryo")
    assert again.lines[1:6] == done.lines[1:6]
    assert again.lines[9:] == done.lines[9:]


def test_an_earlier_report_is_not_replaced_unasked(
    cellclf: Run, embryos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "report"
    assert cellclf("data", embryos, "--out", out).code == 0
    refused = cellclf("data", embryos, "--out", out)
    assert refused.code == 1
    assert "add --overwrite" in refused.err
    assert refused.out == ""
    assert cellclf("data", embryos, "--out", out, "--overwrite").code == 0
    assert "is a file" in cellclf("data", embryos, "--out", out / "report.txt").err


def test_leakage_is_refused_unless_allowed(cellclf: Run, embryos: Path) -> None:
    refused = cellclf("data", embryos, "--split", "random")
    assert refused.code == 1
    assert "--allow-leakage" in refused.err
    assert refused.out == ""
    allowed = cellclf("data", embryos, "--split", "random", "--allow-leakage")
    assert allowed.code == 0
    assert "  - LEAKAGE ALLOWED: " in allowed.out


def test_a_given_split_that_leaks_is_reported(cellclf: Run, embryos: Path, tmp_path: Path) -> None:
    root = tmp_path / "parts"
    for part, time in (("train", 1), ("test", 2)):
        for path in embryos.rglob(f"t{time}-*.png"):
            target = root / part / path.parent.name / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    done = cellclf("data", root)
    assert done.code == 0
    assert "  - LEAKAGE: 6 groups have images on both sides" in done.out
    assert "training would refuse this split" in done.out
    assert cellclf("data", root, "--split", "given").code == 1


def test_the_column_to_split_by(cellclf: Run, embryos: Path, tmp_path: Path) -> None:
    rows = [(path, path.parent.name, n % 5) for n, path in enumerate(embryos.rglob("*.png"))]
    table = tmp_path / "table.csv"
    with table.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "kind", "slide"), *rows])
    by_group = cellclf("data", table, "--label", "kind", "--group-by", "slide")
    assert "kept together by: slide (5 groups)" in by_group.lines
    by_column = cellclf("data", table, "--label", "kind", "--split", "slide")
    assert "  the group was chosen: slide" in by_column.lines
    missing = cellclf("data", table, "--label", "kind", "--group-by", "day")
    assert (missing.code, missing.out) == (1, "")
    assert "no column 'day'" in missing.err


def test_a_split_by_group_needs_a_group(cellclf: Run, tmp_path: Path) -> None:
    for number in range(6):
        path = tmp_path / f"{'ab'[number % 2]}/{number}.png"
        path.parent.mkdir(exist_ok=True)
        Pillow.fromarray(np.full((8, 9), number, np.uint8)).save(path)
    refused = cellclf("data", tmp_path, "--split", "group")
    assert refused.code == 1
    assert "name a column with --group-by" in refused.err
    assert cellclf("data", tmp_path, "--split", "random").code == 0


def test_a_split_that_cannot_be_is_no_reason_to_say_nothing(cellclf: Run, embryos: Path) -> None:
    for path in embryos.rglob("*.png"):
        if "embryo1" not in path.name:
            path.rename(path.with_name(path.name.replace("embryo", "x")))
    for path in embryos.rglob("*embryo1.png"):
        path.rename(path.with_name("Stage(060)-20230811-Cycle00-embryo03-3.png"))
    folder = embryos / "early"
    done = cellclf("data", folder.parent, "--minutes", "60-60")
    assert done.code == 0
    done = cellclf("data", _only_embryo(folder), "--every", 9)
    assert done.code == 0
    assert "training would refuse this split: all images are of one group" in done.out


def _only_embryo(folder: Path) -> Path:
    for path in folder.glob("t*.png"):
        path.unlink()
    return folder


def test_bad_files_are_listed_and_counted(cellclf: Run, embryos: Path, tmp_path: Path) -> None:
    bad = embryos / "late" / "t1-embryo1.png"
    bad.write_bytes(bad.read_bytes()[:40])
    done = cellclf("data", embryos, "--out", tmp_path / "out")
    assert done.code == 3
    assert "cannot be used: 1" in done.lines
    assert "training would leave 1 image out" in done.out
    listed = tmp_path.joinpath("out/bad_files.csv").read_text(encoding="utf-8").splitlines()
    assert listed[0] == "image,reason"
    assert listed[1].startswith(str(bad))


@pytest.mark.parametrize("minutes", ["51", "a-b", "204..51"])
def test_minutes_that_are_no_range(cellclf: Run, embryos: Path, minutes: str) -> None:
    done = cellclf("data", embryos, "--minutes", minutes)
    assert done.code == 2
    assert "is not a range such as 51-204" in done.err


@pytest.mark.parametrize("name", ["blood", "jurkat", "drosophila", "zebrafish/manifest.csv"])
def test_real_data(cellclf: Run, real_data: Path, name: str) -> None:
    done = cellclf("data", real_data / name)
    assert done.code == 0
    assert "cannot be read" not in done.out
