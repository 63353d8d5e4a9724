"""Compute a network with OpenVINO, on the processor. OpenVINO is imported when this is used."""

from __future__ import annotations

import io
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import EngineError
from napari_cellclf.inference.engine_library import engine_library, openvino_core
from napari_cellclf.inference.exhaustion import image_too_large, is_exhausted
from napari_cellclf.inference.graph_cache import find_compiled, keep_compiled, key_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.inference.engine_choice import Precision

_DEVICE = "CPU"
_NAMES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}


class OpenVinoEngine:
    """Computes with a network that OpenVINO has compiled.

    Parameters
    ----------
    compiled : openvino.CompiledModel
        ``(N, Y, X, C)`` float32 in, ``(N, K)`` probabilities out.
    version : str
        Of OpenVINO.
    """

    def __init__(self, compiled: Any, version: str) -> None:
        self._request = compiled.create_infer_request()
        # A request computes one batch at a time.
        self._lock = threading.Lock()
        computes_in = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = _NAMES.get(computes_in, computes_in)
        self.device = f"openvino {version}, {_DEVICE}, {self.precision}"

    @classmethod
    def load(cls, bundle: ModelBundle, precision: Precision = "auto") -> OpenVinoEngine:
        """Compile the checked graph of a bundle, or take it from where it was kept compiled.

        Parameters
        ----------
        bundle : ModelBundle
            With ``model.onnx``.
        precision : {'auto', 'float32'}
            ``auto`` computes in bfloat16 where the processor does so.

        Returns
        -------
        OpenVinoEngine
            For any number of images, and any size that the network takes.

        Raises
        ------
        BundleError
            If there is no graph, or it does not fit what the bundle says of it.
        EngineError
            If OpenVINO is not installed, or cannot compile it.
        UnsafeModelError
            If the gate refuses it.
        """
        openvino = engine_library("openvino")
        core = openvino_core()
        version = openvino.get_version()
        # One batch at a time on all cores: as fast as several side by side, and the first answer
        # comes sooner (benchmarks/engines.py).
        wanted = {"PERFORMANCE_HINT": "LATENCY"}
        if precision == "float32":
            wanted["INFERENCE_PRECISION_HINT"] = "f32"
        key = key_of(bundle.graph_sha256, "openvino", version, str(wanted), _processor(core))
        try:
            compiled = _compiled(core, bundle, wanted, key)
        except RuntimeError as error:
            raise _refusal(bundle.path.name, error) from error
        return cls(compiled, version.split("-")[0])

    def __call__(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute; see `Engine`.

        Raises
        ------
        ImageTooLargeError
            If the memory does not suffice.
        """
        pixels = np.ascontiguousarray(batch, np.float32)
        try:
            with self._lock:
                answer = self._request.infer({0: pixels}, share_inputs=True)
                return np.array(answer[0], np.float32)
        except RuntimeError as error:
            if not is_exhausted(error):
                raise
            raise image_too_large(batch, _DEVICE) from error


def _processor(core: Any) -> str:
    name = core.get_property(_DEVICE, "FULL_DEVICE_NAME")
    return f"{name} {core.get_property(_DEVICE, 'OPTIMIZATION_CAPABILITIES')}"


def _compiled(core: Any, bundle: ModelBundle, wanted: dict[str, str], key: str) -> Any:
    kept = find_compiled(key)
    if kept is not None:
        # Another build of the same version may refuse what this one kept.
        with suppress(RuntimeError):
            return core.import_model(io.BytesIO(kept), _DEVICE, wanted)
    model = core.read_model(io.BytesIO(bundle.graph()))
    compiled = core.compile_model(model, _DEVICE, wanted)
    keep_compiled(key, compiled.export_model().getvalue())
    return compiled


def _refusal(name: str, error: RuntimeError) -> EngineError:
    if is_exhausted(error):
        return EngineError(
            f"the network of {name} needs more memory than is free; close other programs, or use a "
            "smaller model"
        )
    lines = [line for line in str(error).splitlines() if line.strip()]
    return EngineError(
        f"OpenVINO cannot compile the network of {name} ({lines[-1][:200] if lines else error}); "
        "use the engine keras"
    )
