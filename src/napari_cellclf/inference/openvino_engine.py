"""Compute a network with OpenVINO, on the processor. OpenVINO is imported when this is used."""

from __future__ import annotations

import io
import os
import threading
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import EngineError
from napari_cellclf.inference.engine_library import check_process, engine_library, openvino_core
from napari_cellclf.inference.exhaustion import image_too_large, is_exhausted
from napari_cellclf.inference.graph_cache import find_compiled, keep_compiled, key_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from napari_cellclf.inference.engine_choice import EnginePrecision
    from napari_cellclf.inference.graph_engine import Graph

_DEVICE = "CPU"
_NAMES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}


class OpenVinoEngine:
    """Computes with a network that OpenVINO has compiled.

    One image is computed by all cores together, which answers soonest. Several are divided among
    requests that each have some of the cores to themselves, which wastes no time on waiting for
    each other (benchmarks/engines.py).

    `compiled`: ``(N, Y, X, C)`` float32 in, ``(N, K)`` out; of one request.
    """

    def __init__(self, compiled: Any, spread: Callable[[], Any], version: str) -> None:
        self._alone = [compiled.create_infer_request()]
        self._spread = spread
        self._process = os.getpid()
        self._together: list[Any] = []
        # A request computes one batch at a time.
        self._lock = threading.Lock()
        computes_in = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = _NAMES.get(computes_in, computes_in)
        self.device = f"openvino {version}, {_DEVICE}, {self.precision}"

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
            return _compiled(core, graph, exact | {"PERFORMANCE_HINT": hint}, key)

        try:
            compiled = compiled_for("LATENCY")
        except RuntimeError as error:
            raise _refusal(graph.name, error) from error
        return cls(compiled, partial(compiled_for, "THROUGHPUT"), version.split("-")[0])

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute; see `Engine`."""
        check_process(self._process)
        pixels = np.ascontiguousarray(batch, np.float32)
        try:
            with self._lock:
                return _infer(self._requests(len(pixels)), pixels)
        except RuntimeError as error:
            if is_exhausted(error):
                raise image_too_large(batch, _DEVICE) from error
            raise EngineError(
                f"OpenVINO cannot compute images of shape {batch.shape} ({_reason(error)}); use "
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


def _infer(requests: list[Any], pixels: NDArray[np.float32]) -> NDArray[np.float32]:
    """Divide a batch among requests; all of them are idle again afterwards, whatever happens."""
    parts = np.array_split(pixels, min(len(requests), len(pixels)))
    with ExitStack() as started:
        for request, part in zip(requests, parts, strict=False):
            request.start_async({0: part}, share_inputs=True)
            started.callback(request.wait)
    answers = [request.get_output_tensor(0).data for request in requests[: len(parts)]]
    # Copied, since the next batch is written to the same place.
    return np.concatenate(answers, dtype=np.float32)


def _processor(core: Any) -> str:
    name = core.get_property(_DEVICE, "FULL_DEVICE_NAME")
    return f"{name} {core.get_property(_DEVICE, 'OPTIMIZATION_CAPABILITIES')}"


def _compiled(core: Any, graph: Graph, wanted: dict[str, str], key: str) -> Any:
    """Import what was kept, which suits every performance hint, or compile and keep it."""
    kept = find_compiled(key)
    if kept is not None:
        # Another build of the same version may refuse what this one kept.
        with suppress(RuntimeError):
            return core.import_model(io.BytesIO(kept), _DEVICE, wanted)
    model = core.read_model(io.BytesIO(graph.read()))
    compiled = core.compile_model(model, _DEVICE, wanted)
    keep_compiled(key, compiled.export_model().getvalue())
    return compiled


def _refusal(name: str, error: RuntimeError) -> EngineError:
    if is_exhausted(error):
        return EngineError(
            f"the network of {name} needs more memory than is free; close other programs, or use a "
            "smaller model"
        )
    return EngineError(
        f"OpenVINO cannot compile the network of {name} ({_reason(error)}); use the engine keras"
    )


def _reason(error: RuntimeError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
