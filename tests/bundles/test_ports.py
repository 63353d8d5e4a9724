"""A bundle's network fits what the bundle says, which is seen before Keras is asked."""

from __future__ import annotations

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import hostile
import numpy as np
import pytest
import samples

from napari_cellclf.bundles.arrays import dump_array
from napari_cellclf.bundles.write import write_bundle
from napari_cellclf.errors import BundleError, UnsafeModelError


def _preprocessing(*channels: str, **more: Any) -> dict[str, Any]:
    return {"input": {"preprocessing": {"channels": [{"name": one} for one in channels], **more}}}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"classes": [{"name": name} for name in "abc"]}, r"\(None, 2\), but its bundle names 3"),
        (_preprocessing("DNA", "actin", size=(4, 4)), r"feeds it \(None, Y, X, 2\)"),
        (
            _preprocessing("DNA", size=(4, 5)),
            "pixels only, but its preprocessing makes 4 x 5",
        ),
        (_preprocessing("DNA"), "makes None x None"),
    ],
)
def test_what_does_not_fit_is_told(fields: dict[str, Any], told: str, tmp_path: Path) -> None:
    bundle = samples.bundle(tmp_path, fields=fields)
    with pytest.raises(BundleError, match=told), bundle.private_network():
        pass


def test_what_fits_is_handed_on(tmp_path: Path) -> None:
    with samples.bundle(tmp_path).private_network() as private:
        assert private.checked.network.output_shape == (2,)


def _open_network(folder: Path) -> Path:
    """Write a network of open size that makes 64 numbers of each pixel."""
    config = deepcopy(hostile.CONFIG)
    config["config"]["layers"] = [
        hostile.layer("InputLayer", batch_shape=[None, None, None, 1], name="in"),
        hostile.layer("Conv2D", filters=64, kernel_size=1, use_bias=False, name="conv"),
        hostile.layer("GlobalAveragePooling2D", name="pool"),
        hostile.layer("Dense", units=2, use_bias=False, activation="softmax", name="dense"),
    ]

    def weights(file: Any) -> None:
        del file["layers/dense"]
        file["layers/conv/vars/0"] = np.zeros((1, 1, 1, 64), np.float32)
        file["layers/dense/vars/0"] = np.zeros((64, 2), np.float32)

    return hostile.write(
        folder / "made.keras", config=json.dumps(config).encode(), h5=hostile.weights(weights)
    )


@pytest.mark.parametrize(
    ("size", "image"), [((4096, 4096), (4, 4)), (None, (4096, 4096)), ((5_000, 5_000), (4, 4))]
)
def test_a_network_of_any_size_is_held_against_the_size_it_is_given(
    size: tuple[int, int] | None, image: tuple[int, int], tmp_path: Path
) -> None:
    files = {
        "model.keras": _open_network(tmp_path),
        "test_input.npy": dump_array(np.zeros(image, np.uint8)),
        "test_output.npy": dump_array(np.array([[0.5, 0.5]], np.float32)),
    }
    spec = samples.spec(**_preprocessing("DNA", size=size))
    bundle = write_bundle(tmp_path / "large.cellclf", spec, files)
    with pytest.raises(UnsafeModelError, match="numbers of one image"), bundle.private_network():
        pass
