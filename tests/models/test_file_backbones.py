"""Backbones that are ONNX files: features, heads, bundles by reference, predictions."""

from __future__ import annotations

import csv
import hashlib
import json
from contextlib import closing

import numpy as np
import onnx
import onnxruntime
import pytest
import tifffile

from napari_cellclf.bundles.backbone_files import (
    backbones_folder,
    file_of,
    find_backbone,
    list_backbones,
)
from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.cli import main
from napari_cellclf.core.image import Image
from napari_cellclf.core.seen_images import SeenImages
from napari_cellclf.core.suggesting import Suggester
from napari_cellclf.errors import (
    ArchitectureError,
    BundleError,
    IntegrityError,
    ModelNotFoundError,
    RegistryError,
    UnsafeModelError,
)
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.io.collections import open_collection
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.backbone_child import FeatureEngine, save
from napari_cellclf.models.backbones import (
    PHOTOGRAPHS,
    Backbone,
    add_backbone,
    default_backbone,
    row_features,
)
from napari_cellclf.models.export.api import export_model
from napari_cellclf.models.export.onnx.convert import to_onnx
from napari_cellclf.models.fetching import fetch_model
from napari_cellclf.models.suggested_model import (
    describe_suggested_model,
    known_images,
    write_request,
)
from napari_cellclf.models.training.network import split_head
from tiny_vit import SIDE, WIDTH, tiny_vit


class Here(FeatureEngine):
    """The engine without its process."""

    def wait_until_ready(self):
        pass

    def close(self):
        pass


@pytest.fixture(autouse=True)
def own_models(tmp_path, monkeypatch):
    monkeypatch.setenv("CELLCLF_MODELS", str(tmp_path / "models"))


@pytest.fixture
def vit(tmp_path):
    path = tmp_path / "vit.onnx"
    path.write_bytes(tiny_vit())
    return path


@pytest.fixture(scope="module")
def lite0(tmp_path_factory):
    """The shipped network up to the features that the bench learns from, as such a file."""
    network = build_network(
        "efficientnet-lite0",
        input_shape=(224, 224, 3),
        n_classes=2,
        weights="imagenet",
        square_root=True,
    )
    path = tmp_path_factory.mktemp("onnx") / "lite0.onnx"
    path.write_bytes(to_onnx(split_head(network)[0]))
    return path


def draw(number, random, channels):
    """Return an image of spots, or of stripes."""
    y, x = np.mgrid[:48, :48] + random.uniform(0, 20)
    pixels = np.sin(y / 2) > 0 if number % 2 else np.sin(y / 3) * np.sin(x / 3) > 0.3
    noisy = 50 + 150 * pixels[..., None] + random.normal(0, 8, (48, 48, channels))
    return noisy.clip(0, 255)


def make_folder(place, channels, count=16):
    """Write images of one or more channels, or of colours."""
    place.mkdir()
    random = np.random.default_rng(0)
    for number in range(count):
        path = place / f"cell{number:02}.tif"
        if channels == "colours":
            pixels = draw(number, random, 3).astype(np.uint8)
            tifffile.imwrite(path, pixels, photometric="rgb")
        else:
            planes = (100 * draw(number, random, channels)).astype(np.uint16)
            tifffile.imwrite(path, np.moveaxis(planes, -1, 0), metadata={"axes": "CYX"})
    return place


def teach(collection, backbone, tmp_path, name):
    """Learn from ten labels, and make a bundle of that."""
    found = row_features(collection, backbone, start=Here, folder=tmp_path / "kept")
    assert not found.bad
    suggester = Suggester(found.features)
    labels = {row: row % 2 for row in range(10)}
    described, head = describe_suggested_model(
        suggester, backbone, labels, ("spots", "stripes"), name=name
    )
    request = tmp_path / f"request-{name}"
    request.mkdir()
    known = known_images(found.features[list(labels)], None)
    seen = SeenImages.of((one, "train") for row in labels for one in found.hashes[row])
    write_request(request, described, head, seen, known)
    place = tmp_path / f"{name}.cellclf"
    save(request, place)
    return found.features, place


@pytest.mark.parametrize("channels", [1, "colours"])
def test_the_shipped_network_as_a_file_is_the_same(channels, lite0, tmp_path):
    collection = open_collection([make_folder(tmp_path / "cells", channels)])
    spec = add_backbone(lite0, "lite0", photographs=PHOTOGRAPHS)
    assert (spec.n_inputs, spec.n_features, spec.channels_last) == (3, 1280, True)
    shipped = default_backbone(collection.read(0))
    ours = default_backbone(collection.read(0), name="lite0")
    assert ours.preprocessing == shipped.preprocessing
    expected, shipped_bundle = teach(collection, shipped, tmp_path, "shipped")
    features, bundle = teach(collection, ours, tmp_path, "ours")
    np.testing.assert_allclose(features, expected, atol=2e-3)
    rows = [row.source for row in collection.rows]
    there = load_classifier(shipped_bundle, own_process=False).predict(rows)
    here = load_classifier(bundle, own_process=False).predict(rows)
    np.testing.assert_allclose(here.probabilities, there.probabilities, atol=2e-3)
    np.testing.assert_allclose(here.unlike_scores, there.unlike_scores, atol=2e-2)
    # It holds the head only.
    assert ModelBundle.load(bundle).size_bytes < ModelBundle.load(shipped_bundle).size_bytes / 10


