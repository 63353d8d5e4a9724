"""The example of an architecture: trained, loaded, trained further, exported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from imagecodecs import png_encode

import napari_cellclf as cc
from napari_cellclf.core import extensions
from napari_cellclf.errors import ArchitectureError, BundleError, ExportError, InputError
from napari_cellclf.models.architectures.base import ARCHITECTURES, Architecture, Shape
from napari_cellclf.models.architectures.registry import build_network, find_architecture
from napari_cellclf.models.export.api import export_model
from napari_cellclf.models.training.presets import choose_preset, make_config

SETTINGS: dict[str, Any] = {
    "architecture": "residual-attention",
    "parameters": {"width": 4, "blocks": 2},
    "size": (32, 32),
    "epochs": 2,
    "seed": 0,
}


@pytest.fixture
def _installed(
    install: Callable[[str, str, str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    install("architectures", "residual-attention", "residual_attention:RESIDUAL_ATTENTION")
    yield
    keras.utils.clear_session()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    for number, name in enumerate(("dark", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for image in range(12):
            pixels = random.normal(40 + 90 * number, 20, (32, 32)).clip(0, 255).astype(np.uint8)
            (tmp_path / "images" / name / f"{image:03d}.png").write_bytes(png_encode(pixels))
    return tmp_path / "images"


@pytest.mark.usefixtures("_installed")
def test_it_is_built_with_its_parameters() -> None:
    assert find_architecture("Residual_Attention").parameters() == {"width": 16, "blocks": 3}
    network = build_network("residual-attention", input_shape=(None, None, 6), n_classes=4, width=8)
    assert network.input_shape == (None, None, None, 6)
    assert network.get_layer("block3_conv1").filters == 32
    with pytest.raises(ArchitectureError, match="received width=2"):
        build_network("residual-attention", input_shape=(32, 32, 1), n_classes=2, width=2)


@pytest.mark.usefixtures("_installed")
def test_it_is_trained_used_and_trained_further(images: Path, tmp_path: Path) -> None:
    split = cc.read_dataset(images).split(seed=0)
    run = cc.train(split, cc.TrainingConfig(**SETTINGS), tmp_path / "run")
    bundle = cc.ModelBundle.load(run.bundle)
    assert bundle.spec.architecture.name == "residual-attention"
    assert bundle.spec.architecture.parameters["width"] == 4
    image = cc.read_image(next((images / "light").iterdir()))
    keras_says = cc.load_classifier(run.bundle, engine="keras").predict(image).probabilities
    onnx_says = cc.load_classifier(run.bundle, engine="onnxruntime").predict(image)
    np.testing.assert_allclose(onnx_says.probabilities, keras_says, atol=1e-4)

    more = cc.TrainingConfig(**(SETTINGS | {"continue_from": str(run.bundle)}))
    further = cc.train(split, more, tmp_path / "further")
    assert cc.ModelBundle.load(further.bundle).spec.architecture.name == "residual-attention"


@pytest.mark.usefixtures("_installed")
def test_its_preset_starts_from_random_weights() -> None:
    preset = choose_preset(None, "residual-attention")
    config = make_config(preset.fields_for("residual-attention"))
    assert (config.architecture, config.weights) == ("residual-attention", None)


def test_a_wrong_normalization_is_named_without_words_of_a_library() -> None:
    with pytest.raises(InputError, match=r"^normalization: 'median' is not a norm"):
        make_config({}, {"normalization": "median"})


def test_a_missing_architecture_is_one_line(images: Path, tmp_path: Path) -> None:
    split = cc.read_dataset(images).split(seed=0)
    with pytest.raises(ArchitectureError, match="no architecture 'residual-attention'") as caught:
        cc.train(split, cc.TrainingConfig(**SETTINGS), tmp_path / "run")
    assert "\n" not in str(caught.value)


class Attend(keras.layers.Layer):
    """A layer of somebody's own, which neither ONNX nor Keras's list of layers knows."""

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        self.query = self.add_weight(shape=(input_shape[-1], 1), name="query")

    def call(self, features: Any) -> Any:
        scores = keras.ops.softmax(keras.ops.matmul(features, self.query), axis=1)
        return keras.ops.sum(scores * features, axis=1)


class Attentive(Architecture):
    """Patches, attention among them, and a weighted mean."""

    name = "attentive"
    description = "attention over patches, for tests"
    any_size = False

    def build(self, input_shape: Shape, n_classes: int, *, width: int = 8) -> keras.Model:
        """Build it for images of one size."""
        image = keras.Input(input_shape, name="image")
        patches = keras.layers.Conv2D(width, 8, 8, name="patches")(image)
        patches = keras.layers.Reshape((-1, width), name="sequence")(patches)
        patches = keras.layers.MultiHeadAttention(2, 4, name="attention")(patches, patches)
        pooled = Attend(name="attend")(patches)
        last = keras.layers.Dense(n_classes, activation="softmax", name="probabilities")
        return keras.Model(image, last(pooled), name=self.name)


ATTENTIVE = Attentive()


def test_layers_of_ones_own_are_computed_by_keras(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    point = EntryPoint("attentive", f"{__name__}:ATTENTIVE", ARCHITECTURES.group)
    known = extensions.entry_points
    offered = {ARCHITECTURES.group: [point]}
    monkeypatch.setattr(
        extensions, "entry_points", lambda group: [*known(group=group), *offered.get(group, [])]
    )
    extensions._declared.cache_clear()
    changes = {"architecture": "attentive", "parameters": {"width": 4}}
    config = cc.TrainingConfig(**(SETTINGS | changes))
    run = cc.train(cc.read_dataset(images).split(seed=0), config, tmp_path / "run")
    bundle = cc.ModelBundle.load(run.bundle)
    assert bundle.spec.architecture.layers is None
    assert not (run.bundle / "model.onnx").exists()
    image = cc.read_image(next((images / "light").iterdir()))
    assert cc.load_classifier(run.bundle).predict(image).probabilities.shape == (1, 2)
    with pytest.raises(ExportError, match=r"attention .* cannot be written as ONNX"):
        export_model(bundle, "onnx", tmp_path / "model.onnx")

    monkeypatch.setattr(extensions, "entry_points", known)
    extensions._declared.cache_clear()
    with pytest.raises(BundleError, match="architecture 'attentive', which is not installed"):
        cc.load_classifier(run.bundle)
