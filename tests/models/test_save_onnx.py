"""``model.onnx`` is written where an engine answers as Keras does, and left out elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from napari_cellclf.bundles.bundle import GRAPH
from napari_cellclf.bundles.schema import RoundingSpec
from napari_cellclf.errors import EngineError, ExportError, ImageTooLargeError
from napari_cellclf.inference.engine import ProbabilitiesOnly
from napari_cellclf.models import save
from napari_cellclf.models.save import measure_rounding, write_graph

PIXELS = np.random.default_rng(0).normal(size=(1, 12, 12, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((None, None, 2)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )


def _write(network: keras.Model, folder: Path, expected: Any = None) -> Path | None:
    answer = np.asarray(network(PIXELS)) if expected is None else expected
    return write_graph(network, folder, "mine", PIXELS, answer)


@pytest.mark.parametrize("runtime", ["openvino", "onnxruntime"])
def test_either_engine_can_try_it(
    runtime: str, network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not find_spec(runtime):
        pytest.skip(f"{runtime} is not installed")
    monkeypatch.setattr(save, "find_spec", lambda name: name == runtime or None)
    assert _write(network, tmp_path) == tmp_path / GRAPH


def test_not_without_an_engine_to_try_it(
    network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setattr(save, "find_spec", lambda name: None)
    with caplog.at_level("INFO"):
        assert _write(network, tmp_path) is None
    assert "mine has no model.onnx, so only Keras can run it: no engine is installed" in (
        caplog.text
    )


@pytest.mark.parametrize("wrong", [[[0.2, 0.3, 0.5]], [[0.5, 0.5]], [[np.nan, 0.5, 0.5]]])
def test_not_if_it_answers_otherwise(
    wrong: list[list[float]], network: keras.Model, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    with caplog.at_level("INFO"):
        assert _write(network, tmp_path, np.array(wrong, np.float32)) is None
    assert "model.onnx" in caplog.text


def test_not_if_it_would_double_a_large_bundle(
    network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    monkeypatch.setitem(save.LIMITS, GRAPH, 4 * network.count_params() - 1)
    with caplog.at_level("INFO"):
        assert _write(network, tmp_path) is None
    assert "would double a large bundle" in caplog.text
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ExportError("no operators"), RuntimeError("of an engine")])
def test_whatever_goes_wrong_costs_no_network(
    error: Exception, network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def fail(network: keras.Model, extras: bool) -> bytes:
        raise error

    monkeypatch.setattr(save, "to_onnx", fail)
    with caplog.at_level("INFO"):
        assert _write(network, tmp_path) is None
    assert str(error) in caplog.text


@dataclass
class _Rounding(ProbabilitiesOnly):
    """An engine that is further away from Keras the brighter an image is."""

    network: keras.Model
    precision: str

    def __call__(self, batch: Any) -> Any:
        away = 0.01 * batch.max() * np.array([1, -1, 0], np.float32)
        return np.asarray(self.network(batch)) + away


@dataclass
class _Failing(ProbabilitiesOnly):
    """An engine that does not get so far as to answer, or answers no number."""

    error: Exception | None
    precision: str = "bfloat16"

    def __call__(self, batch: Any) -> Any:
        if self.error is not None:
            raise self.error
        return np.full((len(batch), 3), np.nan, np.float32)


@pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
@pytest.mark.parametrize("error", [EngineError("no"), ImageTooLargeError("no"), None])
def test_what_cannot_be_rounded_costs_no_network(
    error: Exception | None, network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = _write(network, tmp_path)
    assert graph is not None
    monkeypatch.setattr(save, "load_graph_engine", lambda *_: _Failing(error))
    found = measure_rounding(network, graph, [PIXELS[0], PIXELS[0]])
    assert found == (None if error is not None else RoundingSpec(n=2, largest=1.0))


@pytest.mark.skipif(not find_spec("openvino"), reason="openvino is not installed")
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_the_worst_of_typical_images_tells_what_rounding_does(
    dtype: str, network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = _write(network, tmp_path)
    assert graph is not None
    engine = _Rounding(network, dtype)
    monkeypatch.setattr(save, "load_graph_engine", lambda *_: engine)
    images = [np.full((12, 12, 2), level, np.float32) for level in (0.1, 0.4, 0.2)]
    found = measure_rounding(network, graph, images)
    if dtype == "float32":
        assert found is None
    else:
        assert found is not None
        assert (found.dtype, found.n) == ("bfloat16", 3)
        assert found.largest == pytest.approx(0.004, abs=1e-5)
    assert measure_rounding(network, graph, []) is None
