"""Bundles made without Keras, for what can be said of them without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile
import numpy as np

from napari_cellclf.bundles.arrays import dump_array, dump_weights
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.schema import BundleSpec
from napari_cellclf.bundles.write import write_bundle

WEIGHTS = {
    "dense/kernel": np.zeros((16, 2), np.float32),
    "dense/bias": np.zeros(2, np.float32),
}


def spec(**fields: Any) -> BundleSpec:
    return BundleSpec(
        **{
            "name": "two",
            "input": {
                "preprocessing": {
                    "channels": [{"name": "DNA", "aliases": ["Hoechst"]}],
                    "size": (4, 4),
                }
            },
            "classes": [{"name": "a"}, {"name": "b", "display_name": "bee"}],
            "architecture": {"name": "imported", "layers": hostile.CONFIG},
            "test_image": {"axes": "YX", "channels": [""]},
        }
        | fields
    )


def files() -> dict[str, bytes | Path]:
    return {
        "weights.safetensors": dump_weights(WEIGHTS),
        "test_input.npy": dump_array(np.arange(16, dtype=np.uint8).reshape(4, 4)),
        "test_output.npy": dump_array(np.array([[0.5, 0.5]], np.float32)),
    }


def bundle(folder: Path, name: str = "two", **options: Any) -> ModelBundle:
    fields = options.pop("fields", {})
    return write_bundle(folder / f"{name}.cellclf", spec(**fields), files(), **options)
