"""What computes a network: the protocol of engines, and which one a model gets here.

A network has up to three answers, computed in one pass: probabilities, *features* (the input of its
last dense layer) and a *feature map* (the last ``(N, h, w, C)`` tensor before global pooling).
"""

from __future__ import annotations

import os
import platform
import shutil
from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, get_args

from napari_cellclf.errors import EngineError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from napari_cellclf.bundles.schema import Extra


@dataclass(frozen=True, eq=False)
class Computed:
    """What a network answers about a batch.

    `probabilities`: ndarray, shape (N, K), float32; before any temperature. `features`: ndarray,
    shape (N, F), float32. `feature_map`: ndarray, shape (N, h, w, C), float32. None is what was not
    asked for, and what the network does not have. Several networks whose probabilities are averaged
    have their features one after the other, and so the channels of their maps.
    """

    probabilities: NDArray[np.float32]
    features: NDArray[np.float32] | None = None
    feature_map: NDArray[np.float32] | None = None

    @classmethod
    def of(cls, answers: Mapping[str, NDArray[np.float32]], count: int) -> Computed:
        """Collect the answers about `count` images by their names, and check their length."""
        for name, answer in answers.items():
            if len(answer) != count:
                raise EngineError(
                    f"the network gives {name} of shape {answer.shape} for {count} images; write "
                    "the bundle again"
                )
        return cls(**answers)


class Engine(Protocol):
    """Computes a network: prepared pixels in, probabilities out, and what they were made of."""

    @property
    def device(self) -> str:
        """What computes, and where, such as ``"openvino 2026.4.1, CPU, bfloat16"``."""
        ...

    @property
    def gives(self) -> frozenset[Extra]:
        """What `compute` gives besides probabilities."""
        ...

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute.

        Parameters
        ----------
        batch : ndarray, shape (N, Y, X, C), float32
            From `Preprocessing`; any N from 1.

        Returns
        -------
        ndarray, shape (N, K), float32
            Probabilities, before any temperature.
        """
        ...

    def compute(
        self, batch: NDArray[np.float32], *, features: bool = False, feature_map: bool = False
    ) -> Computed:
        """Compute, and give features and feature map where they are asked for and there are any.

        Parameters
        ----------
        batch : ndarray, shape (N, Y, X, C), float32
            From `Preprocessing`; any N from 1.
        features, feature_map : bool
            Whether they are wanted.

        Returns
        -------
        Computed
            In float32, whatever the engine computes in.
        """
        ...


class ProbabilitiesOnly(ABC):
    """The part of an engine that gives nothing but probabilities."""

    gives: frozenset[Extra] = frozenset()

    @abstractmethod
    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute; see `Engine`."""

    def compute(
        self, batch: NDArray[np.float32], *, features: bool = False, feature_map: bool = False
    ) -> Computed:
        """Compute; see `Engine`."""
        return Computed(self(batch))


def asked_for(gives: frozenset[Extra], features: bool, feature_map: bool) -> tuple[Extra, ...]:
    """List what is both wanted and given, in the order of the outputs.

    Examples
    --------
    >>> asked_for(frozenset({"features"}), features=True, feature_map=True)
    ('features',)
    """
    wanted: dict[Extra, bool] = {"features": features, "feature_map": feature_map}
    return tuple(one for one, is_wanted in wanted.items() if is_wanted and one in gives)


EngineName = Literal["openvino", "onnxruntime", "keras"]
EngineChoice = Literal["auto", "openvino", "onnxruntime", "keras"]
#: ``fast``: as processor or GPU do fastest, which may be in 16 bits. ``auto``: that, where the
#: model was shown to bear it.
Precision = Literal["auto", "fast", "float32"]
#: What an engine is told.
EnginePrecision = Literal["fast", "float32"]

ENGINES: tuple[EngineName, ...] = get_args(EngineName)
ENGINE_CHOICES: tuple[EngineChoice, ...] = get_args(EngineChoice)
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

#: Packages that bring the module `onnxruntime` together with a GPU.
_GPU_RUNTIMES = {"nvidia": "onnxruntime-gpu", "windows": "onnxruntime-directml"}


@dataclass(frozen=True)
class Machine:
    """What decides which engine is taken."""

    #: Those that are installed.
    engines: frozenset[str]
    #: Whether the ONNX Runtime that is installed is one for the GPU that is here.
    runtime_has_gpu: bool = False
    #: Whether Keras's backend is installed with what it needs for the GPU that is here.
    keras_has_gpu: bool = False


def choose_engine(asked: EngineChoice, has_graph: bool, machine: Machine) -> EngineName:
    """Decide which engine computes a model.

    Examples
    --------
    >>> choose_engine("auto", True, Machine(frozenset({"keras", "openvino"})))
    'openvino'
    >>> choose_engine("auto", False, Machine(frozenset({"keras", "openvino"})))
    'keras'
    """
    if asked not in ENGINE_CHOICES:
        raise InputError(f"there is no engine {asked!r}; choose one of {', '.join(ENGINE_CHOICES)}")
    if asked != "auto":
        return asked
    if not has_graph:
        return "keras"
    if machine.runtime_has_gpu:
        return "onnxruntime"
    if machine.keras_has_gpu:
        return "keras"
    return next((name for name in ENGINES if name in machine.engines), "keras")


def look_at_machine() -> Machine:
    """Find out what is here, importing none of the engines."""
    nvidia = has_nvidia_driver() and not gpus_are_hidden()
    windows = platform.system() == "Windows"
    return Machine(
        frozenset(name for name in ENGINES if _is_library(name)),
        runtime_has_gpu=(nvidia and _is_installed(_GPU_RUNTIMES["nvidia"]))
        or (windows and _is_installed(_GPU_RUNTIMES["windows"])),
        keras_has_gpu=nvidia and _backends_have_cuda(),
    )


def engine_version(name: EngineName) -> str:
    """Tell which build of an engine is installed, without importing it."""
    builds = (*_GPU_RUNTIMES.values(), name) if name == "onnxruntime" else (name,)
    return next((f"{build} {_version(build)}" for build in builds if _is_installed(build)), name)


def has_nvidia_driver() -> bool:
    """Whether NVIDIA's driver is installed."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def gpus_are_hidden() -> bool:
    """Whether ``CUDA_VISIBLE_DEVICES`` hides every GPU."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return hidden is not None and hidden.strip() in ("", "-1")


def _backends_have_cuda() -> bool:
    """Whether TensorFlow, PyTorch or JAX came with CUDA: all need cuDNN, which is a package."""
    packages = ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")
    # PyTorch for Windows has it inside, and says so in its version.
    return any(map(_is_installed, packages)) or "+cu" in _version("torch")


def _is_library(name: str) -> bool:
    found = find_spec(name)
    # A folder of exported models may be called like that, and Python would import it.
    return found is not None and found.origin is not None


def _is_installed(package: str) -> bool:
    return bool(_version(package))


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
