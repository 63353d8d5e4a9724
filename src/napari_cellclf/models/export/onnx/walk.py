"""From a Keras network to a graph, layer by layer, along what its configuration says."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras

from napari_cellclf.errors import ExportError
from napari_cellclf.models.export.onnx.graph import Scope, Value
from napari_cellclf.models.export.onnx.refusal import cannot
from napari_cellclf.models.export.onnx.table import LAYERS, OPERATIONS

#: A layer's name and the number of its call: where a tensor comes from.
Origin = tuple[str, int]


def write_network(scope: Scope, network: keras.Model, value: Value) -> Value:
    """Write a network with one input and one output."""
    if isinstance(network, keras.Sequential):
        for layer in network.layers:
            value = _write(scope, layer, [value])
        return value
    return _write_functional(scope, network, [value])


def _write_functional(scope: Scope, network: keras.Model, inputs: list[Value]) -> Value:
    config = network.get_config()
    operations = {operation.name: operation for operation in network.operations}
    ports = _tensors_of(config["input_layers"])
    values: dict[Origin, Value] = dict(zip(ports, inputs, strict=True))
    waiting = [
        ((layer["name"], number), node)
        for layer in config["layers"]
        for number, node in enumerate(layer["inbound_nodes"])
    ]
    # They stand in the order of computation but for layers that are used more than once.
    while waiting:
        later = []
        for origin, node in waiting:
            if all(needed in values for needed in _origins(node)):
                arguments = list(_arguments(node, values))
                values[origin] = _write(scope, operations[origin[0]], arguments)
            else:
                later.append((origin, node))
        if len(later) == len(waiting):
            raise ExportError(f"the layers of {network.name} do not form a network; save it again")
        waiting = later
    (answer,) = _tensors_of(config["output_layers"])
    return values[answer]


def _write(scope: Scope, layer: Any, arguments: list[Any]) -> Value:
    inner = scope.inside(layer.name)
    if isinstance(layer, keras.Sequential):
        return write_network(inner, layer, arguments[0])
    if isinstance(layer, keras.Model):
        return _write_functional(inner, layer, arguments)
    if isinstance(layer, keras.layers.SpectralNormalization):
        # Its kernel is normalised while it trains and stays so.
        return _write(inner, layer.layer, arguments)
    kind = type(layer).__name__
    table = LAYERS if isinstance(layer, keras.Layer) else OPERATIONS
    if kind not in table:
        raise cannot(layer, "there are no operators for it")
    return table[kind](inner, layer, arguments)


def _arguments(node: Mapping[str, Any], values: Mapping[Origin, Value]) -> Iterator[Any]:
    """Go over tensors and numbers in the order in which a layer was given them."""
    for argument in (*node["args"], *node["kwargs"].values()):
        for part in argument if isinstance(argument, list) else [argument]:
            if _is_tensor(part):
                yield values[_origin(part)]
            elif isinstance(part, int | float) and not isinstance(part, bool):
                yield part


def _origins(node: Mapping[str, Any]) -> Iterator[Origin]:
    for argument in (*node["args"], *node["kwargs"].values()):
        for part in argument if isinstance(argument, list) else [argument]:
            if _is_tensor(part):
                yield _origin(part)


def _origin(part: Mapping[str, Any]) -> Origin:
    name, number, _ = part["config"]["keras_history"]
    return name, number


def _is_tensor(part: Any) -> bool:
    return isinstance(part, dict) and part.get("class_name") == "__keras_tensor__"


def _tensors_of(ports: list[Any]) -> list[Origin]:
    """Read what Keras writes as ``[name, 0, 0]`` for one tensor and as a list of such for more."""
    listed = [ports] if ports and isinstance(ports[0], str) else ports
    return [(name, number) for name, number, _ in listed]