def test_an_attention_network_goes_all_the_way(vit, tmp_path, capsys):
    place = make_folder(tmp_path / "cells", 2)
    collection = open_collection([place])
    spec = add_backbone(vit, "vit", licence="MIT", source="https://example.org")
    assert list_backbones() == [spec] == [find_backbone("vit")]
    assert (spec.size, spec.n_features, spec.output) == ((SIDE, SIDE), WIDTH, "tokens")
    backbone = default_backbone(collection.read(0), name="vit")
    features, path = teach(collection, backbone, tmp_path, "mine")
    # Two channels are seen one at a time, each copied to the three inputs.
    pixels = backbone.preprocessing(collection.read(3))
    session = onnxruntime.InferenceSession(vit.read_bytes())
    alone = [
        session.run(None, {"image": np.stack([pixels[..., n]] * 3)[np.newaxis]})[0][0, 0]
        for n in (0, 1)
    ]
    np.testing.assert_allclose(features[3], np.concatenate(alone), atol=1e-4)
    classifier = load_classifier(path, own_process=False)
    assert classifier.engine.gives == {"features"}
    rows = [row.source for row in collection.rows]
    predicted = classifier.predict(rows)
    assert (predicted.probabilities.argmax(axis=1) == np.arange(16) % 2).mean() > 0.8
    assert predicted.unlike_scores is not None
    why = classifier.explain(rows[0])
    assert why.method == "occlusion"
    assert np.nanmax(np.abs(why.heat)) > 0
    # By the other engine, in a process of its own, and from the command line.
    other = load_classifier(path, engine="onnxruntime", own_process=False).predict(rows)
    np.testing.assert_allclose(other.probabilities, predicted.probabilities, atol=1e-4)
    child = load_classifier(path, own_process=True)
    with closing(child.engine):
        np.testing.assert_allclose(
            child.predict(rows).probabilities, predicted.probabilities, atol=1e-4
        )
    table = tmp_path / "table.csv"
    assert main(["predict", str(path), str(place), "--out", str(table)]) == 0
    with table.open(newline="") as file:
        said = [row["label"] for row in csv.DictReader(file)]
    assert said == [predicted.classes[n] for n in predicted.probabilities.argmax(axis=1)]
    capsys.readouterr()
    assert main(["models", "show", str(path)]) == 0
    card = capsys.readouterr().out
    assert "a head on the backbone vit, which is not in this bundle" in card
    assert spec.sha256 in card
    assert "one channel at a time, 2 times" in card
    # Keras has no part in it.
    with pytest.raises(BundleError, match="built on the ONNX file of vit, which Keras cannot"):
        load_classifier(path, engine="keras", own_process=False)
    with pytest.raises(BundleError, match="Keras cannot compute, train or export"):
        export_model(path, "onnx", tmp_path / "out.onnx")


def test_a_bundle_whose_backbone_is_gone_or_changed_says_so(vit, tmp_path):
    collection = open_collection([make_folder(tmp_path / "cells", 1)])
    spec = add_backbone(vit, "vit", source="https://example.org")
    backbone = default_backbone(collection.read(0), name="vit")
    _, path = teach(collection, backbone, tmp_path, "mine")
    content = bytearray(file_of(spec).read_bytes())
    content[-40] ^= 1
    file_of(spec).write_bytes(content)
    with pytest.raises(IntegrityError, match="needs the backbone vit, whose file"):
        load_classifier(path, own_process=False)
    file_of(spec).unlink()
    told = (
        r"mine.cellclf needs the backbone vit \(SHA-256 .*\), which is not here; add its file "
        r"\(from https://example.org\) with: cellclf models add-backbone FILE.onnx --name vit"
    )
    with pytest.raises(ModelNotFoundError, match=told):
        load_classifier(path, own_process=False)
    # What it says of itself needs no backbone; and under any name the file is found again.
    assert ModelBundle.load(path).spec.backbone == spec
    add_backbone(vit, "another")
    assert load_classifier(path, own_process=False).classes == ("spots", "stripes")


