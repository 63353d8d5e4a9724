"""Somebody else's network becomes a model of ours, in a process of its own."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.foreign import ForeignNetwork, look_at
from napari_cellclf.core.image import Image
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import (
    BundleError,
    CancelledError,
    InputError,
    ModelError,
    UnsafeModelError,
)
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.models import import_child, importing
from napari_cellclf.models.importing import Limits, import_network

L = keras.layers
Make = Callable[..., Path]


def _network(*end: keras.layers.Layer, side: int | None = 12) -> keras.Model:
    keras.utils.set_random_seed(0)
    begin = [keras.Input((side, side, 2)), L.Conv2D(4, 3, activation="relu")]
    return keras.Sequential([*begin, L.GlobalAveragePooling2D(), *end])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Return a network of three classes, on images of 12 x 12 pixels in two channels."""
    path = tmp_path / "theirs.keras"
    _network(L.Dense(3, activation="softmax")).save(path)
    return path


def _said(**fields: Any) -> ForeignNetwork:
    return ForeignNetwork(
        **{
            "name": "theirs",
            "classes": [{"name": name} for name in "abc"],
            "preprocessing": {"channels": [{"name": "DNA"}, {"name": "actin"}], "size": (12, 12)},
        }
        | fields
    )


IMAGES = Image(np.random.default_rng(0).integers(0, 999, (2, 12, 12), np.uint16), "CYX")


def test_a_network_is_imported_and_answers_as_it_did(file: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    described = _said(title="Theirs", licence="MIT", source="a paper", limits=("Of one lab.",))
    bundle = import_network(
        file, described, path=tmp_path / "mine.cellclf", on_progress=told.append
    )
    spec = bundle.spec
    assert (spec.name, spec.title, spec.licence) == ("theirs", "Theirs", "MIT")
    assert spec.limits == ("Of one lab.",)
    assert "a paper" in spec.training.source
    assert [step.done for step in told] == [0, 1, 2, 3, 4, 5]
    pixels = spec.input.preprocessing(IMAGES)
    expected = np.asarray(keras.saving.load_model(file)(pixels[np.newaxis]))
    answer = load_classifier(bundle.path, precision="float32").predict(IMAGES)
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)


def test_one_sigmoid_is_two_classes(tmp_path: Path) -> None:
    network = _network(L.Dense(1, activation="sigmoid"))
    network.save(tmp_path / "two.keras")
    assert look_at(tmp_path / "two.keras").n_classes == 2
    described = _said(classes=[{"name": "dead"}, {"name": "alive"}])
    bundle = import_network(tmp_path / "two.keras", described, path=tmp_path / "two.cellclf")
    pixels = bundle.spec.input.preprocessing(IMAGES)
    alive = float(np.asarray(network(pixels[np.newaxis]))[0, 0])
    answer = load_classifier(bundle.path, precision="float32").predict(IMAGES)
    np.testing.assert_allclose(answer.probabilities, [[1 - alive, alive]], atol=1e-6)


@pytest.mark.parametrize(
    ("end", "told"),
    [
        ([L.Dense(3)], r"'linear' and are no probabilities; .* keras\.layers\.Softmax"),
        ([L.Dense(3, activation="sigmoid")], "several classes or none"),
        ([L.Dense(1, activation="softmax")], "no probabilities"),
        ([L.Dense(3, activation="relu")], "'relu'"),
        ([L.Reshape((2, 2)), L.Softmax(axis=1), L.Flatten()], "no probabilities"),
    ],
)
def test_answers_that_are_no_probabilities_are_refused(
    end: list[Any], told: str, tmp_path: Path
) -> None:
    _network(*end).save(tmp_path / "m.keras")
    with pytest.raises(BundleError, match=told):
        look_at(tmp_path / "m.keras")


