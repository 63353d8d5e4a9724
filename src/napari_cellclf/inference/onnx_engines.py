"""Compute an ONNX network with OpenVINO or ONNX Runtime, each imported when it is used."""

from __future__ import annotations

import io
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from napari_cellclf.bundles.schema import EXTRAS
from napari_cellclf.errors import EngineError
from napari_cellclf.inference.compiled_cache import find_compiled, keep_compiled, key_of
from napari_cellclf.inference.engine import Computed, asked_for
from napari_cellclf.inference.engine_library import (
    check_process,
    engine_library,
    image_too_large,
    is_exhausted,
    openvino_core,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.bundles.schema import Extra
    from napari_cellclf.inference.engine import EnginePrecision


GraphEngineName = Literal["openvino", "onnxruntime"]


Provider = tuple[str, dict[str, str]]

_PROCESSOR = "CPU"

_PRECISION_NAMES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}

_CPU = "CPUExecutionProvider"

#: Those that are asked before the processor, with what each is called; options are by precision.
_GPUS = {
    "CUDAExecutionProvider": "CUDA",
    "DmlExecutionProvider": "DirectML",
    "CoreMLExecutionProvider": "CoreML",
}

#: Everything else arrives here as an exception.
_FATAL_ONLY = 4


@dataclass(frozen=True)
class Graph:
    """A network as ONNX."""

    #: What to call it in messages.
    name: str
    #: Of its bytes: under it an engine may find what it compiled before.
    sha256: str
    #: Returns the bytes, ``(N, Y, X, C)`` float32 to ``(N, K)``, and perhaps to `EXTRAS`; called
    #: only if they are needed.
    read: Callable[[], bytes]

    @classmethod
    def of(cls, bundle: ModelBundle) -> Graph:
        """Return ``model.onnx`` of a bundle, which is checked when it is read."""
        return cls(bundle.path.name, bundle.graph_sha256, bundle.graph)


def load_graph_engine(
    name: GraphEngineName, graph: Graph, precision: EnginePrecision = "fast"
) -> OpenVinoEngine | OnnxRuntimeEngine:
    """Load an engine, importing its library and no other.

    `precision`: {'fast', 'float32'}; ``fast`` computes as the engine does fastest.
    """
    if name == "openvino":
        return OpenVinoEngine.load(graph, precision)
    return OnnxRuntimeEngine.load(graph, precision)


