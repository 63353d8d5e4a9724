"""What goes wrong inside a backend is told in one sentence; what is no fault is not told."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, NoReturn

import keras
import numpy as np
import pytest

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.errors import BundleError, ImageTooLargeError, ModelError
from napari_cellclf.inference.keras_engine import KerasEngine

BATCH = np.zeros((3, 20, 24, 2), np.float32)


def _exhausted() -> Exception:
    """Return what TensorFlow raises for want of memory."""
    if keras.config.backend() != "tensorflow":
        pytest.skip("another backend")
    import tensorflow

    error: Exception = tensorflow.errors.ResourceExhaustedError(None, None, "OOM\nwhen allocating")
    return error


FULL = pytest.mark.parametrize(
    "make",
    [
        MemoryError,
        _exhausted,
        lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"),
        lambda: RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating"),
    ],
    ids=["numpy", "tensorflow", "torch", "jax"],
)


def _raise(error: Exception) -> Callable[..., NoReturn]:
    def fail(*_: Any, **__: Any) -> NoReturn:
        raise error

    return fail


@FULL
def test_too_large_a_batch_asks_for_a_smaller_one(
    make: Callable[[], Exception], network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "predict_on_batch", _raise(make()))
    with pytest.raises(ImageTooLargeError, match=r"3 x 20 x 24 pixels .* batch_size") as caught:
        KerasEngine(network)(BATCH)
    assert "\n" not in str(caught.value)


def test_other_errors_of_a_network_stay_what_they_are(
    network: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "predict_on_batch", _raise(RuntimeError("a fault")))
    with pytest.raises(RuntimeError, match="a fault"):
        KerasEngine(network)(BATCH)


@FULL
def test_a_network_larger_than_the_memory_is_no_broken_file(
    make: Callable[[], Exception], bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keras.saving.deserialize_keras_object", _raise(make()))
    with pytest.raises(ModelError, match=r"tiny\.cellclf needs more memory than is free") as caught:
        KerasEngine.load(bundle)
    assert not isinstance(caught.value, BundleError)
    assert "save it again" not in str(caught.value)


def test_many_models_in_one_process_are_no_warning(
    bundle: ModelBundle, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("tensorflow")
    monkeypatch.setattr(logger, "propagate", True)
    with caplog.at_level(logging.WARNING, logger="tensorflow"):
        for size in range(20, 28):
            KerasEngine.load(bundle)(np.zeros((1, size, size, 2), np.float32))
    assert "retracing" not in caplog.text
    assert logger.filters == []


def test_what_else_tensorflow_says_is_still_heard(
    network: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    logger = logging.getLogger("tensorflow")
    monkeypatch.setattr(logger, "propagate", True)

    def answer(batch: Any) -> Any:
        logger.warning("5 out of the last 5 calls to %s triggered tf.function retracing", "f")
        logger.warning("a word of weight")
        return np.zeros((len(batch), 3))

    monkeypatch.setattr(network, "predict_on_batch", answer)
    KerasEngine(network)(BATCH)
    assert [record.getMessage() for record in caplog.records] == ["a word of weight"]