@pytest.mark.parametrize(
    "end",
    [
        [L.Dense(3), L.Softmax()],
        [L.Dense(3), L.Activation("softmax"), L.Activation("linear"), L.Dropout(0.1)],
        [L.Dense(3, activation="softmax"), L.Reshape((3,))],
    ],
)
def test_a_softmax_is_found_where_it_stands(end: list[Any], tmp_path: Path) -> None:
    _network(*end).save(tmp_path / "m.keras")
    assert look_at(tmp_path / "m.keras").last_activation == "softmax"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"classes": [{"name": "a"}, {"name": "b"}]}, "tells 3 classes apart, but 2 were named"),
        ({"preprocessing": {"channels": [{"name": "DNA"}]}}, "takes 2 channels, but 1 was named"),
        (
            {"preprocessing": {"channels": [{"name": "a"}, {"name": "b"}], "size": (9, 12)}},
            "12 x 12 pixels, but the preprocessing makes 9 x 12",
        ),
        (
            {"preprocessing": {"channels": [{"name": "a"}, {"name": "b"}]}},
            "12 x 12 pixels, but the preprocessing makes any size",
        ),
    ],
)
def test_what_is_said_must_fit_before_anything_is_started(
    fields: dict[str, Any], told: str, file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_run", None)
    with pytest.raises(InputError, match=told):
        import_network(file, _said(**fields), path=tmp_path / "m.cellclf")


def test_hostile_files_are_refused_before_anything_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_run", None)
    network = _network(L.Lambda(lambda x: x), L.Dense(3, activation="softmax"))
    network.save(tmp_path / "m.keras")
    with pytest.raises(UnsafeModelError, match="Lambda"):
        import_network(tmp_path / "m.keras", _said(), path=tmp_path / "m.cellclf")
    with pytest.raises(UnsafeModelError, match="is an address"):
        import_network("hf://someone/m.keras", _said())


def test_large_weights_are_read_through_before_anything_is_started(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importing, "_run", None)
    network = keras.saving.load_model(file)
    network.layers[0].set_weights([np.full((3, 3, 2, 4), np.nan), np.zeros(4)])
    network.save(file)
    with pytest.raises(BundleError, match=r"of theirs\.keras holds NaN"):
        import_network(file, _said(), path=tmp_path / "m.cellclf")


def test_a_name_of_bytes_that_are_no_text(file: Path, tmp_path: Path) -> None:
    try:
        odd = file.rename(tmp_path / os.fsdecode(b"th\xffeirs.keras"))
    except OSError:
        pytest.skip("this disk takes names of text only")
    bundle = import_network(odd, _said(), path=tmp_path / "m.cellclf")
    assert "th\\udcffeirs.keras" in bundle.spec.training.source


def test_memory_is_bounded(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not Path("/proc/self/statm").exists():
        pytest.skip("this system does not tell how much memory a process has")
    few = Limits(200 << 20, 300)
    monkeypatch.setattr(Limits, "for_network", classmethod(lambda *_: few))
    with pytest.raises(ModelError, match="memory"):
        import_network(file, _said(), path=tmp_path / "m.cellclf")
    assert not (tmp_path / "m.cellclf").exists()


def test_time_is_bounded(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    short = Limits(4 << 30, 0.2)
    monkeypatch.setattr(Limits, "for_network", classmethod(lambda *_: short))
    with pytest.raises(ModelError, match="within 0 seconds"):
        import_network(file, _said(), path=tmp_path / "m.cellclf")


def test_a_stop_leaves_nothing(file: Path, tmp_path: Path) -> None:
    steps: list[Progress] = []
    with pytest.raises(CancelledError):
        import_network(
            file,
            _said(),
            path=tmp_path / "m.cellclf",
            on_progress=steps.append,
            should_stop=lambda: len(steps) > 1,
        )
    assert sorted(path.name for path in tmp_path.iterdir()) == ["theirs.keras"]


def test_nothing_goes_on_after_the_caller_was_killed(file: Path, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from napari_cellclf.bundles.foreign import ForeignNetwork\n"
        "from napari_cellclf.models.importing import import_network\n"
        "said = ForeignNetwork.model_validate_json(sys.argv[2])\n"
        "import_network(sys.argv[1], said, path=sys.argv[3],\n"
        "    on_progress=lambda progress: print(progress.message, flush=True))\n"
    )
    private = tmp_path / "private"
    private.mkdir()
    arguments = [str(file), _said().model_dump_json(), str(tmp_path / "m.cellclf")]
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(private), "TEMP": str(private)},
    ) as caller:
        assert caller.stdout is not None
        while "starting Keras" not in caller.stdout.readline():
            assert caller.poll() is None
        caller.kill()
    # What the child has left behind is gone as soon as it has seen it.
    ends = time.monotonic() + 60
    while list(private.glob("cellclf-*")) and time.monotonic() < ends:
        time.sleep(0.05)
    assert list(private.glob("cellclf-*")) == []
    assert not (tmp_path / "m.cellclf").exists()


def test_an_older_model_is_only_replaced_when_asked(file: Path, tmp_path: Path) -> None:
    target = tmp_path / "m.cellclf"
    target.mkdir()
    with pytest.raises(BundleError, match="exists already"):
        import_network(file, _said(), path=target)


def test_the_caller_needs_no_keras(file: Path, tmp_path: Path) -> None:
    said = _said().model_dump_json()
    code = (
        "import sys\n"
        "from napari_cellclf.bundles.foreign import ForeignNetwork\n"
        "from napari_cellclf.models.importing import import_network\n"
        "described = ForeignNetwork.model_validate_json(sys.argv[2])\n"
        "import_network(sys.argv[1], described, path=sys.argv[3])\n"
        "assert not {'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)\n"
    )
    made = tmp_path / "made.cellclf"
    subprocess.run([sys.executable, "-c", code, file, said, made], check=True)
    assert ModelBundle.load(made).spec.class_names == ("a", "b", "c")


def _swap(h5: h5py.File) -> None:
    """Put the shape of the kernel of the convolution the other way round: as many numbers."""
    kernel = h5["layers/conv2d/vars/0"][()].reshape(3, 3, 4, 2)
    del h5["layers/conv2d/vars/0"]
    h5["layers/conv2d/vars/0"] = kernel


def _cut(h5: h5py.File) -> None:
    del h5["layers/dense/vars/1"]


def _cut_but_as_many(h5: h5py.File) -> None:
    _cut(h5)
    h5["layers/more/vars/0"] = np.zeros(3, np.float32)


def _lengthen(h5: h5py.File) -> None:
    del h5["layers/dense/vars/0"]
    h5["layers/dense/vars/0"] = np.zeros((5, 3), np.float32)


def _rename(h5: h5py.File) -> None:
    h5.move("layers/conv2d", "layers/conv")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_swap, "do not fit its layers"),
        (_cut, "asks for 91 weights, but its file holds 88"),
        (_cut_but_as_many, "do not fit its layers"),
        (_lengthen, "do not fit its layers"),
        (_rename, "do not fit its layers"),
    ],
)
def test_weights_of_another_network_are_refused(
    spoil: Callable[[h5py.File], None], told: str, file: Path
) -> None:
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    stream = io.BytesIO(members["model.weights.h5"])
    with h5py.File(stream, "r+") as h5:
        spoil(h5)
    # Written again, since what was deleted leaves a gap.
    whole = io.BytesIO()
    with h5py.File(stream, "r") as h5, h5py.File(whole, "w") as again:
        for name in h5:
            h5.copy(name, again)
    with zipfile.ZipFile(file, "w") as archive:
        for name, content in (members | {"model.weights.h5": whole.getvalue()}).items():
            archive.writestr(name, content)
    _check_refusal(file, told, through_child=spoil is _swap)


