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

from napari_cellclf.bundles import keras_file
from napari_cellclf.bundles.foreign import look_at
from napari_cellclf.bundles.hdf5 import check_hdf5
from napari_cellclf.bundles.keras_file import translate
from napari_cellclf.bundles.networks import read_network
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


@pytest.fixture(autouse=True)
def _here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look into HDF5 in this process, as the process that is started for it does."""
    monkeypatch.setattr(keras_file, "look_into", lambda span, path: check_hdf5(span))


def test_what_it_says_is_found(tmp_path: Path) -> None:
    found = look_at(_write(tmp_path / "old.keras"))
    assert (found.kind, found.keras_version, found.n_parameters) == ("Keras 2", "2.9.0", 119)
    assert (found.input_shape, found.n_outputs) == ((6, 6, 1), 3)
    assert found.last_activation == "softmax"


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


def _no_config(file: h5py.File) -> None:
    del file.attrs["model_config"]


def _linked(file: h5py.File) -> None:
    file["model_weights/more"] = h5py.ExternalLink("/etc/passwd", "/")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
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
        look_at(path)


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
        read_network(translate(config, "old.keras"), "old.keras")


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
        found = look_at(path)
    except ModelError:
        return
    assert found.n_parameters * 4 <= len(content)
