"""An ONNX network and the engines that compute it, wherever it comes from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from napari_cellclf.bundles.bundle import ModelBundle
    from napari_cellclf.inference.engine_choice import EnginePrecision
    from napari_cellclf.inference.onnxruntime_engine import OnnxRuntimeEngine
    from napari_cellclf.inference.openvino_engine import OpenVinoEngine

GraphEngineName = Literal["openvino", "onnxruntime"]


@dataclass(frozen=True)
class Graph:
    """A network as ONNX."""

    #: What to call it in messages.
    name: str
    #: Of its bytes: under it an engine may find what it compiled before.
    sha256: str
    #: Returns the bytes, ``(N, Y, X, C)`` float32 to ``(N, K)``; called only if they are needed.
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
        from napari_cellclf.inference.openvino_engine import OpenVinoEngine

        return OpenVinoEngine.load(graph, precision)
    from napari_cellclf.inference.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine.load(graph, precision)
