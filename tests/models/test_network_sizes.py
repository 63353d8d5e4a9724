"""What the gate works out of a network without Keras, held against Keras itself."""

from __future__ import annotations

import json
import math
import zipfile
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from napari_cellclf.bundles.gate import check_network
from napari_cellclf.bundles.graph import follow
from napari_cellclf.inference.keras_engine import load_checked

L = keras.layers

LAYERS = {
    "activation": L.Activation("gelu"),
    "activity": L.ActivityRegularization(0.1),
    "alpha-dropout": L.AlphaDropout(0.2, noise_shape=(None, 1, 1, 1)),
    "average-pooling": L.AveragePooling2D((3, 2), strides=2, padding="same"),
    "average-pooling-valid": L.AveragePooling2D(3, strides=(1, 2)),
    "batch-norm": L.BatchNormalization(),
    "batch-norm-plain": L.BatchNormalization(scale=False, center=False),
    "batch-norm-rows": L.BatchNormalization(axis=1),
    "center-crop": L.CenterCrop(7, 20),
    "conv": L.Conv2D(6, (3, 5), padding="same", activation="relu"),
    "conv-valid": L.Conv2D(6, (3, 5), strides=(1, 2), use_bias=False),
    "conv-grouped": L.Conv2D(8, 3, groups=4),
    "conv-dilated": L.Conv2D(2, 3, dilation_rate=(2, 3)),
    "transposed": L.Conv2DTranspose(5, 3, strides=2),
    "transposed-same": L.Conv2DTranspose(5, 2, strides=3, padding="same"),
    "transposed-dilated": L.Conv2DTranspose(3, 3, dilation_rate=2),
    "cropping": L.Cropping2D(((1, 2), (3, 0))),
    "dense": L.Dense(5),
    "depthwise": L.DepthwiseConv2D(3, depth_multiplier=3),
    "dropout": L.Dropout(0.2),
    "elu": L.ELU(),
    "flatten": L.Flatten(),
    "gaussian-dropout": L.GaussianDropout(0.2),
    "gaussian-noise": L.GaussianNoise(0.2),
    "global-average": L.GlobalAveragePooling2D(),
    "global-max": L.GlobalMaxPooling2D(keepdims=True),
    "group-norm": L.GroupNormalization(2),
    "identity": L.Identity(),
    "layer-norm": L.LayerNormalization(),
    "layer-norm-image": L.LayerNormalization(axis=[1, 2, 3], center=False),
    "leaky": L.LeakyReLU(0.1),
    "max-pooling": L.MaxPooling2D(),
    "normalization": L.Normalization(),
    "normalization-all": L.Normalization(axis=None),
    "normalization-known": L.Normalization(mean=3.0, variance=2.0),
    "prelu": L.PReLU(),
    "prelu-shared": L.PReLU(shared_axes=[1, 2]),
    "permute": L.Permute((3, 1, 2)),
    "random-brightness": L.RandomBrightness(0.1),
    "random-contrast": L.RandomContrast(0.1),
    "random-erasing": L.RandomErasing(),
    "random-blur": L.RandomGaussianBlur(),
    "random-grayscale": L.RandomGrayscale(),
    "random-hue": L.RandomHue(0.1),
    "random-invert": L.RandomInvert(),
    "random-posterization": L.RandomPosterization(4),
    "random-saturation": L.RandomSaturation(0.1),
    "random-sharpness": L.RandomSharpness(0.1),
    "random-flip": L.RandomFlip("horizontal"),
    "random-rotation": L.RandomRotation(0.1),
    "random-translation": L.RandomTranslation(0.1, 0.1),
    "random-zoom": L.RandomZoom(0.1),
    "relu": L.ReLU(6.0),
    "rescaling": L.Rescaling(1 / 255),
    "rescaling-channels": L.Rescaling([1.0, 2.0, 3.0, 4.0], offset=[0.0, 0.0, 0.0, 1.0]),
    "reshape": L.Reshape((6, -1)),
    "resizing": L.Resizing(5, 30),
    "separable": L.SeparableConv2D(7, 3, depth_multiplier=2),
    "softmax": L.Softmax(),
    "spatial-dropout": L.SpatialDropout2D(0.2),
    "unit-norm": L.UnitNormalization(),
    "upsampling": L.UpSampling2D((2, 3)),
    "padding": L.ZeroPadding2D(((1, 0), (2, 3))),
}


def _followed(network: keras.Model) -> Any:
    return follow(json.loads(network.to_json()), "m.keras")


@pytest.mark.parametrize("kind", LAYERS)
def test_shapes_and_weights_of_every_layer(kind: str) -> None:
    config = LAYERS[kind].get_config() | {"name": "tested"}
    layer = type(LAYERS[kind]).from_config(config)
    network = keras.Sequential([keras.Input((12, 14, 4)), layer])
    found = _followed(network)
    assert found.output_shape == network.output_shape[1:]
    assert found.input_shape == (12, 14, 4)
    weights = dict(found.weights).get("tested", [])
    # Random layers keep the state of a generator, which is no weight of the file.
    kept = [variable for variable in layer.variables if "seed_generator" not in variable.path]
    assert weights == [tuple(variable.shape) for variable in kept]


