"""Objects of an image go through the one pipeline, a row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_cellclf.bundles.bundle import ModelBundle
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import ObjectCrop, missing_object, objects_at, objects_in_mask
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.errors import AxesError, ImageError
from napari_cellclf.inference.classifier import Classifier
from napari_cellclf.inference.load import load_classifier
from napari_cellclf.inference.prepare import BadImage, UnreadImage, prepared_ahead, prepared_rows
from napari_cellclf.io.sources import ImageSource

CROP = ObjectCrop(side=9)


@pytest.fixture(scope="module")
def of_objects(
    save: Callable[..., ModelBundle], tmp_path_factory: pytest.TempPathFactory
) -> Classifier:
    preprocessing = Preprocessing(
        channels=({"name": "DNA"}, {"name": "actin"}), object_crop=CROP, size=(12, 12)
    )
    path = tmp_path_factory.mktemp("models") / "objects.cellclf"
    return load_classifier(save(path, preprocessing=preprocessing).path, precision="float32")


def _mask(height: int = 20, width: int = 24, numbers: tuple[int, ...] = (3, 7, 12)) -> Any:
    mask = np.zeros((height, width), np.uint16)
    for place, number in enumerate(numbers):
        mask[2 + 3 * place : 5 + 3 * place, 4 * place : 4 * place + 3] = number
    return mask


def test_every_object_is_a_row(of_objects: Classifier, make_image: Callable[..., Image]) -> None:
    image = make_image(1, source="field.tif", objects=_mask(), metadata={"well": "B02"})
    predictions = of_objects.predict(image)
    assert predictions.ids == tuple(f"field.tif[object={n}]" for n in (3, 7, 12))
    assert predictions.metadata[0] == {
        "well": "B02",
        "object": 3,
        "y": 3.0,
        "x": 1.0,
        "area": 9,
        "touches_border": True,
    }
    assert predictions.metadata[1]["touches_border"] is False
    pixels = [of_objects.preprocessing(image, region=one) for one in objects_in_mask(_mask())]
    np.testing.assert_array_equal(predictions.probabilities, of_objects.compute(np.stack(pixels)))


def test_centres_give_what_masks_give(
    of_objects: Classifier, make_image: Callable[..., Image]
) -> None:
    image = make_image(2)
    found = objects_in_mask(_mask())
    points = objects_at([one.centre for one in found])
    by_mask = of_objects.predict(replace(image, objects=_mask()))
    by_centre = of_objects.predict(replace(image, objects=points))
    np.testing.assert_array_equal(by_mask.probabilities, by_centre.probabilities)
    assert by_centre.ids[0] == "image[object=1]"
    assert set(by_centre.metadata[0]) == {"object", "y", "x"}


@pytest.mark.parametrize("axes", ["TCYX", "CTYX", "TYXC"])
def test_planes_have_their_own_objects(of_objects: Classifier, axes: str) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 2, 20, 24), dtype=np.uint8)
    data = pixels.transpose(["TCYX".index(letter) for letter in axes])
    masks = np.stack([_mask(), _mask(numbers=(5,))])
    image = Image(data, axes, ("DNA", "actin"), objects=masks)
    predictions = of_objects.predict(image)
    assert predictions.ids == (
        *(f"image[t=0,object={n}]" for n in (3, 7, 12)),
        "image[t=1,object=5]",
    )
    second = Image(pixels[1], "CYX", ("DNA", "actin"), objects=masks[1])
    np.testing.assert_array_equal(
        predictions.probabilities[3], of_objects.predict(second).probabilities[0]
    )
    by_plane = {(1,): objects_in_mask(masks[1])}
    only = of_objects.predict(replace(image, objects=by_plane))
    assert only.ids == ("image[t=1,object=5]",)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 200])
def test_however_many_objects_come_in_order(of_objects: Classifier, count: int) -> None:
    image = Image(
        np.random.default_rng(0).integers(0, 255, (2, 40, 40), dtype=np.uint8),
        "CYX",
        ("DNA", "actin"),
        objects=objects_at(np.random.default_rng(1).uniform(0, 39, (count, 2))),
    )
    items = [UnreadImage("field", lambda: image), UnreadImage("again", lambda: image)]
    spec = of_objects.bundle.spec
    found = list(prepared_ahead(items, spec, None, batch_size=4, threads=3))
    wanted = [row for item in items for row in prepared_rows(item, spec, None)]
    assert [row.id for row in found] == [row.id for row in wanted]
    assert [row.finishes for row in found] == ([0] * (count - 1) + [1]) * 2
    steps = []
    of_objects.predict([image, image], on_progress=lambda told: steps.append(told.done))
    assert steps[-1] == 2


def test_an_empty_mask_gives_no_row_and_is_told(
    of_objects: Classifier, make_image: Callable[..., Image]
) -> None:
    empty = make_image(1, objects=np.zeros((20, 24), int))
    assert len(of_objects.predict(empty)) == 0
    full = make_image(1, objects=_mask())
    sources = [
        ImageSource(name, read=lambda image=image: image)
        for name, image in (("a", full), ("b", empty), ("c", full))
    ]
    delivered = list(of_objects.stream(sources))
    assert [one.empty for one in delivered if one.empty] == ["b"]
    assert delivered[-1].done == 3
    assert sum(len(one.answer) for one in delivered) == 6


def test_wholes_and_objects_are_told_apart(
    of_objects: Classifier, classifier: Classifier, make_image: Callable[..., Image]
) -> None:
    with pytest.raises(ImageError, match="came with objects, but tiny classifies whole images"):
        classifier.predict(make_image(1, objects=_mask()))
    with pytest.raises(ImageError, match="came without objects, but objects classifies objects"):
        of_objects.predict(make_image(1))


def test_an_object_that_cannot_be_cut_out_does_not_stop_the_others(
    of_objects: Classifier, make_image: Callable[..., Image]
) -> None:
    objects = (*objects_at([(3, 4), (90, 4)]), missing_object(8))
    source = ImageSource("f.tif", read=lambda: make_image(1, objects=objects, source="f.tif"))
    good, outside, missing = of_objects.predict_sources([source])
    assert len(good) == 1
    assert isinstance(outside, BadImage)
    assert "object 2 (y 90, x 4) is outside f.tif, which has 20 x 24 pixels" in outside.reason
    assert isinstance(missing, BadImage)
    assert missing.id == "f.tif[object=8]"
    assert "the mask of f.tif has no object 8" in missing.reason


@pytest.mark.parametrize(
    ("objects", "says"),
    [
        (np.zeros((20, 25), int), r"a mask of shape \(20, 25\) does not fit"),
        (np.zeros((2, 20, 24), int), r"it must be of shape \(20, 24\)"),
        ({(0,): ()}, r"objects of the plane \(0,\)"),
        ("mask.tif", "objects cannot be a str"),
    ],
)
def test_objects_that_do_not_fit_are_refused(
    make_image: Callable[..., Image], objects: Any, says: str
) -> None:
    with pytest.raises(AxesError, match=says):
        make_image(1, objects=objects)


def test_a_mask_that_is_none_is_one_sentence(
    of_objects: Classifier, make_image: Callable[..., Image]
) -> None:
    image = make_image(1, objects=np.full((20, 24), 0.5), source="f.tif")
    with pytest.raises(ImageError, match=r"f\.tif: a mask holds numbers that are not whole"):
        of_objects.predict(image)


def test_a_lazy_plane_is_read_once(of_objects: Classifier) -> None:
    da = pytest.importorskip("dask.array")
    reads: list[int] = []
    data = da.from_array(np.ones((2, 20, 24), np.uint8)).map_blocks(
        lambda block: (reads.append(1), block)[1], dtype=np.uint8, meta=np.zeros((0, 0, 0), "u1")
    )
    points = objects_at(np.full((100, 2), 9.0))
    assert len(of_objects.predict(Image(data, "CYX", ("DNA", "actin"), objects=points))) == 100
    assert len(reads) == 1


def test_the_rule_is_in_the_bundle_and_on_its_card(of_objects: Classifier) -> None:
    assert of_objects.bundle.spec.input.preprocessing.object_crop == CROP
    card = Path(of_objects.bundle.path, "README.md").read_text(encoding="utf-8")
    assert "Of each it looks at a square of 9 pixels around its centre." in card


def test_a_turned_image_has_a_turned_mask(
    of_objects: Classifier, make_image: Callable[..., Image]
) -> None:
    image = make_image(1)
    turned = Image(image.data.T, "XYC", image.channels, objects=_mask().T)
    straight = of_objects.predict(replace(image, objects=_mask()))
    np.testing.assert_array_equal(straight.probabilities, of_objects.predict(turned).probabilities)


def test_objects_carry_what_checks_find_on_their_plane(
    of_objects: Classifier, make_image: Callable[..., Image]
) -> None:
    image = make_image(1, objects=_mask())
    image.data[1] = 9
    assert of_objects.predict(image).remarks == (("constant channel: actin",),) * 3
