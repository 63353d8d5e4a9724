"""Images as they are meant for a model: grey that came as RGB, and what their names say."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import TYPE_CHECKING

from napari_cellclf.core.channels import missing_message, order_warning, taken_in_order
from napari_cellclf.errors import ImageTooLargeError
from napari_cellclf.io.planes import collapse_grey

if TYPE_CHECKING:
    from napari_cellclf.core.image import Image
    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.io.sources import ImageSource
    from napari_cellclf.server.asking import Mappings
    from napari_cellclf.server.settings import Limits

_FLOAT_BYTES = 4


@dataclass
class MeantImage:
    """An image that was sent, read as it is meant for a model."""

    #: What was sent.
    source: ImageSource
    #: Of the model.
    preprocessing: Preprocessing
    #: How much is taken.
    limits: Limits
    #: Channels that the request names.
    mapping: Mappings | None
    #: Filled in reading: what a user should know of the answer.
    warnings: list[str] = field(default_factory=list)

    def read(self) -> Image:
        """Read it, look whether it is small enough, and note what is to be known."""
        expected = self.preprocessing.channels
        image = self.source.read()
        self._check_size(image)
        if not any(spec.matches("red") for spec in expected):
            # Clients write grey images with three equal colours, without meaning it.
            image = collapse_grey(image)
        stem = PurePath(self.source.id).stem
        if image.channels == ("",) and any(spec.matches(stem) for spec in expected):
            image = replace(image, channels=(stem,))
        self._note_channels(image)
        return image

    def _note_channels(self, image: Image) -> None:
        expected = self.preprocessing.channels
        if self.mapping is None and len(expected) > 1 and taken_in_order(expected, image.channels):
            self.warnings.append(order_warning(expected))
        missing = missing_message(expected, self.preprocessing.match(image, self.mapping))
        if missing:
            self.warnings.append(missing)

    def _check_size(self, image: Image) -> None:
        if image.n_planes > self.limits.planes:
            raise ImageTooLargeError(
                f"{self.source.id} has {image.n_planes} planes; send at most {self.limits.planes} "
                "at a time"
            )
        size = self.preprocessing.size or image.height_width
        if (
            math.prod(size) * len(self.preprocessing.channels) * _FLOAT_BYTES
            > self.limits.plane_bytes
        ):
            height, width = image.height_width
            raise ImageTooLargeError(
                f"{self.source.id} has {height} x {width} pixels, too many for this server; send "
                "parts of it"
            )
