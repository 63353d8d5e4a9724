"""Keras's backend and its devices: which there are, why no GPU, and how to set them up."""

from __future__ import annotations

import importlib
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from napari_cellclf.errors import InputError
from napari_cellclf.inference.engine import has_nvidia_driver
from napari_cellclf.io.notes import read_note

#: Those of Keras 3, each with the package it needs.
BACKENDS = ("tensorflow", "torch", "jax", "openvino", "numpy")


@dataclass(frozen=True)
class Devices:
    """What a backend can compute on."""

    #: Such as ``("CPU", "GPU 0: NVIDIA H200")``.
    names: tuple[str, ...]
    #: One sentence; None if there is a GPU.
    why_no_gpu: str | None


def chosen_backend(environment: Mapping[str, str] | None = None) -> str:
    """Tell which backend Keras will choose, without importing it.

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
    """Ask a backend for its devices; imports it."""
    look = {"tensorflow": _tensorflow_gpus, "torch": _torch_gpus, "jax": _jax_gpus}.get(backend)
    if look is None:
        return Devices(("CPU",), f"Keras's backend {backend} computes on the CPU only")
    try:
        gpus = look()
    except ImportError as error:
        return Devices((), f"{backend} cannot be imported: {error}")
    names = ("CPU", *(f"GPU {index}: {name}" for index, name in enumerate(gpus)))
    why = (
        None
        if gpus
        else explain_no_gpu(backend, platform.system(), has_nvidia_driver(), os.environ)
    )
    return Devices(names, why)


def describe_device(devices: Devices) -> str:
    """Describe in one line what a run computes on, and why not on a GPU."""
    gpus = [name for name in devices.names if name != "CPU"]
    if gpus:
        return ", ".join(gpus)
    why = f"; no GPU: {devices.why_no_gpu}" if devices.why_no_gpu else ""
    return f"CPU ({os.cpu_count()} cores){why}"


def set_up(*, reproducible: bool) -> None:
    """Prepare the backend for a run; call it before anything is computed.

    GPU memory is taken as it is needed, so that other programs keep theirs.
    """
    backend = chosen_backend()
    if backend == "tensorflow":
        _set_up_tensorflow(reproducible)
    elif backend == "torch" and reproducible:
        importlib.import_module("torch").use_deterministic_algorithms(True, warn_only=True)


@contextmanager
def spread_over(devices: str) -> Iterator[int]:
    """Let models that are built and trained inside share each batch among all devices."""
    if devices == "one":
        yield 1
        return
    backend = chosen_backend()
    if backend == "tensorflow":
        distribute = importlib.import_module("tensorflow").distribute
        # Without GPUs: whatever logical processors the program was given.
        config = importlib.import_module("tensorflow").config
        kind = "GPU" if config.list_logical_devices("GPU") else "CPU"
        names = [device.name for device in config.list_logical_devices(kind)]
        strategy = distribute.MirroredStrategy(names)
        with strategy.scope():
            yield int(strategy.num_replicas_in_sync)
        return
    if backend != "jax":
        raise InputError(
            f"devices='all' needs TensorFlow or JAX, but Keras computes with {backend}; set "
            "KERAS_BACKEND, or use devices='one'"
        )
    distribution = importlib.import_module("keras").distribution
    before = distribution.distribution()
    parallel = distribution.DataParallel()
    distribution.set_distribution(parallel)
    try:
        yield len(distribution.list_devices())
    finally:
        distribution.set_distribution(before)


def has_fast_bfloat16() -> bool:
    """Whether the first GPU computes bfloat16 faster than float32."""
    backend = chosen_backend()
    if backend == "tensorflow":
        config = importlib.import_module("tensorflow").config
        gpus = config.list_physical_devices("GPU")
        details = config.experimental.get_device_details(gpus[0]) if gpus else {}
        return bool(details.get("compute_capability", (0, 0))[0] >= 8)
    if backend == "torch":
        cuda = importlib.import_module("torch").cuda
        return bool(cuda.is_available() and cuda.get_device_capability(0)[0] >= 8)
    if backend == "jax":
        return bool(_jax_gpus())
    return False


def _set_up_tensorflow(reproducible: bool) -> None:
    tensorflow = importlib.import_module("tensorflow")
    for gpu in tensorflow.config.list_physical_devices("GPU"):
        try:
            tensorflow.config.experimental.set_memory_growth(gpu, True)
        except RuntimeError:
            # It has computed before, and has its memory already.
            return
    if reproducible:
        tensorflow.config.experimental.enable_op_determinism()


def explain_no_gpu(
    backend: str, system: str, has_driver: bool, environment: Mapping[str, str]
) -> str:
    """Say why a backend found no GPU, and what would help.

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
    return f"an NVIDIA driver is installed, but {backend} found no GPU it can use; {remedy}"


def _configured(environment: Mapping[str, str]) -> str | None:
    folder = Path(environment.get("KERAS_HOME") or Path.home() / ".keras")
    # Keras ignores a file that it cannot read as well.
    backend = (read_note(folder / "keras.json") or {}).get("backend")
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
