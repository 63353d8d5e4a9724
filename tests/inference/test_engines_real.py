"""Engines on real fields: the class that Keras says, and nearly its probabilities."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellclf.core.image import Image
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.io.sources import collect_sources

MODEL = "rxrx1-celltype"


@pytest.fixture(scope="module")
def sites(real_data: Path) -> list[Image]:
    return [source.read() for source in collect_sources([str(real_data / "rxrx1")])]


@pytest.fixture(scope="module")
def by_keras(sites: list[Image]) -> Predictions:
    return load_classifier(MODEL, engine="keras").predict(sites)


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-4), ("fast", 1e-2)])
def test_sites_of_rxrx1(
    engine: Any, precision: Any, tolerance: float, sites: list[Image], by_keras: Predictions
) -> None:
    if not find_spec(engine):
        pytest.skip(f"{engine} is not installed")
    found = load_classifier(MODEL, engine=engine, precision=precision).predict(sites)
    difference = np.abs(found.probabilities - by_keras.probabilities)
    assert len(sites) > 20
    assert (found.probabilities.argmax(axis=1) == by_keras.probabilities.argmax(axis=1)).all()
    assert difference.max() <= tolerance
