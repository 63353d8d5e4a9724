"""Tables of labelled images: read as users write them, and back as they were written."""

from __future__ import annotations

import csv
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.errors import DatasetError, InputError, NoImagesError
from napari_cellclf.io.dataset_tables import make_frame, read_dataset_csv, write_dataset_csv
from napari_cellclf.io.datasets import read_dataset


def write(folder: Path, text: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_a_users_table(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        "Path, Label ,Group,split,minutes,code\n"
        "images/1.png,stage 02,e1,train,22,007\n"
        "images/2.png,stage 10,e2,valid,34,008\n"
        "\n"
        ",,,,,\n"
        "images/3.png,stage 02,e3,,,009\n",
    )
    data = read_dataset(path)
    assert data.paths == tuple(str(tmp_path / f"images/{n}.png") for n in (1, 2, 3))
    assert [(spec.name, spec.value, spec.unit) for spec in data.classes] == [
        ("stage 02", 2, "stage"),
        ("stage 10", 10, "stage"),
    ]
    assert data.table["split"].tolist() == ["train", "validation", ""]
    assert data.group_column == "group"
    # Columns are text: codes are no numbers.
    assert data.table["minutes"].tolist() == ["22", "34", ""]
    assert data.table["code"].tolist() == ["007", "008", "009"]


def test_any_column_is_a_label(tmp_path: Path) -> None:
    path = write(tmp_path, "path,phase,label\n1.png,G1,x\n2.png,S,y\n")
    data = read_dataset(path, label="phase")
    assert data.class_names == ("G1", "S")
    assert data.table["phase"].tolist() == ["G1", "S"]
    with pytest.raises(DatasetError, match=r"no column 'stage' \(its columns: path, phase, label"):
        read_dataset(path, label="stage")


def test_names_in_a_table_say_what_they_say_elsewhere(tmp_path: Path) -> None:
    site = "HUVEC-01/Plate2/B02_s1_w{}.png"
    embryo = "Stage(060)-20230811-Cycle00-embryo03-3.tif"
    for name in (site.format(1), site.format(2), embryo):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    path = write(
        tmp_path, f"path,label,plate\n{site.format(2)},a,9\n{site.format(1)},a,9\n{embryo},b,\n"
    )
    data = read_dataset(path)
    # Two files of one site are that site, and what the table says goes before its name.
    assert data.paths == (str(tmp_path / site.format(1)), str(tmp_path / embryo))
    assert data.table["plate"].tolist()[0] == "9"
    assert data.table["experiment"].tolist() == ["HUVEC-01", ""]
    assert data.table["minute"].tolist()[1] == "60"
    assert data.source.endswith("1 row names an image again and is left out")


def test_two_labels_for_one_image_are_kept_to_be_reported(tmp_path: Path) -> None:
    data = read_dataset(write(tmp_path, "path,label\n1.png,a\n1.png,b\n1.png,a\n"))
    assert data.table["label"].tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,label\n1.png,a\n", "no column 'path'"),
        ("path,label\n1.png,\n", "has no 'label'"),
        ("path,label,split\n1.png,a,eval\n", "the split 'eval'"),
        ("path,label\n", "names no images"),
        ("", "no column 'path'"),
        ("path,label\ns3://bucket/1.png,a\n", "looks like a URL"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_dataset(write(tmp_path, text))


def test_a_picture_is_no_table(tmp_path: Path) -> None:
    path = tmp_path / "image.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\x00\xff")
    with pytest.raises(InputError, match="table"):
        read_dataset(path)


# File systems take anything but a slash and a zero byte.
NAMES = st.text(
    st.characters(exclude_characters="/\\\0", exclude_categories=["Cs"]), min_size=1, max_size=8
).filter(lambda name: name not in (".", ".."))
LABELS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8)
CELLS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["=1+1", "'=1+1", "''-x", "12", "'12", "007", "1e5", "nan", "", "-", "+3", "@"]
    ),
)