def _check_refusal(path: Path, told: str, through_child: bool) -> None:
    def load() -> None:
        if through_child:
            import_network(path, _said(), path=path.with_suffix(".cellclf"))
        else:
            import_child._network(path, path.name, (12, 12), n_outputs=3)

    with pytest.raises(ModelError, match=told) as caught:
        load()
    assert "\n" not in str(caught.value)
    assert not path.with_suffix(".cellclf").exists()


def _keras2(path: Path, network: keras.Model, config: dict[str, Any]) -> Path:
    """Write a network as Keras 2 wrote it."""
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"] = "2.9.0"
        file.attrs["model_config"] = json.dumps(config)
        group = file.create_group("model_weights")
        for layer in network.layers:
            inside = group.create_group(layer.name)
            names = [f"{layer.name}/{variable.name}:0" for variable in layer.weights]
            inside.attrs["weight_names"] = np.array(names, dtype="S") if names else np.zeros(0)
            for name, variable in zip(names, layer.weights, strict=True):
                inside[name] = np.asarray(variable)
    return path


def _old(kind: str, **config: Any) -> dict[str, Any]:
    return {"class_name": kind, "config": {"trainable": True, "dtype": "float32", **config}}


def _old_network(path: Path) -> keras.Model:
    """Write a functional network as Keras 2 wrote it, and return the same of Keras 3."""
    keras.utils.set_random_seed(1)
    begin = keras.Input((12, 12, 2), name="input_1")
    conv = L.Conv2D(4, 3, padding="same", name="conv")(begin)
    norm = L.BatchNormalization(name="bn", epsilon=0.01)(conv)
    leaky = L.LeakyReLU(0.2, name="leaky")(norm)
    added = L.Add(name="add")([leaky, conv])
    pooled = L.GlobalAveragePooling2D(name="gap")(added)
    network = keras.Model(begin, L.Dense(3, activation="softmax", name="out")(pooled))
    network.get_layer("bn").set_weights([np.full(4, value, "f4") for value in (2, 1, 0.1, 3)])
    init = {"class_name": "GlorotUniform", "config": {"seed": None, "dtype": "float32"}}
    layers = [
        _old("InputLayer", batch_input_shape=[None, 12, 12, 2], sparse=False, ragged=False,
             name="input_1"),
        _old("Conv2D", name="conv", filters=4, kernel_size=[3, 3], padding="same",
             activation="linear", kernel_initializer=init, groups=1),
        _old("BatchNormalization", name="bn", axis=[3], epsilon=0.01, momentum=0.99,
             gamma_regularizer={"class_name": "L2", "config": {"l2": 0.01}}),
        _old("LeakyReLU", name="leaky", alpha=0.2),
        _old("Add", name="add"),
        _old("GlobalAveragePooling2D", name="gap", data_format="channels_last", keepdims=False),
        _old("Dense", name="out", units=3, activation="softmax"),
    ]  # fmt: skip
    sources = [[], ["input_1"], ["conv"], ["bn"], ["leaky", "conv"], ["add"], ["gap"]]
    for layer, names in zip(layers, sources, strict=True):
        layer["name"] = layer["config"]["name"]
        layer["inbound_nodes"] = [[[name, 0, 0, {}] for name in names]] if names else []
    config = {
        "class_name": "Functional",
        "config": {
            "name": "model",
            "layers": layers,
            "input_layers": [["input_1", 0, 0]],
            "output_layers": [["out", 0, 0]],
        },
    }
    _keras2(path, network, config)
    return network


