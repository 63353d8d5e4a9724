"""Follow a network from its input to its output, and add up what it would take to build it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NoReturn

from napari_cellclf.bundles.networks import Parts, Place, read_network
from napari_cellclf.bundles.parameters import words
from napari_cellclf.bundles.schema import MAX_INPUT
from napari_cellclf.bundles.shapes import MisfitError, Shape, made_by
from napari_cellclf.errors import UnsafeModelError

MAX_CALLS = 10_000
#: Layers that are looked at, and tensors that they take; of a network inside, at every call.
MAX_STEPS = 50_000
#: Numbers that one layer may make of one image (0.5 GiB in float32), and all together.
MAX_NUMBERS = 1 << 27
MAX_ALL_NUMBERS = 1 << 32
#: Multiplications for one image: about a minute of two processor cores.
MAX_OPERATIONS = 1 << 41
#: What an image of open size is taken to have, in pixels along a side.
OPEN_SIDE = 256

_NUMPY = "keras.src.ops.numpy"
#: Layers after which probabilities are still what they were.
_PASSING = words(
    "ActivityRegularization AlphaDropout Average Dropout Flatten GaussianDropout GaussianNoise "
    "GlobalAveragePooling2D Identity Mean Permute Reshape SpatialDropout2D"
)
#: The state of a random generator, two numbers, comes with each of these, and of augmentations.
_SEEDED = words("AlphaDropout Dropout GaussianDropout GaussianNoise SpatialDropout2D")


@dataclass(frozen=True)
class Tensor:
    """What goes from one layer to the next."""

    #: Without the batch.
    shape: Shape
    #: The activation it comes out of.
    ending: str


@dataclass(frozen=True)
class Network:
    """What a configuration asks for."""

    #: The configuration with nothing besides what was checked: what Keras is given.
    config: dict[str, Any]
    #: Of one image; None where its size is open.
    input_shape: tuple[int | None, ...]
    #: Of the answer to one image.
    output_shape: tuple[int, ...]
    #: The activation that the answer comes out of, such as ``"softmax"``.
    ending: str
    #: Name of each layer with weights, and their shapes, in Keras's order.
    weights: tuple[tuple[str, list[Shape]], ...]
    #: How many layers.
    n_layers: int
    #: How many of them keep the state of a random generator.
    n_seeds: int

    @property
    def n_parameters(self) -> int:
        """How many numbers its weights are."""
        return sum(math.prod(shape) for _, shapes in self.weights for shape in shapes)


def follow(config: Any, name: str, size: tuple[int, int] | None = None) -> Network:
    """Check a configuration and add up what it asks for."""
    parts = read_network(config, name)
    follower = _Follower(name)
    if len(parts.inputs) != 1 or len(parts.outputs) != 1:
        follower.refuse("has a network of several inputs or outputs; one of each can be used")
    sides = parts.layers[parts.inputs[0][0]]["config"]["batch_shape"][1:]
    given = (*(size or (OPEN_SIDE, OPEN_SIDE)), sides[-1])
    shape = tuple(
        given[axis] if side is None else side for axis, side in enumerate(sides, 3 - len(sides))
    )
    begin = Tensor(shape, "linear")
    if math.prod(shape) > MAX_INPUT:
        follower.refuse(
            f"takes {' x '.join(map(str, shape))} numbers of one image; limit {MAX_INPUT}"
        )
    follower.weigh("input", shape, [])
    (end,) = follower.through(parts, [begin])
    return Network(
        config=parts.config,
        input_shape=tuple(sides),
        output_shape=end.shape,
        ending=end.ending,
        weights=tuple(follower.weights),
        n_layers=len(follower.built),
        n_seeds=follower.n_seeds,
    )


@dataclass
class _Follower:
    name: str
    calls: int = 0
    steps: int = 0
    numbers: int = 0
    operations: int = 0
    n_seeds: int = 0
    weights: list[tuple[str, list[Shape]]] = field(default_factory=list)
    built: dict[int, list[Shape]] = field(default_factory=dict)

    def refuse(self, what: str) -> NoReturn:
        raise UnsafeModelError(f"{self.name} {what}")

    def through(self, model: Parts, inputs: list[Tensor]) -> list[Tensor]:
        """Send tensors through a model, calling each layer once what it takes is there."""
        if len(inputs) != len(model.inputs):
            self.refuse("calls a network with more or fewer inputs than it has")
        self.steps += len(model.layers)
        self.steps += sum(len(taken) for calls in model.calls.values() for taken in calls)
        if self.steps > MAX_STEPS:
            self.refuse("calls a large network inside it again and again")
        made: dict[Place, Tensor] = dict(zip(model.inputs, inputs, strict=True))
        lacking, users = _dependencies(model)
        ready = deque(model.inputs)
        while ready:
            place = ready.popleft()
            for call in users.get(place, ()):
                lacking[call].discard(place)
                if lacking[call]:
                    continue
                for output, tensor in enumerate(self.called(model, *call, made)):
                    made[*call, output] = tensor
                    ready.append((*call, output))
        waiting = [name for (name, _), places in lacking.items() if places]
        if waiting:
            self.refuse(f"has a layer {waiting[0][:80]!r} that waits for itself, or for nothing")
        if any(place not in made for place in model.outputs):
            self.refuse("has a network that ends in a layer that is not there")
        return [made[place] for place in model.outputs]

    def called(
        self, model: Parts, name: str, number: int, made: dict[Place, Tensor]
    ) -> list[Tensor]:
        """Call a layer; return what it makes."""
        self.calls += 1
        if self.calls > MAX_CALLS:
            self.refuse(f"calls layers over {MAX_CALLS} times")
        taken = model.calls[name][number]
        given = [made[one] for one in taken if isinstance(one, tuple)]
        with_numbers = len(given) < len(taken)
        layer = model.layers[name]
        if layer["class_name"] == "InputLayer" or (with_numbers and layer["module"] != _NUMPY):
            self.refuse(f"calls layer {name[:80]!r} with something that it cannot take")
        if name in model.inner:
            return self.through(model.inner[name], given)
        try:
            shape, weights = made_by(*_operation(layer), [tensor.shape for tensor in given])
        except MisfitError as error:
            self.refuse(f"has a layer {name[:80]!r} that {error}")
        self.weigh(name, shape, weights)
        self.keep(layer, name, weights)
        return [Tensor(shape, _ending(layer, {tensor.ending for tensor in given}, len(shape)))]

    def weigh(self, name: str, shape: Shape, weights: list[Shape]) -> None:
        """Add up what a call takes of memory and time."""
        numbers = math.prod(shape)
        kernels = sum(math.prod(weight) for weight in weights if len(weight) > 1)
        self.numbers += numbers
        self.operations += numbers + math.prod(shape[:-1]) * kernels
        if numbers > MAX_NUMBERS or self.numbers > MAX_ALL_NUMBERS:
            self.refuse(
                f"makes {numbers} numbers of one image in layer {name[:80]!r}; limit {MAX_NUMBERS}"
            )
        if self.operations > MAX_OPERATIONS:
            self.refuse(f"takes over {MAX_OPERATIONS} multiplications for one image")

    def keep(self, layer: dict[str, Any], name: str, weights: list[Shape]) -> None:
        """Count a layer's weights, once however often it is called."""
        before = self.built.setdefault(id(layer), weights)
        if before is not weights:
            if before != weights:
                self.refuse(f"calls layer {name[:80]!r} with inputs that ask for other weights")
            return
        self.n_seeds += _is_seeded(layer["class_name"])
        if weights:
            self.weights.append((name, weights))


