"""The nodes of an ONNX network: standard operators of a classifier, and plain attributes."""

from __future__ import annotations

from dataclasses import dataclass, field

from napari_cellclf.bundles.onnx_tensors import Tensor, read_tensor
from napari_cellclf.bundles.parameters import words
from napari_cellclf.bundles.wire import Wire

#: Operators of the default domain that a classifier of images is made of. None of them holds
#: another graph, draws random numbers, or makes a tensor of a size that is computed on the way.
OPERATORS = words(
    "Abs Add AveragePool BatchNormalization Cast Ceil Celu Clip Concat Constant Conv "
    "ConvTranspose DepthToSpace Div Dropout Elu Equal Erf Exp Expand Flatten Floor Gather "
    "Gelu Gemm GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization "
    "HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu "
    "Less LessOrEqual Log LogSoftmax LpNormalization MatMul Max MaxPool Mean Min Mish Mul Neg "
    "PRelu Pad Pow Reciprocal ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare Relu Reshape Resize Selu Shape Shrink Sigmoid Slice Softmax Softplus "
    "Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh ThresholdedRelu Tile Transpose "
    "Unsqueeze Upsample Where"
)
#: The largest number that an attribute may be.
MAX_NUMBER = 1 << 14

_INPUT, _OUTPUT, _TYPE, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
_OVERLOAD = 8
_PASSED_OVER = (3, 6, 9)
# Of an attribute.
_NAME, _FLOAT, _INT, _BYTES, _TENSOR, _FLOATS, _INTS, _TEXTS, _KIND = 1, 2, 3, 4, 5, 7, 8, 9, 20
_PLAIN = (_NAME, _FLOAT, _INT, _BYTES, _TENSOR, _FLOATS, _INTS, _TEXTS, _KIND, 13)


@dataclass
class Node:
    """One node."""

    #: What it does.
    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    #: The numbers that it is, if it is a constant.
    constant: Tensor | None = None
    #: Its attributes that are whole numbers.
    numbers: dict[str, list[int]] = field(default_factory=dict)
    #: Its attributes that are texts.
    texts: dict[str, str] = field(default_factory=dict)


def read_node(wire: Wire, start: int, size: int) -> Node:
    """Check a node."""
    node = Node()
    for found in wire.fields(start, size):
        if found.number == _INPUT:
            node.inputs.append(wire.text(found))
        elif found.number == _OUTPUT:
            node.outputs.append(wire.text(found))
        elif found.number == _TYPE:
            node.operator = wire.text(found)
        elif found.number == _ATTRIBUTE:
            _read_attribute(wire, node, found.start, found.size)
        elif found.number in (_DOMAIN, _OVERLOAD):
            if wire.text(found) not in ("", "ai.onnx"):
                wire.refuse(f"uses the operators of {wire.text(found)[:80]!r}, not ONNX's own")
        elif found.number not in _PASSED_OVER:
            wire.refuse("holds a node with more than its inputs, outputs and attributes")
    if node.operator not in OPERATORS:
        wire.refuse(
            f"uses the operator {node.operator[:80]!r}, which is not on the list of those that a "
            "classifier needs"
        )
    return node


def _read_attribute(wire: Wire, node: Node, start: int, size: int) -> None:
    name, text, numbers, n_floats, tensor = "", "", list[int](), 0, None
    for found in wire.fields(start, size):
        if found.number not in _PLAIN:
            wire.refuse("holds a node with a graph or another object inside; only plain ones run")
        if found.number == _NAME:
            name = wire.text(found)
        elif found.number in (_INT, _INTS):
            numbers += wire.wholes(found)
        elif found.number in (_FLOAT, _FLOATS):
            n_floats += max(found.size // 4, 1)
        elif found.number == _TENSOR:
            tensor = read_tensor(wire, found.start, found.size)
        elif found.number in (_BYTES, _TEXTS):
            text = wire.text(found)
    largest = max(map(abs, numbers), default=0)
    if largest > MAX_NUMBER and not name.startswith("value_"):
        wire.refuse(f"has an attribute {name[:80]!r} of {largest}; limit {MAX_NUMBER}")
    if numbers:
        node.numbers[name] = numbers
    node.texts[name] = text
    node.constant = tensor or _listed(wire, name, numbers, n_floats) or node.constant


def _listed(wire: Wire, name: str, numbers: list[int], n_floats: int) -> Tensor | None:
    """Return the constant that an attribute is which is no tensor."""
    if name in ("value_string", "value_strings"):
        wire.refuse("holds texts instead of numbers")
    if name in ("value_int", "value_ints"):
        values = tuple(map(float, numbers))
        return Tensor(name, (len(values),) if name == "value_ints" else (), values)
    if name in ("value_float", "value_floats"):
        return Tensor(name, (n_floats,) if name == "value_floats" else (), None)
    return None
