"""Every layer that a bundle may hold computes in ONNX Runtime what it computes in Keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers

from napari_cellclf.bundles.allowed_layers import ALLOWED
from napari_cellclf.errors import ExportError
from napari_cellclf.models.export.onnx.activations import _ACTIVATIONS
from napari_cellclf.models.export.onnx.convert import to_onnx
from napari_cellclf.models.export.onnx.layer_graph import LAYERS, OPERATIONS

TOLERANCE = 1e-5
FEW = settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

Difference = Callable[..., float]


@pytest.fixture(autouse=True, scope="module")
def _forget_networks():
    yield
    keras.utils.clear_session()


def images(shape: tuple[int, ...] = (9, 12, 4), seed: int = 0, count: int = 2) -> Any:
    return np.random.default_rng(seed).normal(size=(count, *shape)).astype(np.float32)


def network(*inner: Any, shape: tuple[int | None, ...] = (None, None, 4)) -> Any:
    """A network of these layers with weights of all kinds, none of them zero or one."""
    inputs = keras.Input(shape, name="image")
    value = inputs
    for layer in inner:
        value = layer(value)
    made = keras.Model(inputs, value)
    randomize(made)
    return made


def randomize(made: Any, seed: int = 1) -> None:
    rng = np.random.default_rng(seed)
    for variable in made.weights:
        if np.issubdtype(np.dtype(variable.dtype), np.floating):
            low, high = (0.5, 1.5) if "variance" in variable.name else (-0.5, 0.5)
            variable.assign(rng.uniform(low, high, variable.shape))


# Each stands between two convolutions, which want the channels second, and where they are last.
PLAIN: dict[str, list[Callable[[], Any]]] = {
    "Activation": [lambda: layers.Activation("tanh")],
    "ELU": [lambda: layers.ELU(0.7)],
    "LeakyReLU": [lambda: layers.LeakyReLU(0.3)],
    "PReLU": [lambda: layers.PReLU(shared_axes=[1, 2])],
    "ReLU": [
        lambda: layers.ReLU(),
        lambda: layers.ReLU(max_value=0.4),
        lambda: layers.ReLU(negative_slope=0.2),
        lambda: layers.ReLU(max_value=1.0, negative_slope=0.1, threshold=0.2),
    ],
    "Softmax": [lambda: layers.Softmax(), lambda: layers.Softmax(axis=1)],
    "Conv2D": [lambda: layers.Conv2D(6, 3, groups=2, activation="relu")],
    "Conv2DTranspose": [lambda: layers.Conv2DTranspose(3, 3, strides=2)],
    "Dense": [lambda: layers.Dense(5, activation="gelu"), lambda: layers.Dense(5, use_bias=False)],
    "DepthwiseConv2D": [lambda: layers.DepthwiseConv2D(3, depth_multiplier=2)],
    "SeparableConv2D": [lambda: layers.SeparableConv2D(5, 3, depth_multiplier=2)],
    "AveragePooling2D": [lambda: layers.AveragePooling2D(2)],
    "GlobalAveragePooling2D": [lambda: layers.GlobalAveragePooling2D(keepdims=True)],
    "GlobalMaxPooling2D": [lambda: layers.GlobalMaxPooling2D(keepdims=True)],
    "MaxPooling2D": [lambda: layers.MaxPooling2D((2, 3), strides=(1, 2))],
    "BatchNormalization": [
        lambda: layers.BatchNormalization(),
        lambda: layers.BatchNormalization(center=False, scale=False, epsilon=0.1),
    ],
    "GroupNormalization": [
        lambda: layers.GroupNormalization(2),
        lambda: layers.GroupNormalization(-1, scale=False),
    ],
    "LayerNormalization": [lambda: layers.LayerNormalization()],
    "Normalization": [
        lambda: layers.Normalization(mean=[1.0, 2.0, 3.0, 4.0], variance=[1.0, 4.0, 9.0, 0.25]),
        lambda: layers.Normalization(mean=0.3, variance=4.0, axis=None, invert=True),
    ],
    "Rescaling": [
        lambda: layers.Rescaling(3.0, -0.5),
        lambda: layers.Rescaling([1.0, 2.0, 3.0, 4.0], [0.0, 0.1, 0.2, 0.3]),
    ],
    "UnitNormalization": [
        lambda: layers.UnitNormalization(),
        lambda: layers.UnitNormalization(axis=1),
    ],
    "Cropping2D": [
        lambda: layers.Cropping2D(((1, 0), (0, 2))),
        lambda: layers.Cropping2D(((0, 1), (2, 1))),
    ],
    "Permute": [lambda: layers.Permute((2, 1, 3))],
    "Resizing": [
        lambda: layers.Resizing(5, 7),
        lambda: layers.Resizing(20, 13),
        lambda: layers.Resizing(7, 20, interpolation="nearest"),
    ],
    "UpSampling2D": [
        lambda: layers.UpSampling2D((2, 3)),
        lambda: layers.UpSampling2D((2, 3), interpolation="bilinear"),
    ],
    "ZeroPadding2D": [lambda: layers.ZeroPadding2D(((1, 0), (2, 3)))],
    "ActivityRegularization": [lambda: layers.ActivityRegularization(0.1)],
    "AlphaDropout": [lambda: layers.AlphaDropout(0.5)],
    "Dropout": [lambda: layers.Dropout(0.5)],
    "GaussianDropout": [lambda: layers.GaussianDropout(0.5)],
    "GaussianNoise": [lambda: layers.GaussianNoise(0.5)],
    "Identity": [lambda: layers.Identity()],
    "SpatialDropout2D": [lambda: layers.SpatialDropout2D(0.5)],
    "SpectralNormalization": [lambda: layers.SpectralNormalization(layers.Conv2D(3, 3))],
}
CASES = [
    pytest.param(make, id=f"{name}-{number}")
    for name, made in PLAIN.items()
    for number, make in enumerate(made)
]


@pytest.mark.parametrize("make", CASES)
def test_a_layer_before_a_dense_one(make: Callable[[], Any], difference: Difference) -> None:
    assert difference(network(make(), layers.Dense(3)), images()) < TOLERANCE


@pytest.mark.parametrize("make", CASES)
def test_a_layer_between_convolutions(make: Callable[[], Any], difference: Difference) -> None:
    before, after = layers.Conv2D(4, 1), layers.Conv2D(3, 1)
    assert difference(network(before, make(), after), images()) < TOLERANCE


FIXED: dict[str, Callable[[], list[Any]]] = {
    "Flatten": lambda: [layers.Conv2D(3, 2), layers.Flatten(), layers.Dense(4)],
    "Reshape": lambda: [layers.Conv2D(4, 1), layers.Reshape((12, -1, 2)), layers.Conv2D(2, 1)],
    "RepeatVector": lambda: [layers.GlobalMaxPooling2D(), layers.RepeatVector(3), layers.Dense(2)],
    "CenterCrop": lambda: [layers.CenterCrop(4, 5), layers.Conv2D(2, 1)],
    "LayerNormalization": lambda: [layers.LayerNormalization(axis=[1, 2, 3])],
    "PReLU": lambda: [layers.PReLU(), layers.Conv2D(2, 1), layers.PReLU(shared_axes=[2])],
    "BatchNormalization": lambda: [
        layers.GlobalAveragePooling2D(),
        layers.BatchNormalization(),
        layers.GroupNormalization(2),
    ],
    "squeeze and excite": lambda: [
        layers.GlobalAveragePooling2D(),
        layers.Reshape((1, 1, 4)),
        layers.Conv2D(2, 1, activation="silu"),
        layers.Conv2D(4, 1, activation="sigmoid"),
    ],
}


@pytest.mark.parametrize("name", FIXED)
def test_layers_that_need_a_size(name: str, difference: Difference) -> None:
    assert difference(network(*FIXED[name](), shape=(9, 12, 4)), images()) < TOLERANCE


@pytest.mark.parametrize("name", sorted(name for name in LAYERS if name.startswith("Random")))
def test_augmentation_does_nothing_when_predicting(name: str, difference: Difference) -> None:
    own = {"RandomErasing": (), "RandomFlip": (), "RandomPosterization": (4,)}
    strength = (0.2, 0.2) if name == "RandomTranslation" else (0.2,)
    layer = getattr(layers, name)(*own.get(name, strength))
    made = network(layers.Conv2D(3, 1), layer, layers.Conv2D(2, 1))
    assert difference(made, images()) < TOLERANCE


def test_all_that_a_bundle_may_hold_has_operators() -> None:
    kinds = ("keras.layers", "keras.src.applications.inception_resnet_v2")
    allowed = {name for name, module in ALLOWED if module in kinds}
    assert allowed - set(LAYERS) == {"InputLayer"}
    allowed = {name for name, module in ALLOWED if module == "keras.src.ops.numpy"}
    # Roots are of our own networks only, which no list of layers describes.
    assert set(OPERATIONS) - {"Sqrt"} == allowed


@pytest.mark.parametrize("name", sorted(_ACTIVATIONS))
@pytest.mark.parametrize("last", [False, True])
def test_activations(name: str, last: bool, difference: Difference) -> None:
    inner = [layers.Conv2D(4, 1)]
    inner += [layers.LayerNormalization()] if last else []
    assert difference(network(*inner, layers.Activation(name)), 3 * images()) < TOLERANCE


def test_every_activation_of_keras_is_written_or_refused_by_name() -> None:
    known = set(keras.src.activations.ALL_OBJECTS_DICT) - {"swish", "hard_swish"}
    for name in sorted(known - set(_ACTIVATIONS)):
        made = network(layers.Activation(name))
        with pytest.raises(ExportError, match=name):
            to_onnx(made)
    assert known - set(_ACTIVATIONS) == {"glu", "sparsemax", "threshold"}


SIDES = st.integers(5, 17)
WINDOWS = st.integers(1, 4)


@st.composite
def windows(draw: Any, dilated: bool = True) -> dict[str, Any]:
    """Kernel, strides, dilation and padding, as Keras allows them together."""
    strides = draw(st.integers(1, 3))
    dilation = draw(st.integers(1, 2)) if strides == 1 and dilated else 1
    kernel = (draw(WINDOWS), draw(WINDOWS))
    padding = draw(st.sampled_from(["same", "valid"]))
    return {"kernel": kernel, "strides": strides, "dilation": dilation, "padding": padding}


@FEW
@given(window=windows(), size=st.tuples(SIDES, SIDES), known=st.booleans(), kind=st.integers(0, 2))
def test_convolutions_of_any_window(
    window: dict[str, Any],
    size: tuple[int, int],
    known: bool,
    kind: int,
    difference: Difference,
) -> None:
    options = {key: window[key] for key in ("strides", "padding")}
    options |= {"kernel_size": window["kernel"], "dilation_rate": window["dilation"]}
    if min(size) <= 2 * max(window["kernel"]):
        options["padding"] = "same"
    layer = (
        layers.Conv2D(3, **options),
        layers.DepthwiseConv2D(**options),
        layers.SeparableConv2D(3, **options),
    )[kind]
    made = network(layer, shape=(*(size if known else (None, None)), 4))
    assert difference(made, images((*size, 4))) < TOLERANCE


@FEW
@given(window=windows(dilated=False), size=st.tuples(SIDES, SIDES), known=st.booleans())
def test_pooling_of_any_window(
    window: dict[str, Any], size: tuple[int, int], known: bool, difference: Difference
) -> None:
    options = {"pool_size": window["kernel"], "strides": window["strides"]}
    inner = [
        layers.MaxPooling2D(**options, padding=window["padding"]),
        layers.AveragePooling2D(**options, padding="same"),
    ]
    made = network(*inner, shape=(*(size if known else (None, None)), 4))
    open_pads = not known and window["strides"] > 1 and max(window["kernel"]) > 1
    if open_pads and min(window["kernel"]) < window["strides"]:
        with pytest.raises(ExportError, match="strides above the window"):
            to_onnx(made)
    else:
        assert difference(made, images((*size, 4))) < TOLERANCE


@FEW
@given(
    kernel=st.tuples(WINDOWS, WINDOWS),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.sampled_from(["same", "valid"]),
    size=st.tuples(SIDES, SIDES),
)
def test_transposed_convolutions_of_any_window(
    kernel: Any, strides: Any, padding: str, size: Any, difference: Difference
) -> None:
    layer = layers.Conv2DTranspose(3, kernel, strides=strides, padding=padding)
    assert difference(network(layer), images((*size, 4))) < TOLERANCE


MERGERS = [
    layers.Add,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
    layers.Multiply,
    layers.Concatenate,
]


@pytest.mark.parametrize("merger", [*MERGERS, layers.Subtract])
@pytest.mark.parametrize("last", [False, True])
def test_merging(merger: Any, last: bool, difference: Difference) -> None:
    inputs = keras.Input((None, None, 4))
    parts = [layers.Conv2D(4, 1)(inputs), layers.Dense(4)(inputs)]
    parts += [inputs] if merger in MERGERS else []
    if last:
        parts = [layers.LayerNormalization()(part) for part in parts]
    made = keras.Model(inputs, layers.Conv2D(2, 1)(merger()(parts)))
    randomize(made)
    assert difference(made, images()) < TOLERANCE


@pytest.mark.parametrize("merger", [layers.Add, layers.Multiply, layers.Maximum])
def test_merging_of_an_image_and_a_vector(merger: Any, difference: Difference) -> None:
    inputs = keras.Input((None, None, 4))
    image = layers.Conv2D(4, 1)(inputs)
    vector = layers.GlobalAveragePooling2D()(inputs)
    made = keras.Model(inputs, merger()([image, vector]))
    randomize(made)
    assert difference(made, images()) < TOLERANCE


def test_operations(difference: Difference) -> None:
    inputs = keras.Input((None, None, 4))
    image = layers.Conv2D(4, 1)(inputs)
    value = (image + 3.0) * (1.0 / 6.0) - keras.ops.divide(inputs, 2.0)
    value = 1.0 - keras.ops.maximum(value, keras.ops.minimum(image, inputs))
    vector = keras.ops.mean(value, axis=(1, 2))
    scaled = value * keras.ops.reshape(vector, (-1, 1, 1, 4))
    made = keras.Model(inputs, layers.Conv2D(2, 1)(scaled))
    randomize(made)
    assert difference(made, images()) < TOLERANCE


def test_networks_in_networks_and_layers_used_twice(difference: Difference) -> None:
    inner = keras.Sequential(
        [keras.Input((None, None, 4)), layers.Conv2D(4, 3, padding="same"), layers.ReLU()]
    )
    shared = layers.Conv2D(4, 1, name="shared")
    inputs = keras.Input((None, None, 4), name="image")
    once = inner(shared(inputs))
    twice = inner(shared(once))
    nested = keras.Model(inputs, layers.Add()([once, twice]), name="nested")
    outer = keras.Input((None, None, 4), name="image")
    answer = layers.GlobalAveragePooling2D()(nested(nested(outer)))
    made = keras.Model(outer, layers.Dense(3, activation="softmax", name="probabilities")(answer))
    randomize(made)
    assert difference(made, images()) < TOLERANCE
    # The weights of what is used four times are there once.
    assert to_onnx(made).count(b"nested/shared/kernel") == 1 + 4


def test_sequential(difference: Difference) -> None:
    made = keras.Sequential(
        [keras.Input((9, 12, 4)), layers.Conv2D(3, 3), layers.Flatten(), layers.Dense(2, "softmax")]
    )
    assert difference(made, images()) < TOLERANCE


@pytest.mark.parametrize(
    ("inner", "shape"),
    [
        ([layers.UpSampling2D(2, interpolation="bicubic")], (None, None, 4)),
        ([layers.Resizing(4, 4, antialias=True)], (None, None, 4)),
        ([layers.CenterCrop(4, 4)], (None, None, 4)),
        ([layers.CenterCrop(20, 20)], (9, 12, 4)),
        ([layers.BatchNormalization(axis=1)], (9, 12, 4)),
        ([layers.GroupNormalization(3, axis=1)], (9, 12, 4)),
        ([layers.LayerNormalization(axis=1)], (9, 12, 4)),
    ],
)
def test_what_cannot_be_written_is_refused_by_name(inner: list[Any], shape: Any) -> None:
    with pytest.raises(ExportError, match=type(inner[-1]).__name__) as refusal:
        to_onnx(network(*inner, shape=shape))
    assert inner[-1].name in str(refusal.value)


def test_dot_is_refused_by_name() -> None:
    inputs = keras.Input((9, 12, 4))
    vector = layers.GlobalAveragePooling2D()(inputs)
    made = keras.Model(inputs, layers.Dot(1)([vector, vector]))
    with pytest.raises(ExportError, match="Dot"):
        to_onnx(made)
