from __future__ import annotations

import csv

import numpy as np
import pytest
import tifffile

from napari_cellclf.cli import main
from napari_cellclf.core.calibration import apply_temperature
from napari_cellclf.core.collection import Collection, Row
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import ObjectCrop, objects_in_mask
from napari_cellclf.core.seen_images import SeenImages
from napari_cellclf.core.suggesting import Suggester
from napari_cellclf.errors import InputError
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.io.collections import open_collection
from napari_cellclf.models.backbone_child import FeatureEngine, save
from napari_cellclf.models.backbones import default_backbone, row_features
from napari_cellclf.models.suggested_model import (
    describe_suggested_model,
    known_images,
    write_request,
)

CLASSES = ("spots", "never given", "stripes")


class Here(FeatureEngine):
    """The engine without its process, since these tests may load Keras."""

    def wait_until_ready(self):
        pass

    def close(self):
        pass


def draw(number, random):
    """Return an image of spots, or of stripes."""
    y, x = np.mgrid[:64, :64] + random.uniform(0, 20)
    pixels = np.sin(y / 2) > 0 if number % 2 else np.sin(y / 3) * np.sin(x / 3) > 0.3
    return (1000 + 20_000 * pixels + random.normal(0, 500, (64, 64))).clip(0).astype(np.uint16)


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "cells"
    place.mkdir()
    random = np.random.default_rng(0)
    for number in range(24):
        tifffile.imwrite(place / f"cell{number:02}.tif", draw(number, random))
    return place


def teach(collection, backbone, tmp_path, count=14):
    found = row_features(collection, backbone, start=Here, folder=tmp_path / "kept")
    suggester = Suggester(found.features, collection.groups)
    labels = {row: 2 * (row % 2) for row in range(count)}
    return found, suggester, labels


def make_bundle(found, suggester, labels, backbone, tmp_path, **said):
    described, head = describe_suggested_model(
        suggester, backbone, labels, CLASSES, name="mine", **said
    )
    groups = ["a", "b"] * (len(labels) // 2) if suggester.has_groups else None
    known = known_images(found.features[list(labels)], groups)
    seen = SeenImages.of((one, "train") for row in labels for one in found.hashes[row])
    write_request(tmp_path, described, head, seen, known)
    save(tmp_path, tmp_path / "mine.cellclf")
    return described


def test_the_model_predicts_what_the_bench_suggested(folder, tmp_path, capsys):
    collection = open_collection([folder])
    backbone = default_backbone(collection.read(0))
    found, suggester, labels = teach(collection, backbone, tmp_path)
    estimate = suggester.estimate(labels, 3, range(10))
    described = make_bundle(
        found, suggester, labels, backbone, tmp_path, source="cells", estimate=estimate
    )
    suggested = suggester.refit(labels, 3).probabilities[:, [0, 2]]
    classifier = load_classifier(tmp_path / "mine.cellclf", own_process=False)
    assert classifier.classes == ("spots", "stripes")
    rows = [row.source for row in collection.rows]
    predicted = classifier.predict(rows).probabilities
    np.testing.assert_allclose(
        predicted, apply_temperature(suggested, described.temperature), atol=0.01
    )
    assert (predicted.argmax(axis=1) == np.arange(24) % 2).mean() > 0.9
    spec = classifier.bundle.spec
    assert spec.training.counts == {"spots": {"train": 7}, "stripes": {"train": 7}}
    drawn, all_labelled = spec.evaluations
    assert "drawn at random" in drawn.name
    assert "without itself" in all_labelled.name
    assert (drawn.n, all_labelled.n) == (10, 14)
    assert drawn.metrics["accuracy_low"] <= drawn.metrics["accuracy"]
    assert spec.unsure_threshold is not None
    assert classifier.bundle.seen_images().split_of(found.hashes[0]) == "train"
    assert classifier.bundle.seen_images().split_of(found.hashes[20]) == ""
    # Labelled images are known, and noise is not like any of them.
    unlike = spec.unlike
    assert unlike is not None
    assert (unlike.n_images, unlike.n_groups) == (14, 0)
    assert unlike.level == pytest.approx(1 / 15)
    noise = np.random.default_rng(0).integers(0, 2, (1, 64, 64)).astype(np.uint16)
    flagged = classifier.predict([*rows[:14], noise]).unlike
    assert flagged is not None
    assert flagged.tolist() == [False] * 14 + [True]
    # The same from the command line.
    table = tmp_path / "table.csv"
    assert main(["predict", str(tmp_path / "mine.cellclf"), str(folder), "--out", str(table)]) == 0
    capsys.readouterr()
    with table.open(newline="") as file:
        said = [row["label"] for row in csv.DictReader(file)]
    assert said == [classifier.classes[number] for number in predicted.argmax(axis=1)]


def test_objects_are_cut_out_by_the_rule_in_the_model(tmp_path):
    random = np.random.default_rng(1)
    pixels = np.zeros((320, 320), np.uint16)
    mask = np.zeros((320, 320), int)
    for number in range(16):
        top, left = 80 * (number // 4) + 8, 80 * (number % 4) + 8
        pixels[top : top + 64, left : left + 64] = draw(number, random)
        mask[top : top + 64, left : left + 64] = number + 1
    objects = objects_in_mask(mask)
    collection = Collection(
        [Row("a layer", object=one) for one in objects], lambda row: Image(pixels, "YX")
    )
    backbone = default_backbone(collection.read(0), ObjectCrop(side=64))
    found, suggester, labels = teach(collection, backbone, tmp_path, count=12)
    described = make_bundle(found, suggester, labels, backbone, tmp_path)
    suggested = suggester.refit(labels, 3).probabilities[:, [0, 2]]
    classifier = load_classifier(tmp_path / "mine.cellclf", own_process=False)
    assert classifier.preprocessing.object_crop == ObjectCrop(side=64)
    prepared = [classifier.preprocessing(collection.read(0), region=one) for one in objects]
    np.testing.assert_allclose(
        classifier.compute(np.stack(prepared)),
        apply_temperature(suggested, described.temperature),
        atol=0.01,
    )


def test_labels_of_one_group_a_class_make_no_model(folder, tmp_path):
    features = np.random.default_rng(0).normal(size=(10, 8)).astype(np.float32)
    suggester = Suggester(features, ["a"] * 5 + ["b"] * 5)
    backbone = default_backbone(open_collection([folder]).read(0))
    labels = {0: 0, 1: 0, 5: 2, 6: 2}
    with pytest.raises(InputError, match="label more images"):
        describe_suggested_model(suggester, backbone, labels, CLASSES, name="mine")


def test_labels_of_groups_leave_each_group_out(tmp_path):
    features = np.random.default_rng(0).normal(size=(12, 5)).astype(np.float32)
    found = known_images(features, ["a", "b", "c"] * 4)
    assert found is not None
    assert (found.n_groups, found.level) == (3, 0.25)
    # Of one group nothing can be left out but each image.
    alone = known_images(features, ["a"] * 12)
    assert alone is not None
    assert (alone.n_groups, alone.level) == (0, pytest.approx(1 / 13))
    assert known_images(features[:1], None) is None
    assert known_images(np.zeros_like(features), None) is None
