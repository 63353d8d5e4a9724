"""Bundles made without Keras, for what can be said of them without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hostile
import numpy as np

from napari_cellclf.bundles.arrays import dump_array
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.schema import BundleSpec
from napari_cellclf.bundles.write import write_bundle


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
            "architecture": {"name": "compact-cnn"},
            "test_image": {"axes": "YX", "channels": [""]},
        }
        | fields
    )


def files(folder: Path) -> dict[str, bytes | Path]:
    return {
        "model.keras": hostile.write(folder / "made.keras"),
        "test_input.npy": dump_array(np.arange(16, dtype=np.uint8).reshape(4, 4)),
        "test_output.npy": dump_array(np.array([[0.5, 0.5]], np.float32)),
    }


def bundle(folder: Path, name: str = "two", **options: Any) -> ModelBundle:
    fields = options.pop("fields", {})
    scratch = folder / "scratch"
    scratch.mkdir(exist_ok=True)
    return write_bundle(folder / f"{name}.cellclf", spec(**fields), files(scratch), **options)