def _import_old(path: Path, network: keras.Model) -> None:
    """Import a network of Keras 2, which then predicts what it did."""
    bundle = import_network(path, _said(), path=path.with_suffix(".cellclf"))
    pixels = bundle.spec.input.preprocessing(IMAGES)
    expected = np.asarray(network(pixels[np.newaxis]))
    answer = load_classifier(bundle.path, precision="float32").predict(IMAGES)
    np.testing.assert_allclose(answer.probabilities, expected, atol=1e-6)


def test_a_functional_network_of_keras_2(tmp_path: Path) -> None:
    network = _old_network(tmp_path / "old.keras")
    found = look_at(tmp_path / "old.keras")
    assert (found.kind, found.keras_version, found.n_outputs) == ("Keras 2", "2.9.0", 3)
    _import_old(tmp_path / "old.keras", network)


def test_weights_of_keras_2_are_told_apart_by_name(tmp_path: Path) -> None:
    network = _old_network(tmp_path / "old.keras")
    with h5py.File(tmp_path / "old.keras", "r+") as file:
        attributes = file["model_weights/bn"].attrs
        attributes["weight_names"] = attributes["weight_names"][::-1]
    _import_old(tmp_path / "old.keras", network)


def _remove_array(h5: h5py.File) -> None:
    del h5["model_weights/out/out/bias:0"]


def _remove_layer(h5: h5py.File) -> None:
    h5.move("model_weights/bn", "model_weights/another")


def _name_twice(h5: h5py.File) -> None:
    h5["model_weights/out"].attrs["weight_names"] = np.array(["out/kernel:0"] * 2, "S")


def _name_by_numbers(h5: h5py.File) -> None:
    h5["model_weights/out"].attrs["weight_names"] = np.arange(2)


def _name_more(h5: h5py.File) -> None:
    h5["model_weights/out/out/more:0"] = np.zeros(3, np.float32)
    names = [b"out/kernel:0", b"out/bias:0", b"out/more:0"]
    h5["model_weights/out"].attrs["weight_names"] = np.array(names)


def _turn_kernel(h5: h5py.File) -> None:
    kernel = h5["model_weights/out/out/kernel:0"][()].T
    del h5["model_weights/out/out/kernel:0"]
    h5["model_weights/out/out/kernel:0"] = kernel


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_remove_array, "asks for 107 weights, but its file holds 104"),
        (_remove_layer, "do not fit its layers"),
        (_name_twice, "do not fit its layers"),
        (_name_by_numbers, "do not fit its layers"),
        (_name_more, "do not fit its layers"),
        (_turn_kernel, "do not fit its layers"),
    ],
)
def test_weights_of_another_network_of_keras_2_are_refused(
    spoil: Callable[[h5py.File], None], told: str, tmp_path: Path
) -> None:
    _old_network(tmp_path / "old.keras")
    with h5py.File(tmp_path / "old.keras", "r+") as file:
        spoil(file)
    _check_refusal(tmp_path / "old.keras", told, through_child=spoil is _turn_kernel)
