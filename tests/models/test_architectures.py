"""What every architecture must do, and what each promises for itself."""

from __future__ import annotations

import hashlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.errors import ArchitectureError, DownloadError
from napari_cellclf.models.architectures import applications
from napari_cellclf.models.architectures.base import ARCHITECTURES, Architecture
from napari_cellclf.models.architectures.registry import (
    build_network,
    canonical_name,
    default_preprocessing,
    find_architecture,
    list_architectures,
    weights_origin,
)


def _representatives() -> list[str]:
    """Name every architecture of its own, and one of each family of keras.applications."""
    families: dict[str, str] = {}
    for name, architecture in ARCHITECTURES.all().items():
        family = name
        if isinstance(architecture, applications.Application):
            family = applications._application(name).__module__
        families.setdefault(family, name)
    return list(families.values())


@pytest.fixture(autouse=True)
def _forget_networks():
    yield
    keras.utils.clear_session()


def channels(count: int, *, required: bool = True) -> list[ChannelSpec]:
    return [ChannelSpec(name=f"channel {i}", required=required) for i in range(count)]


@pytest.mark.parametrize("name", ARCHITECTURES.names())
def test_every_architecture_describes_itself(name: str) -> None:
    architecture = ARCHITECTURES.get(name)
    assert isinstance(architecture, Architecture)
    assert (architecture.name, canonical_name(name.upper())) == (name, name)
    assert architecture.description.strip()
    assert architecture.version >= 1
    size = architecture.default_size
    assert size is None or min(size) > 0
    assert json.loads(json.dumps(dict(architecture.parameters()))) == architecture.parameters()
    assert ("weights" in inspect.signature(architecture.build).parameters) == bool(
        architecture.pretrained
    )
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.float32)
    assert np.isfinite(architecture.normalization()(pixels, np.dtype(np.uint8))).all()


@pytest.mark.parametrize(
    ("name", "n_channels"),
    # A network of KerasHub needs a configuration; test_keras_hub.py builds some.
    [(name, 1 + i % 3 * 2) for i, name in enumerate(_representatives()) if name != "keras-hub"],
)
def test_every_architecture(name: str, n_channels: int) -> None:
    keras.utils.set_random_seed(0)
    side = 80  # Inception takes nothing smaller than 75 pixels.
    network = build_network(name, input_shape=(side, side, n_channels), n_classes=3)
    assert network.input_shape == (None, side, side, n_channels)
    assert network.output_shape == (None, 3)
    images = np.random.default_rng(0).normal(size=(2, side, side, n_channels)).astype("float32")
    before = np.asarray(network(images))
    assert before.dtype == np.float32
    np.testing.assert_allclose(before.sum(axis=1), 1, rtol=1e-5)
    assert (before >= 0).all()

    # A bundle keeps name, parameters and weights: the network must come back from them.
    shapes = [(weight.path, weight.shape) for weight in network.weights]
    values = network.get_weights()
    keras.utils.clear_session()
    again = build_network(name, input_shape=(side, side, n_channels), n_classes=3)
    assert [weight.shape for weight in again.weights] == [shape for _, shape in shapes]
    again.set_weights(values)
    np.testing.assert_array_equal(np.asarray(again(images)), before)


# One that is built here of each kind, and one with the head that all of keras.applications get.
@pytest.mark.parametrize("name", ["seed-cnn", "compact-cnn", "efficientnet-lite0", "mobilenetv2"])
def test_every_weight_learns(name: str) -> None:
    keras.utils.set_random_seed(0)
    network = build_network(name, input_shape=(32, 32, 2), n_classes=3)
    images = np.random.default_rng(0).normal(size=(2, 32, 32, 2)).astype("float32")
    weights = [value.copy() for value in network.get_weights()]
    network.compile(
        optimizer=keras.optimizers.SGD(0.01),
        loss="sparse_categorical_crossentropy",
        run_eagerly=True,
    )
    network.train_on_batch(images, np.array([0, 2]))
    after = network.get_weights()
    changed = [(old != new).any() for old, new in zip(weights, after, strict=True)]
    assert changed[-2]  # the last kernel
    assert sum(changed) > len(changed) // 2
    assert all(np.isfinite(value).all() for value in after)


