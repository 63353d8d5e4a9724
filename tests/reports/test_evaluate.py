from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.bundles.schema import BundleSpec
from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.predictions import Predictions
from napari_cellclf.errors import CancelledError, DatasetError, InputError, NoImagesError
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.io.rows import RowReader
from napari_cellclf.reports.evaluate import _marks, evaluate, leak_warnings


class Brightness:
    """Answers ``bright`` as probably as the image is bright."""

    device = "cpu"

    def __call__(self, batch):
        bright = batch.mean(axis=(1, 2, 3))
        return np.stack([1 - bright, bright], axis=1).astype(np.float32)


def classifier(**fields):
    spec = {
        "name": "brightness",
        "input": {
            "preprocessing": {
                "channels": [{"name": "grey"}],
                "normalization": {"kind": "scale_linear"},
            }
        },
        "classes": [{"name": "dark"}, {"name": "bright"}],
        "architecture": {"name": "compact-cnn"},
        "test_image": {"axes": "YX", "channels": [""]},
    }
    return Classifier(
        ModelBundle(Path("x"), BundleSpec.model_validate(spec | fields)), Brightness()
    )


@pytest.fixture
def data(tmp_path):
    """Six images of three embryos, two of each; one of the bright ones is dark."""
    rows = []
    for number, (label, level) in enumerate(
        [("bright", 250), ("dark", 10), ("bright", 200), ("dark", 30), ("bright", 40), ("dark", 0)]
    ):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(path, np.full((6, 6), level, np.uint8))
        rows.append((str(path), label, "test", f"embryo{number // 2}"))
    table = pd.DataFrame(rows, columns=["path", "label", "split", "embryo"])
    # In another order than the model's.
    classes = (ClassSpec(name="bright"), ClassSpec(name="dark"))
    return Dataset(table, classes, group_column="embryo")


def test_answers_are_compared_with_labels_by_name(data):
    seen = []
    one = evaluate(classifier(), data, name="all", batch_size=4, on_progress=seen.append)
    assert one.accuracy == pytest.approx(5 / 6)
    assert one.class_names == ("dark", "bright")
    assert one.confusion.tolist() == [[3, 0], [1, 2]]
    assert one.ids == data.paths
    assert one.groups == tuple(data.groups)
    assert (one.units.kind, one.units.count) == ("group", 3)
    assert (seen[-1].done, seen[-1].total) == (6, 6)
    assert [Path(one.ids[row]).name for row in one.mistakes()] == ["4.tif"]


def test_the_model_says_temperature_and_threshold(data):
    cool = evaluate(classifier(temperature=2.0, unsure_threshold=0.8), data)
    plain = evaluate(classifier(), data)
    assert (cool.temperature, cool.unsure_threshold) == (2.0, 0.8)
    assert cool.confidences.mean() < plain.confidences.mean()
    assert plain.unsure_threshold is None


def test_every_plane_of_a_stack_has_the_label_of_its_file(data, tmp_path):
    stack = np.stack([np.full((6, 6), level, np.uint8) for level in (240, 20, 250)])
    tifffile.imwrite(tmp_path / "0.tif", stack, imagej=True, metadata={"axes": "TYX"})
    one = evaluate(classifier(), data)
    assert len(one) == 8
    assert one.ids[:3] == tuple(f"{tmp_path / '0.tif'}[t={t}]" for t in range(3))
    assert one.truth[:4].tolist() == [1, 1, 1, 0]
    assert one.predicted[:3].tolist() == [1, 0, 1]
    assert float(RowReader(data, None)(one.ids[1]).data.mean()) == 20


def test_a_bad_image_is_in_no_figure_and_is_told(data):
    Path(data.paths[2]).write_bytes(b"II*\0")
    one = evaluate(classifier(), data)
    assert len(one) == 5
    ((image, reason),) = one.failed
    assert image == data.paths[2]
    assert reason
    assert any("1 image could not be classified" in note for note in one.metrics()["notes"])
    assert data.paths[2] not in one.ids
    assert one.truth.tolist() == [1, 0, 0, 1, 0]


def test_if_all_are_bad_there_is_no_evaluation(data):
    for path in data.paths:
        Path(path).write_bytes(b"")
    with pytest.raises(NoImagesError, match="none of the 6 images could be classified"):
        evaluate(classifier(), data)


def test_a_class_that_the_model_does_not_know_is_refused_by_name(data):
    table = data.table.assign(label=["bright", "dim", "bright", "dim", "bright", "dark"])
    other = Dataset(table, (*data.classes, ClassSpec(name="dim")), "embryo")
    with pytest.raises(DatasetError, match=r"2 of 6 images .*\(dim; it knows dark, bright\)"):
        evaluate(classifier(), other)
    one = evaluate(classifier(), other, unknown="ignore")
    assert len(one) == 4
    assert one.groups == ("embryo0", "embryo1", "embryo2", "embryo2")
    assert "2 images of classes that the model does not know (dim)" in one.metrics()["notes"][0]


def test_nothing_to_evaluate_on(data):
    with pytest.raises(NoImagesError, match="choose another split"):
        evaluate(classifier(), data.train)


def test_a_stop_is_a_cancellation(data):
    with pytest.raises(CancelledError, match="stopped as asked"):
        evaluate(classifier(), data, should_stop=lambda: True)


def test_the_scale_comes_from_the_data_if_the_model_has_none(data):
    classes = (
        ClassSpec(name="bright", value=9, unit="minute"),
        ClassSpec(name="dark", value=0, unit="minute"),
    )
    one = evaluate(classifier(), Dataset(data.table, classes))
    assert one.values["mean_absolute_error"] == pytest.approx(9 / 6)
    assert one.scale.unit == "minute"


def test_a_leak_is_told_as_an_error(data):
    assert leak_warnings(data) == []
    leaky = data.with_splits(["train", "test", "train", "train", "test", "test"])
    ((level, sentence),) = leak_warnings(leaky)
    assert level == "error"
    assert "1 group (embryo: embryo0)" in sentence


def test_an_image_is_found_again_by_its_id(data, tmp_path):
    read = RowReader(data, None)
    path = tmp_path / "odd[t=1].tif"
    tifffile.imwrite(path, np.full((6, 6), 7, np.uint8))
    assert float(read(str(path)).data.mean()) == 7
    with pytest.raises(InputError, match="there is no plane t=4"):
        read(f"{path}[t=4]")
    with pytest.raises((InputError, OSError)):
        read(str(tmp_path / "gone.tif"))


def test_images_unlike_training_are_counted_and_judged_apart(data):
    assert evaluate(classifier(), data).notes == ("6 of 6 images have remarks.",)
    found = Predictions(
        np.tile(np.float32([[0.9, 0.1]]), (4, 1)),
        ("dark", "bright"),
        tuple("abcd"),
        unlike_scores=np.float32([0.1, 3.0, 0.2, 1.5]),
    )
    # In another order: the first and the last are unlike.
    order = np.array([1, 0, 2, 3])
    assert _marks(found, order, np.array([False, True, True, True]), "image") == (
        "2 of 4 images are unlike anything in training; of the unlike ones 50.0 %, of the others "
        "100.0 % are predicted right.",
    )
