"""Which backend Keras will use, which devices it has, and why none of them is a GPU."""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from napari_cellclf.errors import InputError

#: Those of Keras 3, each with the package it needs.
BACKENDS = ("tensorflow", "torch", "jax", "openvino", "numpy")


@dataclass(frozen=True)
class Devices:
    """What a backend can compute on.

    Parameters
    ----------
    names : tuple of str
        Such as ``("CPU", "GPU 0: NVIDIA H200")``.
    why_no_gpu : str or None
        One sentence; None if there is a GPU.
    """

    names: tuple[str, ...]
    why_no_gpu: str | None


def chosen_backend(environment: Mapping[str, str] | None = None) -> str:
    """Tell which backend Keras will choose, without importing it.

    Parameters
    ----------
    environment : mapping of str to str, optional
        ``os.environ`` if left out.

    Returns
    -------
    str
        By ``KERAS_BACKEND``, else by Keras's configuration file, else ``"tensorflow"``, as
        ``keras/src/backend/config.py`` does.

    Raises
    ------
    InputError
        If Keras knows no such backend.

    Examples
    --------
    >>> chosen_backend({"KERAS_BACKEND": "torch"})
    'torch'
    """
    environment = os.environ if environment is None else environment
    backend = environment.get("KERAS_BACKEND") or _configured(environment) or "tensorflow"
    if backend not in BACKENDS:
        raise InputError(
            f"KERAS_BACKEND (or keras.json) names {backend!r}; choose one of {', '.join(BACKENDS)}"
        )
    return backend


def find_devices(backend: str) -> Devices:
    """Ask a backend for its devices; imports it.

    Parameters
    ----------
    backend : str
        One of `BACKENDS`.

    Returns
    -------
    Devices
        With nothing but the CPU where the backend knows no GPU or cannot be imported.
    """
    look = {"tensorflow": _tensorflow_gpus, "torch": _torch_gpus, "jax": _jax_gpus}.get(backend)
    if look is None:
        return Devices(("CPU",), f"Keras's backend {backend} computes on the CPU only")
    try:
        gpus = look()
    except ImportError as error:
        return Devices((), f"{backend} cannot be imported: {error}")
    names = ("CPU", *(f"GPU {index}: {name}" for index, name in enumerate(gpus)))
    why = None if gpus else explain_no_gpu(backend, platform.system(), _has_driver(), os.environ)
    return Devices(names, why)


def explain_no_gpu(
    backend: str, system: str, has_driver: bool, environment: Mapping[str, str]
) -> str:
    """Say why a backend found no GPU, and what would help.

    Parameters
    ----------
    backend : {"tensorflow", "torch", "jax"}
        Which was asked.
    system : str
        As `platform.system` tells.
    has_driver : bool
        Whether NVIDIA's driver is installed.
    environment : mapping of str to str
        To look for a variable that hides GPUs.

    Returns
    -------
    str
        One sentence.

    Examples
    --------
    >>> explain_no_gpu("tensorflow", "Linux", False, {})
    'no NVIDIA driver was found on this machine'
    """
    hidden = environment.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None and hidden.strip() in ("", "-1"):
        return f"CUDA_VISIBLE_DEVICES={hidden} hides every GPU; unset it to use them"
    if backend == "tensorflow" and system == "Windows":
        return (
            "TensorFlow has no GPU support on native Windows; use WSL2, or install PyTorch with "
            "CUDA and set KERAS_BACKEND=torch"
        )
    if backend == "tensorflow" and system == "Darwin":
        return "TensorFlow's own packages for macOS compute on the CPU only"
    if not has_driver:
        return "no NVIDIA driver was found on this machine"
    remedy = {
        "tensorflow": "pip install 'tensorflow[and-cuda]'",
        "jax": "pip install 'jax[cuda12]'",
        "torch": "install the build of PyTorch for your CUDA version",
    }[backend]
    return f"an NVIDIA driver is here, but {backend} found no GPU it can use; {remedy}"


def _configured(environment: Mapping[str, str]) -> str | None:
    folder = Path(environment.get("KERAS_HOME") or Path.home() / ".keras")
    try:
        found = json.loads((folder / "keras.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # Keras, too, goes on without a file that it cannot read.
        return None
    backend = found.get("backend") if isinstance(found, dict) else None
    return backend if isinstance(backend, str) else None


def _tensorflow_gpus() -> list[str]:
    config = importlib.import_module("tensorflow").config
    gpus = config.list_physical_devices("GPU")
    details = (config.experimental.get_device_details(gpu) for gpu in gpus)
    return [str(detail.get("device_name", "unnamed")) for detail in details]


def _torch_gpus() -> list[str]:
    torch = importlib.import_module("torch")
    return [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]


def _jax_gpus() -> list[str]:
    jax = importlib.import_module("jax")
    return [str(device.device_kind) for device in jax.devices() if device.platform == "gpu"]


def _has_driver() -> bool:
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None
