"""Look at an ONNX file before an engine does: standard operators on whole tensors, and no more.

Walks the protocol buffer where it lies (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto), so
that neither the `onnx` package is needed nor a tensor's data copied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import IO

from napari_cellclf.bundles.onnx_nodes import Node, read_node
from napari_cellclf.bundles.onnx_sizes import Sizes
from napari_cellclf.bundles.onnx_tensors import Tensor, read_tensor
from napari_cellclf.bundles.plainfile import Span, open_plain
from napari_cellclf.bundles.wire import Field, Wire
from napari_cellclf.errors import BundleError

MAX_NODES = 6_000
MAX_TENSORS = 10_000
#: Versions of the operators and of the format that the list was made for.
OPSETS = range(7, 29)
IR_VERSIONS = range(3, 16)

Side = int | None

# Of a model.
_IR_VERSION, _GRAPH, _OPSET = 1, 7, 8
_MODEL_PASSED_OVER = (2, 3, 4, 5, 6, 14)
_MODEL_REFUSED = {20: "training steps", 25: "functions of its own", 26: "devices to run on"}
# Of a graph.
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12
_GRAPH_PASSED_OVER = (2, 10, 13, 16)
_FLOAT = 1


@dataclass(frozen=True)
class CheckedOnnx:
    """What is in an ONNX file that may be given to an engine."""

    input_name: str
    output_name: str
    input_shape: tuple[Side, ...]
    output_shape: tuple[Side, ...]
    #: Version of the operators.
    opset: int
    #: Those it uses.
    operators: frozenset[str]
    #: How many numbers its constants are.
    n_parameters: int
    #: How many nodes.
    n_nodes: int


def check_onnx(
    source: Path | IO[bytes],
    name: str,
    *,
    inputs: Sequence[Side] | None = None,
    n_classes: int | None = None,
) -> CheckedOnnx:
    """Check an ONNX file statically.

    Parameters
    ----------
    source : Path or file
        The file; of an open one, all of it. Hand over a private copy, so that what an engine loads
        is what was checked.
    name : str
        What to call it in messages.
    inputs : sequence of (int or None), optional
        The shape that will be fed, with the batch in front; None where the size is open.
    n_classes : int, optional
        How many probabilities are expected for each image.

    Returns
    -------
    CheckedOnnx
        What it holds.

    Raises
    ------
    BundleError
        If it is not complete, or its input or output is another.
    UnsafeModelError
        If it holds anything but standard operators on tensors in the file.
    """
    with _opened(source) as handle:
        graph = _Graph(Wire(Span.whole(handle, name)), inputs or ())
        checked = graph.read()
    _check_ports(checked, name, inputs, n_classes)
    return checked


@contextmanager
def _opened(source: Path | IO[bytes]) -> Iterator[IO[bytes]]:
    if isinstance(source, Path):
        with open_plain(source) as handle:
            yield handle
    else:
        yield source


@dataclass
class _Graph:
    """A network, read node by node in the order in which it is computed."""

    wire: Wire
    fed: Sequence[Side] = ()
    opset: int = 0
    known: set[str] = field(default_factory=set)
    constants: dict[str, Tensor] = field(default_factory=dict)
    inputs: dict[str, tuple[Side, ...]] = field(default_factory=dict)
    outputs: dict[str, tuple[Side, ...]] = field(default_factory=dict)
    operators: set[str] = field(default_factory=set)
    n_nodes: int = 0
    n_parameters: int = 0

    def __post_init__(self) -> None:
        self.sizes = Sizes(self.wire)

    def read(self) -> CheckedOnnx:
        graphs = list(self.graphs())
        if len(graphs) != 1 or not self.opset:
            self.wire.damaged()
        nodes = list(self.parts(graphs[0]))
        self.known = {*self.inputs, *self.constants}
        for name, shape in self.inputs.items():
            # What is fed in the place of an open size; that it fits elsewhere is looked at later.
            open_ones = zip_longest(shape, self.fed[: len(shape)])
            self.sizes.begin(name, [side if side is not None else fed for side, fed in open_ones])
        for found in nodes:
            self.follow(read_node(self.wire, found.start, found.size))
        fed = [name for name in self.inputs if name not in self.constants]
        if len(fed) != 1 or len(self.outputs) != 1:
            self.wire.refuse(
                f"has {len(fed)} inputs and {len(self.outputs)} outputs instead of one"
            )
        (end,) = self.outputs
        if end not in self.known:
            self.wire.damaged()
        return CheckedOnnx(
            fed[0],
            end,
            self.inputs[fed[0]],
            self.outputs[end],
            self.opset,
            frozenset(self.operators),
            self.n_parameters,
            self.n_nodes,
        )

    def graphs(self) -> Iterator[Field]:
        """Read what stands around the graph."""
        for found in self.wire.fields(0, self.wire.span.size):
            if found.number == _GRAPH:
                yield found
            elif found.number == _OPSET:
                self.read_opset(found)
            elif found.number == _IR_VERSION:
                if self.wire.whole(found) not in IR_VERSIONS:
                    self.wire.refuse(f"is of ONNX format {found.value}, which is not known here")
            elif found.number in _MODEL_REFUSED:
                self.wire.refuse(f"holds {_MODEL_REFUSED[found.number]}; only a plain network runs")
            elif found.number not in _MODEL_PASSED_OVER:
                self.wire.damaged()

    def read_opset(self, found: Field) -> None:
        domain, version = "", 0
        for part in self.wire.fields(found.start, found.size):
            if part.number == 1:
                domain = self.wire.text(part)
            elif part.number == 2:
                version = self.wire.whole(part)
        # Exporters also name sets that no node is of; the nodes are looked at one by one.
        if domain in ("", "ai.onnx"):
            if version not in OPSETS:
                self.wire.refuse(
                    f"uses version {version} of ONNX's operators; {OPSETS[0]} to {OPSETS[-1]} are "
                    "known"
                )
            self.opset = version

    def parts(self, graph: Field) -> Iterator[Field]:
        """Read a graph's constants, inputs and outputs; hand on its nodes."""
        for found in self.wire.fields(graph.start, graph.size):
            if found.number == _NODE:
                self.n_nodes += 1
                if self.n_nodes > MAX_NODES:
                    self.wire.refuse(f"has over {MAX_NODES} nodes")
                yield found
            elif found.number == _INITIALIZER:
                self.keep(read_tensor(self.wire, found.start, found.size))
            elif found.number in (_INPUT, _OUTPUT):
                name, shape = self.read_port(found)
                (self.inputs if found.number == _INPUT else self.outputs)[name] = shape
            elif found.number not in _GRAPH_PASSED_OVER:
                self.wire.refuse("holds sparse or quantised tensors; save it with plain ones")

    def keep(self, tensor: Tensor) -> None:
        self.n_parameters += math.prod(tensor.shape)
        if tensor.name in self.constants or len(self.constants) >= MAX_TENSORS:
            self.wire.refuse(f"has two constants of one name, or over {MAX_TENSORS}")
        self.constants[tensor.name] = tensor

    def follow(self, node: Node) -> None:
        if not node.outputs:
            self.wire.damaged()
        lacking = [name for name in node.inputs if name and name not in self.known]
        again = [name for name in node.outputs if name and name in self.known]
        if lacking or again:
            self.wire.refuse(
                f"uses {(lacking or again)[0][:80]!r} before it is computed, or computes it twice"
            )
        if node.constant is not None and node.operator == "Constant":
            tensor = node.constant
            self.keep(Tensor(node.outputs[0], tensor.shape, tensor.values))
        self.sizes.add(node, self.constants)
        self.known.update(node.outputs)
        self.operators.add(node.operator)

    def read_port(self, found: Field) -> tuple[str, tuple[Side, ...]]:
        """Read the name and shape of an input or output: ValueInfo, Type, Tensor, Shape."""
        name, shape = "", None
        for part in self.wire.fields(found.start, found.size):
            if part.number == 1:
                name = self.wire.text(part)
            elif part.number == 2:
                shape = self.read_type(part)
        if shape is None:
            self.wire.refuse(f"does not say what shape {name[:80]!r} has; save it with shapes")
        return name, shape

    def read_type(self, found: Field) -> tuple[Side, ...] | None:
        shape: tuple[Side, ...] | None = None
        for kind in self.wire.fields(found.start, found.size):
            if kind.number not in (1, 6):
                self.wire.refuse("takes or makes something else than one plain tensor")
            if kind.number == 6:
                continue
            for part in self.wire.fields(kind.start, kind.size):
                if part.number == 1 and self.wire.whole(part) != _FLOAT:
                    self.wire.refuse("takes or makes other numbers than float32")
                if part.number == 2:
                    sides = self.wire.fields(part.start, part.size)
                    shape = tuple(self.read_side(side) for side in sides)
        return shape

    def read_side(self, found: Field) -> Side:
        for part in self.wire.fields(found.start, found.size):
            if part.number == 1 and self.wire.whole(part) > 0:
                return self.wire.whole(part)
        return None


def _check_ports(
    checked: CheckedOnnx, name: str, inputs: Sequence[Side] | None, n_classes: int | None
) -> None:
    taken, made = checked.input_shape, checked.output_shape
    if inputs is not None and (
        len(taken) != len(inputs)
        or any(fixed not in (None, side) for fixed, side in zip(taken, inputs, strict=True))
    ):
        raise BundleError(
            f"{name} takes arrays of shape {taken}, but {tuple(inputs)} will be fed; export it "
            "again"
        )
    if n_classes is not None and (len(made) != 2 or made[1] not in (None, n_classes)):
        raise BundleError(
            f"{name} gives arrays of shape {made}, but there are {n_classes} classes; export it "
            "again"
        )
