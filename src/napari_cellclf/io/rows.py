"""Read what a row of a data set shows: an image, or one object of it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import ImageObject, ObjectCrop, Plane, cut_of, plane_from_text
from napari_cellclf.io.masks import ObjectChoice
from napari_cellclf.io.prepared import choices_of
from napari_cellclf.io.read import read_image

if TYPE_CHECKING:
    from napari_cellclf.core.dataset import Dataset

#: What stands behind the name of an image whose planes are rows.
_POSITION = re.compile(r"(.*)\[([a-z]=\d[^]]*)\]", re.DOTALL)
#: Images that stay decoded: several objects of one are often looked at.
_DECODED = 4


class RowReader:
    """Reads a row of a data set by its name, for a picture of it.

    `crop`: how objects are cut out.
    """

    def __init__(self, dataset: Dataset, crop: ObjectCrop | None) -> None:
        self._dataset = dataset
        self._crop = crop
        self._image = lru_cache(_DECODED)(self._read)

    def __call__(self, name: str) -> Image:
        """Read a row, or a plane of a row."""
        row = self._rows.get(name)
        if row is None:
            return self._plane(name)
        choice, index = self._choices[row], dict(self._dataset.planes[row])
        image = self._image(self._dataset.paths[row])
        plane = image.plane(index) if index else next(plane for _, plane in image.planes())
        if choice is None or self._crop is None:
            return plane
        (one,) = choice.add_to(image).plane(index).find_objects()
        return object_picture(plane, one, self._crop)

    @cached_property
    def _rows(self) -> Mapping[str, int]:
        return {name: row for row, name in enumerate(self._dataset.ids)}

    @cached_property
    def _choices(self) -> list[ObjectChoice | None]:
        return choices_of(self._dataset)

    def _plane(self, name: str) -> Image:
        wanted: Plane | None = ()
        match = _POSITION.fullmatch(name)
        if match and not os.path.lexists(name):
            name, wanted = match[1], plane_from_text(match[2])
        image = self._image(name)
        return image.plane(dict(wanted)) if wanted else next(plane for _, plane in image.planes())

    def _read(self, path: str) -> Image:
        return read_image(path, naming=self._dataset.naming)


def object_picture(image: Image, one: ImageObject, crop: ObjectCrop) -> Image:
    """Cut an object out of a plane with all its channels and its surroundings."""
    around = crop.model_copy(update={"masked": False})
    cut = cut_of(around, one, image.height_width, image.pixel_size, image.source or "the image")
    pixels = np.stack([cut(plane) for plane in image.to_cyx()])
    axes = "SYX" if "S" in image.axes else "CYX"
    return replace(image, data=pixels, axes=axes, objects=None)
