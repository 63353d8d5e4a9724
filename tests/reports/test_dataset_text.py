"""The report on a data set in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.dataset_report import Duplicates, FileFindings, make_report
from napari_cellclf.reports.dataset_summary import dataset_text


def plates(n: int = 24) -> Dataset:
    table = pd.DataFrame(
        {"path": [f"/d/{k}.png" for k in range(n)], "label": ["a", "bb"] * (n // 2)}
    ).assign(split="", plate=np.arange(n) // 4)
    classes = (ClassSpec(name="a"), ClassSpec(name="bb"))
    return Dataset(table, classes, "plate", "guessed from names", "24 images below /d")


FILES = FileFindings(shapes={"8x9": 20, "9x9": 4}, dtypes={"uint8": 24}, channels={"grey": 24})


def test_classes_groups_and_files_are_counted() -> None:
    text = dataset_text(make_report(plates().split(), FILES))
    lines = [line.split() for line in text.splitlines()]
    assert text.startswith("24 images below /d\n")
    assert ["class", "images", "train", "validation", "test"] in lines
    assert ["bb", "12", "8", "2", "2"] in lines
    assert ["all", "24", "16", "4", "4"] in lines
    assert "kept together by: plate (6 groups)\n  guessed from names" in text
    assert sum(line[1:] == ["train", "4", "2"] for line in lines) == 4
    assert "sizes:    8x9 (20), 9x9 (4)" in text
    assert text.endswith("\n")


def test_without_a_split_only_images_are_counted() -> None:
    lines = [line.split() for line in dataset_text(make_report(plates(), FILES)).splitlines()]
    assert ["class", "images"] in lines
    assert ["group", "images", "classes"] in lines


def test_nothing_odd_is_said() -> None:
    report = make_report(plates().split(), FileFindings(shapes={"8x9": 24}))
    assert dataset_text(report).endswith("nothing odd was found\n")


def test_bad_files_copies_and_planes_are_listed() -> None:
    files = FileFindings(
        unreadable=tuple((f"/d/{n}.png", f"/d/{n}.png: is damaged") for n in range(12)),
        duplicates=(
            Duplicates(("/d/1.png", "/d/2.png"), ("a", "bb"), ("", "")),
            Duplicates(("/d/3.png", "/d/5.png"), ("a", "a"), ("train", "test")),
        ),
        multi_plane={"/d/7.png": "T=5 Y=8 X=9"},
    )
    text = dataset_text(make_report(plates(), files))
    assert "cannot be used: 12\n  /d/0.png: is damaged" in text
    assert "  ... 2 more" in text
    assert "  labelled a and bb: /d/1.png, /d/2.png" in text
    assert "  in test and train: /d/3.png, /d/5.png" in text
    assert "  /d/7.png (T=5 Y=8 X=9)" in text


def test_long_lists_are_cut() -> None:
    n = 200
    table = pd.DataFrame(
        {"path": [f"/d/{k}.png" for k in range(n)], "label": [f"c{k:03d}" for k in range(n)]}
    ).assign(split="", well=np.arange(n))
    classes = tuple(ClassSpec(name=f"c{k:03d}") for k in range(n))
    text = dataset_text(make_report(Dataset(table, classes, "well"), FileFindings()))
    assert "... 140 more" in text
    assert "... 176 more" in text
    assert len(text.splitlines()) < 120


def test_names_cannot_act_on_a_terminal() -> None:
    data = plates()
    odd = Dataset(data.table, data.classes, "plate", "x", source=f"below {Path('/d')}/\x1b[2J\n")
    text = dataset_text(make_report(odd, FileFindings()))
    assert "\x1b" not in text
    assert "\\x1b[2J\\n" in text
