"""Maps of the evidence for the mistakes that a report shows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.explaining import on_image
from napari_cellclf.errors import EngineError, InputError
from napari_cellclf.inference.explain import cam

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image
    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.inference.engine import Engine

#: A report waits no longer for maps.
_MOST_SECONDS = 30.0


class MistakeMaps:
    """Computes HiRes-CAM of rows as a report shows them, until half a minute has passed.

    `weights`: reads those of the network. `read`: from a row's name to its plane, or to what was
    cut out for an object. `mapping`: of channels, as for predictions.
    """

    def __init__(
        self,
        engine: Engine,
        weights: Callable[[], Mapping[str, NDArray[Any]]],
        preprocessing: Preprocessing,
        classes: Sequence[str],
        read: Callable[[str], Image],
        mapping: Mapping[str, str | None] | None = None,
    ) -> None:
        self._engine, self._weights, self._read = engine, weights, read
        self._preprocessing, self._mapping = preprocessing.without_cutting, mapping
        self._classes = tuple(classes)
        crop = preprocessing.object_crop
        # A picture shows what is around an object, which such a network does not see.
        self._is_possible = crop is None or not crop.masked
        self._seconds = 0.0

    def __call__(self, name: str, class_name: str) -> NDArray[np.float32] | None:
        """Return the evidence for a class, shape (Y, X); None where there is no map."""
        possible = self._is_possible and class_name in self._classes
        if not possible or self._seconds > _MOST_SECONDS:
            return None
        began = time.monotonic()
        try:
            image = self._read(name)
            pixels = self._preprocessing(image, self._mapping)
            found = cam(self._engine, self._weights, pixels, self._classes.index(class_name))
        except EngineError:
            self._is_possible = False
            return None
        except (InputError, OSError):
            return None
        finally:
            self._seconds += time.monotonic() - began
        return on_image(found.cells, self._preprocessing, image, offset=found.offset)
