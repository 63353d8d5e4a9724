"""Bar plots of images per class."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image as Pillow

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.dataset_report import FileFindings, make_report
from napari_cellclf.errors import InputError
from napari_cellclf.reports.dataset_summary import augmented_counts, plot_class_counts


def stages(n_classes: int = 3, images: int = 10) -> Dataset:
    names = [f"stage {n:03d}" for n in range(n_classes)]
    rows = [(f"/d/{name}/{n}.png", name, "") for name in names for n in range(images)]
    table = pd.DataFrame(rows, columns=["path", "label", "split"])
    return Dataset(table, tuple(ClassSpec(name=name) for name in names))


def test_only_training_images_are_multiplied() -> None:
    data = stages(images=20).split()
    counts = augmented_counts(data, 6)["stage 001"]
    assert counts == {"train": 6 * 14, "validation": 3, "test": 3}
    assert augmented_counts(stages(), 6)["stage 001"]["unsplit"] == 60
    # A report counts as the data set that it is about.
    assert augmented_counts(make_report(data, FileFindings()), 6) == augmented_counts(data, 6)


@pytest.mark.parametrize("n_classes", [1, 17, 120])
def test_a_plot_is_written(tmp_path: Path, n_classes: int) -> None:
    path = plot_class_counts(stages(n_classes), tmp_path / "bars.png", title="before")
    pixels = np.asarray(Pillow.open(path))
    assert pixels.std() > 10
    assert max(pixels.shape) < 4000


def test_more_images_are_another_plot(tmp_path: Path) -> None:
    data = stages().split()
    one = plot_class_counts(data, tmp_path / "before.png")
    other = plot_class_counts(data, tmp_path / "after.png", copies=6)
    assert one.read_bytes() != other.read_bytes()


def test_no_copies_cannot_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="0 copies"):
        plot_class_counts(stages(), tmp_path / "x.png", copies=0)
