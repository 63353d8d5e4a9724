"""Networks of KerasHub with random weights: attention and convolutions, from training to why."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import keras_hub
import numpy as np
import pytest
from starlette.testclient import TestClient

import napari_cellclf as cc
from napari_cellclf.cli import main
from napari_cellclf.core.channels import ChannelSpec
from napari_cellclf.errors import ArchitectureError, DownloadError
from napari_cellclf.inference.keras_engine import expose
from napari_cellclf.inference.process_engine import ProcessEngine
from napari_cellclf.models.architectures.registry import (
    build_network,
    default_preprocessing,
    find_architecture,
)
from napari_cellclf.server.app import make_app
from napari_cellclf.server.served_model import load_served
from napari_cellclf.server.service import Service
from napari_cellclf.server.settings import Settings
from stripes import write_stripes

VIT = {"patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 32}
DINOV2 = {
    "patch_size": 8,
    "num_layers": 2,
    "num_heads": 2,
    "hidden_dim": 16,
    "intermediate_dim": 32,
    "num_register_tokens": 2,
    "position_embedding_shape": [48, 48, 3],
}
RESNET = {
    "input_conv_filters": [64],
    "input_conv_kernel_sizes": [3],
    "stackwise_num_filters": [64, 64],
    "stackwise_num_blocks": [1, 1],
    "stackwise_num_strides": [1, 2],
    "block_type": "basic_block",
}
#: Class, arguments, pooling, and how their predictions are explained.
NETWORKS = {
    "vit": ("ViTBackbone", VIT, "auto", "occlusion"),
    "dinov2": ("DINOV2Backbone", DINOV2, "mean", "cam"),
    "resnet": ("ResNetBackbone", RESNET, "auto", "cam"),
}


def _given(name: str) -> dict[str, Any]:
    backbone, config, pooling, _ = NETWORKS[name]
    return {"backbone": backbone, "config": json.dumps(config), "pooling": pooling}


def _built(name: str, channels: int = 3, **parameters: Any) -> keras.Model:
    given = _given(name) | parameters
    return build_network("keras-hub", input_shape=(32, 32, channels), n_classes=2, **given)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images with stripes down, or across."""
    folder = tmp_path_factory.mktemp("images")
    write_stripes(folder, 12)
    return folder


