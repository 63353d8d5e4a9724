"""A network in a child process."""

from __future__ import annotations

import gc
import io
import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np
import pytest

from napari_cellclf import load_classifier, simulate_site
from napari_cellclf.errors import CancelledError, InputError, ModelError, ModelNotFoundError
from napari_cellclf.inference import process_engine
from napari_cellclf.inference.process_engine import (
    ProcessEngine,
    receive,
    send,
    window_is_open,
)

MODEL = "rxrx1-celltype"


@pytest.fixture
def engine() -> Iterator[ProcessEngine]:
    engine = ProcessEngine(MODEL)
    yield engine
    engine.close()


def test_messages_come_back_as_they_were():
    stream = io.BytesIO()
    array = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    send(stream, {"device": "cpu:0"})
    send(stream, {}, array, np.zeros((0, 3), np.float32), array[0])
    stream.seek(0)
    first, second = receive(stream), receive(stream)
    assert first == ({"device": "cpu:0"}, [])
    assert [one.shape for one in second[1]] == [(1, 2, 3, 4), (0, 3), (2, 3, 4)]
    np.testing.assert_array_equal(second[1][0], array)
    np.testing.assert_array_equal(second[1][2], array[0])
    assert receive(stream) is None


def test_a_message_cut_short_is_none():
    stream = io.BytesIO()
    send(stream, {}, np.ones((2, 2), np.float32))
    assert receive(io.BytesIO(stream.getvalue()[:-1])) is None
    assert receive(io.BytesIO(stream.getvalue()[:5])) is None


def test_the_numbers_are_those_of_this_process():
    image = simulate_site("RPE", seed=2, size=96)
    there = load_classifier(MODEL, own_process=True)
    assert isinstance(there.engine, ProcessEngine)
    here = load_classifier(MODEL, own_process=False)
    np.testing.assert_allclose(
        there.predict(image).probabilities, here.predict(image).probabilities, atol=1e-6
    )
    child = there.engine._process
    del there
    gc.collect()
    assert child.poll() is not None


def test_the_child_is_told_what_computes():
    engine = ProcessEngine(MODEL, "onnxruntime", "float32")
    engine.wait_until_ready()
    assert engine.device.startswith("onnxruntime")
    assert engine.device.endswith("float32")
    engine.close()


def test_a_killed_child_is_one_sentence(engine, caplog):
    engine.wait_until_ready()
    engine._process.kill()
    engine._process.wait()
    with pytest.raises(ModelError, match="ended by itself"):
        engine(np.zeros((1, 64, 64, 6), np.float32))
    assert not engine.is_alive()


def test_closing_ends_a_child_that_loads(engine):
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            engine.wait_until_ready()
        except CancelledError as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    engine.close()
    thread.join(timeout=20)
    assert len(caught) == 1


def test_errors_of_the_child_are_ours():
    engine = ProcessEngine("no-such-model")
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        engine.wait_until_ready()
    engine.close()


@pytest.mark.parametrize(
    ("kind", "found"),
    [("InputError", InputError), ("MemoryError", MemoryError), ("path", ModelError)],
)
def test_kinds_of_errors_from_the_child_are_looked_up(kind, found):
    assert type(process_engine._error(kind, "m")) is found


@pytest.mark.parametrize("application", [None, object()])
def test_a_window_is_known_by_its_application(monkeypatch, application):
    for binding in process_engine._BINDINGS:
        monkeypatch.delitem(sys.modules, f"{binding}.QtWidgets", raising=False)
    assert not window_is_open()
    widgets = SimpleNamespace(QApplication=SimpleNamespace(instance=lambda: application))
    monkeypatch.setitem(sys.modules, "PySide6.QtWidgets", widgets)
    assert window_is_open() is (application is not None)