@given(
    st.lists(
        st.tuples(NAMES, LABELS, st.sampled_from(["", "train", "validation", "test"]), CELLS),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_is_in_a_data_set_comes_back(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[tuple[str, str, str, str]],
) -> None:
    root = tmp_path_factory.mktemp("round")
    table = make_frame(
        [
            {"path": str(root / name), "label": label, "split": split, "says": cell}
            for name, label, split, cell in rows
        ]
    )
    classes = tuple(ClassSpec(name=name) for name in sorted(set(table["label"])))
    data = Dataset(table, classes, "says", "because", "somewhere", True)
    write_dataset_csv(data, root / "dataset.csv", root)
    again = read_dataset_csv(
        root / "dataset.csv",
        root,
        classes=classes,
        group_column="says",
        group_reason="because",
        source="somewhere",
        leakage_allowed=True,
    )
    pd.testing.assert_frame_equal(again.table, data.table, check_exact=True)
    assert again.sha256 == data.sha256
    assert again.classes == classes
    assert again.groups.tolist() == data.groups.tolist()


def small(root: Path, **columns: list[object]) -> Dataset:
    table = pd.DataFrame({"path": [str(root / "=a.png"), "/elsewhere/b.png"], **columns})
    return Dataset(
        table.assign(label="x", split="train"), (ClassSpec(name="x"),), source="somewhere"
    )


def test_cells_that_look_like_formulas_are_not(tmp_path: Path) -> None:
    write_dataset_csv(small(tmp_path, note=["@cmd", "'=1"]), tmp_path / "d.csv", tmp_path)
    with tmp_path.joinpath("d.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [
        ["'=a.png", "x", "train", "'@cmd"],
        ["/elsewhere/b.png", "x", "train", "''=1"],
    ]
    again = read_dataset_csv(tmp_path / "d.csv", tmp_path)
    assert again.table["note"].tolist() == ["@cmd", "'=1"]


def test_numbers_that_were_text_stay_text(tmp_path: Path) -> None:
    data = small(tmp_path, date=["20230811", "20230812"], mixed=["12", "x"], plate=[1, 2])
    write_dataset_csv(data, tmp_path / "d.csv", tmp_path)
    again = read_dataset_csv(tmp_path / "d.csv", tmp_path).table
    assert again["date"].tolist() == ["20230811", "20230812"]
    assert again["mixed"].tolist() == ["12", "x"]
    assert again["plate"].tolist() == ["1", "2"]


def test_a_run_that_was_moved_with_its_data(tmp_path: Path) -> None:
    write_dataset_csv(small(tmp_path), tmp_path / "d.csv", tmp_path)
    moved = read_dataset_csv(tmp_path / "d.csv", "/new/place")
    assert moved.paths == ("/new/place/=a.png", "/elsewhere/b.png")


def test_names_that_are_no_text_come_back(tmp_path: Path) -> None:
    table = pd.DataFrame({"path": [str(tmp_path / "\udcff.png")], "label": ["x"], "split": [""]})
    data = Dataset(table, (ClassSpec(name="x"),))
    write_dataset_csv(data, tmp_path / "d.csv", tmp_path)
    assert read_dataset_csv(tmp_path / "d.csv", tmp_path).paths == data.paths


def test_what_was_written_is_data_again(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {"path": [str(tmp_path / f"{n}.png") for n in range(4)], "label": list("abab")}
    ).assign(split=["train", "train", "validation", "test"], embryo=[1, 1, 2, 3], date="20230811")
    data = Dataset(table, (ClassSpec(name="a"), ClassSpec(name="b")), "embryo")
    write_dataset_csv(data, tmp_path / "d.csv", tmp_path)
    again = read_dataset(tmp_path / "d.csv", group="embryo")
    assert again.sha256 == data.sha256
    assert again.leaks() == ()


def test_tables_that_were_not_written_for_a_run(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="lacks split"):
        read_dataset_csv(write(tmp_path, "path,label\n1.png,a\n"), tmp_path)
    with pytest.raises(DatasetError, match="has no rows"):
        read_dataset_csv(write(tmp_path, "path,label,split\n"), tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_dataset_csv(tmp_path / "nothing.csv", tmp_path)


def test_a_table_that_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_dataset_csv(small(tmp_path), tmp_path / "none" / "d.csv", tmp_path)
    tmp_path.joinpath("d.csv").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_dataset_csv(small(tmp_path), tmp_path / "d.csv", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["d.csv"]


def test_an_empty_table_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(NoImagesError, match="fill its column 'path'"):
        read_dataset(write(tmp_path, "path,label\n,a\n"))
