"""The usual pixel size of the training images, as the network is given them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tifffile

from napari_cellclf.core.classes import ClassSpec
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.preprocessing import Preprocessing
from napari_cellclf.runs.resolve import usual_pixel_size


@pytest.mark.parametrize(
    ("sizes", "expected"), [([0.5, 0.5, 2.0], 1.0), ([None, 0.5], None), ([0.5, None], None)]
)
def test_it_is_known_where_all_images_say_it(
    tmp_path: Path, sizes: list[float | None], expected: float | None
) -> None:
    paths = [tmp_path / f"{number}.ome.tif" for number in range(len(sizes))]
    for path, size in zip(paths, sizes, strict=True):
        said = {} if size is None else {"PhysicalSizeX": size, "PhysicalSizeY": size}
        pixels = np.zeros((32, 32), np.uint8)
        tifffile.imwrite(path, pixels, ome=True, metadata={"axes": "YX", **said})
    table = pd.DataFrame(
        {"path": list(map(str, paths)), "label": "a", "group": "", "split": "train"}
    )
    train = Dataset(table, (ClassSpec(name="a"), ClassSpec(name="b")))
    # Of 32 pixels 16 are made.
    prepare = Preprocessing(channels=({"name": "image"},), size=(16, 16))
    assert usual_pixel_size(train, prepare) == expected
