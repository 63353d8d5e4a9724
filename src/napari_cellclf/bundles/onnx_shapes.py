"""What each operator of ONNX makes of its inputs: sizes alone, the batch included.

The formulas are those of https://onnx.ai/onnx/operators/; the tests hold them against ONNX's own
shape inference. Only what can be larger than its first input stands here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

Sides = tuple[int, ...]
Values = tuple[float, ...]


class UnknownError(ValueError):
    """A size cannot be told from what is known."""


@dataclass(frozen=True)
class Call:
    """A node with what is known of its inputs."""

    #: Sizes of the inputs; None of one that is left out.
    sides: Sequence[Sides | None]
    #: Their numbers, of those that are known and few.
    values: Sequence[Values | None] = ()
    #: Attributes that are whole numbers.
    numbers: Mapping[str, list[int]] = field(default_factory=dict)
    #: Attributes that are texts.
    texts: Mapping[str, str] = field(default_factory=dict)
    #: How many results are asked for.
    n_outputs: int = 1

    def side(self, place: int) -> Sides:
        """Return the size of an input that must be known."""
        found = self.sides[place] if place < len(self.sides) else None
        if found is None:
            raise UnknownError
        return found

    def given(self, place: int) -> bool:
        """Whether there is such an input."""
        return place < len(self.sides) and self.sides[place] is not None

    def whole(self, name: str, default: int) -> int:
        """Return an attribute that is one number."""
        found = self.numbers.get(name)
        return found[0] if found else default

    def wholes(self, name: str, place: int) -> list[int] | None:
        """Return whole numbers that are an attribute in older versions, an input in newer ones."""
        if name in self.numbers:
            return self.numbers[name]
        if not self.given(place):
            return None
        known = self.values[place]
        if known is None:
            raise UnknownError
        return [int(one) for one in known]


def broadcast(*sides: Sides) -> Sides:
    """Return the size of what is put together from inputs that are spread over each other."""
    backwards = zip_longest(*(reversed(one) for one in sides), fillvalue=1)
    return tuple(0 if 0 in axis else max(axis) for axis in backwards)[::-1]


def _merged(call: Call) -> Sides:
    return broadcast(*(call.side(place) for place in range(len(call.sides))))


def _slid(call: Call, kernel: Sides) -> Sides:
    """Return the sides of an image after a window was moved over it."""
    image, count = call.side(0)[2:], len(kernel)
    strides = call.numbers.get("strides") or [1] * count
    apart = call.numbers.get("dilations") or [1] * count
    pads = call.numbers.get("pads") or [0] * (2 * count)
    if not len(image) == len(strides) == len(apart) == count or len(pads) != 2 * count:
        raise UnknownError
    if min(*strides, *apart, *kernel, 1) < 1:
        raise UnknownError
    padding = call.texts.get("auto_pad", "NOTSET")
    made = []
    for axis, side in enumerate(image):
        around = pads[axis] + pads[axis + count] if padding == "NOTSET" else 0
        room = side + around - (kernel[axis] - 1) * apart[axis] - 1
        if padding.startswith("SAME"):
            room = side - 1
        up = call.whole("ceil_mode", 0)
        made.append(max(-(-room // strides[axis]) if up else room // strides[axis], -1) + 1)
    return tuple(made)


def _conv(call: Call) -> Sides:
    kernel = call.side(1)
    return (call.side(0)[0], kernel[0], *_slid(call, kernel[2:]))


def _pooled(call: Call) -> Sides:
    return (*call.side(0)[:2], *_slid(call, tuple(call.numbers.get("kernel_shape", ()))))


def _transposed(call: Call) -> Sides:
    image, kernel = call.side(0), call.side(1)
    count = len(kernel) - 2
    strides = call.numbers.get("strides") or [1] * count
    apart = call.numbers.get("dilations") or [1] * count
    more = call.numbers.get("output_padding") or [0] * count
    fixed = call.numbers.get("output_shape") or [0] * count
    # Without what is cut off by pads: never too small.
    steps = zip(image[2:], strides, kernel[2:], apart, more, fixed, strict=True)
    made = (
        max((side - 1) * step + (size - 1) * gap + 1 + extra, side * step, wanted)
        for side, step, size, gap, extra, wanted in steps
    )
    return (image[0], kernel[1] * call.whole("group", 1), *made)


def _gemm(call: Call) -> Sides:
    first, second = call.side(0), call.side(1)
    rows = first[1] if call.whole("transA", 0) else first[0]
    return rows, second[0] if call.whole("transB", 0) else second[1]


def _multiplied(call: Call) -> Sides:
    first, second = call.side(0), call.side(1)
    if not first or not second:
        raise UnknownError
    outer = broadcast(first[:-2], second[:-2])
    return (*outer, *first[-2:-1], *(second[-1:] if len(second) > 1 else ()))


def _joined(call: Call) -> Sides:
    every = [call.side(place) for place in range(len(call.sides))]
    axis = _axis(call.whole("axis", 0), len(every[0]))
    if len({len(one) for one in every}) > 1:
        raise UnknownError
    longest = [max(sides) for sides in zip(*every, strict=True)]
    longest[axis] = sum(one[axis] for one in every)
    return tuple(longest)


def _axis(axis: int, rank: int) -> int:
    if not -rank <= axis < rank:
        raise UnknownError
    return axis % rank


def _flat(call: Call) -> Sides:
    sides, axis = call.side(0), call.whole("axis", 1)
    return math.prod(sides[:axis]), math.prod(sides[axis:])


def _reshaped(call: Call) -> Sides:
    sides, wanted = call.side(0), call.wholes("shape", 1)
    if wanted is None:
        raise UnknownError
    if not call.whole("allowzero", 0):
        wanted = [sides[i] if one == 0 and i < len(sides) else one for i, one in enumerate(wanted)]
    known = math.prod(one for one in wanted if one != -1)
    if wanted.count(-1) > 1 or min(wanted, default=0) < -1:
        raise UnknownError
    left = -(-math.prod(sides) // max(known, 1))
    return tuple(left if one == -1 else one for one in wanted)


def _ordered(call: Call) -> Sides:
    sides = call.side(0)
    order = call.numbers.get("perm") or range(len(sides))[::-1]
    if sorted(order) != list(range(len(sides))):
        raise UnknownError
    return tuple(sides[axis] for axis in order)


def _gathered(call: Call) -> Sides:
    sides, chosen = call.side(0), call.side(1)
    axis = _axis(call.whole("axis", 0), len(sides))
    return (*sides[:axis], *chosen, *sides[axis + 1 :])


def _squeezed(call: Call) -> Sides:
    sides, axes = call.side(0), call.wholes("axes", 1)
    away = {_axis(axis, len(sides)) for axis in axes or ()}
    return tuple(
        side for i, side in enumerate(sides) if (i not in away if axes is not None else side != 1)
    )


def _unsqueezed(call: Call) -> Sides:
    sides, axes = call.side(0), call.wholes("axes", 1) or []
    rank = len(sides) + len(axes)
    new, rest = {_axis(axis, rank) for axis in axes}, iter(sides)
    if len(new) < len(axes):
        raise UnknownError
    return tuple(1 if i in new else next(rest) for i in range(rank))


def _reduced(call: Call) -> Sides:
    sides, axes = call.side(0), call.wholes("axes", 1)
    keep = call.whole("keepdims", 1)
    none = not axes and call.whole("noop_with_empty_axes", 0)
    away = {_axis(a, len(sides)) for a in axes} if axes else set() if none else set(range(99))
    return tuple(1 if i in away else side for i, side in enumerate(sides) if keep or i not in away)


def _cut(call: Call) -> Sides:
    made = list(call.side(0))
    starts, ends = call.wholes("starts", 1), call.wholes("ends", 2)
    if starts is None or ends is None:
        raise UnknownError
    axes = call.wholes("axes", 3) or list(range(len(starts)))
    steps = call.wholes("steps", 4) or [1] * len(starts)
    if not len(starts) == len(ends) == len(axes) == len(steps) or 0 in steps:
        raise UnknownError
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = _axis(axis, len(made))
        made[place] = len(range(*slice(start, end, step).indices(made[place])))
    return tuple(made)


def _split(call: Call) -> Sides:
    made = list(call.side(0))
    axis = _axis(call.whole("axis", 0), len(made))
    # The largest of the parts stands for all.
    parts = call.wholes("split", 1) or [-(-made[axis] // max(call.n_outputs, 1))]
    made[axis] = min(max(parts), made[axis])
    return tuple(made)


def _padded(call: Call) -> Sides:
    made, pads = list(call.side(0)), call.wholes("pads", 1)
    axes = call.wholes("axes", 3) if call.given(3) else list(range(len(made)))
    if pads is None or axes is None or len(pads) != 2 * len(axes):
        raise UnknownError
    for i, axis in enumerate(axes):
        made[_axis(axis, len(made))] += pads[i] + pads[i + len(axes)]
    return tuple(max(side, 0) for side in made)


def _resized(call: Call) -> Sides:
    made = list(call.side(0))
    axes = call.numbers.get("axes") or list(range(len(made)))
    # In version 10 the second input says by how much; later the third, and the fourth how large.
    place = next((i for i in (3, 2, 1) if call.given(i) and call.sides[i] != (0,)), None)
    known = None if place is None else call.values[place]
    if known is None or len(known) != len(axes):
        raise UnknownError
    for axis, one in zip(axes, known, strict=True):
        at = _axis(axis, len(made))
        made[at] = int(one if place == 3 else math.floor(made[at] * one))
    return tuple(made)


def _expanded(call: Call) -> Sides:
    return broadcast(call.side(0), tuple(call.wholes("shape", 1) or ()))


def _tiled(call: Call) -> Sides:
    times = call.wholes("repeats", 1) or []
    return tuple(side * time for side, time in zip(call.side(0), times, strict=True))


def _spread(call: Call) -> Sides:
    batch, channels, *image = call.side(0)
    size = max(call.whole("blocksize", 1), 1)
    return (batch, channels // size ** len(image), *(side * size for side in image))


def _gathered_up(call: Call) -> Sides:
    batch, channels, *image = call.side(0)
    size = max(call.whole("blocksize", 1), 1)
    return (batch, channels * size ** len(image), *(side // size for side in image))


def _global(call: Call) -> Sides:
    sides = call.side(0)
    return (*sides[:2], *(1 for _ in sides[2:]))


def _shape(call: Call) -> Sides:
    rank = len(call.side(0))
    end = call.whole("end", rank)
    return (len(range(*slice(call.whole("start", 0), end).indices(rank))),)


Rule = Callable[[Call], Sides]
_BINARY = "Add Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mul Pow Sub Sum Where"
_REDUCING = "L2 Max Mean Min Prod Sum SumSquare"
#: By operator; what is not named here hands the size of its first input on.
RULES: Mapping[str, Rule] = {
    **dict.fromkeys(_BINARY.split(), _merged),
    **{f"Reduce{kind}": _reduced for kind in _REDUCING.split()},
    "AveragePool": _pooled,
    "Concat": _joined,
    "Conv": _conv,
    "ConvTranspose": _transposed,
    "DepthToSpace": _spread,
    "Expand": _expanded,
    "Flatten": _flat,
    "Gather": _gathered,
    "Gemm": _gemm,
    "GlobalAveragePool": _global,
    "GlobalMaxPool": _global,
    "MatMul": _multiplied,
    "MaxPool": _pooled,
    "Pad": _padded,
    "Reshape": _reshaped,
    "Resize": _resized,
    "Shape": _shape,
    "Slice": _cut,
    "SpaceToDepth": _gathered_up,
    "Split": _split,
    "Squeeze": _squeezed,
    "Tile": _tiled,
    "Transpose": _ordered,
    "Unsqueeze": _unsqueezed,
    "Upsample": _resized,
}
