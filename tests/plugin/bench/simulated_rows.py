"""A collection that is drawn when it is read, for tests of what shows rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from napari_cellclf.core.collection import Collection, Row
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import objects_in_mask
from napari_cellclf.errors import UnreadableImageError

#: By which the pixels of a class are told apart.
LEVELS = {"dim": 40, "mid": 120, "bright": 220}


def true_class(number: int) -> str:
    """Return the class of a row."""
    return tuple(LEVELS)[number * 7 % 3]


def make_rows(
    count: int, folder: Path = Path("/data"), *, bad: int | None = None, told_apart: bool = False
) -> Collection:
    """Make images of three classes, told apart by how bright they are.

    `told_apart`: also by what a backbone sees, which crops to the centre and takes brightness away.
    """
    rows = [
        Row(str(folder / f"image_{number:05}.png"), fields={"plate": f"P{number % 4}"})
        for number in range(count)
    ]

    def read(row: Row) -> Image:
        number = int(Path(row.source).stem.rpartition("_")[2])
        if number == bad:
            raise UnreadableImageError(f"{row.source}: is damaged")
        pixels = np.full((24, 32), LEVELS[true_class(number)], np.uint8)
        pixels[12 if told_apart else 0, 15:17] = 0, 255
        return Image(pixels, "YX")

    return Collection(rows, read, title=folder.name)


def make_objects(reads: list[str] | None = None) -> Collection:
    """Make the objects of two images; what is read is noted in `reads`."""
    labels = np.zeros((64, 64), int)
    for number in range(9):
        y, x = divmod(number, 3)
        labels[y * 20 + 4 : y * 20 + 14, x * 20 + 4 : x * 20 + 14] = number + 1
    rows = [
        Row(f"/data/field_{field}.png", object=one, mask=f"/data/field_{field}_masks.png")
        for field in range(2)
        for one in objects_in_mask(labels)
    ]

    def read(row: Row) -> Image:
        if reads is not None:
            reads.append(row.source)
        return Image((labels * 20).astype(np.uint8), "YX")

    return Collection(rows, read, title="objects")
