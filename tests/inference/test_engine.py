"""Which engine is taken."""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import PackageNotFoundError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_cellclf.errors import InputError
from napari_cellclf.inference import engine as module
from napari_cellclf.inference.engine import (
    ENGINES,
    Machine,
    choose_engine,
    engine_version,
    look_at_machine,
)

MACHINES = st.builds(Machine, st.frozensets(st.sampled_from(ENGINES)), st.booleans(), st.booleans())


@given(asked=st.sampled_from(ENGINES), has_graph=st.booleans(), machine=MACHINES)
def test_the_user_is_obeyed(asked, has_graph, machine):
    assert choose_engine(asked, has_graph, machine) == asked


@given(machine=MACHINES)
def test_without_a_graph_only_keras_can(machine):
    assert choose_engine("auto", False, machine) == "keras"


@pytest.mark.parametrize(
    ("machine", "expected"),
    [
        (Machine(frozenset(ENGINES)), "openvino"),
        (Machine(frozenset({"keras", "onnxruntime"})), "onnxruntime"),
        (Machine(frozenset({"keras"})), "keras"),
        (Machine(frozenset()), "keras"),
        (Machine(frozenset(ENGINES), runtime_has_gpu=True), "onnxruntime"),
        (Machine(frozenset(ENGINES), keras_has_gpu=True), "keras"),
        (Machine(frozenset(ENGINES), runtime_has_gpu=True, keras_has_gpu=True), "onnxruntime"),
    ],
)
def test_auto_takes_the_fastest_that_is_here(machine, expected):
    assert choose_engine("auto", True, machine) == expected


def test_an_engine_that_does_not_exist():
    with pytest.raises(InputError, match=r"no engine 'tensorrt'; choose one of auto, openvino"):
        choose_engine("tensorrt", True, Machine(frozenset()))


@pytest.mark.parametrize(
    ("packages", "driver", "hidden", "expected"),
    [
        ({"onnxruntime-gpu"}, True, None, (True, False)),
        ({"onnxruntime-gpu"}, False, None, (False, False)),
        ({"nvidia-cudnn-cu12"}, True, None, (False, True)),
        ({"nvidia-cudnn-cu12"}, True, "0", (False, True)),
        ({"nvidia-cudnn-cu12", "onnxruntime-gpu"}, True, "-1", (False, False)),
        (set(), True, None, (False, False)),
    ],
)
def test_a_gpu_counts_with_a_driver_and_a_package(monkeypatch, packages, driver, hidden, expected):
    def version(package):
        if package in packages:
            return "1.0"
        raise PackageNotFoundError(package)

    monkeypatch.setattr(module, "version", version)
    monkeypatch.setattr(module, "has_nvidia_driver", lambda: driver)
    monkeypatch.setattr(module.platform, "system", lambda: "Linux")
    if hidden is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    found = look_at_machine()
    assert (found.runtime_has_gpu, found.keras_has_gpu) == expected


@pytest.mark.parametrize(
    ("packages", "expected"),
    [
        ({"onnxruntime": "1.23.2"}, "onnxruntime 1.23.2"),
        ({"onnxruntime-gpu": "1.23.1", "openvino": "2026.1"}, "onnxruntime-gpu 1.23.1"),
        ({}, "onnxruntime"),
    ],
    ids=str,
)
def test_which_build_is_here(monkeypatch, packages, expected):
    def version(package):
        if package not in packages:
            raise PackageNotFoundError(package)
        return packages[package]

    monkeypatch.setattr(module, "version", version)
    assert engine_version("onnxruntime") == expected


def test_a_folder_is_not_mistaken_for_a_library(tmp_path, monkeypatch):
    (tmp_path / "onnxruntime").mkdir()
    # The only place to look: an installed library would be found before the folder.
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    importlib.invalidate_caches()
    assert module.find_spec("onnxruntime") is not None
    assert "onnxruntime" not in look_at_machine().engines