def test_a_name_says_how_its_backbone_is_got():
    with pytest.raises(ModelNotFoundError, match="dinov2-vits14 is not here; export it from Py"):
        default_backbone(Image(np.zeros((9, 9), np.uint8), "YX"), name="dinov2-vits14")
    with pytest.raises(ModelNotFoundError, match="add one with: cellclf models add-backbone"):
        default_backbone(Image(np.zeros((9, 9), np.uint8), "YX"), name="nobodys")


def altered(change):
    """Return a small attention network with something else in it."""
    model = onnx.ModelProto.FromString(tiny_vit())
    change(model)
    return model.SerializeToString()


def with_external_data(model):
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="weights.bin")


def with_own_operator(model):
    model.graph.node[-1].op_type = "Loop"


def with_one_image_only(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1


def with_parts_that_do_not_fit(model):
    next(node for node in model.graph.node if node.op_type == "Split").output.extend(["4", "5"])


def with_one_token_for_all(model):
    # The same for any image: a mistake of whoever exported it.
    model.graph.node[-1].input[:] = ["first", "first"]
    del model.graph.output[0].type.tensor_type.shape.dim[1:]
    for side in (1, WIDTH):
        model.graph.output[0].type.tensor_type.shape.dim.add(dim_value=side)


@pytest.mark.parametrize(
    ("content", "error", "told"),
    [
        (b"no network at all", BundleError, "not a complete ONNX file"),
        (altered(with_external_data), UnsafeModelError, "a tensor in another file"),
        (altered(with_own_operator), UnsafeModelError, "'Loop', which is not on the list"),
        (altered(with_one_image_only), BundleError, "export it again with a dynamic batch"),
        (altered(with_parts_that_do_not_fit), UnsafeModelError, "Split with parts that are not"),
        (altered(with_one_token_for_all), BundleError, "the same features of two different"),
    ],
)
def test_files_that_are_no_backbones_are_refused(content, error, told, tmp_path):
    path = tmp_path / "other.onnx"
    path.write_bytes(content)
    with pytest.raises(error, match=told):
        add_backbone(path, "other")
    assert list_backbones() == []
    assert not backbones_folder().exists() or not [*backbones_folder().iterdir()]


def test_a_file_must_be_the_one_that_a_list_names(vit, tmp_path, monkeypatch):
    entry = {
        "kind": "backbone",
        "name": "vit",
        "title": "A small network",
        "uri": str(vit),
        "size_bytes": vit.stat().st_size,
        "licence": "MIT",
        "sha256": hashlib.sha256(vit.read_bytes()).hexdigest(),
        "one_channel": True,
    }
    lists = tmp_path / "list.json"
    lists.write_text(json.dumps({"format_version": 1, "entries": [entry]}))
    monkeypatch.setenv("CELLCLF_REGISTRY", str(lists))
    other = tmp_path / "other.onnx"
    other.write_bytes(tiny_vit(seed=1))
    with pytest.raises(IntegrityError, match="is not the file that the list of models names vit"):
        add_backbone(other, "vit")
    fetched = fetch_model("vit")
    spec = find_backbone("vit")
    assert (fetched, spec.one_channel, spec.licence) == (file_of(spec), True, "MIT")
    colours = Image(np.zeros((9, 9, 3), np.uint8), "YXS")
    assert spec.runs(len(default_backbone(colours, name="vit").preprocessing.channels)) == 3
    with pytest.raises(RegistryError, match="published with a checksum; export it from PyTorch"):
        fetch_model("morphem-vits16")


def test_any_architecture_with_pretrained_weights_is_a_backbone(tmp_path):
    collection = open_collection([make_folder(tmp_path / "cells", 1, count=12)])
    backbone = default_backbone(
        collection.read(0), name="MobileNetV2", weights=None, hidden_units=None
    )
    assert (backbone.name, backbone.preprocessing.size) == ("mobilenetv2", (224, 224))
    assert Backbone.model_validate_json(backbone.model_dump_json()) == backbone
    small = backbone.preprocessing.model_copy(update={"size": (32, 32)})
    computed = FeatureEngine(backbone.model_copy(update={"preprocessing": small}))
    assert computed(np.zeros((2, 32, 32, 1), np.float32)).shape == (2, 1280)
    # Whose head has two layers elsewhere.
    assert default_backbone(collection.read(0), name="resnet50").parameters == {
        "hidden_units": None
    }
    with pytest.raises(ArchitectureError, match="has no pretrained weights, so that it is no"):
        default_backbone(collection.read(0), name="compact-cnn")


def test_the_command_line_adds_a_backbone(vit, capsys):
    assert main(["models", "add-backbone", str(vit), "--name", "mine", "--one-channel"]) == 0
    spec = find_backbone("mine")
    assert f"{WIDTH} features, SHA-256 {spec.sha256}" in capsys.readouterr().out
    assert spec.one_channel
    assert main(["models", "add-backbone", str(vit), "--name", "x", "--photographs", "min_max"])
    assert "is not a form of imagenet" in capsys.readouterr().err
