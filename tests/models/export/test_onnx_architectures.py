"""Every architecture computes in ONNX Runtime what it computes in Keras."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import onnx
import pytest

from napari_cellclf.core.normalization import ImageNet
from napari_cellclf.errors import ExportError
from napari_cellclf.models.architectures.registry import build_network, list_architectures
from napari_cellclf.models.export.onnx import convert
from napari_cellclf.models.export.onnx.convert import OPSET, ClassifierSteps, to_onnx

Difference = Callable[..., float]

#: One of each family, the smallest; the others repeat their blocks more often.
SMALL = [
    "compact-cnn",
    "seed-cnn",
    "efficientnet-lite0",
    "convnexttiny",
    "densenet121",
    "efficientnetb0",
    "efficientnetv2b0",
    "inceptionv3",
    "inceptionresnetv2",
    "mobilenet",
    "mobilenetv2",
    "mobilenetv3small",
    "nasnetmobile",
    "resnet50",
    "resnet50v2",
    "vgg16",
    "xception",
]
SIDES = {"inceptionv3": 75, "inceptionresnetv2": 75, "xception": 75}


@pytest.fixture(autouse=True)
def _forget_networks():
    yield
    keras.utils.clear_session()


def images(side: int, channels: int = 2, count: int = 2) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, side, side, channels)).astype(np.float32)


@pytest.mark.parametrize("name", SMALL)
def test_architectures(name: str, difference: Difference) -> None:
    keras.utils.set_random_seed(0)
    side = SIDES.get(name, 32)
    network = build_network(name, input_shape=(side, side, 2), n_classes=3)
    assert difference(network, images(side)) < 1e-4


def family(name: str) -> str:
    """Return its first letters without the number that tells its sizes apart."""
    return name.rstrip("0123456789")[:6]


def test_all_architectures_are_of_families_that_are_tested() -> None:
    # Which network keras-hub makes is a parameter of it; test_keras_hub.py has some of them.
    ours = set(list_architectures()) - {"keras-hub"}
    assert set(map(family, ours)) == set(map(family, SMALL))


@pytest.mark.parametrize("normalization", ["batch", "group", "none"])
@pytest.mark.parametrize("members", [1, 3])
def test_compact_networks_of_any_size(
    normalization: str, members: int, difference: Difference
) -> None:
    keras.utils.set_random_seed(0)
    network = build_network(
        "compact-cnn",
        input_shape=(None, None, 2),
        n_classes=3,
        normalization=normalization,
        members=members,
    )
    for side in (32, 45, 70):
        assert difference(network, images(side)) < 1e-5
    assert difference(network, images(40, count=5), input_size=(40, 40)) < 1e-5


def test_the_file_is_plain_and_says_what_it_is() -> None:
    network = build_network("compact-cnn", input_shape=(None, None, 2), n_classes=3)
    model = onnx.load_from_string(to_onnx(network, metadata={"cellclf.name": "mine"}))
    onnx.checker.check_model(model, full_check=True)
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]
    assert {entry.key: entry.value for entry in model.metadata_props} == {"cellclf.name": "mine"}
    (taken,), (given,) = model.graph.input, model.graph.output
    sides = [side.dim_param or side.dim_value for side in taken.type.tensor_type.shape.dim]
    assert (taken.name, sides) == ("image", ["batch", "height", "width", 2])
    sides = [side.dim_param or side.dim_value for side in given.type.tensor_type.shape.dim]
    assert (given.name, sides) == ("probabilities", ["batch", 3])
    assert "conv1/kernel" in {constant.name for constant in model.graph.initializer}


@pytest.mark.parametrize("name", ["efficientnet-lite0", "resnet50", "mobilenetv2"])
def test_an_image_is_turned_once(name: str) -> None:
    network = build_network(name, input_shape=(32, 32, 3), n_classes=3)
    nodes = onnx.load_from_string(to_onnx(network)).graph.node
    assert [node.op_type for node in nodes].count("Transpose") == 1


def test_a_size_that_the_network_does_not_take_is_refused() -> None:
    network = build_network("seed-cnn", input_shape=(32, 32, 1), n_classes=2)
    with pytest.raises(ExportError, match="32 x 32"):
        to_onnx(network, input_size=(40, 40))


def test_weights_above_the_limit_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(convert, "MAX_BYTES", 1000)
    network = build_network("seed-cnn", input_shape=(32, 32, 1), n_classes=2)
    with pytest.raises(ExportError, match="at most 2 GiB"):
        to_onnx(network)


@pytest.mark.parametrize("views", ["one", "flips", "all"])
@pytest.mark.parametrize(
    ("temperature", "offsets"), [(1.0, ()), (2.5, ()), (1.0, (0.5, -1, 0)), (0.4, (0.5, -1, 0))]
)
def test_views_and_calibration_are_those_of_the_classifier(
    views: str,
    temperature: float,
    offsets: tuple[float, ...],
    run_onnx: Callable[..., np.ndarray],
) -> None:
    from napari_cellclf.core.calibration import apply_temperature
    from napari_cellclf.core.tta import mean_over_views

    network = build_network("compact-cnn", input_shape=(None, None, 2), n_classes=3)
    batch = images(48, count=3)
    answers = mean_over_views(lambda view: np.asarray(network(view)), batch, views)
    expected = apply_temperature(answers, temperature, offsets)
    steps = ClassifierSteps(views=views, temperature=temperature, class_offsets=offsets)
    model = to_onnx(network, steps=steps)
    np.testing.assert_allclose(run_onnx(model, batch), expected, atol=1e-5)


def test_blue_first(run_onnx: Callable[..., np.ndarray]) -> None:
    network = build_network("compact-cnn", input_shape=(None, None, 3), n_classes=3)
    batch = images(48, 3)
    model = to_onnx(network, steps=ClassifierSteps(normalize=ImageNet(bgr=True).write_onnx))
    expected = np.asarray(network(np.ascontiguousarray(batch[..., ::-1])))
    np.testing.assert_allclose(run_onnx(model, batch), expected, atol=1e-5)
