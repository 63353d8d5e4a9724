"""Objects on the command line: a row each, the same numbers as in the console."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile
from skimage.measure import regionprops_table

import napari_cellclf as cc
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import ObjectCrop, objects_at
from napari_cellclf.core.preprocessing import Preprocessing

SHAPE = (40, 60)


@pytest.fixture(scope="module")
def of_objects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that tells bright objects from dark ones."""
    import keras

    from napari_cellclf.models.save import save_bundle

    network = keras.Sequential(
        [
            keras.layers.Input((None, None, 1)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    network.layers[-1].set_weights([np.array([[-4, 4]], np.float32), np.array([2, -2], np.float32)])
    path = tmp_path_factory.mktemp("models") / "objects.cellclf"
    save_bundle(
        network,
        path,
        preprocessing=Preprocessing(
            channels=({"name": "image"},),
            object_crop=ObjectCrop(side=5),
            normalization={"kind": "scale_linear"},
        ),
        classes=("dark", "bright"),
        architecture="compact-cnn",
        test_image=Image(np.full((8, 8), 90, np.uint8), "YX", ("image",)),
    )
    return path


def _mask() -> np.ndarray:
    mask = np.zeros(SHAPE, np.uint16)
    mask[0:6, 0:6], mask[10:16, 10:16], mask[20:26, 30:36] = 4, 9, 20
    return mask


def _pixels(seed: int) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 60, SHAPE).astype(np.uint8)
    pixels[10:16, 10:16] += 190
    return pixels


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    for seed, name in enumerate(("a", "b"), 1):
        folder = tmp_path / "images"
        folder.mkdir(exist_ok=True)
        tifffile.imwrite(folder / f"{name}.tif", _pixels(seed))
        masks = tmp_path / "masks"
        masks.mkdir(exist_ok=True)
        tifffile.imwrite(masks / f"{name}_masks.tif", _mask())
    return tmp_path


def test_the_table_has_a_row_an_object_that_joins_regionprops(
    fields: Path, of_objects: Path, cellclf: Callable
) -> None:
    out = fields / "out.csv"
    result = cellclf(
        "predict", of_objects, fields / "images", "--objects", fields / "masks", "--out", out
    )
    assert result.code == 0
    assert "6 objects classified on" in result.err
    table = pd.read_csv(out)
    assert list(table.columns) == [
        *("image", "label", "confidence", "p_dark", "p_bright"),
        *("remarks", "path", "mask"),
        *("object", "y", "x", "area", "touches_border"),
    ]
    assert table["label"].tolist() == ["dark", "bright", "dark"] * 2
    assert table["touches_border"].tolist() == [True, False, False] * 2
    measured = pd.DataFrame(
        regionprops_table(_mask(), _pixels(1), properties=("label", "area", "mean_intensity"))
    ).rename(columns={"label": "object"})
    first = table[table["path"] == str(fields / "images" / "a.tif")]
    joined = first.merge(measured, on="object", suffixes=("", "_measured"))
    assert len(joined) == 3
    assert (joined["area"] == joined["area_measured"]).all()
    assert joined["image"][1] == f"{fields / 'images' / 'a.tif'}[object=9]"


def test_command_line_and_console_give_the_same_bits(
    fields: Path, of_objects: Path, cellclf: Callable
) -> None:
    out = fields / "out.csv"
    cellclf("predict", of_objects, fields / "images", "--objects", fields / "masks", "--out", out)
    table = pd.read_csv(out, dtype={"p_dark": str, "p_bright": str})
    classifier = cc.load_classifier(of_objects)
    images = [
        Image(_pixels(seed), "YX", source=str(fields / "images" / f"{name}.tif"), objects=_mask())
        for seed, name in enumerate(("a", "b"), 1)
    ]
    predictions = classifier.predict(images)
    assert table["image"].tolist() == list(predictions.ids)
    written = [[float(a), float(b)] for a, b in table[["p_dark", "p_bright"]].to_numpy()]
    np.testing.assert_array_equal(written, predictions.probabilities.astype(np.float64))
    centres = objects_at(table[["y", "x"]][:3].to_numpy())
    by_centre = classifier.predict(Image(_pixels(1), "YX", objects=centres))
    np.testing.assert_array_equal(by_centre.probabilities, predictions.probabilities[:3])


def test_masks_beside_images_are_found_by_themselves(
    fields: Path, of_objects: Path, cellclf: Callable
) -> None:
    for name in ("a", "b"):
        (fields / "masks" / f"{name}_masks.tif").rename(fields / "images" / f"{name}_masks.tif")
    (fields / "images" / "b_masks.tif").unlink()
    result = cellclf("predict", of_objects, fields / "images", "--json")
    assert result.code == 0
    assert len(result.lines) == 3
    assert f"1 image has no mask and is left out: {fields / 'images' / 'b.tif'}" in result.err
    assert "label mask beside its image is not taken for an image" in result.err


def test_one_image_and_its_mask(fields: Path, of_objects: Path, cellclf: Callable) -> None:
    result = cellclf(
        "predict",
        of_objects,
        fields / "images" / "a.tif",
        "--objects",
        fields / "masks" / "a_masks.tif",
    )
    assert result.code == 0
    assert "a.tif[object=20]" in result.out


def test_tables_of_objects_and_of_centres(
    fields: Path, of_objects: Path, cellclf: Callable
) -> None:
    (fields / "objects.csv").write_text(
        "path,mask,object,marker\n"
        "images/a.tif,masks/a_masks.tif,20,CD3\n"
        "images/a.tif,masks/a_masks.tif,9,CD8\n"
        "images/a.tif,masks/a_masks.tif,5,CD8\n"
    )
    out = fields / "out.csv"
    result = cellclf("predict", of_objects, fields / "objects.csv", "--out", out)
    assert result.code != 0
    assert "the mask of" in result.err
    assert "has no object 5" in result.err
    table = pd.read_csv(out)
    assert table["object"].tolist() == [20, 9]
    assert table["marker"].tolist() == ["CD3", "CD8"]
    (fields / "centres.csv").write_text("path,y,x\nimages/a.tif,12.5,12.5\nimages/b.tif,2.5,2.5\n")
    result = cellclf("predict", of_objects, fields / "centres.csv", "--out", fields / "c.csv")
    assert result.code == 0
    centres = pd.read_csv(fields / "c.csv")
    assert centres["label"].tolist() == ["bright", "dark"]
    assert "area" not in centres.columns


def test_an_empty_mask_is_told_and_has_no_row(
    fields: Path, of_objects: Path, cellclf: Callable
) -> None:
    tifffile.imwrite(fields / "masks" / "b_masks.tif", np.zeros(SHAPE, np.uint16))
    out = fields / "out.csv"
    result = cellclf(
        "predict", of_objects, fields / "images", "--objects", fields / "masks", "--out", out
    )
    assert result.code == 0
    assert f"no object in the mask of {fields / 'images' / 'b.tif'}" in result.err
    assert len(pd.read_csv(out)) == 3
    tifffile.imwrite(fields / "masks" / "a_masks.tif", np.zeros(SHAPE, np.uint16))
    again = cellclf("predict", of_objects, fields / "images", "--objects", fields / "masks")
    assert again.code != 0
    assert "the masks hold no object" in again.err


def test_a_mask_that_does_not_fit_is_one_line_and_the_rest_goes_on(
    fields: Path, of_objects: Path, cellclf: Callable
) -> None:
    tifffile.imwrite(fields / "masks" / "b_masks.tif", np.ones((9, 9), np.uint16))
    result = cellclf("predict", of_objects, fields / "images", "--objects", fields / "masks")
    assert result.code != 0
    assert "b_masks.tif is of shape (9, 9)" in result.err
    assert "1 image could not be classified" in result.err
    assert "3 objects classified" in result.err


def test_a_model_of_whole_images_wants_no_masks(
    fields: Path, grey_bundle: Path, of_objects: Path, cellclf: Callable
) -> None:
    result = cellclf("predict", grey_bundle, fields / "images", "--objects", fields / "masks")
    assert result.code != 0
    assert "but grey classifies whole images" in result.err
    none = cellclf("predict", of_objects, fields / "images")
    assert none.code != 0
    assert "this model classifies objects, but there is no mask beside" in none.err
    assert cellclf("predict", grey_bundle, fields / "images").code == 0


def test_a_stopped_table_goes_on(
    fields: Path, of_objects: Path, cellclf: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    from napari_cellclf.cli.prediction_table import TableFile

    out = fields / "out.csv"
    command = ("predict", of_objects, fields / "images", "--objects", fields / "masks")
    cellclf(*command, "--out", fields / "whole.csv")
    written = TableFile.write

    def fail_in_the_second(self, predictions):
        if any("b.tif" in name for name in predictions.ids):
            raise OSError("the disk is full")
        written(self, predictions)

    with monkeypatch.context() as patch:
        patch.setattr(TableFile, "write", fail_in_the_second)
        assert cellclf(*command, "--batch-size", 3, "--out", out).code != 0
    result = cellclf(*command, "--out", out)
    assert "resuming: 1 of 2 images done" in result.err
    assert out.read_text() == (fields / "whole.csv").read_text()


@pytest.fixture
def labelled(tmp_path: Path) -> Path:
    """A table of bright and dark objects in six images."""
    rows = ["path,mask,object,label"]
    for image in range(6):
        random = np.random.default_rng(image)
        pixels = random.integers(80, 120, (100, 100)).astype(np.uint8)
        mask = np.zeros((100, 100), np.uint16)
        for number in range(1, 10):
            y, x = 10 + 33 * ((number - 1) // 3), 10 + 33 * ((number - 1) % 3)
            size, bright = 10 + number % 4, bool(random.integers(2))
            mask[y : y + size, x : x + size] = number
            pixels[y : y + size, x : x + size] = 220 if bright else 10
            rows.append(f"{image}.tif,masks/{image}.tif,{number},{'bright' if bright else 'dark'}")
        (tmp_path / "masks").mkdir(exist_ok=True)
        tifffile.imwrite(tmp_path / f"{image}.tif", pixels)
        tifffile.imwrite(tmp_path / "masks" / f"{image}.tif", mask)
    table = tmp_path / "objects.csv"
    table.write_text("\n".join(rows) + "\n")
    return table


def test_data_train_evaluate_and_predict_go_together(
    labelled: Path, cellclf: Callable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CELLCLF_CACHE", str(tmp_path / "cache"))
    told = cellclf("data", labelled)
    assert told.code == 0
    assert "54 objects in 6 images" in told.out
    assert "kept together by: path (6 groups)" in told.out
    assert "objects of one image stay together" in told.out
    run = tmp_path / "run"
    small = ("--set", "parameters.width=8", "--set", "parameters.depth=2", "--epochs", "2")
    trained = cellclf("train", labelled, "--out", run, *small)
    assert trained.code == 0
    assert '"preset": "objects"' in (run / "run.json").read_text()
    # What is measured is called what it is.
    assert re.search(r"test objects: \d+ objects, 2 classes \(test\)", trained.out)
    evaluated = cellclf("evaluate", run, labelled, "--out", tmp_path / "report", "--split", "all")
    assert evaluated.code == 0
    written = pd.read_csv(tmp_path / "report" / "predictions.csv")
    assert len(written) == 54
    assert written["image"][0].endswith("0.tif[object=1]")
    out = tmp_path / "table.csv"
    images = sorted(tmp_path.glob("?.tif"))
    (bundle,) = run.glob("*.cellclf")
    predicted = cellclf("predict", bundle, *images, "--objects", tmp_path / "masks", "--out", out)
    assert predicted.code == 0
    table = pd.read_csv(out)
    by_id = written.set_index("image")["p_bright"]
    both = table.set_index("image")["p_bright"]
    np.testing.assert_array_equal(both[by_id.index], by_id)
    # The table of predictions is a table of objects itself.
    again = cellclf("train", out, "--out", tmp_path / "again", *small)
    assert again.code == 0


def test_objects_are_not_written_as_images(
    labelled: Path, cellclf: Callable, tmp_path: Path
) -> None:
    refused = cellclf("data", labelled, "--write", tmp_path / "new")
    assert refused.code != 0
    assert "objects are not written as images of their own" in refused.err
