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
    """A network as ONNX.

    Parameters
    ----------
    name : str
        What to call it in messages.
    sha256 : str
        Of its bytes: under it an engine may find what it compiled before.
    read : callable
        Returns the bytes, ``(N, Y, X, C)`` float32 to ``(N, K)``; called only if they are needed.
    """

    name: str
    sha256: str
    read: Callable[[], bytes]

    @classmethod
    def of(cls, bundle: ModelBundle) -> Graph:
        """Return ``model.onnx`` of a bundle, which is checked when it is read.

        Parameters
        ----------
        bundle : ModelBundle
            With or without a graph; without one, reading it raises `BundleError`.

        Returns
        -------
        Graph
            Under the name of the bundle.
        """
        return cls(bundle.path.name, bundle.graph_sha256, bundle.graph)


def load_graph_engine(
    name: GraphEngineName, graph: Graph, precision: EnginePrecision = "fast"
) -> OpenVinoEngine | OnnxRuntimeEngine:
    """Load an engine, importing its library and no other.

    Parameters
    ----------
    name : {'openvino', 'onnxruntime'}
        Which.
    graph : Graph
        What it shall compute.
    precision : {'fast', 'float32'}
        ``fast`` computes as the engine does fastest.

    Returns
    -------
    OpenVinoEngine or OnnxRuntimeEngine
        For any number of images, and any size that the network takes.

    Raises
    ------
    EngineError
        If it is not installed, or cannot compute the network.
    BundleError
        If the graph is that of a bundle which has none, or another than the bundle says.
    UnsafeModelError
        If the gate refuses it.
    """
    if name == "openvino":
        from napari_cellclf.inference.openvino_engine import OpenVinoEngine

        return OpenVinoEngine.load(graph, precision)
    from napari_cellclf.inference.onnxruntime_engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine.load(graph, precision)
