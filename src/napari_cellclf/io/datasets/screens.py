"""RxRx1: a row for each site, labelled by any column of its table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from napari_cellclf.core.classes import make_classes
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.errors import DatasetError, NoImagesError
from napari_cellclf.io.datasets.rows import make_dataset, make_row
from napari_cellclf.io.rxrx1 import find_sites
from napari_cellclf.io.sources import collect_sources

_DEFAULT = "cell_type"


def is_screen(folder: Path) -> bool:
    """Whether a folder holds sites of RxRx1 in the folders of their experiments."""
    return any(site.name.experiment is not None for site in find_sites(folder))


def read_screen(folder: Path, label: str) -> Dataset:
    """Read the sites below a folder."""
    sources = collect_sources([folder])
    rows = [make_row(source, "") for source in sources if "well" in source.metadata]
    if not rows:
        raise NoImagesError(
            f"{folder} holds no RxRx1 sites (Plate1/B02_s1_w1.png); give the data set's root"
        )
    for row in rows:
        row.setdefault(_DEFAULT, _cell_type(row.get("experiment")))
        row["label"] = _label(row, label)
    _check_labels(rows, label)
    if _is_split_by_publisher(rows):
        for row in rows:
            row["split"] = row["dataset"]
    classes = make_classes((row["label"] for row in rows), may_be_ordered=False)
    source = f"{len(rows)} RxRx1 sites below {folder}, labelled by {label}"
    return make_dataset(rows, source, classes=classes)


def _is_split_by_publisher(rows: Sequence[dict[str, Any]]) -> bool:
    sides = {(row["label"], row.get("dataset")) for row in rows}
    labels = {label for label, _ in sides}
    return sides == {(label, side) for label in labels for side in ("train", "test")}


def _cell_type(experiment: str | None) -> str | None:
    """Read the cell type off the experiment's name, as published: HUVEC-01."""
    return experiment.rsplit("-", 1)[0] if experiment else None


def _label(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    return "" if value is None else str(value)


def _check_labels(rows: Sequence[dict[str, Any]], label: str) -> None:
    without = [row for row in rows if not row["label"]]
    if not without:
        return
    columns = [key for key in dict.fromkeys(key for row in rows for key in row) if key != "path"]
    known = ", ".join(name for name in columns if name not in ("label", "split"))
    raise DatasetError(
        f"{len(without)} of {len(rows)} sites have no {label!r}, such as {without[0]['path']}; "
        f"choose another label ({known}) or complete metadata.csv"
    )
