"""The child process of a backbone: computes it, or makes a bundle of it and a head.

It is started with the backbone as JSON; or with ``save``, the folder of a request, and the place of
the bundle.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.errors import CellclfError
from napari_cellclf.inference.engine import ProbabilitiesOnly
from napari_cellclf.inference.engine_child import serve
from napari_cellclf.models.backbones import Backbone
from napari_cellclf.models.suggested_model import read_request

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_cellclf.inference.engine import Engine
    from napari_cellclf.models.training.features import Compute


class FeatureEngine(ProbabilitiesOnly):
    """Computes features, in the place of probabilities, by the fastest engine that fits."""

    def __init__(self, backbone: Backbone) -> None:
        # An ONNX file does without Keras, which takes seconds to load.
        if backbone.file is not None:
            from napari_cellclf.models.file_backbone import load_engine

            engine = load_engine(backbone.file, backbone.preprocessing)
            self.device = engine.device
            self._compute: Compute = engine
        else:
            from napari_cellclf.models.keras_backbone import load_compute

            self.device, self._compute = load_compute(backbone)

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute features ``(N, F)`` of a batch ``(N, Y, X, C)``."""
        return self._compute(batch)


def save(folder: Path, place: Path) -> None:
    """Make the bundle that was asked for in a folder."""
    asked, head, seen, unlikeness = read_request(folder)
    spec = asked.backbone.file
    if spec is None:
        from napari_cellclf.models.keras_backbone import save_with_head

        save_with_head(asked, head, seen, unlikeness, place)
        return
    from napari_cellclf.models.file_backbone import save_on_backbone

    save_on_backbone(
        place,
        spec,
        asked.backbone.preprocessing,
        head.kernel,
        head.bias,
        seen_images=seen,
        unlikeness=unlikeness,
        training=asked.training,
        classes=[{"name": one} for one in asked.classes],
        **asked.described(),
    )


def main(arguments: Sequence[str]) -> int:
    """Serve the features of a backbone over standard input and output, or save it with a head."""
    if arguments[0] == "save":
        try:
            save(Path(arguments[1]), Path(arguments[2]))
        except CellclfError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        return 0

    def load() -> Engine:
        return FeatureEngine(Backbone.model_validate_json(arguments[0]))

    return serve(load)


if __name__ == "__main__":
    # The engine and its precision, which other children are told, are chosen here.
    sys.exit(main(sys.argv[1:]))
