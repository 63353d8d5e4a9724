"""Follow an ONNX network from its image to its answer, and add up what it would take to compute."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from napari_cellclf.bundles.onnx_nodes import Node
from napari_cellclf.bundles.onnx_shapes import RULES, Call, Sides, UnknownError, Values
from napari_cellclf.bundles.onnx_tensors import SMALL, Tensor
from napari_cellclf.bundles.parameters import words
from napari_cellclf.bundles.schema import MAX_ALL_NUMBERS, MAX_NUMBERS, MAX_OPERATIONS, OPEN_SIDE
from napari_cellclf.bundles.wire import Wire

#: Axes that anything may have; numpy has no more than 64.
MAX_RANK = 16
#: Whose result is never larger than the first input, so that it may remain unknown.
_NOT_LARGER = words(
    "Flatten Reshape Slice Split Squeeze Transpose Unsqueeze ReduceL2 ReduceMax ReduceMean "
    "ReduceMin ReduceProd ReduceSum ReduceSumSquare GlobalAveragePool GlobalMaxPool"
)
_SAME_VALUES = words("Identity Reshape Squeeze Unsqueeze")
_COMPUTED: Mapping[str, Callable[[float, float], float]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": lambda number, by: number // by if by else -1,
}
#: Types of a cast that hold every small whole number: float, int32, int64, double.
_WIDE = (1, 6, 7, 11)


@dataclass
class Sizes:
    """Adds up how large the results of nodes are, for one image."""

    #: The file, for messages.
    wire: Wire
    numbers: int = 0
    operations: int = 0
    _sides: dict[str, Sides | None] = field(default_factory=dict)
    _most: dict[str, int] = field(default_factory=dict)
    _values: dict[str, Values | None] = field(default_factory=dict)

    def begin(self, name: str, sides: Sequence[int | None]) -> None:
        """Note what is fed: one image, whose open sides are of a usual length."""
        first = (1 if not sides or sides[0] is None else sides[0],)
        self._note(name, (*first, *(OPEN_SIDE if side is None else side for side in sides[1:])))

    def add(self, node: Node, constants: Mapping[str, Tensor]) -> None:
        """Look at a node."""
        for name in node.inputs:
            if name in constants and name not in self._sides:
                self._note(name, constants[name].shape, constants[name].values)
        if node.operator == "Constant":
            found = constants.get(node.outputs[0])
            if found is None:
                self.wire.damaged()
            self._note(node.outputs[0], found.shape, found.values)
            return
        call = Call(
            [self._sides.get(name) for name in node.inputs],
            [self._values.get(name) for name in node.inputs],
            node.numbers,
            node.texts,
            len(node.outputs),
        )
        sides = self._made(node, call)
        most = self._most_of(node, call) if sides is None else math.prod(sides)
        values = _fold(node, call) if most <= SMALL else None
        if most == 0 and values is None:
            # At another size of image it would be something.
            self.wire.refuse(f"makes nothing by {node.operator} of an image of this size")
        self._weigh(node, call, most)
        for output in node.outputs:
            self._note(output, sides, values if output == node.outputs[0] else None, most)

    def _note(
        self, name: str, sides: Sides | None, values: Values | None = None, most: int = 0
    ) -> None:
        self._sides[name], self._values[name] = sides, values
        self._most[name] = most if sides is None else math.prod(sides)

    def _made(self, node: Node, call: Call) -> Sides | None:
        rule = RULES.get(node.operator)
        try:
            sides = call.side(0) if rule is None else rule(call)
        except (UnknownError, ValueError, IndexError, OverflowError):
            return None
        if len(sides) > MAX_RANK:
            self.wire.refuse(f"makes something of {len(sides)} axes by {node.operator}")
        # So large that they might not even be printed.
        return sides if all(0 <= side <= MAX_ALL_NUMBERS for side in sides) else None

    def _most_of(self, node: Node, call: Call) -> int:
        """Return how many numbers a result has at most whose sides are unknown."""
        taken = [self._most[name] for name in node.inputs if name]
        if not taken:
            self._refuse(node)
        if node.operator not in RULES or node.operator in _NOT_LARGER:
            return taken[0]
        if node.operator == "Concat":
            return sum(taken)
        if RULES[node.operator] is RULES["Add"] or node.operator in ("MatMul", "Gemm"):
            return math.prod(taken)
        return self._refuse(node)

    def _refuse(self, node: Node) -> int:
        self.wire.refuse(
            f"makes something by {node.operator} whose size cannot be told; export it with fixed "
            "sizes"
        )

    def _weigh(self, node: Node, call: Call, most: int) -> None:
        self.numbers += most
        self.operations += most * _each(node, call)
        if most > MAX_NUMBERS or self.numbers > MAX_ALL_NUMBERS:
            self.wire.refuse(
                f"makes {most:g} numbers of one image by {node.operator}; limit {MAX_NUMBERS}"
            )
        if self.operations > MAX_OPERATIONS:
            self.wire.refuse(f"takes over {MAX_OPERATIONS} multiplications for one image")


def _each(node: Node, call: Call) -> int:
    """Return how many multiplications each number of a result takes."""
    second = call.sides[1] if call.given(1) else None
    if node.operator in ("Conv", "ConvTranspose") and second:
        return max(math.prod(second[1:]) if node.operator == "Conv" else math.prod(second), 1)
    if node.operator in ("MatMul", "Gemm") and call.given(0):
        return max(*call.side(0)[-2:], 1)
    return max(math.prod(map(abs, node.numbers.get("kernel_shape", []))), 1)


def _fold(node: Node, call: Call) -> Values | None:
    """Compute the few whole numbers by which exporters say how large something is."""
    kind, known = node.operator, call.values
    if kind == "Shape" and call.given(0):
        rank = len(call.side(0))
        return call.side(0)[call.whole("start", 0) : call.whole("end", rank)]
    named = [values for values, name in zip(known, node.inputs, strict=True) if name]
    listed = [values for values in named if values is not None]
    # Of lists alone, so that the order is plain.
    if len(listed) < len(named) or not listed or any(len(one or ()) > 1 for one in call.sides):
        return None
    first, *others = listed
    if kind in _SAME_VALUES:
        return first
    if kind == "Concat":
        return sum(others, first)
    if kind == "Gather" and all(-len(first) <= one < len(first) for one in others[0]):
        return tuple(first[int(one)] for one in others[0])
    if kind == "Slice" and all(len(one) == 1 for one in others):
        far = SMALL + 1
        places = [int(max(min(one[0], far), -far)) for one in others]
        step = places[3] if len(places) > 3 else 1
        return first[places[0] : places[1] : step] if step and len(places) > 1 else None
    return _computed(node, listed)


def _computed(node: Node, listed: list[Values]) -> Values | None:
    """Compute with small whole numbers, which are the same whatever their type."""
    first, *others = listed
    made: Values | None = None
    if node.operator == "Cast" and node.numbers.get("to", [0])[0] in _WIDE:
        made = first
    elif node.operator == "ReduceProd":
        made = (math.prod(first),)
    elif node.operator in _COMPUTED and len(others) == 1:
        second = others[0]
        if len(first) == len(second) or 1 in (len(first), len(second)):
            length = max(len(first), len(second)) if first and second else 0
            pairs = zip(
                *(one * (length // max(len(one), 1)) for one in (first, second)), strict=True
            )
            made = tuple(_COMPUTED[node.operator](a, b) for a, b in pairs)
    if made is None or not all(_is_small(one) for values in (made, *listed) for one in values):
        return None
    return made


def _is_small(number: float) -> bool:
    return number == number // 1 and 0 <= number < 1 << 31