def _is_seeded(class_name: str) -> bool:
    return class_name in _SEEDED or class_name.startswith("Random")


def _dependencies(
    model: Parts,
) -> tuple[dict[tuple[str, int], set[Place]], dict[Place, list[tuple[str, int]]]]:
    """Return what each call of a layer waits for, and which calls wait for each output."""
    lacking: dict[tuple[str, int], set[Place]] = {}
    users: dict[Place, list[tuple[str, int]]] = {}
    for name, calls in model.calls.items():
        for number, taken in enumerate(calls):
            lacking[name, number] = {one for one in taken if isinstance(one, tuple)}
            for place in lacking[name, number]:
                users.setdefault(place, []).append((name, number))
    return lacking, users


def _ending(layer: dict[str, Any], before: set[str], n_axes: int) -> str:
    kind, activation = layer["class_name"], layer["config"].get("activation") or "linear"
    if kind in _PASSING or (kind == "Activation" and activation == "linear"):
        return before.pop() if len(before) == 1 else "linear"
    if kind == "Softmax":
        # Along another axis than the last its numbers are no probabilities of classes.
        return "softmax" if layer["config"].get("axis", -1) in (-1, n_axes) else "linear"
    return str(activation)


def _operation(layer: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return class and parameters; the operation that reshapes counts the batch, the layer not."""
    kind, config = layer["class_name"], layer["config"]
    if layer["module"] != _NUMPY or kind != "Reshape":
        return kind, config
    wanted = config.get("newshape")
    if not isinstance(wanted, list) or len(wanted) < 2 or wanted[0] != -1:
        raise MisfitError("puts the images of a batch together")
    return "Reshape", {"target_shape": wanted[1:]}
