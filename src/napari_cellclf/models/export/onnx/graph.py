"""An ONNX graph while it grows: nodes, constants, and where each image keeps its channels.

Keras has channels last, ONNX convolutions need them second. A `Value` knows its order, every layer
asks for the one it needs, and an image is transposed at most once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import ExportError

if TYPE_CHECKING:
    from numpy.typing import NDArray


Shape = tuple[int | None, ...]

#: Position of Keras's axes N, Y, X, C where channels come second, and the way there and back.
_PLACE = (0, 2, 3, 1)
_TO_FIRST = (0, 3, 1, 2)
_TO_LAST = (0, 2, 3, 1)


@dataclass(frozen=True)
class Value:
    """A tensor of the graph."""

    #: In the graph.
    name: str
    #: In Keras's order, channels last; None where it depends on the image or the batch.
    shape: Shape
    #: Whether it is an image that the graph keeps as ``(N, C, Y, X)``.
    channels_first: bool = False

    @property
    def in_graph(self) -> Shape:
        """Its shape in the order of the graph."""
        return tuple(self.shape[axis] for axis in _TO_FIRST) if self.channels_first else self.shape

    def axis(self, keras_axis: int) -> int:
        """Return the position of one of Keras's axes in the graph."""
        forward = keras_axis % len(self.shape)
        return _PLACE[forward] if self.channels_first else forward


@dataclass(frozen=True)
class Node:
    """An operator with its inputs, its first output, which alone is used, and its attributes."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict[str, Any]
    #: How many outputs the operator has.
    n_outputs: int = 1


@dataclass
class Graph:
    """Nodes in the order of their computation, and constants by name."""

    nodes: list[Node] = field(default_factory=list)
    constants: dict[str, NDArray[Any]] = field(default_factory=dict)
    _names: set[str] = field(default_factory=set)
    _turned: dict[str, Value] = field(default_factory=dict)

    def unique(self, name: str) -> str:
        """Return a name that is not used in the graph."""
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found

    def turn(self, value: Value, channels_first: bool) -> Value:
        """Return an image in the order of channels that is needed."""
        if len(value.shape) != 4 or value.channels_first == channels_first:
            return value
        if value.name not in self._turned:
            place = "channels_first" if channels_first else "channels_last"
            name = self.unique(f"{value.name}/{place}")
            way = _TO_FIRST if channels_first else _TO_LAST
            self.nodes.append(Node("Transpose", (value.name,), name, {"perm": way}))
            turned = Value(name, value.shape, channels_first)
            # Turning back costs nothing either.
            self._turned |= {value.name: turned, name: value}
        return self._turned[value.name]

    def rename(self, old: str, new: str) -> None:
        """Give a value of the finished graph another name."""
        self.nodes = [
            replace(
                node,
                inputs=tuple(new if name == old else name for name in node.inputs),
                output=new if node.output == old else node.output,
            )
            for node in self.nodes
        ]


@dataclass(frozen=True)
class Scope:
    """The scope of one layer: everything it adds is named by the layer's path."""

    #: The graph.
    graph: Graph
    #: Of the layer, such as ``"member1/conv2"``.
    path: str

    def inside(self, name: str) -> Scope:
        """Return the scope of a layer inside this one."""
        return Scope(self.graph, f"{self.path}/{name}" if self.path else name)

    def op(
        self,
        kind: str,
        inputs: Sequence[Value | str],
        shape: Sequence[int | None],
        *,
        channels_first: bool = False,
        n_outputs: int = 1,
        **attributes: Any,
    ) -> Value:
        """Add an operator and return its first output, the one of `n_outputs` that is used."""
        name = self.graph.unique(f"{self.path}/{kind}")
        names = tuple(part.name if isinstance(part, Value) else part for part in inputs)
        given = {key: value for key, value in attributes.items() if value is not None}
        self.graph.nodes.append(Node(kind, names, name, given, n_outputs))
        return Value(name, tuple(shape), channels_first)

    def each(self, kind: str, value: Value, *others: Value | str, **attributes: Any) -> Value:
        """Add an elementwise operator.

        `value`: its first input, whose shape and order the output has.
        """
        return self.op(
            kind,
            (value, *others),
            value.shape,
            channels_first=value.channels_first,
            **attributes,
        )

    def constant(self, name: str, array: Any, dtype: Any = np.float32) -> str:
        """Add a constant, or find it where a layer is used twice."""
        numbers = np.ascontiguousarray(np.asarray(array, dtype))
        full = f"{self.path}/{name}"
        known = self.graph.constants.get(full)
        if known is not None and np.array_equal(known, numbers):
            return full
        full = self.graph.unique(full)
        self.graph.constants[full] = numbers
        return full

    def beside(self, name: str, array: Any, value: Value) -> str:
        """Add a constant that is broadcast over a tensor.

        `array`: in Keras's order, of a shape that numpy can broadcast to the tensor's.
        """
        numbers = np.asarray(array, np.float32)
        if value.channels_first and numbers.ndim:
            full = numbers.reshape((1,) * (4 - numbers.ndim) + numbers.shape)
            return self.constant(f"{name}_channels_first", full.transpose(_TO_FIRST))
        return self.constant(name, numbers)

    def first(self, value: Value) -> Value:
        """Return an image with its channels second; see `Graph.turn`."""
        return self.graph.turn(value, True)

    def last(self, value: Value) -> Value:
        """Return an image with its channels last, as Keras has them; see `Graph.turn`."""
        return self.graph.turn(value, False)


def cannot(layer: Any, what: str) -> ExportError:
    """Make the error of a layer that cannot be written as ONNX."""
    return ExportError(
        f"layer {layer.name} ({type(layer).__name__}) cannot be written as ONNX: {what}; export "
        "the model as savedmodel or keras, or train it without that layer"
    )


def require(layer: Any, condition: bool, what: str) -> None:
    """Refuse a layer unless a condition holds."""
    if not condition:
        raise cannot(layer, what)


def require_channels_last(layer: Any) -> None:
    """Refuse a layer that keeps channels first in Keras itself."""
    form = getattr(layer, "data_format", None)
    require(layer, form in (None, "channels_last"), f"data_format {form!r}")