@pytest.fixture(scope="module", params=NETWORKS)
def trained(
    request: pytest.FixtureRequest, images: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A head on frozen features, trained by the command line."""
    run = tmp_path_factory.mktemp(request.param) / "run"
    settings = {f"parameters.{key}": value for key, value in _given(request.param).items()}
    settings |= {"parameters.train_backbone": "false", "size": "[32, 32]", "views": "one"}
    settings |= {"epochs": "0", "head_epochs": "80"}
    settings |= {"head_learning_rate": "0.05"}
    changes = [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CELLCLF_CACHE", str(run.parent / "cache"))
        options = ["--architecture", "keras-hub", "--weights", "none", "--out", str(run)]
        assert main(["train", str(images), *options, *changes]) == 0
    return request.param, run / "model.cellclf"


def test_a_trained_head_predicts_the_same_everywhere(
    trained: tuple[str, Path], images: Path
) -> None:
    name, bundle = trained
    image = images / "down" / "000.png"
    classifier = cc.load_classifier(bundle, engine="keras")
    predicted = classifier.predict(image)
    assert predicted.labels == ("down",)

    def same(probabilities: Any, where: str) -> None:
        np.testing.assert_allclose(
            probabilities, predicted.probabilities, atol=1e-4, err_msg=f"{name}: {where}"
        )

    command = [sys.executable, "-m", "napari_cellclf", "predict", str(bundle), str(image)]
    fresh = subprocess.run(
        [*command, "--json", "--engine", "keras"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"CELLCLF_OFFLINE": "1"},
    )
    same([list(json.loads(fresh.stdout)["probabilities"].values())], "command line")
    served = load_served(str(bundle), 4, engine="keras")
    app = make_app(Service(str(bundle), served, Settings()))
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        sent = {"image": (image.name, image.read_bytes())}
        answer = client.post("/api/predict", files=sent)
    (told,) = answer.json()["predictions"]
    same([list(told["probabilities"].values())], "HTTP")
    child = ProcessEngine(str(bundle), "keras")
    try:
        child.wait_until_ready()
        pixels = classifier.preprocessing(cc.read_image(image))[np.newaxis]
        np.testing.assert_allclose(child(pixels), classifier.engine(pixels), atol=1e-5)
    finally:
        child.close()


def test_a_prediction_is_explained(trained: tuple[str, Path], images: Path) -> None:
    name, bundle = trained
    classifier = cc.load_classifier(bundle)
    why = classifier.explain(images / "down" / "001.png")
    assert why.method == NETWORKS[name][3]
    assert why.heat.shape == (32, 32)
    assert 0 < why.limit < np.inf
    assert classifier.explain(images / "down" / "001.png", method="occlusion").limit > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_features_are_pooled(name: str) -> None:
    network = _built(name, channels=5)
    exposed = expose(network)
    found = exposed.tensors
    assert found["features"].shape == (None, 64 if name == "resnet" else 16)
    assert ("feature_map" in found) == (NETWORKS[name][3] == "cam")
    backbone = network.get_layer("backbone")
    pixels = np.random.default_rng(0).normal(size=(2, 32, 32, 5)).astype(np.float32)
    prepared = keras.Model(network.input, network.get_layer("preset_range").output)(pixels)
    given = {"images": prepared} if isinstance(backbone.input, dict) else prepared
    answer = keras.ops.convert_to_numpy(backbone(given))
    expected = {
        "vit": lambda: answer[:, 0],
        # A class token and two registers come first.
        "dinov2": lambda: answer[:, 3:].mean(axis=1),
        "resnet": lambda: answer.mean(axis=(1, 2)),
    }[name]()
    _, features = exposed.giving(("features",))(pixels)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(features), expected, atol=1e-5)


def _save_preset(folder: Path, name: str) -> Any:
    """Write a preset with random weights as KerasHub does, and a scale of its pixels."""
    backbone, config, *_ = NETWORKS[name]
    network = getattr(keras_hub.models, backbone)(image_shape=(32, 32, 3), **config)
    network.save_to_preset(str(folder))
    keras_hub.layers.ImageConverter(
        scale=[0.01, 0.02, 0.03], offset=[-1.0, -2.0, -3.0]
    ).save_to_preset(str(folder))
    return network


def _frozen(build: Callable[[], keras.Model], pixels: Any) -> Any:
    network = build()
    assert network.trainable_weights == network.layers[-1].trainable_weights
    return keras.ops.convert_to_numpy(
        keras.Model(network.input, network.get_layer("features").output)(pixels)
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_a_preset_gives_its_weights_for_any_channels(tmp_path: Path, name: str) -> None:
    source = _save_preset(tmp_path / "preset", name)
    settled = find_architecture("keras-hub").settle({"preset": str(tmp_path / "preset")})
    assert settled["backbone"] == NETWORKS[name][0]
    assert settled["scale"] == [0.01, 0.02, 0.03]
    photograph = np.random.default_rng(0).uniform(0, 255, (1, 32, 32, 3)).astype(np.float32)

    def build(channels: int, parameters: Any) -> keras.Model:
        return build_network(
            "keras-hub",
            input_shape=(32, 32, channels),
            n_classes=2,
            weights="imagenet",
            pooling="mean",
            **parameters,
        )

    scaled = photograph * [0.01, 0.02, 0.03] - [1.0, 2.0, 3.0]
    answer = keras.ops.convert_to_numpy(
        source({"images": scaled} if isinstance(source.input, dict) else scaled)
    )
    skipped = {"vit": 1, "dinov2": 3}.get(name)
    expected = answer.mean(axis=(1, 2)) if skipped is None else answer[:, skipped:].mean(axis=1)
    for given in (settled, {"preset": str(tmp_path / "preset")}):
        found = _frozen(lambda given=given: build(3, given), photograph)
        np.testing.assert_allclose(found, expected, atol=1e-4)

    # Standardised grey in two channels is the photograph whose three are that grey.
    grey = np.random.default_rng(1).normal(size=(1, 32, 32, 1)).astype(np.float32)
    same = (grey * 57.6 + 114.5) * 0.02 - 2
    same = np.repeat(same, 3, axis=-1)
    answer = keras.ops.convert_to_numpy(
        source({"images": same} if isinstance(source.input, dict) else same)
    )
    expected = answer.mean(axis=(1, 2)) if skipped is None else answer[:, skipped:].mean(axis=1)
    found = _frozen(lambda: build(2, settled), np.repeat(grey, 2, axis=-1))
    np.testing.assert_allclose(found, expected, atol=1e-2)


def test_photographs_are_given_as_they_are() -> None:
    rgb = [ChannelSpec(name=name) for name in ("red", "green", "blue")]
    prepare = default_preprocessing("keras-hub", rgb)
    assert (prepare.size, prepare.normalization.std) == ((224, 224), (1.0, 1.0, 1.0))
    assert default_preprocessing("keras-hub", rgb[:2]).normalization.kind != "imagenet"


def test_positions_are_interpolated_or_the_size_is_named(tmp_path: Path) -> None:
    for name in ("vit", "dinov2"):
        _save_preset(tmp_path / name, name)
    given: dict[str, Any] = {"n_classes": 2, "weights": "imagenet", "input_shape": (64, 64, 3)}
    build_network("keras-hub", preset=str(tmp_path / "dinov2"), **given)
    with pytest.raises(ArchitectureError, match=r"32 x 32 pixels, so try size=\[32, 32\]"):
        build_network("keras-hub", preset=str(tmp_path / "vit"), **given)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"config": "{"}, "backbone with its arguments as JSON"),
        ({"config": "[1]"}, "give an object"),
        ({"config": json.dumps(VIT | {"name": "x" * 9000})}, "at most 8000 characters"),
        ({"config": json.dumps(VIT | {"num_layers": 10**6})}, "cannot take num_layers=1000000"),
        ({"config": json.dumps(VIT | {"mlp_dim": float("nan")})}, "cannot take mlp_dim=nan"),
        ({"config": json.dumps(VIT | {"dtype": {"class_name": "Lambda"}})}, "cannot take dtype="),
        ({"config": json.dumps(VIT | {"mlp": {"class_name": "Dense"}})}, "cannot take mlp="),
        ({"config": json.dumps(VIT | {"patch_size": 0})}, "ViTBackbone cannot be built"),
        ({"backbone": "Tokenizer"}, "no network 'Tokenizer'"),
        ({"backbone": "Backbone.from_preset"}, "no network 'Backbone.from_preset'"),
        ({"backbone": "DINOV2Backbone"}, "missing 1 required"),
        ({"pooling": "max"}, "pooling='max' is unknown"),
        ({"scale": [1.0]}, "give three numbers"),
        ({"weights": "imagenet"}, "no preset None; did you mean dinov2_small"),
        ({"weights": "imagenet", "preset": "vit_base_patch16_224"}, "vit_base_patch16_224_imag"),
    ],
)
def test_what_cannot_be_is_refused_in_one_sentence(
    parameters: dict[str, Any], message: str
) -> None:
    with pytest.raises(ArchitectureError, match=message.replace("[", r"\[")) as refused:
        _built("vit", **parameters)
    assert "\n" not in str(refused.value)


def test_positions_beyond_memory_are_refused() -> None:
    huge = json.dumps(DINOV2 | {"position_embedding_shape": [60_000, 60_000, 3]})
    with pytest.raises(ArchitectureError, match="give a smaller one"):
        _built("dinov2", config=huge)


def test_offline_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path))
    monkeypatch.setenv("CELLCLF_OFFLINE", "1")
    with pytest.raises(
        DownloadError, match=r"config\.json of dinov2_small is not on this computer"
    ):
        _built("vit", backbone=None, config=None, preset="dinov2_small", weights="imagenet")
    monkeypatch.delenv("CELLCLF_OFFLINE")

    def fail(handle: str, path: str) -> str:
        assert handle.startswith("keras/dinov2/keras/dinov2_small/")
        raise ConnectionError("no route\nat all")

    monkeypatch.setattr("kagglehub.model_download", fail)
    with pytest.raises(DownloadError, match=r"could not be fetched \(no route\); connect"):
        find_architecture("keras-hub").settle({"preset": "dinov2_small"})


def test_a_bundle_asks_no_preset(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bundle that only names a preset would make whoever opens it fetch something."""
    monkeypatch.setattr("kagglehub.model_download", lambda *_: pytest.fail("was asked"))
    for weights in (None, "unfilled"):
        with pytest.raises(ArchitectureError, match="received config=None"):
            _built("vit", backbone=None, config=None, preset="dinov2_small", weights=weights)


def test_without_keras_hub_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keras_hub", None)
    with pytest.raises(ArchitectureError, match=r"pip install 'napari-cellclf\[hub\]'"):
        _built("vit")
