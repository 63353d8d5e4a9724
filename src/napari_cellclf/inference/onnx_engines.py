"""Compute an ONNX network with OpenVINO or ONNX Runtime, each imported when it is used."""

from __future__ import annotations

import io
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
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
    usable_cores,
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

#: Of parts of a batch for which a network is compiled; for others it is used as it is.
_MOST_SHAPES = 4

#: Operations of OpenVINO that attention may be written with, beside plain products.
_ATTENTION = ("Einsum", "ScaledDotProductAttention")

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

    One image is computed by all cores together, which answers soonest. Several are computed one or
    two at a time, by requests that each have some of the cores to themselves: so few fit into a
    core's cache, no core waits for another, and OpenVINO makes better use of a shape that it knows
    in advance (benchmarks/engines.py).

    `compiled`: ``(N, Y, X, C)`` float32 in, ``(N, K)`` and perhaps `EXTRAS` out; of one request.
    `compiled_for`: gives the same for images of one shape, ``(N, Y, X, C)``.
    """

    def __init__(
        self, compiled: Any, compiled_for: Callable[[tuple[int, ...]], Any], version: str
    ) -> None:
        self._alone = compiled.create_infer_request()
        self._compiled_for = compiled_for
        self._process = os.getpid()
        self._spread: dict[tuple[int, ...], list[Any]] = {}
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

        def compiled_for(shape: tuple[int, ...] | None) -> Any:
            core = openvino_core()
            parts = [graph.sha256, "openvino", version, precision, _processor(core)]
            key = key_of(*parts, *([] if shape is None else [str(shape)]))
            hint = "LATENCY" if shape is None else "THROUGHPUT"
            return _load_compiled(core, graph, exact | {"PERFORMANCE_HINT": hint}, key, shape)

        try:
            compiled = compiled_for(None)
        except RuntimeError as error:
            raise _refusal(graph.name, error) from error
        return cls(compiled, compiled_for, version.split("-")[0])

    def _compute(self, batch: NDArray[np.float32], extras: Sequence[Extra]) -> Computed:
        check_process(self._process)
        pixels = np.ascontiguousarray(batch, np.float32)
        places = {"probabilities": 0} | {extra: self._places[extra] for extra in extras}
        try:
            with self._lock:
                requests, size = self._requests(pixels.shape)
                answers = _infer(requests, pixels, size, list(places.values()))
            return _computed(places, answers, len(pixels))
        except RuntimeError as error:
            if is_exhausted(error):
                raise image_too_large(batch, _PROCESSOR) from error
            raise EngineError(
                f"OpenVINO cannot compute images of shape {batch.shape} ({_last_line(error)}); use "
                "the engine keras"
            ) from error

    def _requests(self, shape: tuple[int, ...]) -> tuple[list[Any], int]:
        """Return what computes a batch, and how many images at a time."""
        count, *image = shape
        # With fewer than two for each core, parts of two would leave cores without work.
        part = (2 if count >= 2 * usable_cores() else 1, *image)
        if count == 1 or (part not in self._spread and len(self._spread) == _MOST_SHAPES):
            return [self._alone], count
        if part not in self._spread:
            compiled = self._compiled_for(part)
            number = compiled.get_property("OPTIMAL_NUMBER_OF_INFER_REQUESTS")
            self._spread[part] = [compiled.create_infer_request() for _ in range(number)]
        return self._spread[part], part[0]


def _infer(
    requests: list[Any], pixels: NDArray[np.float32], size: int, places: list[int]
) -> list[NDArray[np.float32]]:
    """Compute a batch in parts; all requests are idle again afterwards, whatever happens.

    `places`: of the outputs that are wanted; the others are not copied.
    """
    parts = [pixels[start : start + size] for start in range(0, len(pixels), size)]
    if len(parts[-1]) < size:
        # Filled up, since the shape is known in advance; what it gives is left out below.
        parts[-1] = np.resize(parts[-1], (size, *pixels.shape[1:]))
    answers: list[list[NDArray[np.float32]]] = [[] for _ in places]

    def take(request: Any) -> None:
        request.wait()
        for found, place in zip(answers, places, strict=True):
            # Copied, since the next part is written to the same place.
            found.append(np.array(request.get_output_tensor(place).data, np.float32))

    n_ahead = len(requests)
    with ExitStack() as started:
        for number, part in enumerate(parts):
            request = requests[number % n_ahead]
            if number >= n_ahead:
                take(request)
            request.start_async({0: part}, share_inputs=True)
            started.callback(request.wait)
        for number in range(max(0, len(parts) - n_ahead), len(parts)):
            take(requests[number % n_ahead])
    return [np.concatenate(found)[: len(pixels)] for found in answers]


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


def _load_compiled(
    core: Any, graph: Graph, wanted: dict[str, str], key: str, shape: tuple[int, ...] | None
) -> Any:
    """Import what was kept, which suits every performance hint, or compile and keep it."""
    kept = find_compiled(key)
    if kept is not None:
        # Another build of the same version may refuse what this one kept.
        with suppress(RuntimeError):
            return core.import_model(io.BytesIO(kept), _PROCESSOR, wanted)
    model = core.read_model(io.BytesIO(graph.read()))
    if shape is not None and not _has_attention(model):
        model.reshape({0: list(shape)})
    compiled = core.compile_model(model, _PROCESSOR, wanted)
    keep_compiled(key, compiled.export_model().getvalue())
    return compiled


def _has_attention(model: Any) -> bool:
    """Whether a graph multiplies what was computed with what was computed.

    OpenVINO 2026.4 ends the process when it compiles attention for a shape that it knows.
    """
    operations = model.get_ops()
    if any(operation.get_type_name() in _ATTENTION for operation in operations):
        return True
    products = [operation for operation in operations if operation.get_type_name() == "MatMul"]
    return not all(
        any(_is_stored(port.get_node()) for port in product.input_values()) for product in products
    )


def _is_stored(node: Any) -> bool:
    while node.get_type_name() in ("Convert", "Reshape", "Transpose"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


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
