"""How long the objects of a large field take: 5,000 of 2048 x 2048 pixels, or more.

    python benchmarks/objects.py [--objects 5000] [--side 2048]

The network is compact-cnn with random weights, for two channels, with crops of 64 pixels.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

import napari_cellclf as cc
from napari_cellclf.bundles.schema import ArchitectureSpec
from napari_cellclf.core.objects import ObjectCrop, objects_in_mask
from napari_cellclf.models.architectures.registry import build_network
from napari_cellclf.models.sample_image import make_test_image
from napari_cellclf.models.save import save_bundle

_CROP = 64


def main() -> None:
    """Predict a field twice, and print how long it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--objects", type=int, default=5000)
    parser.add_argument("--side", type=int, default=2048)
    args = parser.parse_args()
    image = _field(args.side, args.objects)
    with tempfile.TemporaryDirectory() as folder:
        classifier = cc.load_classifier(_model(Path(folder)))
        began = time.perf_counter()
        found = objects_in_mask(image.objects)
        print(f"finding {len(found)} objects: {time.perf_counter() - began:.2f} s")
        for _ in range(2):
            began = time.perf_counter()
            predictions = classifier.predict(image, batch_size=64)
            seconds = time.perf_counter() - began
            print(f"predicting them on {classifier.device}: {seconds:.2f} s")
        assert len(predictions) == len(found)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"largest memory of the process: {peak:.2f} GiB")


def _field(side: int, count: int) -> cc.Image:
    """Discs on a grid, each with a number of its own."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 4000, (2, side, side), np.uint16)
    mask = np.zeros((side, side), np.int32)
    per_row = int(np.ceil(np.sqrt(count)))
    step = side // per_row
    size = max(2, step - 3)
    for number in range(count):
        y, x = step * (number // per_row), step * (number % per_row)
        mask[y : y + size, x : x + size] = number + 1
    return cc.Image(pixels, "CYX", ("DNA", "actin"), objects=mask)


def _model(folder: Path) -> Path:
    preprocessing = cc.Preprocessing(
        channels=({"name": "DNA"}, {"name": "actin"}), object_crop=ObjectCrop(side=_CROP)
    )
    parameters = {"width": 32, "depth": 4, "seed": 0}
    network = build_network("compact-cnn", input_shape=(None, None, 2), n_classes=4, **parameters)
    path = folder / "objects.cellclf"
    return save_bundle(
        network,
        path,
        preprocessing=preprocessing,
        classes=("a", "b", "c", "d"),
        architecture=ArchitectureSpec(name="compact-cnn", parameters=parameters),
        test_image=make_test_image(preprocessing, (_CROP, _CROP)),
    ).path


if __name__ == "__main__":
    main()
