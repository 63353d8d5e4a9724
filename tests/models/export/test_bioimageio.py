"""Packages for the BioImage Model Zoo pass its own test and answer as the classifier does."""

from __future__ import annotations

import socket
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import napari_cellclf as cc
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.schema import BundleSpec
from napari_cellclf.core.progress import Progress
from napari_cellclf.errors import ExportError
from napari_cellclf.models.export.api import export_model
from napari_cellclf.models.export.card_text import spdx_licence, written_authors

Save = Callable[..., ModelBundle]
AUTHORS = ["A. Nobody, Nowhere"]
BUNDLED = [model.name for model in cc.list_models() if model.where == "bundled"]

pytestmark = pytest.mark.filterwarnings(
    # bioimageio.spec leaves files to the garbage collector.
    "ignore:unclosed file:ResourceWarning",
)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError(f"the network was touched: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def answer(path: Path) -> np.ndarray:
    """Predict the package's own test input with all of its processing, by bioimageio.core."""
    from bioimageio.core import load_model_description, predict

    model = load_model_description(path)
    sample = predict(model=model, inputs=model.inputs[0].test_tensor)
    (output,) = sample.members.values()
    return np.asarray(output.data)


def graph_answer(path: Path, classifier: cc.Classifier) -> np.ndarray:
    """Predict the test image by the package's network, prepared as the classifier does."""
    import onnxruntime

    with zipfile.ZipFile(path) as package:
        session = onnxruntime.InferenceSession(package.read("weights.onnx"))
    pixels = classifier.preprocessing.without_cutting(classifier.bundle.test_image)
    (found,) = session.run(None, {session.get_inputs()[0].name: pixels[np.newaxis]})
    return np.asarray(found)


def passes(path: Path) -> bool:
    from bioimageio.core import test_model

    return test_model(path, weight_format="onnx").status == "passed"


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_models(name: str, tmp_path: Path) -> None:
    path = export_model(name, "bioimageio", tmp_path / "m.zip", authors=AUTHORS)
    assert passes(path)
    classifier = cc.load_classifier(name, precision="float32")
    expected = classifier.predict(classifier.bundle.test_image).probabilities
    np.testing.assert_allclose(graph_answer(path, classifier), expected, atol=1e-5)
    # The runner takes mean and deviation in float32, whatever the steps say: 7e-4 beside ours here.
    np.testing.assert_allclose(answer(path), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("channels", "dtype", "normalization"),
    [
        (2, "uint16", {"kind": "zero_mean_unit_variance"}),
        (2, "uint16", {"kind": "percentile", "low": 2.0, "high": 98.0}),
        (1, "uint8", {"kind": "scale_linear", "factor": 1.5}),
        (1, "float32", {"kind": "scale_linear"}),
        (1, "uint8", {"kind": "scale_linear", "factor": 1.5, "eight_bit": True}),
        (1, "uint16", {"kind": "scale_linear", "factor": 1.5, "eight_bit": True}),
        (1, "float32", {"kind": "scale_linear", "factor": 1.5, "eight_bit": True}),
        (1, "uint8", {"kind": "imagenet"}),
        (3, "uint16", {"kind": "imagenet", "mean": (100, 110, 120), "bgr": True}),
    ],
)
def test_normalizations(
    channels: int, dtype: str, normalization: dict[str, Any], save: Save, tmp_path: Path
) -> None:
    bundle = save(channels, dtype, normalization=normalization)
    path = export_model(bundle, "bioimageio", tmp_path / "m.zip", authors=AUTHORS)
    expected = (
        cc.load_classifier(bundle.path, precision="float32")
        .predict(bundle.test_image)
        .probabilities
    )
    np.testing.assert_allclose(answer(path), expected, atol=1e-4)


def test_fixed_numbers_and_a_channel_that_is_missing(save: Save, tmp_path: Path) -> None:
    normalization = {"kind": "fixed", "mean": (30000, 20000), "std": (9000, 11000)}
    bundle = save(
        preprocessing=cc.Preprocessing(
            channels=[{"name": "stain 0"}, {"name": "stain 1", "required": False}],
            normalization=normalization,
        ),
        test_image=cc.Image(
            np.random.default_rng(0).integers(0, 65535, (1, 24, 24), np.uint16), "CYX", ["stain 0"]
        ),
    )
    path = export_model(bundle, "bioimageio", tmp_path / "m.zip", authors=AUTHORS)
    expected = (
        cc.load_classifier(bundle.path, precision="float32")
        .predict(bundle.test_image)
        .probabilities
    )
    np.testing.assert_allclose(answer(path), expected, atol=1e-4)
    with zipfile.ZipFile(path) as archive:
        assert "stain 1 with 20000" in archive.read("documentation.md").decode()


@pytest.mark.parametrize("views", ["flips", "all"])
@pytest.mark.parametrize("size", [None, (20, 20)])
def test_views_and_temperature_are_in_the_graph(
    views: str, size: Any, save: Save, tmp_path: Path
) -> None:
    bundle = save(views=views, temperature=2.0, size=size)
    path = export_model(bundle, "bioimageio", tmp_path / "m.zip", authors=AUTHORS)
    assert passes(path)
    expected = (
        cc.load_classifier(bundle.path, precision="float32")
        .predict(bundle.test_image)
        .probabilities
    )
    np.testing.assert_allclose(answer(path), expected, atol=1e-5)


def test_views_that_depend_on_the_image_are_refused(save: Save, tmp_path: Path) -> None:
    bundle = save(views="all", sides=(24, 30))
    with pytest.raises(ExportError, match="not square"):
        export_model(bundle, "bioimageio", tmp_path / "m.zip", authors=AUTHORS)
    assert not (tmp_path / "m.zip").exists()


def test_all_that_is_known_travels_along(save: Save, tmp_path: Path) -> None:
    bundle = save(title="Small (test)", citation="Somebody, arXiv:2301.05768, 2023.", size=(20, 20))
    path = export_model(bundle, "bioimageio", tmp_path / "m.zip", authors=[*AUTHORS, "B. Body"])
    from bioimageio.core import load_model_description

    model = load_model_description(path)
    assert model.name == "Small (test)"
    assert str(model.license) == "CC-BY-4.0"
    assert [(author.name, author.affiliation) for author in model.authors] == [
        ("A. Nobody", "Nowhere"),
        ("B. Body", None),
    ]
    assert str(model.cite[0].doi) == "10.48550/arXiv.2301.05768"
    assert model.outputs[0].axes[1].channel_names == ["a", "b", "c"]
    with zipfile.ZipFile(path) as archive:
        assert BundleSpec.model_validate_json(archive.read("bundle.json")) == bundle.spec
        text = archive.read("documentation.md").decode()
        assert archive.getinfo("cover.png").file_size < 500_000
    assert "20 x 20 pixels" in text
    assert "Validation" in text


def test_authors_are_asked_for(save: Save, tmp_path: Path) -> None:
    steps: list[Progress] = []
    with pytest.raises(ExportError, match="--author"):
        export_model(save(), "bioimageio", tmp_path / "m.zip", on_progress=steps.append)
    # Before the network is loaded.
    assert steps == []


@pytest.mark.parametrize("author", ["", ", Nowhere", "a/b"])
def test_names_that_are_none(author: str) -> None:
    with pytest.raises(ExportError, match="does not name an author"):
        written_authors((author,))


@pytest.mark.parametrize(
    ("said", "identifier"),
    [
        ("CC BY-NC-SA 4.0, as the images it was trained on: not for sale", "CC-BY-NC-SA-4.0"),
        ("CC BY 4.0.", "CC-BY-4.0"),
        ("CC0-1.0", "CC0-1.0"),
        ("Apache-2.0", "Apache-2.0"),
        ("BSD-3-Clause (as the code)", "BSD-3-Clause"),
        ("mit", "MIT"),
    ],
)
def test_licences(said: str, identifier: str) -> None:
    assert spdx_licence(said, None) == identifier
    assert spdx_licence("our own", identifier) == identifier


@pytest.mark.parametrize(("said", "given"), [("", None), ("ask us", None), ("MIT", "ours")])
def test_licences_that_are_not_known_are_asked_for(said: str, given: str | None) -> None:
    with pytest.raises(ExportError, match="--licence"):
        spdx_licence(said, given)
