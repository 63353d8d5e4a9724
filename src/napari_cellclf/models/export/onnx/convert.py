"""A whole network, with the classifier's steps around it, as the bytes of an ONNX file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.core.calibration import SMALLEST_PROBABILITY
from napari_cellclf.core.tta import Views
from napari_cellclf.errors import ExportError
from napari_cellclf.inference.keras_engine import Exposed, expose
from napari_cellclf.models.export.onnx.graph import Graph, Node, Scope, Value
from napari_cellclf.models.export.onnx.layer_graph import write_network
from napari_cellclf.models.export.runtimes import export_library

if TYPE_CHECKING:
    import keras

#: Of the standard operators: old enough for every engine in use, new enough for `Mish` and for
#: padding chosen axes.
OPSET = 18
#: The file format that came with it, so that older runtimes read the file as well.
_IR_VERSION = 8
#: Protocol buffers end here, and weights in files beside the model's own are refused by the gate.
MAX_BYTES = (1 << 31) - (1 << 20)
_BEGINNING = np.iinfo(np.int64).min
#: Names of the open sides of an output: of rows, or of a map with its channels second.
_SIDES = ("batch", "channels", "map_height", "map_width")


@dataclass(frozen=True)
class ClassifierSteps:
    """What is computed before and after the network.

    Parameters
    ----------
    normalize : callable, optional
        `Normalization.write_onnx`, which writes the normalisation: from a scope of the graph and
        the image to the input of the network.
    views : {'one', 'flips', 'all'}
        The views of the image whose predictions are averaged; ``all`` takes square images only.
    temperature : float
        By which the logarithms of the probabilities are divided.
    class_offsets : tuple of float
        What is then added to them, one for each class.
    """

    normalize: Callable[[Scope, Value], Value] | None = None
    views: Views = "one"
    temperature: float = 1.0
    class_offsets: tuple[float, ...] = ()


_PLAIN = ClassifierSteps()


def to_onnx(
    network: keras.Model,
    *,
    input_size: tuple[int, int] | None = None,
    steps: ClassifierSteps = _PLAIN,
    metadata: Mapping[str, str] | None = None,
    extras: bool = False,
) -> bytes:
    """Write a network as an ONNX model.

    Parameters
    ----------
    network : keras.Model
        Functional or Sequential, of the layers that a bundle may hold:
        ``(N, Y, X, C)`` to ``(N, K)``.
    input_size : tuple of int, optional
        Height and width in pixels to fix the model to. None keeps them open where
        they are open in the network.
    steps : ClassifierSteps, optional
        What to compute besides the network; nothing by default.
    metadata : mapping of str to str, optional
        Stored in the model as its `metadata_props`.
    extras : bool
        Whether the model also gives features and feature map, as far as the network has them. Its
        outputs are then called ``probabilities``, ``features`` and ``feature_map``; of the map,
        channels are the second axis, ``(N, C, h, w)``.

    Returns
    -------
    bytes
        Of one file: float32 ``(N, Y, X, C)``, as Keras takes it, to float32 ``(N, K)``, under the
        names of the network's input and of its last layer.

    Raises
    ------
    ExportError
        If a layer has no operators, the network does not take that size, its weights exceed
        2 GiB, or the `onnx` package is missing.

    Examples
    --------
    >>> from napari_cellclf.models.architectures.registry import build_network
    >>> network = build_network("compact-cnn", input_shape=(None, None, 1), n_classes=2)
    >>> model = to_onnx(network, metadata={"classes": "round, long"})
    >>> type(model), len(model) > 4 * network.count_params()
    (<class 'bytes'>, True)
    """
    shape = _input_shape(network, input_size)
    exposed = expose(network) if extras else Exposed(network, {})
    last = "probabilities" if extras else network.layers[-1].name
    graph = Graph()
    # The input gives way to fixed names.
    names = [graph.unique(name) for name in (last, *exposed.tensors)] if extras else []
    image = Value(graph.unique(network.inputs[0].name), shape)
    scope = Scope(graph, "")
    others: list[Value] = []

    def write(value: Value) -> Value:
        answer, *others[:] = write_network(scope, exposed.giving(tuple(exposed.tensors)), value)
        return answer

    answer = scope.last(write_with_steps(scope, steps, image, write))
    # Engines keep images with their channels second: turning a map costs time in every pass.
    made = [answer, *map(scope.first, others)]
    ports = [
        _renamed(scope, value, name)
        for value, name in zip(made, names or [graph.unique(last)], strict=True)
    ]
    _check_size(graph, network.name)
    return _serialize(graph, network.name, image, ports, dict(metadata or {}))


def _renamed(scope: Scope, value: Value, name: str) -> Value:
    if all(node.output != value.name for node in scope.graph.nodes):
        # The image itself.
        value = scope.each("Identity", value)
    scope.graph.rename(value.name, name)
    return Value(name, value.in_graph)


def _input_shape(
    network: keras.Model, input_size: tuple[int, int] | None
) -> tuple[int | None, ...]:
    own = tuple(network.inputs[0].shape)
    if input_size is None:
        return own
    fits = all(side in (None, size) for side, size in zip(own[1:3], input_size, strict=True))
    if not fits:
        raise ExportError(
            f"{network.name} takes images of {own[1]} x {own[2]} pixels, not of {input_size[0]} x "
            f"{input_size[1]}; leave the size out"
        )
    return (own[0], *input_size, own[3])


def _check_size(graph: Graph, name: str) -> None:
    total = sum(array.nbytes for array in graph.constants.values())
    if total > MAX_BYTES:
        raise ExportError(
            f"the weights of {name} take {total / 2**30:.1f} GiB, and an ONNX file holds at most "
            "2 GiB; export it as savedmodel or keras"
        )


def _serialize(
    graph: Graph, name: str, image: Value, answers: list[Value], metadata: dict[str, str]
) -> bytes:
    onnx = export_library("onnx")
    helper, numpy_helper = onnx.helper, onnx.numpy_helper
    body = helper.make_graph(
        [_node(helper, node) for node in graph.nodes],
        name,
        [_port(helper, image, ("batch", "height", "width", "channels"))],
        [_port(helper, answer, _SIDES) for answer in answers],
        [numpy_helper.from_array(array, key) for key, array in graph.constants.items()],
    )
    model = helper.make_model(
        body,
        producer_name="napari-cellclf",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=_IR_VERSION,
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content


def _node(helper: Any, node: Node) -> Any:
    attributes = {
        key: helper.np_dtype_to_tensor_dtype(value) if isinstance(value, np.dtype) else value
        for key, value in node.attributes.items()
    }
    unused = [f"{node.output}/{number}" for number in range(1, node.n_outputs)]
    outputs = [node.output, *unused]
    return helper.make_node(node.kind, node.inputs, outputs, name=node.output, **attributes)


def _port(helper: Any, value: Value, names: tuple[str, ...]) -> Any:
    sides = [
        name if side is None else side
        for side, name in zip_longest(value.shape, names[: len(value.shape)])
    ]
    return helper.make_tensor_value_info(
        value.name, helper.np_dtype_to_tensor_dtype(np.dtype(np.float32)), sides
    )


def write_with_steps(
    scope: Scope, steps: ClassifierSteps, image: Value, network: Callable[[Value], Value]
) -> Value:
    """Write a network with the steps around it.

    `image`: images ``(N, Y, X, C)``, channels last. Returns probabilities ``(N, K)``.
    """
    if steps.normalize is not None:
        image = steps.normalize(scope.inside("normalization"), image)
    if steps.views == "one":
        answer = network(image)
    else:
        answer = _mean_over_views(scope.inside("views"), image, steps.views, network)
    if steps.temperature == 1 and not steps.class_offsets:
        return answer
    return _soften(scope.inside("temperature"), answer, steps)


def _mean_over_views(
    scope: Scope, image: Value, views: Views, network: Callable[[Value], Value]
) -> Value:
    sides = [image]
    if views == "all":
        sides.append(scope.op("Transpose", (image,), image.shape, perm=(0, 2, 1, 3)))
    turned = [
        view
        for side in sides
        for view in (side, *(_reversed(scope, side, axes) for axes in ([1], [2], [1, 2])))
    ]
    # One batch of all views: the weights are there once, and the engine sees one network.
    batch = scope.op("Concat", turned, image.shape, axis=0)
    answers = network(batch)
    shape = scope.constant("shape", [len(turned), -1, answers.shape[-1]], np.int64)
    apart = scope.op("Reshape", (answers, shape), (len(turned), *answers.shape))
    axes = scope.constant("over_views", [0], np.int64)
    return scope.op("ReduceMean", (apart, axes), answers.shape, keepdims=0)


def _reversed(scope: Scope, image: Value, axes: list[int]) -> Value:
    count = len(axes)
    return scope.each(
        "Slice",
        image,
        scope.constant("last", [-1] * count, np.int64),
        scope.constant("beginning", [_BEGINNING] * count, np.int64),
        scope.constant(f"axes{''.join(map(str, axes))}", axes, np.int64),
        scope.constant("backwards", [-1] * count, np.int64),
    )


def _soften(scope: Scope, probabilities: Value, steps: ClassifierSteps) -> Value:
    """Calibrate as `core.calibration.apply_temperature` does."""
    smallest = scope.constant("smallest", SMALLEST_PROBABILITY)
    logits = scope.each("Log", scope.each("Max", probabilities, smallest))
    softened = scope.each("Div", logits, scope.constant("temperature", steps.temperature))
    if steps.class_offsets:
        softened = scope.each("Add", softened, scope.constant("offsets", steps.class_offsets))
    return scope.each("Softmax", softened, axis=-1)
