"""Write a Keras network into a graph, layer by layer, in the order of its configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras

from napari_cellclf.errors import ExportError
from napari_cellclf.models.export.onnx import (
    activations,
    convolutions,
    merging,
    normalizations,
    shapes,
)
from napari_cellclf.models.export.onnx.graph import Scope, Value, cannot, require

#: A layer's name, the number of its call and of its output: where a tensor comes from.
Origin = tuple[str, int, int]


def write_network(scope: Scope, network: keras.Model, value: Value) -> list[Value]:
    """Write a network with one input; return its outputs."""
    if isinstance(network, keras.Sequential):
        for layer in network.layers:
            (value,) = _write(scope, layer, [value])
        return [value]
    return _write_functional(scope, network, [value])


def _write_functional(scope: Scope, network: keras.Model, inputs: list[Value]) -> list[Value]:
    config = network.get_config()
    if "input_layers" not in config:
        require(network, bool(network.inputs), "it is not built of layers by their calls")
        # A class of its own, which describes itself by its arguments.
        network = keras.Model(network.inputs, network.outputs, name=network.name)
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
                made = _write(scope, operations[origin[0]], arguments)
                values |= {(*origin, number): one for number, one in enumerate(made)}
            else:
                later.append((origin, node))
        if len(later) == len(waiting):
            raise ExportError(f"the layers of {network.name} do not form a network; save it again")
        waiting = later
    return [
        # Keras counts one call more of networks inside where it names outputs.
        values[name, number - _is_functional(operations[name]), output]
        for name, number, output in _tensors_of(config["output_layers"])
    ]


def _is_functional(layer: Any) -> bool:
    return isinstance(layer, keras.Model) and not isinstance(layer, keras.Sequential)


def _write(scope: Scope, layer: Any, arguments: list[Any]) -> list[Value]:
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
    return [table[kind](inner, layer, arguments)]


def _arguments(node: Mapping[str, Any], values: Mapping[Origin, Value]) -> Iterator[Any]:
    """Go over tensors and numbers in the order in which a layer was given them."""
    for part in _parts(node):
        if _is_tensor(part):
            yield values[_origin(part)]
        elif isinstance(part, int | float) and not isinstance(part, bool):
            yield part


def _origins(node: Mapping[str, Any]) -> Iterator[Origin]:
    return (_origin(part) for part in _parts(node) if _is_tensor(part))


def _parts(node: Mapping[str, Any]) -> Iterator[Any]:
    for argument in (*node["args"], *node["kwargs"].values()):
        if isinstance(argument, list):
            yield from argument
        elif isinstance(argument, dict) and "class_name" not in argument:
            # Tensors by name, in the order in which Keras lists the inputs of that network.
            yield from (argument[key] for key in sorted(argument))
        else:
            yield argument


def _origin(part: Mapping[str, Any]) -> Origin:
    name, number, output = part["config"]["keras_history"]
    return name, number, output


def _is_tensor(part: Any) -> bool:
    return isinstance(part, dict) and part.get("class_name") == "__keras_tensor__"


def _tensors_of(ports: list[Any]) -> list[Origin]:
    """Read what Keras writes as ``[name, 0, 0]`` for one tensor and as a list of such for more."""
    listed = [ports] if ports and isinstance(ports[0], str) else ports
    return [(name, number, output) for name, number, output in listed]


Convert = Callable[[Scope, Any, list[Any]], Value]

#: By the name of the layer's class.
LAYERS: dict[str, Convert] = {
    "Activation": activations.activation,
    "ELU": activations.elu,
    "LeakyReLU": activations.leaky_relu,
    "PReLU": activations.prelu,
    "ReLU": activations.relu_layer,
    "Softmax": activations.softmax_layer,
    "Conv2D": convolutions.conv,
    "Conv2DTranspose": convolutions.conv_transpose,
    "Dense": convolutions.dense,
    "DepthwiseConv2D": convolutions.depthwise_conv,
    "SeparableConv2D": convolutions.separable_conv,
    "AveragePooling2D": convolutions.average_pooling,
    "GlobalAveragePooling2D": convolutions.global_average,
    "GlobalMaxPooling2D": convolutions.global_max,
    "MaxPooling2D": convolutions.max_pooling,
    "BatchNormalization": normalizations.batch_normalization,
    "GroupNormalization": normalizations.group_normalization,
    "LayerNormalization": normalizations.layer_normalization,
    "LayerScale": normalizations.layer_scale,
    "Normalization": normalizations.normalization,
    "Rescaling": normalizations.rescaling,
    "UnitNormalization": normalizations.unit_normalization,
    "Add": merging.merge("Add"),
    "Average": merging.average,
    "Concatenate": merging.concatenate,
    "CustomScaleLayer": merging.custom_scale,
    "Maximum": merging.merge("Max"),
    "Minimum": merging.merge("Min"),
    "Multiply": merging.merge("Mul"),
    "Subtract": merging.merge("Sub"),
    "CenterCrop": shapes.center_crop,
    "Cropping2D": shapes.cropping,
    "Flatten": shapes.flatten,
    "Permute": shapes.permute,
    "RepeatVector": shapes.repeat_vector,
    "Reshape": shapes.reshape,
    "Resizing": shapes.resizing,
    "UpSampling2D": shapes.up_sampling,
    "ZeroPadding2D": shapes.zero_padding,
    # These do something in training only.
    "ActivityRegularization": shapes.identity,
    "AlphaDropout": shapes.identity,
    "Dropout": shapes.identity,
    "GaussianDropout": shapes.identity,
    "GaussianNoise": shapes.identity,
    "Identity": shapes.identity,
    "RandomBrightness": shapes.identity,
    "RandomContrast": shapes.identity,
    "RandomErasing": shapes.identity,
    "RandomFlip": shapes.identity,
    "RandomGaussianBlur": shapes.identity,
    "RandomGrayscale": shapes.identity,
    "RandomHue": shapes.identity,
    "RandomInvert": shapes.identity,
    "RandomPosterization": shapes.identity,
    "RandomRotation": shapes.identity,
    "RandomSaturation": shapes.identity,
    "RandomSharpness": shapes.identity,
    "RandomTranslation": shapes.identity,
    "RandomZoom": shapes.identity,
    "SpatialDropout2D": shapes.identity,
}

#: Operations of ``keras.ops`` inside a functional network, by the name of their class.
OPERATIONS: dict[str, Convert] = {
    "Add": merging.operation("Add"),
    "Divide": merging.operation("Div"),
    "Maximum": merging.operation("Max"),
    "Mean": merging.mean,
    "Minimum": merging.operation("Min"),
    "Multiply": merging.operation("Mul"),
    "Reshape": shapes.reshape_operation,
    "Sqrt": activations.square_root,
    "Subtract": merging.operation("Sub"),
    "TrueDivide": merging.operation("Div"),
}
