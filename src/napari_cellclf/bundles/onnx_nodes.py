"""The nodes of an ONNX network: standard operators of a classifier, and plain attributes."""

from __future__ import annotations

import math
from collections.abc import Mapping
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
#: The inputs that say by how much a result is larger than what comes in, or how large it is.
_FACTORS: Mapping[str, int] = {"Resize": 2, "Upsample": 1, "Tile": 1}
_SIZES: Mapping[str, int] = {"Resize": 3, "Expand": 1}
#: What exporters put sizes together with.
_SHAPERS = frozenset(("Cast", "Concat", "Gather", "Slice", "Squeeze", "Unsqueeze"))
#: How many times as large as the image anything may become by factors, and how large by sizes.
MAX_GROWTH = 1 << 14
MAX_SIZE = 1 << 26
#: Pixels that may be put around images, all layers together.
MAX_PADDING = 1 << 12
MAX_NUMBER = 1 << 14

_INPUT, _OUTPUT, _TYPE, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
_OVERLOAD = 8
_PASSED_OVER = (3, 6, 9)
# Of an attribute.
_NAME, _FLOAT, _INT, _BYTES, _TENSOR, _FLOATS, _INTS, _TEXTS, _KIND = 1, 2, 3, 4, 5, 7, 8, 9, 20
_PLAIN = (_NAME, _FLOAT, _INT, _BYTES, _TENSOR, _FLOATS, _INTS, _TEXTS, _KIND, 13)


@dataclass
class Node:
    """One node.

    Parameters
    ----------
    operator : str
        What it does.
    inputs, outputs : list of str
        Names of what it takes and makes.
    constant : Tensor, optional
        The numbers that it is, if it is a constant.
    numbers : dict of str to list of int
        Its attributes that are whole numbers.
    """

    operator: str = ""
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)
    constant: Tensor | None = None
    numbers: dict[str, list[int]] = field(default_factory=dict)


def read_node(wire: Wire, start: int, size: int) -> Node:
    """Check a node.

    Parameters
    ----------
    wire : Wire
        The file.
    start, size : int
        Where its message lies.

    Returns
    -------
    Node
        Of an operator that is allowed.

    Raises
    ------
    BundleError
        If it is not complete.
    UnsafeModelError
        Naming the operator or the attribute that is not allowed.
    """
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


@dataclass
class Growth:
    """Adds up how much larger than the image the results of nodes may be.

    Parameters
    ----------
    wire : Wire
        The file, for messages.
    """

    wire: Wire
    factor: float = 1.0
    padding: int = 0
    #: Values that are put together from constants and from sizes of what is there already.
    sizes: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def add(self, node: Node, constants: Mapping[str, Tensor]) -> None:
        """Look at a node.

        Parameters
        ----------
        node : Node
            Any.
        constants : mapping of str to Tensor
            What has a known value.

        Raises
        ------
        UnsafeModelError
            If how large its result is depends on the image, or is too much.
        """
        self._follow_sizes(node, constants)
        if node.operator == "ConvTranspose":
            self.factor *= math.prod(node.numbers.get("strides", [1]))
        if node.operator in _FACTORS:
            self.factor *= _product(self._values(node, _FACTORS[node.operator], constants))
        if node.operator in _SIZES:
            size = _product(self._values(node, _SIZES[node.operator], constants))
            if not size <= MAX_SIZE:
                self.wire.refuse(f"makes {size:g} numbers by {node.operator}; limit {MAX_SIZE}")
        self.padding += sum(map(abs, node.numbers.get("pads", [])))
        if node.operator == "Pad":
            self.padding += int(min(sum(map(abs, self._values(node, 1, constants))), MAX_NUMBER))
        if not (self.factor <= MAX_GROWTH and self.padding <= MAX_PADDING):
            self.wire.refuse("makes images much larger than they come; only smaller networks run")

    def _follow_sizes(self, node: Node, constants: Mapping[str, Tensor]) -> None:
        """Note what is the size of something that is there: it makes nothing larger."""
        if node.operator == "Shape":
            self.sizes[node.outputs[0]] = ()
        elif node.operator in _SHAPERS:
            taken = node.inputs if node.operator == "Concat" else node.inputs[:1]
            known = [
                constants[name].values if name in constants else self.sizes.get(name)
                for name in taken
            ]
            listed = [values for values in known if values is not None]
            if len(listed) == len(known):
                self.sizes[node.outputs[0]] = tuple(one for values in listed for one in values)

    def _values(self, node: Node, place: int, constants: Mapping[str, Tensor]) -> tuple[float, ...]:
        name = node.inputs[place] if place < len(node.inputs) else ""
        if not name or (name in constants and 0 in constants[name].shape):
            return ()
        values = constants[name].values if name in constants else self.sizes.get(name)
        if values is None:
            self.wire.refuse(
                f"lets a {node.operator} depend on the image; export it with fixed numbers"
            )
        return values


def _product(values: tuple[float, ...]) -> float:
    return math.prod(max(1.0, abs(value)) for value in values)


def _read_attribute(wire: Wire, node: Node, start: int, size: int) -> None:
    name, numbers, tensor = "", list[int](), None
    for found in wire.fields(start, size):
        if found.number not in _PLAIN:
            wire.refuse("holds a node with a graph or another object inside; only plain ones run")
        if found.number == _NAME:
            name = wire.text(found)
        elif found.number in (_INT, _INTS):
            numbers += wire.wholes(found)
        elif found.number == _TENSOR:
            tensor = read_tensor(wire, found.start, found.size)
        elif found.number in (_BYTES, _TEXTS):
            wire.text(found)
    is_constant = name in ("value_int", "value_ints")
    largest = max(map(abs, numbers), default=0)
    if largest > MAX_NUMBER and not is_constant:
        wire.refuse(f"has an attribute {name[:80]!r} of {largest}; limit {MAX_NUMBER}")
    node.numbers[name] = numbers
    if tensor is not None or is_constant:
        listed = tuple(map(float, numbers))
        node.constant = tensor or Tensor(name, (len(listed),), listed)
