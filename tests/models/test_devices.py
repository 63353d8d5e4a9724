from __future__ import annotations

import json
from pathlib import Path

import pytest

from napari_cellclf.errors import InputError
from napari_cellclf.models.devices import chosen_backend, explain_no_gpu, find_devices


def test_the_environment_decides_before_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(json.dumps({"backend": "jax"}))
    home = {"KERAS_HOME": str(tmp_path)}
    assert chosen_backend(home) == "jax"
    assert chosen_backend({**home, "KERAS_BACKEND": "torch"}) == "torch"
    assert chosen_backend({**home, "KERAS_BACKEND": ""}) == "jax"


@pytest.mark.parametrize("content", [None, "{", "[]", '{"backend": 3}', "{}"])
def test_without_a_usable_configuration_it_is_tensorflow(
    tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "keras.json").write_text(content)
    assert chosen_backend({"KERAS_HOME": str(tmp_path)}) == "tensorflow"


def test_an_unknown_backend_is_named_with_the_remedy() -> None:
    with pytest.raises(InputError, match="'theano'; choose one of tensorflow"):
        chosen_backend({"KERAS_BACKEND": "theano"})


@pytest.mark.parametrize(
    ("backend", "system", "driver", "environment", "reason"),
    [
        ("tensorflow", "Linux", True, {"CUDA_VISIBLE_DEVICES": "-1"}, "hides every GPU"),
        ("torch", "Linux", True, {"CUDA_VISIBLE_DEVICES": ""}, "hides every GPU"),
        ("tensorflow", "Windows", True, {}, "WSL2"),
        ("torch", "Windows", True, {}, "PyTorch for your CUDA"),
        ("tensorflow", "Darwin", False, {}, "macOS"),
        ("tensorflow", "Linux", False, {}, "no NVIDIA driver"),
        ("tensorflow", "Linux", True, {"CUDA_VISIBLE_DEVICES": "0"}, "and-cuda"),
        ("jax", "Linux", True, {}, "cuda12"),
    ],
)
def test_the_reason_without_a_gpu(
    backend: str, system: str, driver: bool, environment: dict[str, str], reason: str
) -> None:
    assert reason in explain_no_gpu(backend, system, driver, environment)


def test_a_backend_without_gpus_says_so() -> None:
    devices = find_devices("numpy")
    assert devices.names == ("CPU",)
    assert devices.why_no_gpu is not None
    assert "numpy" in devices.why_no_gpu
