"""Configurations of networks: nothing but known parameters in known bounds gets to Keras."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
from hostile import CONFIG, config_with, layer
from hypothesis import given, settings
from hypothesis import strategies as st

from napari_cellclf.bundles.allowed_layers import ALLOWED, REQUIRED
from napari_cellclf.bundles.networks import MAX_CALLS, MAX_LAYERS, read_network
from napari_cellclf.errors import UnsafeModelError

#: What nobody would write, and Python might take for what is meant.
BENT = (
    st.integers()
    | st.floats()
    | st.booleans()
    | st.none()
    | st.text(max_size=5)
    | st.sampled_from([2**31, 2**63, -1, 0, 1e300, "3", "__import__('os')", "relu", [], {}])
)
VALUES = st.recursive(BENT, lambda inner: st.lists(inner, max_size=3), max_leaves=6)


def _functional(*layers: dict[str, Any], outputs: Any = None) -> dict[str, Any]:
    begin = layer("InputLayer", batch_shape=[None, 8, 8, 1], name="in")
    parts = [begin | {"name": "in", "inbound_nodes": []}, *layers]
    return {
        "module": "keras",
        "class_name": "Functional",
        "registered_name": None,
        "config": {
            "name": "net",
            "layers": parts,
            "input_layers": ["in", 0, 0],
            "output_layers": outputs or [parts[-1]["name"], 0, 0],
        },
    }


def _tensor(name: str, call: Any = 0, output: Any = 0) -> dict[str, Any]:
    history = [name, call, output]
    return {"class_name": "__keras_tensor__", "config": {"keras_history": history}}


def _called(class_name: str, name: str, *taken: Any, **config: Any) -> dict[str, Any]:
    node = {"args": list(taken), "kwargs": {}}
    made = layer(class_name, name=name, **config)
    return made | {"name": name, "inbound_nodes": [node]}


@settings(max_examples=600, deadline=None)
@given(data=st.data())
def test_bent_parameters_are_told_or_within_bounds(data: st.DataObject) -> None:
    (class_name, module), rules = data.draw(st.sampled_from(sorted(ALLOWED.items(), key=str)))
    keys = data.draw(st.lists(st.sampled_from(sorted({*rules, "name", "dtype", "trainable"}))))
    config = {key: data.draw(VALUES, label=key) for key in keys}
    config = {**dict.fromkeys(REQUIRED.get(class_name, ()), 1), "name": "bent", **config}
    try:
        parts = read_network(config_with(layer(class_name, module, **config)), "m.keras")
    except UnsafeModelError:
        return
    assert json.loads(json.dumps(parts.config)) == parts.config
    assert read_network(parts.config, "m.keras").config == parts.config


def _places(config: Any) -> Iterator[tuple[Any, Any]]:
    """Return everything that stands anywhere, as where and under what."""
    keys = config if isinstance(config, dict) else range(len(config))
    for key in list(keys):
        yield config, key
        if isinstance(config[key], dict | list):
            yield from _places(config[key])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_config_bent_anywhere_is_told_or_whole(data: st.DataObject) -> None:
    config: Any = deepcopy(_functional(
        _called("Conv2D", "conv", _tensor("in"), filters=2, kernel_size=[3, 3]),
        _called("Add", "add", [_tensor("conv"), _tensor("conv")]),
        _called("Flatten", "flat", _tensor("add")),
        _called("Dense", "dense", _tensor("flat"), units=2, activation="softmax"),
    ))  # fmt: skip
    place, key = data.draw(st.sampled_from(list(_places(config))))
    place[key] = data.draw(VALUES)
    try:
        read_network(config, "m.keras")
    except UnsafeModelError as error:
        told = str(error)
        assert "\n" not in told
        assert len(told) < 800


WRONG = {
    "unknown-parameter": layer("Flatten", evil=1, name="x"),
    "text-for-a-number": layer("Dense", units="3", name="x"),
    "float-for-a-number": layer("Dense", units=3.0, name="x"),
    "true-for-a-number": layer("Dense", units=True, name="x"),
    "negative": layer("Dense", units=-3, name="x"),
    "nested-list": layer("Conv2D", filters=2, kernel_size=[[3, 3]], name="x"),
    "unknown-activation": layer("Activation", activation="evil", name="x"),
    "activation-object": layer("Activation", activation=layer("Lambda"), name="x"),
    "activation-function": layer(
        "Activation",
        activation={"class_name": "function", "module": "builtins", "config": "eval"},
        name="x",
    ),
    "unknown-precision": layer("Flatten", dtype="int8_from_float32", name="x"),
    "precision-object": layer(
        "Flatten", dtype=layer("QuantizedDTypePolicy", "keras", mode="int8"), name="x"
    ),
    "initializer-with-a-shape": layer(
        "Dense",
        units=2,
        kernel_initializer=layer("Constant", "keras.initializers", value=[0] * 1000),
        name="x",
    ),
    "initializer-elsewhere": layer(
        "Dense", units=2, kernel_initializer=layer("Zeros", "os"), name="x"
    ),
    "initializer-with-an-object": layer(
        "Dense",
        units=2,
        kernel_initializer=layer("Constant", "keras.initializers", value={"class_name": "x"}),
        name="x",
    ),
    "regularizer-of-ones-own": layer(
        "Dense", units=2, kernel_regularizer=layer("OrthogonalRegularizer", "keras.regularizers"),
        name="x",
    ),
    "channels-first": layer("Flatten", data_format="channels_first", name="x"),
    "resizing": layer("Resizing", height=1 << 20, width=2, name="x"),
    "rescaling-by-a-text": layer("Rescaling", scale="1/255", name="x"),
    "normalization-by-many": layer("Normalization", mean=[[0.0] * 300] * 300, name="x"),
    "discretization": layer("Discretization", bin_boundaries=[0.0], name="x"),
    "no-name": layer("Flatten"),
    "name-is-a-list": layer("Flatten", name=["x"]),
    "no-config": {"class_name": "Flatten", "module": "keras.layers"},
    "is-a-text": "Flatten",
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_parameters_that_are_not_allowed_are_named(kind: str) -> None:
    with pytest.raises(UnsafeModelError, match=r"^m\.keras "):
        read_network(config_with(WRONG[kind]), "m.keras")


GRAPHS = {
    "cycle": _functional(
        _called("Add", "a", [_tensor("in"), _tensor("b")]), _called("Flatten", "b", _tensor("a"))
    ),
    "of-itself": _functional(_called("Flatten", "a", _tensor("a"))),
    "unknown-layer": _functional(_called("Flatten", "a", _tensor("nowhere"))),
    "call-that-is-not-made": _functional(_called("Flatten", "a", _tensor("in", 1))),
    "output-that-is-not-there": _functional(_called("Flatten", "a", _tensor("in", 0, 1))),
    "negative-call": _functional(_called("Flatten", "a", _tensor("in", -1))),
    "call-is-a-text": _functional(_called("Flatten", "a", _tensor("in", "0"))),
    "two-of-a-name": _functional(
        _called("Flatten", "a", _tensor("in")), _called("Flatten", "a", _tensor("in"))
    ),
    "output-of-nothing": _functional(_called("Flatten", "a", _tensor("in")), outputs=["z", 0, 0]),
    "outputs-as-a-dict": _functional(_called("Flatten", "a", _tensor("in")), outputs={"a": 1}),
    "two-outputs": _functional(
        _called("Flatten", "a", _tensor("in")), outputs=[["a", 0, 0], ["in", 0, 0]]
    ),
    "a-serialised-array": _functional(
        _called("Add", "a", [_tensor("in"), {"class_name": "__numpy__", "config": {"value": [1]}}])
    ),
    "an-object-as-input": _functional(_called("Flatten", "a", layer("Lambda"))),
    "a-number-for-a-layer": _functional(_called("Flatten", "a", _tensor("in"), 3.0)),
    "deeply-nested-input": _functional(_called("Add", "a", [[[_tensor("in")]]])),
    "further-arguments": _functional(
        _called("Flatten", "a", _tensor("in"))
        | {"inbound_nodes": [{"args": [_tensor("in")], "kwargs": {"evil": 1}}]}
    ),
    "an-input-in-the-middle": _functional(
        _called("InputLayer", "a", _tensor("in"), batch_shape=[None, 8, 8, 1])
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", GRAPHS)
def test_graphs_that_cannot_be_computed_are_refused(kind: str) -> None:
    with pytest.raises(UnsafeModelError, match=r"^m\.keras "):
        read_network(GRAPHS[kind], "m.keras")


def test_networks_inside_each_other_are_followed_and_bounded() -> None:
    inner = deepcopy(CONFIG)
    for depth in range(8):
        outer = deepcopy(CONFIG)
        inner["config"]["name"] = f"net{depth}"
        outer["config"]["layers"] = [CONFIG["config"]["layers"][0], inner]
        if depth == 2:
            assert read_network(outer, "m.keras").n_layers == 6
        inner = outer
    with pytest.raises(UnsafeModelError, match="inside each other"):
        read_network(inner, "m.keras")


def test_networks_that_double_again_and_again_end() -> None:
    """Twenty networks, each of which calls the one inside it twice: a million calls."""
    inner = _functional(_called("ReLU", "relu", _tensor("in")))
    for depth in range(5):
        called = inner | {"name": f"n{depth}", "inbound_nodes": []}
        called["config"]["name"] = f"n{depth}"
        for call in range(40):
            source = _tensor("in") if call == 0 else _tensor(f"n{depth}", call - 1)
            called["inbound_nodes"].append({"args": [source], "kwargs": {}})
        inner = _functional(called, outputs=[f"n{depth}", 39, 0])
    with pytest.raises(UnsafeModelError, match=f"over {MAX_CALLS} times"):
        read_network(inner, "m.keras")


@pytest.mark.parametrize("idle", [0, 2000], ids=["inputs", "layers that no one calls"])
def test_a_large_network_inside_is_not_followed_at_every_call(idle: int) -> None:
    """None of this is a call, and yet all of it was looked at each time: for seconds."""
    names = [f"i{i}" for i in range(1 if idle else 2000)]
    shape = {"batch_shape": [None, 8, 8, 1]}
    begins = [layer("InputLayer", name=n, **shape) | {"name": n} for n in names]
    inner = _functional(outputs=["i0", 0, 0])
    inner["config"]["layers"] = begins + [layer("ReLU", name=f"r{i}") for i in range(idle)]
    inner["config"]["input_layers"] = [[name, 0, 0] for name in names]
    middle = _functional(
        inner | {"name": "net", "inbound_nodes": [{"args": [[_tensor("in")] * len(names)]}]}
    )
    calls = [{"args": [_tensor("in")]}, *({"args": [_tensor("net", i)]} for i in range(3000))]
    outer = _functional(middle | {"name": "net", "inbound_nodes": calls}, outputs=["net", 3000, 0])
    with pytest.raises(UnsafeModelError, match=f"over {MAX_CALLS} times"):
        read_network(outer, "m.keras")


def test_layers_are_bounded_in_number_and_time() -> None:
    many = [layer("ReLU", name=f"r{i}") for i in range(MAX_LAYERS + 1)]
    with pytest.raises(UnsafeModelError, match=f"over {MAX_LAYERS} layers"):
        read_network(config_with(*many), "m.keras")


def test_sequential_networks_are_bounded_more_tightly() -> None:
    many = [layer("ReLU", name=f"r{i}") for i in range(101)]
    assert len(CONFIG["config"]["layers"]) == 3
    read_network(config_with(*many[:97]), "m.keras")
    with pytest.raises(UnsafeModelError, match="Sequential network of over 100 layers"):
        read_network(config_with(*many[:98]), "m.keras")


def test_layers_in_the_wrong_order_take_no_longer() -> None:
    names = ["in", *(f"r{i}" for i in range(MAX_LAYERS - 1))]
    chain = [_called("ReLU", name, _tensor(before)) for before, name in pairwise(names)]
    config = _functional(*reversed(chain), outputs=[names[-1], 0, 0])
    began = time.process_time()
    ordered = read_network(config, "m.keras").config["config"]["layers"]
    assert [one["name"] for one in ordered] == names
    assert time.process_time() - began < 2


def test_what_is_handed_to_keras_holds_only_what_was_looked_at() -> None:
    config = deepcopy(CONFIG)
    config["config"]["evil"] = layer("Lambda")
    config["build_config"] = {"input_shape": [None, 1 << 20, 1 << 20, 1 << 20]}
    dense = config["config"]["layers"][2]
    dense["build_config"] = {"input_shape": [None, 1 << 30]}
    dense["config"]["kernel_initializer"] = {
        **layer("Zeros", "keras.initializers"), "shared_object_id": 7
    }  # fmt: skip
    text = json.dumps(read_network(config, "m.keras").config)
    for left_out in ("Lambda", "build_config", "shared_object_id", "evil"):
        assert left_out not in text
