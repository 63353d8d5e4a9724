"""Classify microscopy images, in napari and without it.

Importing this package is cheap: public names are loaded when first used (PEP 562), so that neither
TensorFlow, napari nor Qt is imported before it is needed.

Examples
--------
>>> import napari_cellclf as cc
>>> image = cc.simulate_site("HUVEC", seed=1)
>>> image.axes, image.channels[0]
('CYX', 'w1 Hoechst')
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.bundles.catalogue import list_models
    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.core.evaluation import Evaluation
    from napari_cellclf.core.image import Image
    from napari_cellclf.core.objects import ImageObject, ObjectCrop, objects_at, objects_in_mask
    from napari_cellclf.core.predictions import Predictions
    from napari_cellclf.core.preprocessing import Preprocessing
    from napari_cellclf.core.simulation import simulate_embryo, simulate_site
    from napari_cellclf.inference.classifier import Classifier
    from napari_cellclf.inference.explain import Explanation
    from napari_cellclf.inference.load import load_classifier
    from napari_cellclf.io.datasets import read_dataset
    from napari_cellclf.io.read import read_image
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.reports.evaluate import evaluate
    from napari_cellclf.runs.api import train

_HOME = {
    "Classifier": "inference.classifier",
    "Dataset": "core.dataset",
    "Evaluation": "core.evaluation",
    "Explanation": "inference.explain",
    "Image": "core.image",
    "ImageObject": "core.objects",
    "ModelBundle": "bundles.bundle",
    "ObjectCrop": "core.objects",
    "Predictions": "core.predictions",
    "Preprocessing": "core.preprocessing",
    "TrainingConfig": "models.training.config",
    "evaluate": "reports.evaluate",
    "list_models": "bundles.catalogue",
    "load_classifier": "inference.load",
    "objects_at": "core.objects",
    "objects_in_mask": "core.objects",
    "read_dataset": "io.datasets",
    "read_image": "io.read",
    "simulate_embryo": "core.simulation",
    "simulate_site": "core.simulation",
    "train": "runs.api",
}

#: Types that magicgui makes widgets of, once `plugin.magic` has registered them.
_IN_FORMS = ("Classifier", "Predictions")

__all__ = [
    "Classifier",
    "Dataset",
    "Evaluation",
    "Explanation",
    "Image",
    "ImageObject",
    "ModelBundle",
    "ObjectCrop",
    "Predictions",
    "Preprocessing",
    "TrainingConfig",
    "__version__",
    "evaluate",
    "list_models",
    "load_classifier",
    "objects_at",
    "objects_in_mask",
    "read_dataset",
    "read_image",
    "simulate_embryo",
    "simulate_site",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first asked for."""
    if name == "__version__":
        from importlib.metadata import version

        return version("napari-cellclf")
    if name in _IN_FORMS and {"magicgui", "napari"} <= sys.modules.keys():
        importlib.import_module(f"{__name__}.plugin.magic")
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