@pytest.mark.parametrize("name", ["compact-cnn", "efficientnet-lite0", "vgg16", "mobilenetv3small"])
def test_any_size_means_any_size(name: str) -> None:
    assert find_architecture(name).any_size
    network = build_network(name, input_shape=(None, None, 2), n_classes=2)
    for height, width in ((32, 48), (65, 33)):
        assert network(np.ones((1, height, width, 2), "float32")).shape == (1, 2)


def test_seed_cnn_is_the_first_projects_network() -> None:
    network = build_network("seed-cnn", input_shape=(512, 512, 1), n_classes=4)
    assert network.count_params() == 130_075_652
    kinds = [type(layer).__name__ for layer in network.layers]
    assert kinds == [
        "Conv2D",
        "MaxPooling2D",
        "Conv2D",
        "MaxPooling2D",
        "Flatten",
        "Dense",
        "Dense",
    ]
    assert [layer.activation.__name__ for layer in network.layers if hasattr(layer, "units")] == [
        "relu",
        "softmax",
    ]


@pytest.mark.parametrize("size", [(None, None), (9, 64), (8192, 8192)])
def test_seed_cnn_refuses_sizes_it_cannot_take(size: tuple[int | None, int | None]) -> None:
    with pytest.raises(ArchitectureError, match="seed-cnn"):
        build_network("seed-cnn", input_shape=(*size, 1), n_classes=4)


def test_resnet50_has_the_second_projects_head() -> None:
    network = build_network("resnet50", input_shape=(32, 32, 1), n_classes=17)
    hidden, last = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
    assert (hidden.units, last.units) == (128, 17)
    assert hidden.activation.__name__ == "relu"


def test_hidden_layer_can_be_left_out() -> None:
    network = build_network("vgg16", input_shape=(32, 32, 3), n_classes=5)
    assert [layer.units for layer in network.layers if hasattr(layer, "units")] == [5]
    assert find_architecture("resnet50").parameters()["hidden_units"] == 128
    assert find_architecture("vgg16").parameters()["hidden_units"] is None


def test_head_parameters() -> None:
    network = build_network(
        "vgg16",
        input_shape=(32, 32, 3),
        n_classes=2,
        hidden_units=5,
        dropout=0.25,
        train_backbone=False,
    )
    assert network.get_layer("head_dropout").rate == 0.25
    assert len(network.trainable_weights) == 4  # kernel and bias of two dense layers
    for wrong in ({"dropout": 1.0}, {"dropout": "half"}, {"hidden_units": 0}):
        with pytest.raises(ArchitectureError, match=next(iter(wrong))):
            build_network("vgg16", input_shape=(32, 32, 3), n_classes=2, **wrong)


def test_listing_loads_no_keras() -> None:
    code = (
        "import sys, napari_cellclf.models.architectures.registry as r;"
        "from napari_cellclf.models.architectures.registry import canonical_name;"
        "assert 'resnet50' in r.list_architectures();"
        "assert canonical_name('VGG_16') == 'vgg16';"
        "assert not {'keras', 'tensorflow', 'pydantic'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_all_keras_applications_are_listed() -> None:
    offered = {
        name.lower() for name, item in vars(keras.applications).items() if inspect.isfunction(item)
    }
    assert offered > {"resnet50", "vgg16", "densenet121", "nasnetlarge"}
    listed = {name for name in list_architectures() if _is_application(name)}
    assert offered == listed, "add an entry point for each to pyproject.toml"
    with pytest.raises(AttributeError, match="no application named 'resnet51'"):
        applications.resnet51  # noqa: B018


def _is_application(name: str) -> bool:
    return isinstance(find_architecture(name), applications.Application)


@pytest.mark.parametrize("written", ["ResNet50", "resnet-50", "RESNET_50"])
def test_names_in_any_writing(written: str) -> None:
    assert canonical_name(written) == "resnet50"


def test_unknown_name_suggests_close_ones() -> None:
    with pytest.raises(ArchitectureError, match=r"did you mean .*resnet50"):
        build_network("resnet5", input_shape=(32, 32, 3), n_classes=2)


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"input_shape": (32, 32)}, "input_shape"),
        ({"input_shape": (32, 32, None)}, "input_shape"),
        ({"input_shape": (32, 0, 3)}, "input_shape"),
        ({"n_classes": 1}, "at least 2"),
        ({"depth": 3}, "its parameters are: hidden_units, dropout, train_backbone"),
        ({"weights": "notes.txt"}, "notes.txt"),
        ({"weights": "gone.weights.h5"}, "no file of weights"),
        ({"input_shape": (16, 16, 3)}, "resize to 224 x 224"),
    ],
)
def test_impossible_requests_say_what_to_do(request_: dict[str, object], message: str) -> None:
    wanted = {"input_shape": (32, 32, 3), "n_classes": 2} | request_
    with pytest.raises(ArchitectureError, match=message) as caught:
        build_network("vgg16", **wanted)
    assert "\n" not in str(caught.value)


