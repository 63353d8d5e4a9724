"""What compares an exported network with Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from napari_cellclf.models.export.onnx.convert import to_onnx

#: A network and its images to the largest difference between Keras's answers and ONNX Runtime's,
#: relative to those above 1.
Difference = Callable[..., float]


def run_onnx(model: bytes, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (port,) = session.get_inputs()
    (answer,) = session.run(None, {port.name: images})
    return np.asarray(answer)


@pytest.fixture(scope="session")
def difference() -> Difference:
    def measure(network: Any, images: np.ndarray[Any, Any], **options: Any) -> float:
        expected = np.asarray(network(images))
        found = run_onnx(to_onnx(network, **options), images)
        assert found.shape == expected.shape
        assert found.dtype == np.float32
        return float((np.abs(found - expected) / np.maximum(np.abs(expected), 1)).max())

    return measure
