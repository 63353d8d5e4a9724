"""File names of other people: ``--naming`` in every command that takes images."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import tifffile

from napari_cellclf.bundles.bundle import ModelBundle

if TYPE_CHECKING:
    from conftest import Result

    Run = Callable[..., Result]

PATTERN = "{plate}/{well}_s{site}_w{channel}.tif"
TINY = (
    *("--architecture", "compact-cnn", "--epochs", "1", "--set", "size=[32,32]"),
    *("--set", "crop=null", "--set", "steps_per_epoch=2", "--weights", "none"),
)


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def screen(tmp_path: Path) -> Path:
    """Two classes, each two plates of three wells, one site in two channels; and an overview."""
    root, random = tmp_path / "screen", np.random.default_rng(0)
    for number, label in enumerate(("control", "treated")):
        for plate in (1, 2):
            folder = root / label / f"plate{plate}"
            folder.mkdir(parents=True)
            for well in ("B02", "B03", "B04"):
                for channel in (1, 2):
                    pixels = random.normal(40 + 90 * number + channel, 20, (32, 32)).clip(0, 255)
                    tifffile.imwrite(folder / f"{well}_s1_w{channel}.tif", pixels.astype(np.uint8))
    tifffile.imwrite(root / "control" / "overview.tif", np.zeros((8, 8), np.uint8))
    return root


def test_data_shows_how_names_are_read(cellclf: Run, screen: Path, tmp_path: Path) -> None:
    done = cellclf("data", screen, "--naming", PATTERN, "--out", tmp_path / "report")
    assert done.code == 0
    assert done.lines[:2] == [
        "24 of 25 file names are understood; 1 is not, such as control/overview.tif",
        "control/plate1/B02_s1_w1.tif -> plate plate1, well B02, site 1, channel 1",
    ]
    assert "12 images in 2 folders of classes" in done.out
    assert "kept together by: plate (2 groups)" in done.lines
    assert "channel 1 + channel 2" in done.out
    assert (tmp_path / "report" / "report.txt").read_text(encoding="utf-8") == done.out


@pytest.mark.parametrize("naming", ["{well_w{channel}.tif", "harmony"])
@pytest.mark.parametrize("command", ["predict", "evaluate", "data", "train", "tune"])
def test_an_unusable_naming_is_one_line(
    cellclf: Run, screen: Path, tmp_path: Path, command: str, naming: str
) -> None:
    arguments = {
        "predict": ["rxrx1-celltype", screen],
        "evaluate": ["rxrx1-celltype", screen, "--out", tmp_path / "out"],
        "data": [screen],
        "train": [screen, "--out", tmp_path / "out"],
        "tune": [screen, "--out", tmp_path / "out", "--trials", 1],
    }[command]
    done = cellclf(command, *arguments, "--naming", naming)
    assert done.code == 1
    assert "such as {" in done.err
    assert len(done.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_names_that_do_not_fit_are_one_line(cellclf: Run, screen: Path) -> None:
    done = cellclf("predict", "rxrx1-celltype", screen, "--naming", "{site}-{channel}.tif")
    assert done.code == 1
    assert "none of the 25 images below" in done.err


def test_the_whole_way(cellclf: Run, screen: Path, tmp_path: Path) -> None:
    run = tmp_path / "mine"
    done = cellclf("train", screen, "--naming", PATTERN, *TINY, "--out", run)
    assert done.code == 0, done.err
    assert json.loads((run / "run.json").read_text())["naming"] == PATTERN
    model = ModelBundle.load(run / "model.cellclf")
    assert model.spec.training.naming == PATTERN
    assert model.spec.input.channels == ("channel 1", "channel 2")

    # The model remembers it; what is named otherwise is left out, and that is said.
    table = tmp_path / "table.csv"
    done = cellclf("predict", run / "model.cellclf", screen / "control", "--out", table)
    assert done.code == 0, done.err
    assert f"file names are read as in training: {PATTERN}" in done.err
    assert "1 image is not named like" in done.err
    with table.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["well"] for row in rows] == ["B02", "B03", "B04"] * 2
    assert {row["plate"] for row in rows} == {"plate1", "plate2"}
    # Names that do not fit are read as without it.
    done = cellclf("predict", run / "model.cellclf", screen / "control" / "overview.tif")
    assert "in training" not in done.err

    done = cellclf("evaluate", run / "model.cellclf", screen, "--out", tmp_path / "report")
    assert done.code == 0, done.err
    assert (
        json.loads((tmp_path / "report" / "metrics.json").read_text())["evaluations"][0]["n"] == 12
    )
    done = cellclf("evaluate", run, run, "--out", tmp_path / "again", "--naming", PATTERN)
    assert done.code == 1
    assert "--naming is for new data" in done.err
    done = cellclf("evaluate", run, run, "--out", tmp_path / "again")
    assert done.code == 0, done.err
    done = cellclf("train", run, "--naming", PATTERN)
    assert "--naming cannot be changed" in done.err
