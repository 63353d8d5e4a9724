"""A real network through a bundle and back, and all that may be wrong with it."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellclf.bundles.arrays import dump_array, dump_weights
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.schema import ArchitectureSpec, TrainingSpec, seal_of
from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import (
    AxesError,
    BundleError,
    IntegrityError,
    ModelNotFoundError,
    SelfTestError,
    UnsafeModelError,
)
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.load import load_classifier

Save = Callable[..., ModelBundle]
MakeImage = Callable[..., Image]


def _replace(bundle: ModelBundle, member: str, content: bytes, **changes: Any) -> Path:
    """Change a file of a bundle together with its hash, and seal the description anew."""
    (bundle.path / member).write_bytes(content)
    described = json.loads((bundle.path / "bundle.json").read_text()) | changes
    described["files"][member] = hashlib.sha256(content).hexdigest()
    described["spec_sha256"] = seal_of(described)
    (bundle.path / "bundle.json").write_text(json.dumps(described))
    return bundle.path


def test_what_is_saved_is_what_is_loaded(
    save: Save, tmp_path: Path, network: Any, make_image: MakeImage
) -> None:
    bundle = save(
        tmp_path / "tiny.cellclf",
        classes=[ClassSpec(name="060", value=60, unit="minute"), "b", "c"],
        architecture=ArchitectureSpec(name="compact-cnn", parameters={"widths": [8]}),
        training=TrainingSpec(source="made up", versions={"numpy": "2"}),
        title="Tiny",
        limits=("Knows nothing.",),
    )
    assert bundle.spec.name == "tiny"
    assert bundle.spec.architecture.n_parameters == network.count_params()
    assert bundle.spec.input.minimum_size == (4, 4)
    assert {"numpy", "keras", "backend", "napari-cellclf"} <= set(bundle.spec.training.versions)
    image = make_image(5)
    direct = np.asarray(network(bundle.spec.input.preprocessing(image)[np.newaxis]))
    loaded = load_classifier(tmp_path / "tiny.cellclf", engine="keras")
    assert loaded.classes == ("060", "b", "c")
    assert loaded.device.startswith("keras ")
    np.testing.assert_allclose(loaded.predict(image).probabilities, direct, atol=1e-6)


def test_folder_and_zip_answer_the_same(
    save: Save, tmp_path: Path, classifier: Classifier, make_image: MakeImage
) -> None:
    packed = save(tmp_path / "tiny.cellclf", as_zip=True)
    assert packed.path.is_file()
    image = make_image(6)
    found = load_classifier(packed.path, precision="float32").predict(image).probabilities
    np.testing.assert_allclose(found, classifier.predict(image).probabilities, atol=1e-7)


def test_no_optimizer_is_saved(save: Save, tmp_path: Path, make_image: MakeImage) -> None:
    import keras

    keras.utils.set_random_seed(1)
    network = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    network.compile("adam", "categorical_crossentropy")
    network.fit(np.ones((4, 8, 8, 1)), np.eye(2)[[0, 1, 0, 0]], verbose=0)
    bundle = save(
        tmp_path / "fixed.cellclf",
        network=network,
        preprocessing=Preprocessing(channels=(ChannelSpec(name="DNA"),), size=(8, 8)),
        classes=["a", "b"],
        test_image=Image(np.arange(400.0).reshape(20, 20), "YX"),
    )
    assert "adam" not in (bundle.path / "bundle.json").read_text("utf-8").lower()
    assert sum(array.size for array in bundle.weights().values()) == network.count_params()
    assert bundle.spec.input.minimum_size is None
    assert network.compiled


def test_by_name_from_the_users_folder(
    save: Save, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path))
    save(tmp_path / "mine.cellclf", name="named-otherwise")
    assert load_classifier("mine").name == "named-otherwise"
    with pytest.raises(ModelNotFoundError, match="models by name: mine"):
        load_classifier("yours")


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"classes": ["a", "b"]}, BundleError, "names 2 classes"),
        ({"classes": ["a", "a", "b"]}, BundleError, "named twice"),
        ({"colour": "red"}, BundleError, "colour"),
        ({"temperature": -1}, BundleError, "temperature"),
        ({"name": "no spaces please"}, BundleError, "name"),
    ],
    ids=str,
)
def test_what_cannot_be_saved(
    save: Save, tmp_path: Path, fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        save(tmp_path / "tiny.cellclf", **fields)
    assert list(tmp_path.iterdir()) == []


def test_a_stack_is_no_test_image(save: Save, tmp_path: Path) -> None:
    with pytest.raises(AxesError, match="2 planes"):
        save(tmp_path / "t.cellclf", test_image=Image(np.zeros((2, 2, 9, 9)), "TCYX"))


def test_a_network_of_a_fixed_size_needs_that_size(
    save: Save, tmp_path: Path, make_image: MakeImage
) -> None:
    import keras

    network = keras.Sequential(
        [
            keras.Input((16, 16, 2)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    with pytest.raises(BundleError, match="takes images of 16 x 16 pixels only"):
        save(tmp_path / "t.cellclf", network=network, test_image=make_image(0, (16, 16)))


def test_a_network_without_softmax_is_refused(save: Save, tmp_path: Path) -> None:
    import keras

    network = keras.Sequential(
        [keras.Input((None, None, 2)), keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(3)]
    )
    with pytest.raises(SelfTestError, match="must end in a softmax"):
        save(tmp_path / "t.cellclf", network=network)
    assert list(tmp_path.iterdir()) == []


def test_a_custom_layer_cannot_be_saved(save: Save, tmp_path: Path) -> None:
    import keras

    network = keras.Sequential(
        [
            keras.Input((None, None, 2)),
            keras.layers.Lambda(lambda x: x * 2, output_shape=lambda s: s),
            keras.layers.GlobalMaxPooling2D(),
            keras.layers.Dense(3, activation="softmax"),
        ]
    )
    with pytest.raises(UnsafeModelError, match="Lambda"):
        save(tmp_path / "t.cellclf", network=network)


def test_a_wrong_answer_is_noticed_unless_nobody_asks(save: Save, tmp_path: Path) -> None:
    bundle = save(tmp_path / "t.cellclf")
    wrong = np.roll(bundle.test_output, 1, axis=1)
    path = _replace(bundle, "test_output.npy", dump_array(wrong))
    with pytest.raises(SelfTestError, match="away from the stored answer"):
        load_classifier(path)
    assert load_classifier(path, self_test=False).classes == ("a", "b", "c")


@pytest.mark.parametrize(
    ("member", "content", "told"),
    [
        ("test_input.npy", b"\x80\x04N.", "not a plain array"),
        ("test_output.npy", dump_array(np.full((1, 3), np.nan)), "is not finite"),
        ("weights.safetensors", b"<html>", "not a complete safetensors file"),
    ],
)
def test_a_bad_file_is_told_before_keras_is_imported(
    member: str, content: bytes, told: str, save: Save, tmp_path: Path
) -> None:
    path = _replace(save(tmp_path / "t.cellclf"), member, content)
    code = (
        "import sys\n"
        "from napari_cellclf.errors import ModelError\n"
        "from napari_cellclf.inference.load import load_classifier\n"
        "try:\n"
        f"    load_classifier({str(path)!r}, engine='keras', own_process=False)\n"
        "except ModelError as error:\n"
        "    print(error, 'keras' in sys.modules)\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert told in result.stdout
    assert result.stdout.endswith(" False\n")


def test_an_answer_of_another_shape_is_noticed(save: Save, tmp_path: Path) -> None:
    bundle = save(tmp_path / "t.cellclf")
    path = _replace(bundle, "test_output.npy", dump_array(np.ones((1, 2), np.float32) / 2))
    with pytest.raises(SelfTestError, match="stored is"):
        load_classifier(path)


def test_a_test_image_without_its_channels_is_noticed(save: Save, tmp_path: Path) -> None:
    bundle = save(tmp_path / "t.cellclf")
    path = _replace(
        bundle,
        "test_output.npy",
        dump_array(bundle.test_output),
        test_image={"axes": "CYX", "channels": ["x", "y"]},
    )
    with pytest.raises(SelfTestError, match="cannot prepare its own test image"):
        load_classifier(path)


@pytest.mark.parametrize(
    ("engine", "message"),
    [
        ("keras", "names 4 classes; write the bundle again"),
        ("onnxruntime", r"gives arrays of shape \(None, 3\), but there are 4 classes"),
    ],
)
def test_classes_that_the_network_does_not_have(
    save: Save, tmp_path: Path, engine: Any, message: str
) -> None:
    bundle = save(tmp_path / "t.cellclf")
    four = [{"name": name} for name in "abcd"]
    path = _replace(bundle, "test_output.npy", dump_array(bundle.test_output), classes=four)
    with pytest.raises(BundleError, match=message):
        load_classifier(path, engine=engine)


def test_a_tampered_network_is_noticed(save: Save, tmp_path: Path) -> None:
    bundle = save(tmp_path / "t.cellclf")
    file = bundle.path / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-50] ^= 1
    file.write_bytes(content)
    with pytest.raises(IntegrityError):
        load_classifier(bundle.path)


@pytest.mark.parametrize("registered", [True, False])
def test_a_small_file_cannot_ask_for_a_large_network(
    save: Save, tmp_path: Path, registered: bool
) -> None:
    import keras

    bundle = save(tmp_path / "t.cellclf")
    if registered:
        # 158 million weights
        changes: dict[str, Any] = {
            "architecture": {
                "name": "resnet50",
                "parameters": {"hidden_units": 65_536, "train_backbone": True},
                "input_shape": (None, None, 2),
            }
        }
    else:
        layers = [
            keras.layers.InputLayer(batch_shape=(None, None, None, 2), name="in"),
            keras.layers.GlobalAveragePooling2D(name="average"),
            *(keras.layers.Dense(60_000, name=f"d{i}") for i in range(2)),
            keras.layers.Dense(3, activation="softmax", name="last"),
        ]
        described = [keras.saving.serialize_keras_object(layer) for layer in layers]
        listed = {"module": "keras", "class_name": "Sequential", "config": {"layers": described}}
        changes = {"architecture": {"name": "imported", "layers": listed}}
    path = _replace(bundle, "test_output.npy", dump_array(bundle.test_output), **changes)
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(BundleError, match="asks for weights") as caught:
        load_classifier(path, engine="keras")
    assert "\n" not in str(caught.value)
    # its weights would take gigabytes; kilobytes on Linux, bytes on macOS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5e5
    # and nothing of it is left for the next network of this thread to allocate
    following = save(tmp_path / "next.cellclf").path
    assert len(load_classifier(following, engine="keras").classes) == 3


def test_weights_of_another_network_are_noticed(save: Save, tmp_path: Path) -> None:
    bundle = save(tmp_path / "t.cellclf")
    weights = bundle.weights()
    wider = next(key for key, array in weights.items() if array.ndim == 4)
    weights[wider] = np.concatenate([weights[wider]] * 2, axis=-1)
    unstated = bundle.spec.architecture.model_copy(update={"n_parameters": None})
    path = _replace(
        bundle, "weights.safetensors", dump_weights(weights), architecture=unstated.model_dump()
    )
    with pytest.raises(BundleError, match=f"asks for weights '{wider}'") as caught:
        load_classifier(path, engine="keras")
    assert "\n" not in str(caught.value)


def test_what_is_wrong_with_a_file_is_said_before_keras_is_imported(
    bundle: ModelBundle, tmp_path: Path
) -> None:
    (tmp_path / "broken.cellclf").write_bytes(b"<html>")
    code = (
        "import sys, napari_cellclf as cc\n"
        "from napari_cellclf.errors import BundleError\n"
        "try:\n    cc.load_classifier('broken.cellclf')\n"
        "except BundleError as error:\n"
        "    print('truncated' in str(error), 'keras' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout.split() == ["True", "False"]
