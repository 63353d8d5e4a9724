from __future__ import annotations

import numpy as np
import pytest

from napari_cellclf.core.image import Image
from napari_cellclf.errors import AxesError, ImageError


def test_channel_names_default_to_empty():
    assert Image(np.zeros((2, 3, 4)), "CYX").channels == ("", "")


@pytest.mark.parametrize(
    ("samples", "names"),
    [
        (3, ("red", "green", "blue")),
        (4, ("red", "green", "blue", "alpha")),
        (2, ("", "")),
    ],
)
def test_samples_are_named_as_colours(samples, names):
    assert Image(np.zeros((3, 4, samples)), "YXS").channels == names


def test_an_image_without_channel_axis_has_one_channel():
    image = Image(np.zeros((3, 4), "uint8"), "YX")
    assert (image.n_channels, image.channel_axis, image.channels) == (1, None, ("",))


def test_sizes_follow_the_axes():
    image = Image(np.zeros((5, 7, 2, 3), "uint16"), "TXCY")
    assert image.height_width == (3, 7)
    assert (image.n_channels, image.leading_axes, image.n_planes) == (2, "T", 5)
    assert image.dtype == np.uint16


def test_a_plain_plane_is_one_plane():
    image = Image(np.zeros((3, 4)), "YX")
    assert image.n_planes == 1
    [(index, plane)] = list(image.planes())
    assert index == {}
    assert plane.axes == "YX"


def test_planes_come_in_order_with_the_last_axis_fastest():
    data = np.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    planes = list(Image(data, "TZYX").planes())
    assert [index for index, _ in planes][:4] == [
        {"T": 0, "Z": 0},
        {"T": 0, "Z": 1},
        {"T": 0, "Z": 2},
        {"T": 1, "Z": 0},
    ]
    for index, plane in planes:
        assert plane.axes == "YX"
        np.testing.assert_array_equal(plane.data, data[index["T"], index["Z"]])


def test_planes_keep_channels_names_and_metadata():
    image = Image(
        np.zeros((3, 2, 4, 5)), "TCYX", ("DNA", "actin"), metadata={"well": "B02"}, source="a.tif"
    )
    _, plane = next(image.planes())
    assert (plane.axes, plane.channels, plane.source) == ("CYX", ("DNA", "actin"), "a.tif")
    assert plane.metadata == {"well": "B02"}


def test_planes_of_a_lazy_array_stay_lazy():
    dask = pytest.importorskip("dask.array")
    reads = []

    def block(block_info=None):
        reads.append(block_info)
        return np.zeros((1, 4, 5))

    lazy = dask.map_blocks(block, chunks=((1, 1, 1), (4,), (5,)), meta=np.zeros((0, 0, 0)))
    planes = list(Image(lazy, "TYX").planes())
    assert not reads
    assert planes[1][1].to_cyx().shape == (1, 4, 5)
    assert len(reads) == 1


@pytest.mark.parametrize("axes", ["CYX", "XCY", "YXC", "YXS", "SXY"])
def test_to_cyx_puts_channels_first_then_y_then_x(axes):
    sizes = {"C": 2, "S": 2, "Y": 3, "X": 4}
    names = [letter if letter in axes else "S" for letter in "CYX"]
    cyx = np.arange(24).reshape(2, 3, 4)
    data = cyx.transpose([names.index(letter) for letter in axes])
    image = Image(data, axes)
    assert image.to_cyx().shape == tuple(sizes[letter] for letter in names)
    np.testing.assert_array_equal(image.to_cyx(), cyx)


def test_to_cyx_adds_a_channel_axis():
    assert Image(np.zeros((3, 4)), "YX").to_cyx().shape == (1, 3, 4)


def test_to_cyx_refuses_several_planes():
    with pytest.raises(AxesError, match="holds 5 planes"):
        Image(np.zeros((5, 3, 4)), "TYX").to_cyx()


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((3, 4), "CYX", "name 3 dimensions, but the array has 2"),
        ((3, 4), "yx", "upper-case"),
        ((3, 4, 4), "YXX", "different"),
        ((3, 4), "Y1", "upper-case"),
        ((3, 4), "ZX", "lack Y or X"),
        ((2, 3, 4, 3), "CYXS", "channels .C. and RGB samples .S."),
    ],
)
def test_axes_that_do_not_fit_are_refused(shape, axes, message):
    with pytest.raises(AxesError, match=message):
        Image(np.zeros(shape), axes)


def test_as_many_names_as_channels_are_needed():
    with pytest.raises(AxesError, match=r"2 channel names \(a, b\) were given for an image of 3"):
        Image(np.zeros((3, 4, 5)), "CYX", ("a", "b"))


def test_an_empty_array_is_refused():
    with pytest.raises(ImageError, match=r"shape \(0, 4\) holds no pixels"):
        Image(np.zeros((0, 4)), "YX")


@pytest.mark.parametrize("dtype", ["complex64", "U3", "datetime64[s]", "O"])
def test_pixels_must_be_real_numbers(dtype):
    with pytest.raises(ImageError, match="cannot be classified"):
        Image(np.zeros((3, 4), dtype), "YX")


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int16", "float16", "float64"])
def test_all_real_number_types_are_taken(dtype):
    assert Image(np.zeros((3, 4), dtype), "YX").dtype == dtype


def test_an_image_cannot_be_changed_by_assignment():
    image = Image(np.zeros((3, 4)), "YX")
    with pytest.raises(AttributeError):
        image.axes = "XY"
