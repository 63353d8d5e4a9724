"""Read labelled images, however they are laid out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

from napari_cellclf.core.dataset import Dataset
from napari_cellclf.errors import DatasetError, NoImagesError
from napari_cellclf.io.datasets import embryos, folders, screens, tables
from napari_cellclf.io.datasets.rows import with_group
from napari_cellclf.io.files import local_path

Kind = Literal["table", "rxrx1", "embryos", "splits", "folders"]


def read_dataset(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    group: str | None = None,
    every: int = 1,
    minutes: tuple[int, int] = (51, 204),
    kind: Kind | None = None,
) -> Dataset:
    """Find labelled images and say what is known of each; no image is opened.

    Parameters
    ----------
    path : path
        One of

        - a folder with a folder for each class (with any folders below);
        - a folder with ``train``, ``valid`` (or ``val``, ``validation``) and ``test``, each with a
          folder for each class: the split is in the column ``split``;
        - an RxRx1 folder: the root, or a folder above the experiments; a row is a site;
        - a folder of embryo images, ``Stage(060)-20230811-Cycle00-embryo03-3.tif``, in any
          folders, with a class for each minute that is kept;
        - a CSV table with columns ``path`` (relative to the table) and ``label``, and perhaps
          ``group``, ``split`` and others.

    label : str, optional
        The column to learn: of RxRx1 ``cell_type`` or any column of its ``metadata.csv``, of a
        table ``label`` or any other.
    group : str, optional
        The column, or several joined by ``+``, that images are kept together by; guessed from
        names and tables if left out.
    every : int
        Of embryo images, keep every n-th minute, counted from the first of `minutes`.
    minutes : tuple of 2 int
        Of embryo images, keep those between these minutes, both included.
    kind : {"table", "rxrx1", "embryos", "splits", "folders"}, optional
        How it is laid out; found out if left out.

    Returns
    -------
    Dataset
        In order of paths (of a table, in its order); `group_reason` says why images are kept
        together by that column, and `source` what was read and what was left out.

    Raises
    ------
    NoImagesError
        If there is no such path, or no image in it.
    DatasetError
        If labels are missing, or there is no such column.
    InputError
        If a table cannot be understood.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("RPE/plate1.png", "RPE/plate2.png", "U2OS/plate1.png", "U2OS/plate2.png"):
    ...         file = Path(folder, name)
    ...         file.parent.mkdir(exist_ok=True)
    ...         _ = file.write_bytes(b"")
    ...     data = read_dataset(folder)
    >>> len(data), data.class_names, data.group_column
    (4, ('RPE', 'U2OS'), 'plate')
    """
    place = _existing(path)
    if kind is not None and kind not in get_args(Kind):
        raise DatasetError(f"there is no kind {kind!r}; choose one of {', '.join(get_args(Kind))}")
    found = kind or _kind_of(place)
    if found == "table":
        data = tables.read_table(place, label or "label")
    elif found == "rxrx1":
        data = screens.read_screen(place, label or "cell_type")
    elif found == "embryos":
        data = embryos.read_embryos(place, every=every, minutes=minutes)
    elif found == "splits":
        data = folders.read_split_folders(place)
    else:
        data = folders.read_class_folders(place)
    return with_group(data, group)


def _existing(path: str | os.PathLike[str]) -> Path:
    # Absolute, since a run may go on from another folder.
    place = Path(os.path.abspath(local_path(path)))  # noqa: PTH100
    if not place.exists():
        raise NoImagesError(f"{place} does not exist; check the path")
    return place


def _kind_of(place: Path) -> Kind:
    if not place.is_dir():
        return "table"
    if screens.is_screen(place):
        return "rxrx1"
    if embryos.holds_embryos(place):
        return "embryos"
    return "splits" if folders.split_folders(place) else "folders"
