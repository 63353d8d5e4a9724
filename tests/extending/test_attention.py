"""A stranger's attention network, of Keras's own layers with random weights, goes the whole way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import napari_cellclf as cc
from napari_cellclf.core import extensions
from napari_cellclf.models.backbones import Backbone, default_backbone
from napari_cellclf.runs.on_backbone import train_on_backbone
from stripes import write_stripes

MODULE = '''
import keras
from keras import layers

from napari_cellclf.models.architectures.base import Architecture


class Patches(Architecture):
    """Self-attention among patches."""

    name = "patches"
    description = "attention over patches"
    any_size = False

    def build(self, input_shape, n_classes, *, width: int = 16):
        """Build it for images of one size."""
        keras.utils.set_random_seed(0)
        image = keras.Input(input_shape, name="image")
        patches = layers.Conv2D(width, 8, 8, name="patches")(image)
        patches = layers.Reshape((-1, width), name="sequence")(patches)
        seen = layers.MultiHeadAttention(2, 8, name="attention")(patches, patches)
        both = layers.LayerNormalization(name="norm")(layers.Add(name="add")([patches, seen]))
        wide = layers.Dense(4 * width, activation="gelu", name="wide")(both)
        pooled = layers.GlobalAveragePooling1D(name="pool")(wide)
        last = layers.Dense(n_classes, activation="softmax", name="probabilities")
        return keras.Model(image, last(pooled), name=self.name)


PATCHES = Patches()
'''


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The network, installed for this process and those that it starts."""
    folder = tmp_path / "site"
    info = folder / "patches-1.0.dist-info"
    info.mkdir(parents=True)
    (folder / "patches_net.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: patches\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[napari_cellclf.architectures]\npatches = patches_net:PATCHES\n"
    )
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    extensions._declared.cache_clear()
    yield folder
    sys.modules.pop("patches_net", None)
    extensions._declared.cache_clear()
    extensions._loaded.cache_clear()


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Fine stripes, across or down."""
    write_stripes(tmp_path / "images", 20)
    return tmp_path / "images"


@pytest.mark.usefixtures("site")
def test_its_frozen_features_are_taught_predicted_with_and_explained(
    images: Path, tmp_path: Path
) -> None:
    split = cc.read_dataset(images).split(seed=0)
    image = images / "down" / "000.png"
    usual = default_backbone(cc.read_image(image)).preprocessing
    sized = usual.model_copy(update={"size": (32, 32), "centre": 1.0})
    # Its weights are drawn from a seed, so that they are the same in the process that saves it.
    backbone = Backbone(preprocessing=sized, architecture="patches", parameters={}, weights=None)
    run = train_on_backbone(split, backbone, tmp_path / "run")
    assert run.evaluation is not None
    assert run.evaluation.headline()["accuracy"] > 0.8
    bundle = cc.ModelBundle.load(run.bundle)
    assert bundle.spec.architecture.name == "patches"
    assert not (run.bundle / "model.onnx").exists()
    classifier = cc.load_classifier(run.bundle)
    predicted = classifier.predict(image)
    command = [sys.executable, "-m", "napari_cellclf", "predict", str(run.bundle), str(image)]
    fresh = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=True, env=os.environ
    )
    told = json.loads(fresh.stdout)
    assert list(told["probabilities"].values()) == pytest.approx(
        predicted.probabilities[0].tolist(), abs=1e-4
    )
    assert predicted.unlike_scores is not None
    assert told["unlike_score"] == pytest.approx(float(predicted.unlike_scores[0]), rel=1e-3)
    why = classifier.explain(image)
    assert (why.method, why.heat.shape) == ("occlusion", (32, 32))
    assert np.nanmax(np.abs(why.heat)) > 0
