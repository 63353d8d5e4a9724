"""Read a network's configuration: what is returned holds only what was looked at.

Every layer must be on the list of `layers`, and the layers must form a graph without circles, over
which Keras would search for ever. What the network computes, and how much memory that takes, is
found by Keras itself before any memory is allocated (see `inference.rebuild`).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NoReturn, TypeAlias

from napari_cellclf.bundles.allowed_layers import check_layer
from napari_cellclf.errors import UnsafeModelError

MAX_LAYERS = 2_500
#: Layers in one Sequential network, which Keras builds again as each of them is added.
MAX_SEQUENTIAL = 100
MAX_NESTED = 6
#: Calls of layers for one image; those of a network inside count at every call of it.
MAX_CALLS = 10_000

_MODELS = {
    ("Sequential", "keras"),
    ("Functional", "keras"),
    ("Functional", "keras.src.models.functional"),
}

_NUMPY = "keras.src.ops.numpy"
_PORTS = ("input_layers", "output_layers")
_OBSCURE = "in a way that cannot be followed; save it again with Keras 3"

#: Where the Keras that is here finds them; older ones found Functional elsewhere.
_MODULES = {"Sequential": "keras", "Functional": "keras.src.models.functional"}

#: An output of a call of a layer: the layer's name, which call, which output.
Place: TypeAlias = tuple[str, int, int]


@dataclass(frozen=True)
class Parts:
    """A model, read: the whole, or one that stands inside it in the place of a layer."""

    #: Its configuration with nothing besides what was checked.
    config: dict[str, Any]
    #: Its first input and its first output.
    begin: Place
    end: Place
    #: Each layer's checked configuration, by its name.
    layers: dict[str, dict[str, Any]]
    #: Those of the layers that are models themselves.
    inner: dict[str, Parts]
    #: For each layer, the places that each of its calls takes.
    calls: dict[str, list[list[Place]]]
    #: How often a layer is called for one image.
    n_calls: int

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """Of one image; None where a side is open."""
        if self.begin[0] in self.inner:
            return self.inner[self.begin[0]].input_shape
        return tuple(self.layers[self.begin[0]]["config"]["batch_shape"][1:])

    @property
    def n_layers(self) -> int:
        """How many layers, those of networks inside included."""
        inside = sum(part.n_layers for part in self.inner.values())
        return len(self.layers) - len(self.inner) + inside


def read_network(config: Any, name: str) -> Parts:
    """Read the configuration of a network."""
    reader = _Reader(name)
    if not isinstance(config, dict):
        reader.refuse("does not describe a network")
    parts = reader.model({key: part for key, part in config.items() if key != "compile_config"}, 0)
    if reader.n_ports != (1, 1):
        reader.refuse("has a network of several inputs or outputs; one of each can be used")
    return parts


@dataclass(frozen=True)
class _Part:
    """A layer, or a model in the place of one."""

    name: str
    config: dict[str, Any]
    inner: Parts | None


class _Reader:
    def __init__(self, name: str) -> None:
        self.name = name
        self.n_layers = 0
        self.n_ports = (0, 0)

    def refuse(self, what: str) -> NoReturn:
        raise UnsafeModelError(f"{self.name} {what}")

    def model(self, config: dict[str, Any], depth: int) -> Parts:
        kind = (config.get("class_name"), config.get("module"))
        if not all(isinstance(part, str) for part in kind) or kind not in _MODELS:
            self.refuse(
                f"holds a {str(kind[0])[:80]!r}; only Functional and Sequential networks can be "
                "loaded"
            )
        if config.get("compile_config"):
            self.refuse("holds a layer that would be compiled when it is loaded")
        if config.get("registered_name") not in (None, kind[0]):
            self.refuse(f"asks for the custom object {str(config['registered_name'])[:80]!r}")
        if depth > MAX_NESTED:
            self.refuse(f"has networks inside each other, deeper than {MAX_NESTED}")
        inside = config.get("config")
        layers = inside.get("layers") if isinstance(inside, dict) else None
        if not isinstance(inside, dict) or not isinstance(layers, list) or not layers:
            self.refuse("has a network without layers")
        self.n_layers += len(layers)
        if self.n_layers > MAX_LAYERS:
            self.refuse(f"has over {MAX_LAYERS} layers")
        cleaned = {
            "module": _MODULES[kind[0]],
            "class_name": kind[0],
            "config": _shell(inside),
            "registered_name": config.get("registered_name"),
        }
        if kind[0] == "Sequential":
            return self.sequential(cleaned, inside, depth)
        return self.functional(cleaned, inside, depth)

    def part(self, layer: Any, depth: int) -> _Part:
        kind = layer.get("class_name") if isinstance(layer, dict) else None
        inner = self.model(layer, depth + 1) if kind in ("Functional", "Sequential") else None
        config = check_layer(layer, self.name) if inner is None else inner.config
        name = config["config"].get("name")
        if not isinstance(name, str):
            self.refuse("has a layer without a name; save it again with Keras 3")
        return _Part(name, config, inner)

    def sequential(self, config: dict[str, Any], inside: dict[str, Any], depth: int) -> Parts:
        if len(inside["layers"]) > MAX_SEQUENTIAL:
            self.refuse(
                f"has a Sequential network of over {MAX_SEQUENTIAL} layers; save it as a "
                "Functional one"
            )
        parts = [self.part(layer, depth) for layer in inside["layers"]]
        if parts[0].config["class_name"] != "InputLayer":
            parts.insert(0, self.part(_input_layer(inside, parts[0]), depth))
        config["config"]["layers"] = [part.config for part in parts]
        calls: dict[str, list[list[Place]]] = {part.name: [] for part in parts}
        for before, part in pairwise(parts):
            calls[part.name] = [[(before.name, 0, 0)]]
        ports = [(parts[0].name, 0, 0)], [(parts[-1].name, 0, 0)]
        return self.put_together(config, parts, ports, calls)

    def functional(self, config: dict[str, Any], inside: dict[str, Any], depth: int) -> Parts:
        parts: list[_Part] = []
        calls: dict[str, list[list[Place]]] = {}
        config["config"]["layers"] = []
        for layer in inside["layers"]:
            part = self.part(layer, depth)
            if layer.get("name", part.name) != part.name:
                self.refuse(f"calls one layer {part.name[:80]!r} and {str(layer['name'])[:80]!r}")
            nodes = layer.get("inbound_nodes", [])
            if not isinstance(nodes, list):
                self.refuse("does not say what its layers take")
            read = [self.node(node, part) for node in nodes]
            calls[part.name] = [taken for _, taken in read]
            parts.append(part)
            again = {"name": part.name, "inbound_nodes": [node for node, _ in read]}
            config["config"]["layers"].append(part.config | again)
        found = [self.ports(inside.get(key)) for key in _PORTS]
        for key, ports in zip(_PORTS, found, strict=True):
            listed = [list(port) for port in ports]
            # The outermost network takes and gives an array, not a list of one.
            flat = len(listed) == 1 and (depth == 0 or isinstance(inside[key][0], str))
            config["config"][key] = listed[0] if flat else listed
        inputs, outputs = found
        return self.put_together(config, parts, (inputs, outputs), calls)

    def put_together(
        self,
        config: dict[str, Any],
        parts: list[_Part],
        ports: tuple[list[Place], list[Place]],
        calls: dict[str, list[list[Place]]],
    ) -> Parts:
        layers = {part.name: part.config for part in parts}
        if len(layers) < len(parts):
            self.refuse("has two layers of the same name")
        begins = {name for name, layer in layers.items() if layer["class_name"] == "InputLayer"}
        if {(name, 0, 0) for name in begins} != set(ports[0]) or len(begins) != len(ports[0]):
            self.refuse("has a network whose inputs are not those it names")
        if any(calls[name] for name in begins):
            self.refuse("calls the input of a network as if it were a layer")
        inner = {part.name: part.inner for part in parts if part.inner is not None}
        taken = [place for every in calls.values() for places in every for place in places]
        if any(output and name not in inner for name, _, output in (*taken, *ports[1])):
            self.refuse("takes a second output of a layer that has one")
        made = self.in_order(ports[0], calls)
        if not {place[:2] for place in ports[1]} <= made.keys():
            self.refuse("has a network that ends in a layer that is not there")
        # Keras goes through the list again and again until everything is called.
        config["config"]["layers"].sort(key=lambda layer: made.get((layer["config"]["name"], 0), 0))
        n_calls = sum(
            len(taken) * (inner[name].n_calls + len(inner[name].layers) if name in inner else 1)
            for name, taken in calls.items()
        )
        if n_calls > MAX_CALLS:
            self.refuse(f"calls layers over {MAX_CALLS} times")
        self.n_ports = (len(ports[0]), len(ports[1]))
        return Parts(config, ports[0][0], ports[1][0], layers, inner, calls, n_calls)

    def in_order(
        self, begins: list[Place], calls: dict[str, list[list[Place]]]
    ) -> dict[tuple[str, int], int]:
        """Give the calls numbers so that each comes after those that it depends on."""
        lacking = {
            (name, number): {place[:2] for place in taken}
            for name, every in calls.items()
            for number, taken in enumerate(every)
        }
        users: dict[tuple[str, int], list[tuple[str, int]]] = {}
        for call, needed in lacking.items():
            for one in needed:
                users.setdefault(one, []).append(call)
        ready = deque(begin[:2] for begin in begins)
        made: dict[tuple[str, int], int] = {}
        while ready:
            done = ready.popleft()
            made[done] = len(made)
            for call in users.get(done, ()):
                lacking[call].discard(done)
                if not lacking[call]:
                    ready.append(call)
        waiting = [name for (name, _), needed in lacking.items() if needed]
        if waiting:
            self.refuse(f"has a layer {waiting[0][:80]!r} that waits for itself, or for nothing")
        return made

    def node(self, node: Any, part: _Part) -> tuple[dict[str, Any], list[Place]]:
        """Read one call of a layer: return it with nothing else, and the places that it takes."""
        arguments = node.get("args") if isinstance(node, dict) else None
        options = node.get("kwargs", {}) if isinstance(node, dict) else None
        plain = isinstance(options, dict) and all(
            key in ("training", "mask") and isinstance(value, bool | None)
            for key, value in options.items()
        )
        if not isinstance(arguments, list) or not plain:
            self.refuse(f"calls a layer {_OBSCURE}")
        taken: list[Place | float] = []
        again: list[Any] = []
        for argument in arguments:
            inside = argument if isinstance(argument, list) else [argument]
            read = [self.argument(one) for one in inside]
            taken += read
            tensors = [_tensor(one) if isinstance(one, tuple) else one for one in read]
            again.append(tensors if isinstance(argument, list) else tensors[0])
        places = [one for one in taken if isinstance(one, tuple)]
        if not places:
            self.refuse("calls a layer with no input")
        if len(places) < len(taken) and part.config["module"] != _NUMPY:
            self.refuse(f"calls layer {part.name[:80]!r} with something that it cannot take")
        return {"args": again, "kwargs": options}, places

    def argument(self, argument: Any) -> Place | float:
        if isinstance(argument, dict) and argument.get("class_name") == "__keras_tensor__":
            config = argument.get("config")
            return self.place(config.get("keras_history") if isinstance(config, dict) else None)
        if isinstance(argument, int | float) and not isinstance(argument, bool):
            return argument
        self.refuse(f"calls a layer with {repr(argument)[:80]}, which is no tensor")

    def ports(self, ports: Any) -> list[Place]:
        """Read the inputs or outputs of a network: one, or a list of them."""
        if not isinstance(ports, list) or not ports:
            self.refuse("does not say where its network begins and ends")
        return [self.place(port) for port in ([ports] if isinstance(ports[0], str) else ports)]

    def place(self, history: Any) -> Place:
        if (
            isinstance(history, list)
            and len(history) == 3
            and isinstance(history[0], str)
            and all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in history[1:])
        ):
            return history[0], history[1], history[2]
        self.refuse(f"refers to a layer {_OBSCURE}")


def _tensor(place: Place) -> dict[str, Any]:
    # Keras finds the tensor by its place; shape and type that stand beside it are not used.
    config = {"shape": [None], "dtype": "float32", "keras_history": list(place)}
    return {"class_name": "__keras_tensor__", "config": config}


def _shell(inside: dict[str, Any]) -> dict[str, Any]:
    """Return what else belongs to a model: its name and whether it is trained."""
    kept: dict[str, Any] = {"name": "network"}
    if isinstance(inside.get("name"), str) and len(inside["name"]) <= 200:
        kept["name"] = inside["name"]
    if isinstance(inside.get("trainable"), bool):
        kept["trainable"] = inside["trainable"]
    return kept


def _input_layer(inside: dict[str, Any], first: _Part) -> dict[str, Any]:
    """Make the input that a Sequential network was built for without naming it."""
    shape = inside.get("build_input_shape")
    if first.inner is not None and shape is None:
        shape = [None, *first.inner.input_shape]
    return {
        "module": "keras.layers",
        "class_name": "InputLayer",
        "config": {"batch_shape": shape, "dtype": "float32", "name": f"{first.name[:150]}_input"},
    }
