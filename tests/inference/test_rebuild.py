"""Networks are built again from what a bundle says, and refused before they take any memory."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from napari_cellclf.bundles.networks import read_network
from napari_cellclf.bundles.schema import MAX_INPUT, ArchitectureSpec
from napari_cellclf.core.image import Image
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import BundleError, UnsafeModelError
from napari_cellclf.inference.keras_engine import KerasEngine
from napari_cellclf.inference.rebuild import built, check_extent, probe_builder, weight_names
from napari_cellclf.models.architectures import registry
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.save import save_bundle


def _layer(class_name: str, **config: Any) -> dict[str, Any]:
    named = {"module": "keras.layers", "class_name": class_name, "registered_name": None}
    return named | {"config": config}


def _network(*layers: dict[str, Any], shape: tuple[int | None, ...] = (4, 4, 1)) -> dict[str, Any]:
    begin = _layer("InputLayer", batch_shape=[None, *shape], name="in")
    config = {"name": "net", "layers": [begin, *layers]}
    return {"module": "keras", "class_name": "Sequential", "config": config}


def _probe(config: dict[str, Any], size: tuple[int, int] = (4, 4)) -> None:
    checked = read_network(deepcopy(config), "m.keras").config
    built(probe_builder(checked, size), "m.keras", lambda net: check_extent(net, "m.keras"), False)


@pytest.mark.parametrize(
    "layers",
    [
        [_layer("UpSampling2D", size=64, name=f"u{i}") for i in range(3)],
        [_layer("ZeroPadding2D", padding=4096, name=f"z{i}") for i in range(9)],
        [_layer("Resizing", height=4096, width=4096, name="r"),
         _layer("UpSampling2D", size=8, name="u")],
        [_layer("Flatten", name="f"), _layer("RepeatVector", n=4096, name="r"),
         _layer("Dense", units=1 << 16, name="d")],
        [_layer("Conv2DTranspose", filters=64, kernel_size=1, strides=1024, name="t")],
        [_layer("Conv2D", filters=1 << 16, kernel_size=1024, padding="same", name=f"c{i}")
         for i in range(2)],
        [_network(*[_layer("UpSampling2D", size=64, name=f"u{i}") for i in range(3)])],
    ],
    ids=["upsampling", "padding", "resizing", "repeating", "transposed", "multiplying", "inside"],
)  # fmt: skip
def test_what_would_fill_the_memory_is_refused_before_it_is_built(layers: list[Any]) -> None:
    resource = pytest.importorskip("resource")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UnsafeModelError, match=r"limit 134217728|multiplications"):
        _probe(_network(*layers))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 5e5


def test_images_that_come_in_are_bounded() -> None:
    config = _network(_layer("GlobalMaxPooling2D", name="g"), shape=(None, None, 1))
    _probe(config, (4096, 4096))
    with pytest.raises(UnsafeModelError, match=f"8192 x 8192 x 1 numbers .* limit {MAX_INPUT}"):
        _probe(config, (8192, 8192))


@pytest.mark.parametrize(
    "layer",
    [
        _layer("Conv2D", filters=4, kernel_size=3, groups=3, name="a"),
        _layer("Conv2D", filters=4, kernel_size=100, name="a"),
    ],
    ids=["channels-that-do-not-fit", "an-image-that-gets-lost"],
)
def test_what_keras_cannot_build_is_one_sentence(layer: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=r"cannot build the network of m\.keras") as caught:
        _probe(_network(layer))
    assert "\n" not in str(caught.value)


def _save(network: keras.Model, path: Path, **architecture: Any) -> Any:
    prepare = Preprocessing(channels=[{"name": "a"}, {"name": "b"}])  # type: ignore[list-item]
    return save_bundle(
        network,
        path,
        preprocessing=prepare,
        classes=["x", "y", "z"],
        architecture=ArchitectureSpec(**architecture),
        test_image=Image(np.random.default_rng(0).normal(size=(2, 48, 48)), "CYX", ("a", "b")),
    )


@pytest.mark.parametrize(
    ("name", "parameters", "weights"),
    [
        ("compact-cnn", {"width": 8, "depth": 2, "members": 2, "seed": 3}, None),
        ("efficientnet-lite0", {"hidden_units": 8}, "imagenet"),
        ("mobilenetv2", {"dropout": 0.5}, None),
    ],
)
def test_a_registered_architecture_is_built_again(
    name: str, parameters: dict[str, Any], weights: str | None, tmp_path: Path
) -> None:
    made = build_network(
        name, input_shape=(None, None, 2), n_classes=3, weights=weights, **parameters
    )
    bundle = _save(
        made,
        tmp_path / "m.cellclf",
        name=name,
        parameters=parameters,
        as_pretrained=weights is not None,
    )
    assert bundle.spec.architecture.layers is None
    again = KerasEngine.load(bundle).network
    assert weight_names(again) == list(dict.fromkeys(weight_names(again)))
    images = np.random.default_rng(1).normal(size=(2, 48, 48, 2)).astype(np.float32)
    np.testing.assert_array_equal(again.predict_on_batch(images), made.predict_on_batch(images))


def test_another_network_under_that_name_keeps_its_layers(tmp_path: Path) -> None:
    made = build_network("compact-cnn", input_shape=(None, None, 2), n_classes=3, depth=2, width=8)
    bundle = _save(made, tmp_path / "m.cellclf", name="compact-cnn", parameters={"depth": 3})
    assert bundle.spec.architecture.layers is not None
    assert KerasEngine.load(bundle).network.count_params() == made.count_params()


def test_an_architecture_that_is_not_here_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = build_network("compact-cnn", input_shape=(None, None, 2), n_classes=3, depth=2, width=8)
    parameters = {"depth": 2, "width": 8}
    bundle = _save(made, tmp_path / "m.cellclf", name="compact-cnn", parameters=parameters)
    assert bundle.spec.architecture.layers is None
    monkeypatch.setattr(registry, "architecture_version", lambda name: 2)
    with pytest.raises(BundleError, match="version 1 of compact-cnn, but version 2"):
        KerasEngine.load(bundle)
    monkeypatch.undo()
    gone = bundle.spec.architecture.model_copy(update={"name": "their-net"})
    elsewhere = type(bundle)(bundle.path, bundle.spec.model_copy(update={"architecture": gone}))
    with pytest.raises(BundleError, match="'their-net', which is not installed"):
        KerasEngine.load(elsewhere)
