"""Compute a network with ONNX Runtime, on a GPU that it is made for, else on the processor."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import EngineError
from napari_cellclf.inference.engine_library import engine_library
from napari_cellclf.inference.exhaustion import image_too_large, is_exhausted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from napari_cellclf.inference.engine_choice import EnginePrecision
    from napari_cellclf.inference.graph_engine import Graph

_CPU = "CPUExecutionProvider"
#: Those that are asked before the processor, with what each is called; options are by precision.
_GPUS = {
    "CUDAExecutionProvider": "CUDA",
    "DmlExecutionProvider": "DirectML",
    "CoreMLExecutionProvider": "CoreML",
}
#: Everything else arrives here as an exception.
_FATAL_ONLY = 4

Provider = tuple[str, dict[str, str]]


class OnnxRuntimeEngine:
    """Computes with a network that ONNX Runtime has loaded.

    `session`: ``(N, Y, X, C)`` float32 in, ``(N, K)`` out.
    """

    def __init__(
        self, session: Any, version: str, precision: str, errors: tuple[type[Exception], ...]
    ) -> None:
        self._session = session
        self._errors = errors
        self._input = session.get_inputs()[0].name
        provider = session.get_providers()[0]
        self._place = _GPUS.get(provider, "CPU")
        self.precision = "float32" if provider == _CPU else precision
        self.device = f"onnxruntime {version}, {self._place}, {self.precision}"

    @classmethod
    def load(cls, graph: Graph, precision: EnginePrecision = "fast") -> OnnxRuntimeEngine:
        """Load a graph.

        `precision`: {'fast', 'float32'}; ``fast`` lets a GPU round as it does by default.
        """
        runtime = engine_library("onnxruntime")
        # Microsoft's own builds for Windows would report to the system's telemetry.
        runtime.disable_telemetry_events()
        options = runtime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        providers = choose_providers(runtime.get_available_providers(), precision)
        try:
            session = runtime.InferenceSession(graph.read(), options, providers=providers)
        except _errors(runtime) as error:
            raise EngineError(
                f"ONNX Runtime cannot load the network of {graph.name} ({_reason(error)}); use "
                "the engine keras"
            ) from error
        mixed = "mixed" if precision == "fast" else "float32"
        return cls(session, runtime.__version__, mixed, _errors(runtime))

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute; see `Engine`."""
        pixels = np.ascontiguousarray(batch, np.float32)
        try:
            (answer,) = self._session.run(None, {self._input: pixels})
        except self._errors as error:
            if is_exhausted(error):
                raise image_too_large(batch, self._place) from error
            raise EngineError(
                f"ONNX Runtime cannot compute images of shape {batch.shape} ({_reason(error)}); "
                "use the engine keras"
            ) from error
        return np.asarray(answer, np.float32)


def _reason(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _errors(runtime: Any) -> tuple[type[Exception], ...]:
    """Collect what ONNX Runtime raises: its errors have no base of their own."""
    state = runtime.capi.onnxruntime_pybind11_state
    return (
        state.EPFail,
        state.EngineError,
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NotImplemented,
        state.RuntimeException,
        RuntimeError,
        MemoryError,
    )


def choose_providers(available: Iterable[str], precision: EnginePrecision) -> list[Provider]:
    """Choose on what ONNX Runtime computes, the first that works first.

    `precision`: {'fast', 'float32'}; ``float32`` leaves out CoreML, which may compute in 16 bits,
    and TF32 on CUDA.

    Examples
    --------
    >>> choose_providers(["CUDAExecutionProvider", "CPUExecutionProvider"], "float32")
    [('CUDAExecutionProvider', {'use_tf32': '0'}), ('CPUExecutionProvider', {})]
    """
    there = set(available)
    chosen: list[Provider] = []
    for name in _GPUS:
        exact = precision == "float32"
        if name in there and not (exact and name == "CoreMLExecutionProvider"):
            cuda = name == "CUDAExecutionProvider"
            chosen.append((name, {"use_tf32": "0" if exact else "1"} if cuda else {}))
    return [*chosen, (_CPU, {})]
