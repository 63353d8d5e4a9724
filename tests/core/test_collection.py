"""Rows of a collection: what they are called, what is known of them, what belongs together."""

import numpy as np
import pytest

from napari_cellclf.core.collection import Collection, Row, row_id
from napari_cellclf.core.image import Image
from napari_cellclf.core.objects import objects_in_mask
from napari_cellclf.errors import AxesError, DatasetError

STACK = Image(np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5), "TCYX")


def collection_of(rows, **kwargs):
    return Collection(rows, lambda row: STACK.plane(dict(row.plane)), **kwargs)


def test_a_row_is_named_as_predictions_are():
    mask = np.zeros((9, 9), int)
    mask[2:4, 3:6] = 7
    (one,) = objects_in_mask(mask)
    assert Row("/a.tif").id == "/a.tif"
    assert Row("/a.tif", (("T", 3), ("Z", 1))).id == "/a.tif[t=3,z=1]"
    assert Row("/a.tif", (("T", 3),), one).id == "/a.tif[t=3,object=7]"
    assert row_id("/a.tif", {}, 7) == "/a.tif[object=7]"


def test_rows_are_found_by_their_names():
    rows = [Row("/a.tif", (("T", t),)) for t in range(2)]
    opened = collection_of(rows)
    assert [opened.row_of(name) for name in opened.ids] == [0, 1]
    assert opened.row_of("/b.tif") is None


def test_the_plane_of_a_row_is_read():
    opened = collection_of([Row("/a.tif", (("T", t),)) for t in range(2)])
    found = opened.read(1)
    assert found.axes == "CYX"
    np.testing.assert_array_equal(found.data, STACK.data[1])


def test_planes_of_one_image_are_one_group_and_whole_images_are_none():
    planes = [Row(name, (("T", t),)) for name in ("/a.tif", "/b.tif") for t in range(2)]
    assert list(collection_of(planes).groups) == ["/a.tif", "/a.tif", "/b.tif", "/b.tif"]
    assert collection_of([Row("/a.tif"), Row("/b.tif")]).groups is None


def test_a_named_field_is_the_group():
    rows = [Row(f"/{n}.tif", fields={"plate": n // 2}) for n in range(4)]
    assert list(collection_of(rows, group_column="plate").groups) == ["0", "0", "1", "1"]


def test_a_field_that_some_rows_lack_is_none_there():
    opened = collection_of([Row("/a.tif", fields={"well": "B02"}), Row("/b.tif")])
    assert opened.field_names == ("well",)
    assert opened.values("well") == ("B02", None)


def test_an_unknown_field_is_refused_with_those_that_are_known():
    with pytest.raises(DatasetError, match=r"no field 'plate' \(theirs: well\)"):
        collection_of([Row("/a.tif", fields={"well": "B02"})]).values("plate")


def test_a_plane_that_an_image_lacks_is_refused():
    with pytest.raises(AxesError, match="has no plane t=2"):
        STACK.plane({"T": 2})
    with pytest.raises(AxesError, match="2 planes along t; say which of them"):
        STACK.plane({})
