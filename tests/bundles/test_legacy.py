"""HDF5 files of Keras 2 that are named `.keras`: read by us, checked like any other."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from napari_cellclf.bundles.foreign import look_at
from napari_cellclf.bundles.graph import follow
from napari_cellclf.bundles.keras2 import translate
from napari_cellclf.bundles.legacy import check_legacy, read_legacy
from napari_cellclf.errors import BundleError, ModelError, UnsafeModelError


def _old(kind: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"trainable": True, "dtype": "float32", **config}}


INITIALIZER = {"class_name": "GlorotUniform", "config": {"seed": None}}
CONFIG: dict[str, Any] = {
    "class_name": "Sequential",
    "config": {
        "name": "sequential",
        "layers": [
            _old("Conv2D", name="conv", batch_input_shape=[None, 6, 6, 1], filters=2,
                 kernel_size=[3, 3], kernel_initializer=INITIALIZER, groups=1),
            _old("Activation", name="act", activation="relu"),
            _old("Flatten", name="flat", data_format="channels_last"),
            _old("Dense", name="dense", units=3, activation="softmax"),
        ],
    },
}  # fmt: skip
SHAPES = {"conv": [(3, 3, 1, 2), (2,)], "act": [], "flat": [], "dense": [(32, 3), (3,)]}


def _write(path: Path, config: Any = CONFIG, spoil: Callable[[h5py.File], Any] = bool) -> Path:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.9.0"
        file.attrs["model_config"] = config if isinstance(config, str) else json.dumps(config)
        for layer, shapes in SHAPES.items():
            names = [f"{layer}/{name}:0" for name in ("kernel", "bias")[: len(shapes)]]
            group = file.create_group(f"model_weights/{layer}")
            group.attrs["weight_names"] = np.array(names, "S") if names else np.zeros(0)
            for name, shape in zip(names, shapes, strict=True):
                group[name] = rng.normal(size=shape).astype(np.float32)
        spoil(file)
    return path


def test_its_layers_and_weights_are_found(tmp_path: Path) -> None:
    path = _write(tmp_path / "old.keras")
    checked = check_legacy(path)
    assert (checked.network.input_shape, checked.network.output_shape) == ((6, 6, 1), (3,))
    assert checked.network.ending == "softmax"
    weights = read_legacy(path, checked)
    with h5py.File(path) as file:
        expected = file["model_weights/dense/dense/kernel:0"][()]
    np.testing.assert_array_equal(weights["dense"][0], expected)
    found = look_at(path)
    assert (found.kind, found.keras_version, found.n_parameters) == ("Keras 2", "2.9.0", 119)


def test_a_file_that_says_what_it_is_stays_refused(tmp_path: Path) -> None:
    for name in ("old.h5", "old.hdf5", "OLD.H5", "old.cellclf", "old"):
        with pytest.raises(UnsafeModelError, match=r"bring new\.keras in with cellclf"):
            look_at(_write(tmp_path / name))


def _layer(**changes: Any) -> dict[str, Any]:
    config = deepcopy(CONFIG)
    config["config"]["layers"].insert(2, _old(**({"kind": "ReLU", "name": "x"} | changes)))
    return config


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (_layer(kind="Lambda", function="x"), "Lambda"),
        (_layer(kind="TFOpLambda", function="math.add"), "TFOpLambda"),
        (_layer(kind="Activation", activation="hard_sigmoid"), "computes in another way"),
        (_layer(kind="Activation", activation={"class_name": "x"}), "activation"),
        (_layer(kind="Sequential", layers=[]), "inside another"),
        (_layer(kind="BatchNormalization", renorm=True), "renorm = True"),
        (_layer(kind="DepthwiseConv2D", kernel_size=1, groups=2), "groups = 2"),
        (_layer(kind="MyLayer"), "MyLayer"),
        (_layer(evil=1), "'evil'"),
        ({"class_name": "Evil", "config": {}}, "does not describe"),
        ("[]", "does not describe"),
        ("{", "not readable JSON"),
        ("NaN", "NaN"),
    ],
)
def test_what_is_not_plain_is_refused(config: Any, told: str, tmp_path: Path) -> None:
    with pytest.raises(UnsafeModelError, match=told) as caught:
        look_at(_write(tmp_path / "old.keras", config))
    assert "\n" not in str(caught.value)


def _remove(path: str) -> Callable[[h5py.File], Any]:
    return lambda file: file.__delitem__(path)


def _other_names(file: h5py.File) -> None:
    names = np.array(["../../conv/conv/kernel:0", "dense/bias:0"], "S")
    file["model_weights/dense"].attrs["weight_names"] = names


def _other_order(file: h5py.File) -> None:
    names = np.array(["dense/bias:0", "dense/kernel:0"], "S")
    file["model_weights/dense"].attrs["weight_names"] = names


def _no_config(file: h5py.File) -> None:
    del file.attrs["model_config"]


def _linked(file: h5py.File) -> None:
    file["model_weights/more"] = h5py.ExternalLink("/etc/passwd", "/")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_remove("model_weights"), "the file holds none"),
        (_remove("model_weights/dense/dense/bias:0"), r"holds \(32, 3\)"),
        (_other_names, "holds"),
        (_other_order, r"holds \(3,\), \(32, 3\)"),
        (_no_config, "weights without a network"),
        (_linked, "link"),
    ],
)
def test_weights_that_are_not_there_are_told(
    spoil: Callable[[h5py.File], Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=told):
        look_at(_write(tmp_path / "old.keras", spoil=spoil))


def test_weights_that_are_not_finite_are_told(tmp_path: Path) -> None:
    def spoil(file: h5py.File) -> None:
        file["model_weights/dense/dense/bias:0"][1] = np.nan

    path = _write(tmp_path / "old.keras", spoil=spoil)
    with pytest.raises(BundleError, match="NaN or infinity"):
        read_legacy(path, check_legacy(path))


def _places(config: Any) -> Iterator[tuple[Any, Any]]:
    for key in list(config) if isinstance(config, dict) else range(len(config)):
        yield config, key
        if isinstance(config[key], dict | list):
            yield from _places(config[key])


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_configurations_bent_anywhere_are_told_or_plain(data: st.DataObject) -> None:
    config = deepcopy(CONFIG)
    if data.draw(st.booleans()):
        config["class_name"] = "Functional"
        config["config"] |= {"input_layers": [["conv", 0, 0]], "output_layers": [["dense", 0, 0]]}
        for layer in config["config"]["layers"]:
            layer |= {"name": layer["config"]["name"], "inbound_nodes": [[["conv", 0, 0, {}]]]}
    place, key = data.draw(st.sampled_from(list(_places(config))))
    place[key] = data.draw(
        st.sampled_from([None, True, -1, 10**30, 1.5, "x", "softmax", [], [[]], {}, {"a": [1]}])
    )
    with suppress(UnsafeModelError):
        follow(translate(config, "old.keras"), "old.keras")


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(place=st.integers(8, 9000), value=st.binary(min_size=1, max_size=8), cut=st.booleans())
def test_bent_files_are_told_or_plain(tmp_path: Path, place: int, value: bytes, cut: bool) -> None:
    whole = tmp_path / "whole.keras"
    content = (whole if whole.exists() else _write(whole)).read_bytes()
    path = tmp_path / "bent.keras"
    path.write_bytes(content[:place] + (b"" if cut else value + content[place + len(value) :]))
    try:
        checked = check_legacy(path)
        read_legacy(path, checked)
    except ModelError:
        return
    assert checked.network.n_parameters * 4 <= len(content)