def test_networks_from_scratch_take_no_weights() -> None:
    with pytest.raises(ArchitectureError, match="weights=None"):
        build_network("compact-cnn", input_shape=(32, 32, 1), n_classes=2, weights="imagenet")


@pytest.mark.parametrize(
    ("name", "size"), [("xception", 299), ("nasnetlarge", 331), ("efficientnetb7", 600)]
)
def test_default_sizes_are_keras_own(name: str, size: int) -> None:
    assert find_architecture(name).default_size == (size, size)


@pytest.mark.parametrize("name", applications.application_names())
def test_normalization_is_what_preprocess_input_does(name: str) -> None:
    normalization = applications.imagenet_normalization(name)
    pixels = np.random.default_rng(1).integers(0, 256, (4, 5, 3)).astype(np.float32)
    module = sys.modules[applications._application(name).__module__]
    theirs = module.preprocess_input(pixels[np.newaxis].copy())[0]
    ours = normalization(pixels, np.dtype("uint8"))
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_default_preprocessing() -> None:
    rgb = default_preprocessing("resnet50", channels(3))
    assert rgb.size == (224, 224)
    assert rgb.normalization.kind == "imagenet"
    assert rgb.normalization.bgr
    standard = "zero_mean_unit_variance"
    assert default_preprocessing("resnet50", channels(6)).normalization.kind == standard
    assert (
        default_preprocessing("resnet50", channels(3), weights=None).normalization.kind == standard
    )
    optional = channels(3, required=False)
    assert default_preprocessing("resnet50", optional).normalization.kind == standard
    seed = default_preprocessing("seed-cnn", channels(1))
    assert (seed.size, seed.normalization.kind) == ((512, 512), "scale_linear")
    compact = default_preprocessing("compact-cnn", channels(3))
    assert (compact.size, compact.normalization.kind) == (None, standard)


def test_weights_that_cannot_be_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def offline(*_: object, **__: object) -> None:
        from urllib.error import URLError

        raise URLError("Name or service not known")

    monkeypatch.setattr("keras.src.utils.file_utils.urlretrieve", offline)
    monkeypatch.setattr("keras.src.utils.file_utils.config.keras_home", lambda: str(tmp_path))
    with pytest.raises(DownloadError, match=r"ImageNet weights of vgg16 .*efficientnet-lite0"):
        build_network("vgg16", input_shape=(32, 32, 3), n_classes=2, weights="imagenet")


def test_weights_origin(tmp_path: Path) -> None:
    path = tmp_path / "mine.weights.h5"
    path.write_bytes(b"weights")
    assert weights_origin("vgg16", None, 3) is None
    assert (
        weights_origin("VGG16", "imagenet", 3)
        == "vgg16: ImageNet, as Keras publishes them, fetched when first used"
    )
    assert "from 3 to 6 channels" in str(weights_origin("vgg16", "imagenet", 6))
    digest = hashlib.sha256(b"weights").hexdigest()
    assert weights_origin("vgg16", path, 3) == f"vgg16: file mine.weights.h5, SHA-256 {digest}"
