"""Time lapses of embryos: a class for each minute that is kept."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.errors import DatasetError, NoImagesError
from napari_cellclf.io.datasets.folders import SPLIT_NAMES
from napari_cellclf.io.datasets.rows import make_dataset, make_row
from napari_cellclf.io.drosophila import is_embryo_file
from napari_cellclf.io.files import IMAGE_SUFFIXES, is_hidden
from napari_cellclf.io.sources import ImageSource, collect_sources


def holds_embryos(folder: Path) -> bool:
    """Whether the images below a folder are named by minute and embryo."""
    for _, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        images = [
            name
            for name in names
            if not is_hidden(name) and Path(name).suffix.lower() in IMAGE_SUFFIXES
        ]
        if images:
            named = sum(is_embryo_file(name) for name in images)
            return 2 * named > len(images)
    return False


def read_embryos(folder: Path, *, every: int, minutes: tuple[int, int]) -> Dataset:
    """Read the images of embryos below a folder."""
    first, last = minutes
    if every < 1 or first > last:
        raise DatasetError(
            f"every {every} minutes from {first} to {last} cannot be kept; give every at least 1, "
            "and the earlier minute first"
        )
    sources = collect_sources([folder])
    named = [source for source in sources if "minute" in source.metadata]
    if not named:
        raise NoImagesError(
            f"{folder} holds no images named like Stage(060)-20230811-Cycle00-embryo03-3.tif"
        )
    kept = [source for source in named if _is_kept(source.metadata["minute"], every, first, last)]
    if not kept:
        raise DatasetError(_none_kept(named, every, first, last))
    rows = [_row(source, folder) for source in kept]
    found = sorted({source.metadata["minute"] for source in kept})
    classes = [ClassSpec(name=_name(one), value=one, unit="minute") for one in found]
    words = _words(folder, rows, classes, every, minutes)
    words += _left_out(len(named) - len(kept), len(named), len(sources) - len(named))
    return make_dataset(rows, words, classes=classes)


def _is_kept(minute: int, every: int, first: int, last: int) -> bool:
    return first <= minute <= last and (minute - first) % every == 0


def _name(minute: int) -> str:
    return f"{minute:03d}"


def _row(source: ImageSource, folder: Path) -> dict[str, Any]:
    above = Path(source.id).relative_to(folder).parts[:-1]
    splits = [SPLIT_NAMES[part.lower()] for part in above if part.lower() in SPLIT_NAMES]
    return make_row(source, _name(source.metadata["minute"]), splits[0] if splits else "")


def _words(
    folder: Path,
    rows: list[dict[str, Any]],
    classes: list[ClassSpec],
    every: int,
    minutes: tuple[int, int],
) -> str:
    embryos = Counter((row["date"], row["cycle"], row["embryo"]) for row in rows)
    step = "every minute" if every == 1 else f"one in {every} minutes"
    return (
        f"{len(rows)} images below {folder}, {step} from {minutes[0]} to {minutes[1]} "
        f"(embryos: {len(embryos)}, stages: {len(classes)})"
    )


def _left_out(dropped: int, named: int, others: int) -> str:
    said = ""
    if dropped:
        said += f"; {dropped} of {named} images are of other minutes and are left out"
    if others:
        said += f"; {others} images whose names say no minute are left out"
    return said


def _none_kept(named: list[ImageSource], every: int, first: int, last: int) -> str:
    found = sorted({source.metadata["minute"] for source in named})
    return (
        f"none of the {len(named)} images is of a minute from {first} to {last} counted in steps "
        f"of {every} from {first}: they are of minutes {found[0]} to {found[-1]}; choose a range "
        f"that begins at one of their minutes, such as --minutes {found[0]}-{found[-1]}"
    )
