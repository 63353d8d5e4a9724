"""What every format is made from, and how its answer is checked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.bundles.schema import BundleSpec

#: Largest difference of a probability that another runtime may make in float32.
TOLERANCE = 1e-4

Compute = Callable[["NDArray[np.float32]"], "NDArray[np.float32]"]


@dataclass(frozen=True)
class Material:
    """A bundle, its network, and what a format may ask for besides."""

    #: What is exported.
    bundle: ModelBundle
    #: Its network.
    network: Any
    #: SPDX identifier to write where the bundle's own words are none.
    licence: str | None = None
    #: Each ``"Name, Affiliation"`` or a name.
    authors: tuple[str, ...] = ()

    def check(self, runtime: str, compute: Compute) -> float:
        """Compare another runtime's answer to the stored test image with the stored one.

        `compute`: prepared images ``(N, Y, X, C)`` to probabilities ``(N, K)``.
        """
        pixels = self.bundle.spec.input.preprocessing(self.bundle.test_image)
        found, expected = compute(pixels[np.newaxis]), self.bundle.test_output
        same_shape = found.shape == expected.shape
        difference = float(np.abs(found - expected).max()) if same_shape else np.inf
        if not difference <= TOLERANCE:
            raise ExportError(
                f"{self.bundle.spec.name}, exported and computed by {runtime}, answers its test "
                f"image {difference:.2g} away from the stored answer (limit {TOLERANCE:g}); train "
                "it in float32, or export it to another format"
            )
        return difference


def metadata(spec: BundleSpec) -> dict[str, str]:
    """Describe a model in what other formats keep beside a network: names and texts."""
    return {
        "cellclf.name": spec.name,
        "cellclf.spec_sha256": spec.spec_sha256 or "",
        "cellclf.classes": json.dumps(spec.class_names),
        "cellclf.channels": json.dumps(spec.input.channels),
        "cellclf.preprocessing": spec.input.preprocessing.model_dump_json(),
        "cellclf.views": spec.input.views,
        "cellclf.temperature": json.dumps(spec.temperature),
        "cellclf.licence": spec.licence,
    }
