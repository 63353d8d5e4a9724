"""How long the sides of an image may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_cellclf.core.image import LONGEST_SIDE, Image
from napari_cellclf.errors import ImageTooLargeError
from napari_cellclf.io.files import read_file


def test_an_image_as_long_as_a_side_may_be_is_taken() -> None:
    assert Image(np.zeros((2, LONGEST_SIDE), np.uint8), "YX").height_width == (2, LONGEST_SIDE)


@pytest.mark.parametrize("shape", [(2, LONGEST_SIDE + 1), (LONGEST_SIDE + 1, 2)])
def test_a_longer_one_is_refused(tmp_path: Path, shape: tuple[int, int]) -> None:
    with pytest.raises(ImageTooLargeError, match="1048577 pixels long"):
        Image(np.zeros(shape, np.uint8), "YX")
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, np.zeros(shape, np.uint8), compression="zlib", rowsperstrip=2**18)
    with pytest.raises(ImageTooLargeError, match="one of its sides"):
        read_file(path)
