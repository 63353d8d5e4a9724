"""Read labelled images, however they are laid out."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Literal, get_args

from napari_cellclf.core.dataset import Dataset
from napari_cellclf.errors import DatasetError, NoImagesError
from napari_cellclf.io.datasets import folders, named, tables
from napari_cellclf.io.datasets.rows import with_group
from napari_cellclf.io.files import local_path
from napari_cellclf.io.naming import Naming, find_images, naming_text

Kind = Literal["table", "names", "splits", "folders"]


def read_dataset(
    path: str | os.PathLike[str],
    *,
    label: str | None = None,
    group: str | None = None,
    every: int = 1,
    minutes: tuple[int, int] | None = None,
    kind: Kind | None = None,
    naming: Naming = None,
) -> Dataset:
    """Find labelled images and say what is known of each; no image is opened.

    Parameters
    ----------
    path : path
        One of

        - a folder with a folder for each class (with any folders below);
        - a folder with ``train``, ``valid`` (or ``val``, ``validation``) and ``test``, each with a
          folder for each class: the split is in the column ``split``;
        - a folder of images whose names say the class: an RxRx1 folder (the root, or one above
          the experiments; a row is a site), or embryo images,
          ``Stage(060)-20230811-Cycle00-embryo03-3.tif``, with a class for each minute that is
          kept;
        - a CSV table with columns ``path`` (relative to the table) and ``label``, and perhaps
          ``group``, ``split`` and others.

    label : str, optional
        The column to learn: of a table ``label`` or any other; of images whose names say the
        class any field or column, of RxRx1 ``cell_type`` or another of its ``metadata.csv``.
    group : str, optional
        The column, or several joined by ``+``, that images are kept together by; guessed from
        names and tables if left out.
    every : int
        Of embryo images, keep every n-th minute, counted from the first of `minutes`.
    minutes : tuple of 2 int, optional
        Of embryo images, keep those between these minutes, both included; by default 51 to 204.
    kind : {"table", "names", "splits", "folders"}, optional
        What says the classes; found out if left out.
    naming : NamingScheme or str, optional
        How files are named: a pattern such as ``"{plate}/{well}_s{site}_w{channel}.tif"``, whose
        field ``{label}`` is the class if it has one, or the name of an installed scheme. Images in
        folders that are named otherwise are left out. By default any scheme that is installed.

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
    found = kind or kind_of(place, naming, label)
    if found == "table":
        data = tables.read_table(place, label or "label", naming)
    elif found == "names":
        data = named.read_named(place, label, naming=naming, every=every, between=minutes)
    elif found == "splits":
        data = folders.read_split_folders(place, naming)
    else:
        data = folders.read_class_folders(place, naming)
    return replace(with_group(data, group), naming=naming_text(naming))


def _existing(path: str | os.PathLike[str]) -> Path:
    # Absolute, since a run may go on from another folder.
    place = Path(os.path.abspath(local_path(path)))  # noqa: PTH100
    if not place.exists():
        raise NoImagesError(f"{place} does not exist; check the path")
    return place


def kind_of(place: Path, naming: Naming = None, label: str | None = None) -> Kind:
    """Tell what says the classes of images."""
    if not place.is_dir():
        return "table"
    if named.labelling_scheme(find_images(place, naming), label) is not None:
        return "names"
    return "splits" if folders.split_folders(place) else "folders"


def usual_label(place: Path, naming: Naming = None) -> str | None:
    """Return the column that is learnt unless another is chosen; None for folders of classes."""
    if not place.is_dir():
        return "label"
    scheme = named.labelling_scheme(find_images(place, naming), None)
    return None if scheme is None else scheme.label
