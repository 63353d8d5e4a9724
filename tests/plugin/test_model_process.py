"""The model that stays ready between two clicks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellclf.errors import CancelledError, ModelError
from napari_cellclf.plugin.classify.job import ModelProcess
from napari_cellclf.plugin.classify.request import ModelChoice
from napari_cellclf.plugin.shared.messages import explain

pytestmark = pytest.mark.timeout(600)

STAINS = ModelChoice("stains", "Stains", (), ())


def test_answers_are_probabilities_and_the_model_stays(models: Path) -> None:
    process = ModelProcess()
    try:
        classifier = process.get(STAINS)
        batch = np.random.default_rng(0).normal(size=(3, 40, 40, 6)).astype(np.float32)
        prediction = classifier.engine(batch)
        assert prediction.shape == (3, 4)
        np.testing.assert_allclose(prediction.sum(axis=1), 1, atol=1e-5)
        assert classifier.device
        assert process.get(STAINS) is classifier
    finally:
        process.close()
    assert process.is_idle()


def test_stopping_before_the_child_starts(models: Path) -> None:
    process = ModelProcess()
    with pytest.raises(CancelledError):
        process.get(STAINS, lambda: True)
    assert process.is_idle()
    process.shut_down()
    with pytest.raises(CancelledError):
        process.get(STAINS)
    assert process.is_idle()


def test_the_console_gets_a_process_too(qapp: Any, models: Path) -> None:
    from napari_cellclf import load_classifier
    from napari_cellclf.inference.process_engine import ProcessEngine

    classifier = load_classifier("grey")
    assert isinstance(classifier.engine, ProcessEngine)
    assert len(classifier.predict(np.zeros((40, 40), np.uint8))) == 1
    classifier.engine.close()


def test_errors_become_one_line(caplog: Any) -> None:
    assert explain(ModelError("the file\nis broken")) == "The file is broken."
    assert explain(ModelError("model.keras is broken")) == "model.keras is broken."
    assert "memory" in explain(MemoryError())
    assert "ZeroDivisionError: division" in explain(ZeroDivisionError("division\nby zero"))
    assert "log" in explain(ZeroDivisionError("x"))