class _GraphEngine(ABC):
    """What both libraries share: the outputs that are asked for, by name."""

    gives: frozenset[Extra]

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute; see `Engine`."""
        return self._compute(batch, ()).probabilities

    def compute(
        self, batch: NDArray[np.float32], *, features: bool = False, feature_map: bool = False
    ) -> Computed:
        """Compute; see `Engine`."""
        return self._compute(batch, asked_for(self.gives, features, feature_map))

    @abstractmethod
    def _compute(self, batch: NDArray[np.float32], extras: Sequence[Extra]) -> Computed:
        """Compute the probabilities and some of what is given besides."""


class OpenVinoEngine(_GraphEngine):
    """Computes with a network that OpenVINO has compiled.

    One image is computed by all cores together, which answers soonest. Several are divided among
    requests that each have some of the cores to themselves, which wastes no time on waiting for
    each other (benchmarks/engines.py).

    `compiled`: ``(N, Y, X, C)`` float32 in, ``(N, K)`` and perhaps `EXTRAS` out; of one request.
    """

    def __init__(self, compiled: Any, spread: Callable[[], Any], version: str) -> None:
        self._alone = [compiled.create_infer_request()]
        self._spread = spread
        self._process = os.getpid()
        self._together: list[Any] = []
        # A request computes one batch at a time.
        self._lock = threading.Lock()
        names = [_output_name(port) for port in compiled.outputs]
        self._places = {name: number for number, name in enumerate(names) if number}
        self.gives = _given(names)
        computes_in = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = _PRECISION_NAMES.get(computes_in, computes_in)
        self.device = f"openvino {version}, {_PROCESSOR}, {self.precision}"

    @classmethod
    def load(cls, graph: Graph, precision: EnginePrecision = "fast") -> OpenVinoEngine:
        """Compile a graph, or take it from where it was kept compiled.

        `precision`: {'fast', 'float32'}; ``fast`` computes in bfloat16 where the processor does so.
        """
        openvino = engine_library("openvino")
        version = openvino.get_version()
        exact = {"INFERENCE_PRECISION_HINT": "f32"} if precision == "float32" else {}

        def compiled_for(hint: str) -> Any:
            core = openvino_core()
            key = key_of(graph.sha256, "openvino", version, precision, _processor(core))
            return _load_compiled(core, graph, exact | {"PERFORMANCE_HINT": hint}, key)

        try:
            compiled = compiled_for("LATENCY")
        except RuntimeError as error:
            raise _refusal(graph.name, error) from error
        return cls(compiled, partial(compiled_for, "THROUGHPUT"), version.split("-")[0])

    def _compute(self, batch: NDArray[np.float32], extras: Sequence[Extra]) -> Computed:
        check_process(self._process)
        pixels = np.ascontiguousarray(batch, np.float32)
        places = {"probabilities": 0} | {extra: self._places[extra] for extra in extras}
        try:
            with self._lock:
                answers = _infer(self._requests(len(pixels)), pixels, list(places.values()))
            return _computed(places, answers, len(pixels))
        except RuntimeError as error:
            if is_exhausted(error):
                raise image_too_large(batch, _PROCESSOR) from error
            raise EngineError(
                f"OpenVINO cannot compute images of shape {batch.shape} ({_last_line(error)}); use "
                "the engine keras"
            ) from error

    def _requests(self, count: int) -> list[Any]:
        if count == 1:
            return self._alone
        if not self._together:
            compiled = self._spread()
            number = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            self._together = [compiled.create_infer_request() for _ in range(number)]
        return self._together


def _infer(
    requests: list[Any], pixels: NDArray[np.float32], places: list[int]
) -> list[NDArray[np.float32]]:
    """Divide a batch among requests; all of them are idle again afterwards, whatever happens.

    `places`: of the outputs that are wanted; the others are not copied.
    """
    parts = np.array_split(pixels, min(len(requests), len(pixels)))
    with ExitStack() as started:
        for request, part in zip(requests, parts, strict=False):
            request.start_async({0: part}, share_inputs=True)
            started.callback(request.wait)
    used = requests[: len(parts)]
    # Copied, since the next batch is written to the same place.
    return [
        np.concatenate([one.get_output_tensor(place).data for one in used], dtype=np.float32)
        for place in places
    ]


def _computed(names: Iterable[str], answers: Sequence[NDArray[np.float32]], count: int) -> Computed:
    found = dict(zip(names, answers, strict=True))
    if "feature_map" in found:
        # Of a graph it has its channels second.
        found["feature_map"] = found["feature_map"].transpose(0, 2, 3, 1)
    return Computed.of(found, count)


def _output_name(port: Any) -> str:
    """Return which of `EXTRAS` an output is; empty for any other."""
    return next((name for name in EXTRAS if name in port.get_names()), "")


def _given(names: Sequence[str]) -> frozenset[Extra]:
    """Return which outputs after the first, the probabilities, are known."""
    return frozenset(extra for extra in EXTRAS if extra in names[1:])


def _processor(core: Any) -> str:
    name = core.get_property(_PROCESSOR, "FULL_DEVICE_NAME")
    return f"{name} {core.get_property(_PROCESSOR, 'OPTIMIZATION_CAPABILITIES')}"


def _load_compiled(core: Any, graph: Graph, wanted: dict[str, str], key: str) -> Any:
    """Import what was kept, which suits every performance hint, or compile and keep it."""
    kept = find_compiled(key)
    if kept is not None:
        # Another build of the same version may refuse what this one kept.
        with suppress(RuntimeError):
            return core.import_model(io.BytesIO(kept), _PROCESSOR, wanted)
    model = core.read_model(io.BytesIO(graph.read()))
    compiled = core.compile_model(model, _PROCESSOR, wanted)
    keep_compiled(key, compiled.export_model().getvalue())
    return compiled


def _refusal(name: str, error: RuntimeError) -> EngineError:
    if is_exhausted(error):
        return EngineError(
            f"the network of {name} needs more memory than is free; close other programs, or use a "
            "smaller model"
        )
    return EngineError(
        f"OpenVINO cannot compile the network of {name} ({_last_line(error)}); use the engine keras"
    )


def _last_line(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


class OnnxRuntimeEngine(_GraphEngine):
    """Computes with a network that ONNX Runtime has loaded.

    `session`: ``(N, Y, X, C)`` float32 in, ``(N, K)`` and perhaps `EXTRAS` out.
    """

    def __init__(
        self, session: Any, version: str, precision: str, errors: tuple[type[Exception], ...]
    ) -> None:
        self._session = session
        self._errors = errors
        self._input = session.get_inputs()[0].name
        names = [port.name for port in session.get_outputs()]
        self._first = names[0]
        self.gives = _given(names)
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
        # Builds that know no variable for it, as on Windows, report to the system's telemetry.
        runtime.disable_telemetry_events()
        options = runtime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        providers = choose_providers(runtime.get_available_providers(), precision)
        try:
            session = runtime.InferenceSession(graph.read(), options, providers=providers)
        except _runtime_errors(runtime) as error:
            raise EngineError(
                f"ONNX Runtime cannot load the network of {graph.name} ({_first_line(error)}); use "
                "the engine keras"
            ) from error
        mixed = "mixed" if precision == "fast" else "float32"
        return cls(session, runtime.__version__, mixed, _runtime_errors(runtime))

    def _compute(self, batch: NDArray[np.float32], extras: Sequence[Extra]) -> Computed:
        pixels = np.ascontiguousarray(batch, np.float32)
        try:
            answers = self._session.run([self._first, *extras], {self._input: pixels})
        except self._errors as error:
            if is_exhausted(error):
                raise image_too_large(batch, self._place) from error
            raise EngineError(
                f"ONNX Runtime cannot compute images of shape {batch.shape} "
                f"({_first_line(error)}); use the engine keras"
            ) from error
        found = [np.asarray(answer, np.float32) for answer in answers]
        return _computed(("probabilities", *extras), found, len(pixels))


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def _runtime_errors(runtime: Any) -> tuple[type[Exception], ...]:
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
