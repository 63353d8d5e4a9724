"""Arrays of other libraries: xarray, masked arrays, tensors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_cellclf.core.foreign_arrays import axes_and_channels, has_named_axes, plain_array
from napari_cellclf.core.image import Image
from napari_cellclf.errors import AxesError, ImageError

PIXELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


class Tensor:
    """What PyTorch's tensors do: no array while they have gradients or lie on a GPU."""

    def __init__(self, pixels: np.ndarray, *, ready: bool = False) -> None:
        self.pixels, self.ready = pixels, ready
        self.shape, self.ndim, self.dtype = pixels.shape, pixels.ndim, "torch.uint8"

    def detach(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return Tensor(self.pixels, ready=True)

    def numpy(self) -> np.ndarray:
        return self.pixels

    def __array__(self, *_: Any, **__: Any) -> np.ndarray:
        if not self.ready:
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return self.pixels


def test_tensors_are_arrays() -> None:
    image = Image(Tensor(PIXELS), "YX")
    np.testing.assert_array_equal(image.data, PIXELS)
    assert image.dtype == np.uint8


def test_masked_pixels_are_refused() -> None:
    with pytest.raises(ImageError, match=r"5 pixels of the array are masked; .*filled"):
        Image(np.ma.masked_array(PIXELS, PIXELS > 6), "YX")
    image = Image(np.ma.masked_array(PIXELS), "YX")
    assert type(image.data) is np.ndarray


def test_lazy_and_plain_arrays_stay_as_they_are() -> None:
    da = pytest.importorskip("dask.array")
    lazy = da.from_array(PIXELS)
    assert plain_array(lazy) is lazy
    assert plain_array(PIXELS) is PIXELS


class Named:
    """What xarray's arrays have."""

    def __init__(self, dims: tuple[str, ...], coords: dict[str, list[str] | range]) -> None:
        self.dims = dims
        self.coords = {dim: type("", (), {"values": np.array(v)}) for dim, v in coords.items()}


@pytest.mark.parametrize(
    ("dims", "axes"),
    [
        (("z", "y", "x"), "ZYX"),
        (("T", "C", "Z", "Y", "X"), "TCZYX"),
        (("row", "col", "channel"), "YXC"),
        (("y", "x", "rgb"), "YXS"),
        (("treatment", "y", "x"), "IYX"),
    ],
)
def test_dimensions_are_what_they_are_called(dims: tuple[str, ...], axes: str) -> None:
    assert has_named_axes(Named(dims, {}))
    assert axes_and_channels(Named(dims, {})) == (axes, ())


def test_coordinates_of_channels_are_their_names() -> None:
    named = Named(("c", "y", "x"), {"c": ["DAPI", "GFP"]})
    assert axes_and_channels(named) == ("CYX", ("DAPI", "GFP"))
    assert axes_and_channels(Named(("c", "y", "x"), {"c": range(2)})) == ("CYX", ())


@pytest.mark.parametrize("dims", [("dim_0", "dim_1"), ("y", "row", "x"), ("z", "y")])
def test_dimensions_that_do_not_say_where_y_and_x_are(dims: tuple[str, ...]) -> None:
    with pytest.raises(AxesError, match="do not say which are y and x; rename"):
        axes_and_channels(Named(dims, {}))


def test_a_sparse_matrix_is_an_array() -> None:
    from scipy.sparse import csr_array

    found = plain_array(csr_array(np.array([[0, 1], [2, 0]])))
    assert found.tolist() == [[0, 1], [2, 0]]