def test_merging_layers_and_operations() -> None:
    begin = keras.Input((8, 8, 4), name="begin")
    first, second = L.Conv2D(4, 3, padding="same")(begin), L.ReLU()(begin)
    merged = [
        kind()([first, second])
        for kind in (L.Add, L.Average, L.Maximum, L.Minimum, L.Multiply, L.Subtract)
    ]
    joined = L.Concatenate()([*merged, first])
    moved = 2.0 * joined + 1.0 - joined / 3.0
    summed = keras.ops.mean(moved, axis=[1, 2])
    spread = keras.ops.reshape(summed, (-1, 4, 7))
    network = keras.Model(begin, keras.ops.maximum(spread, keras.ops.minimum(spread, 0.5)))
    found = _followed(network)
    assert found.output_shape == (4, 7)
    assert found.n_parameters == network.count_params()


def _nested() -> keras.Model:
    inner = keras.Sequential([keras.Input((None, None, 3)), L.Conv2D(4, 3), L.ReLU()], name="inner")
    begin = keras.Input((None, None, 3))
    twice = L.Concatenate()([inner(begin, training=False), inner(L.ReLU()(begin))])
    pooled = L.GlobalAveragePooling2D()(twice)
    return keras.Model(begin, L.Dense(2, activation="softmax")(L.Dropout(0.1)(pooled)))


def test_a_network_inside_a_network() -> None:
    found = _followed(_nested())
    assert found.n_parameters == 4 * 3 * 9 + 4 + 8 * 2 + 2
    assert (found.input_shape, found.output_shape) == ((None, None, 3), (2,))
    assert found.ending == "softmax"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("MobileNetV2", {"alpha": 0.35}),
        ("MobileNetV3Small", {}),
        ("EfficientNetB0", {}),
        ("DenseNet121", {}),
        ("ResNet50V2", {}),
        ("ConvNeXtTiny", {}),
        ("Xception", {}),
        ("NASNetMobile", {}),
        ("InceptionResNetV2", {}),
    ],
)
def test_published_architectures_have_as_many_weights(name: str, options: dict[str, Any]) -> None:
    # On the meta level only: no weight is allocated.
    with keras.StatelessScope(initialize_variables=False):
        network = getattr(keras.applications, name)(weights=None, **options)
        found = _followed(network)
        assert found.n_parameters == network.count_params()
    assert found.output_shape == (1000,)
    assert found.ending == "softmax"


@pytest.mark.parametrize("trained", [False, True])
def test_what_is_loaded_answers_as_what_was_saved(tmp_path: Path, trained: bool) -> None:
    network = _nested()
    images = np.random.default_rng(0).normal(size=(4, 9, 9, 3)).astype("float32")
    if trained:
        network.compile("adam", "sparse_categorical_crossentropy")
        network.fit(images, np.array([0, 1, 0, 1]), verbose=0)
    path = tmp_path / "m.keras"
    network.save(path)
    checked = check_network(path)
    assert checked.n_weights == network.count_params()
    assert checked.values_checked
    again = load_checked(checked.config, lambda built: built.load_weights(path), "m.keras")
    np.testing.assert_array_equal(
        np.asarray(again(images)), np.asarray(network(images, training=False))
    )


def test_weights_that_are_someone_elses_are_told(tmp_path: Path) -> None:
    from napari_cellclf.errors import BundleError

    begin, end = keras.Input((4, 6, 1)), [L.Flatten(), L.Dense(2)]
    network = keras.Sequential([begin, L.LayerNormalization(), *end])
    other = keras.Sequential([begin, L.GroupNormalization(1), *end])
    assert [w.shape for w in network.weights] == [w.shape for w in other.weights]
    contents = {}
    for name, one in (("a", network), ("b", other)):
        one.save(tmp_path / f"{name}.keras")
        with zipfile.ZipFile(tmp_path / f"{name}.keras") as archive:
            contents[name] = {member: archive.read(member) for member in archive.namelist()}
    mixed = tmp_path / "mixed.keras"
    with zipfile.ZipFile(mixed, "w") as archive:
        for member, content in contents["a"].items():
            archive.writestr(member, contents["b"][member] if "weights" in member else content)
    checked = check_network(mixed)
    with pytest.raises(BundleError, match=r"cannot build the network of mixed\.keras") as caught:
        load_checked(checked.config, lambda built: built.load_weights(mixed), "mixed.keras")
    assert "\n" not in str(caught.value)


def test_sizes_are_no_estimates() -> None:
    network = keras.Sequential([keras.Input((16, 16, 2)), L.Conv2D(3, 3), L.Flatten(), L.Dense(4)])
    found = _followed(network)
    assert [math.prod(shape) for _, shapes in found.weights for shape in shapes] == [54, 3, 2352, 4]
