"""Real data sets in every layout."""

from __future__ import annotations

from pathlib import Path

import pytest

from napari_cellclf.core.dataset import Dataset
from napari_cellclf.errors import DatasetError
from napari_cellclf.io.dataset_inspection import inspect_dataset
from napari_cellclf.io.datasets import read_dataset


def test_rxrx1_is_split_by_the_plates_of_each_experiment(real_data: Path) -> None:
    data = read_dataset(real_data / "rxrx1")
    assert len(data) == 24
    assert data.class_names == ("HEPG2", "HUVEC", "RPE", "U2OS")
    assert data.group_column == "experiment+plate"
    split = data.split()
    assert split.counts().to_numpy().tolist() == [[2, 2, 2]] * 4
    assert split.leaks() == ()
    with pytest.raises(DatasetError, match="would not be trained"):
        data.split("experiment")
    folds = data.leave_one_group_out(by="plate")
    assert [(name, len(fold.train), len(fold.test)) for name, fold in folds] == [
        ("1", 16, 8), ("2", 16, 8), ("3", 16, 8),
    ]  # fmt: skip


def test_rxrx1_report(real_data: Path) -> None:
    report = inspect_dataset(read_dataset(real_data / "rxrx1"))
    assert dict(report.files.channels) == {
        "w1 + w2 + w3 + w4 + w5 + w6": 12,
        "w1 + w2 + w3 + w4": 12,
    }
    assert any("every class is of one experiment" in sentence for sentence in report.warnings)
    assert not any("training would" in sentence for sentence in report.warnings)


def test_zebrafish_stages_are_ordered_and_split_by_embryo(real_data: Path) -> None:
    data = read_dataset(real_data / "zebrafish" / "manifest.csv")
    assert len(data) == 354
    assert data.is_ordered
    assert [(spec.value, spec.unit) for spec in data.classes] == [
        (float(n), "stage") for n in range(17)
    ]
    assert {"frame", "minutes"} <= set(data.table.columns)
    folds = data.leave_one_group_out(validation=0.2)
    assert [len(fold.test) for _, fold in folds] == [59] * 6
    assert all(len(set(fold.train.groups)) == 4 for _, fold in folds)


@pytest.mark.parametrize(
    ("name", "n_images", "n_classes"), [("blood", 1600, 8), ("jurkat", 1274, 7)]
)
def test_folders_of_classes_whose_names_say_nothing_more(
    real_data: Path, name: str, n_images: int, n_classes: int
) -> None:
    data = read_dataset(real_data / name)
    assert (len(data), len(data.classes), data.group_column) == (n_images, n_classes, None)
    assert not data.is_ordered
    assert set(data.split().test.labels) == set(range(n_classes))


def test_an_embryo_and_its_brightened_copy_are_one_group(real_data: Path) -> None:
    data = read_dataset(real_data / "drosophila")
    assert data.class_names == ("060",)
    assert len(set(data.groups)) == 1
    report = inspect_dataset(data)
    assert dict(report.files.channels) == {"grey": 2}
    assert dict(report.files.dtypes) == {"uint8": 1, "uint16": 1}


def test_a_few_jurkat_cells(real_data: Path) -> None:
    data = read_dataset(real_data / "jurkat")
    few: Dataset = data.subset(range(0, len(data), 50))
    report = inspect_dataset(few)
    assert dict(report.files.channels) == {"3 channels": len(few)}
    assert dict(report.files.shapes) == {"40x40": len(few)}


def test_nuclei_are_objects_that_stay_with_their_image(real_data: Path) -> None:
    table = real_data / "nuclei" / "objects.csv"
    if not table.is_file():
        pytest.skip("the data hold no nuclei")
    data = read_dataset(table)
    assert data.source.startswith("10,331 objects in 30 images")
    assert data.group_column == "path"
    assert data.class_names == ("epithelial", "fibroblast", "inflammatory", "others")
    folds = data.k_fold(5)
    assert sum(fold.test.table["path"].nunique() for fold in folds) == 30
    report = inspect_dataset(data)
    # Discs that hide others are not in the mask, but the table says where they are.
    assert report.unreadable == ()
    assert report.duplicates == ()
