"""The precision that is left open is the one that was measured to be faster here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import CancelledError
from napari_cellclf.models.training import measured_precision
from napari_cellclf.models.training.config import TrainingConfig
from napari_cellclf.models.training.measured_precision import (
    MeasuredWay,
    choose,
    describe,
    processor_has_bfloat16,
    settled_precision,
)

CLASSES = (ClassSpec(name="a"), ClassSpec(name="b"))
CONFIG = TrainingConfig(
    architecture="compact-cnn",
    parameters={"width": 8, "depth": 2},
    weights=None,
    head_epochs=0,
    epochs=100,
    batch_size=4,
)
PREPROCESSING = Preprocessing(channels=({"name": "DNA"},), size=(32, 32))


@pytest.fixture(autouse=True)
def _has_instructions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measured_precision, "processor_has_bfloat16", lambda: True)
    monkeypatch.setattr(measured_precision, "has_fast_bfloat16", lambda: False)


def images(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 32, 32, 1)).astype(np.float32)


def settle(folder: Path, config: TrainingConfig = CONFIG, **more: Any) -> tuple[str, list[str]]:
    notes: list[str] = []
    found = settled_precision(
        config, PREPROCESSING, CLASSES, images, 40, folder=folder, note=notes.append, **more
    )
    return found, notes


def test_it_is_measured_once_for_a_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found, notes = settle(tmp_path)
    assert found in ("float32", "bfloat16")
    assert notes[0].endswith(f"computing in {found}")
    (kept,) = tmp_path.iterdir()

    def never(*_: object) -> None:
        raise AssertionError("measured again")

    with monkeypatch.context() as patched:
        patched.setattr(measured_precision, "_measure", never)
        assert settle(tmp_path) == (found, notes)
    # Of another batch size, and after damage, it is measured again.
    settle(tmp_path, CONFIG.changed(batch_size=8))
    assert len(list(tmp_path.iterdir())) == 2
    for damage in ("", "[]", "{}", '{"float32": 1}', "[" * 9000):
        kept.write_text(damage)
        assert settle(tmp_path)[0] in ("float32", "bfloat16")


@pytest.mark.parametrize(
    "changes",
    [
        {"precision": "float16"},
        {"reproducible": True},
        {"epochs": 3},
        {"devices": "all"},
    ],
)
def test_what_is_asked_for_is_not_measured(tmp_path: Path, changes: dict[str, Any]) -> None:
    found, notes = settle(tmp_path, CONFIG.changed(**changes))
    assert found == changes.get("precision", "float32")
    assert not notes
    assert not list(tmp_path.iterdir())


def test_a_processor_without_instructions_is_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measured_precision, "processor_has_bfloat16", lambda: False)
    assert settle(tmp_path) == ("float32", [])
    monkeypatch.setattr(measured_precision, "has_fast_bfloat16", lambda: True)
    assert settle(tmp_path) == ("bfloat16", [])


def test_it_can_be_stopped(tmp_path: Path) -> None:
    with pytest.raises(CancelledError):
        settle(tmp_path, should_stop=lambda: True)
    assert not list(tmp_path.iterdir())


def test_the_loss_counts_beside_the_time() -> None:
    plain = MeasuredWay((2.0, 1.9), (0.7, 0.5, 0.1))
    nan = float("nan")
    for seconds, losses, wanted in (
        (1.0, (0.72, 0.6, 0.5), "bfloat16"),
        (1.0, (0.8, 0.5, 0.1), "float32"),
        (1.0, (0.7, 0.8, 0.9), "float32"),
        (1.0, (nan, 0.5, 0.1), "float32"),
        (1.0, (0.7, 0.5, nan), "float32"),
        (1.85, (0.7, 0.5, 0.1), "float32"),
    ):
        rounded = MeasuredWay((9.0, seconds), losses)
        assert choose({"float32": plain, "bfloat16": rounded}) == wanted
    # With steps that are too large in float32 as well, only the first loss tells.
    jumping = MeasuredWay((2.0, 1.9), (0.7, 3.0))
    assert choose({"float32": jumping, "bfloat16": MeasuredWay((1.0,), (0.7, 4.0))}) == "bfloat16"
    assert "1.90 times as fast" in describe(
        {"float32": plain, "bfloat16": MeasuredWay((1.0,), (0.7, 0.6))}, "bfloat16"
    )


@pytest.mark.parametrize(
    ("listing", "has"),
    [
        ("flags\t\t: fpu sse avx512_bf16 amx_tile\n", True),
        ("Features\t: fp asimd bf16\n", True),
        ("flags\t\t: fpu sse avx2\n", False),
        ("", False),
    ],
)
def test_instructions_as_linux_lists_them(tmp_path: Path, listing: str, has: bool) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(listing)
    assert processor_has_bfloat16(path) is has
    assert not processor_has_bfloat16(tmp_path / "none")
