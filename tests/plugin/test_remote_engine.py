"""The child process that holds a network."""

from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellclf.errors import CancelledError, ModelError, ModelNotFoundError
from napari_cellclf.plugin.classify import remote_engine
from napari_cellclf.plugin.classify.engine_process import receive, send
from napari_cellclf.plugin.classify.remote_engine import ModelProcess, RemoteEngine
from napari_cellclf.plugin.classify.runner import explain

pytestmark = pytest.mark.timeout(600)


def test_messages_come_back_as_they_were() -> None:
    stream = io.BytesIO()
    array = np.arange(24, dtype=np.float32).reshape(1, 2, 3, 4)
    send(stream, {"device": "cpu:0"})
    send(stream, {}, array)
    stream.seek(0)
    first, second = receive(stream), receive(stream)
    assert first is not None
    assert second is not None
    assert first[0] == {"device": "cpu:0"}
    np.testing.assert_array_equal(second[1], array)
    assert receive(stream) is None


def test_a_message_cut_short_is_none() -> None:
    stream = io.BytesIO()
    send(stream, {}, np.ones((2, 2), np.float32))
    assert receive(io.BytesIO(stream.getvalue()[:-1])) is None
    assert receive(io.BytesIO(stream.getvalue()[:5])) is None


def test_answers_are_probabilities_and_the_model_stays(models: Path) -> None:
    process = ModelProcess()
    try:
        classifier = process.get("stains")
        batch = np.random.default_rng(0).normal(size=(3, 40, 40, 6)).astype(np.float32)
        answer = classifier.engine(batch)
        assert answer.shape == (3, 4)
        np.testing.assert_allclose(answer.sum(axis=1), 1, atol=1e-5)
        assert classifier.device
        assert process.get("stains") is classifier
    finally:
        process.close()
    assert process.is_idle()


def test_a_killed_child_is_one_sentence(models: Path, caplog: Any) -> None:
    engine = RemoteEngine("stains")
    engine.wait_until_ready()
    engine._process.kill()
    engine._process.wait()
    with pytest.raises(ModelError, match="ended by itself"):
        engine(np.zeros((1, 8, 8, 6), np.float32))
    assert not engine.is_alive()


def test_closing_ends_a_child_that_loads(models: Path) -> None:
    engine = RemoteEngine("stains")
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
    engine.close()


def test_stopping_before_the_child_starts(models: Path) -> None:
    process = ModelProcess()
    with pytest.raises(CancelledError):
        process.get("stains", lambda: True)
    assert process.is_idle()
    process.shut_down()
    with pytest.raises(CancelledError):
        process.get("stains")
    assert process.is_idle()


def test_errors_of_the_child_are_ours(models: Path) -> None:
    engine = RemoteEngine("no-such-model")
    with pytest.raises(ModelNotFoundError, match="no-such-model"):
        engine.wait_until_ready()
    engine.close()


def test_errors_become_one_line(caplog: Any) -> None:
    assert explain(ModelError("the file\nis broken")) == "The file is broken."
    assert explain(ModelError("model.keras is broken")) == "model.keras is broken."
    assert "memory" in explain(MemoryError())
    assert "ZeroDivisionError: division" in explain(ZeroDivisionError("division\nby zero"))
    assert "log" in explain(ZeroDivisionError("x"))


@pytest.mark.parametrize("kind", ["InputError", "path", "nonsense"])
def test_kinds_of_errors_from_the_child_are_looked_up(kind: str) -> None:
    assert isinstance(remote_engine._error(kind, "m"), (ModelError, ValueError))
