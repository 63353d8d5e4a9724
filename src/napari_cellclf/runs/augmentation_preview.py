"""Show what augmentation makes of images, exactly as the network will see it.

Run as ``python -m napari_cellclf.runs.augmentation_preview REQUEST.json OUT.npz`` beside a window,
where Keras cannot be loaded. The request holds ``config`` (a `TrainingConfig`), ``rows`` (the
columns of a data set's table), ``naming`` and ``count``.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from napari_cellclf.core.classes import make_classes
from napari_cellclf.core.dataset import Dataset
from napari_cellclf.core.image import rotate_image
from napari_cellclf.errors import CellclfError
from napari_cellclf.io.prepared import TurnedFile, items_of
from napari_cellclf.io.read import read_image
from napari_cellclf.models.training.config import TrainingConfig

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.image import Image
    from napari_cellclf.core.preprocessing import Preprocessing


@dataclass(frozen=True)
class Preview:
    """Some images as the network sees them."""

    #: Without augmentation.
    prepared: NDArray[np.float32]
    #: The same, varied K times.
    augmented: NDArray[np.float32]
    #: Names along C.
    channels: tuple[str, ...]


def preview_augmentation(dataset: Dataset, config: TrainingConfig, *, count: int = 4) -> Preview:
    """Prepare and vary some images or objects as a training would."""
    import keras

    from napari_cellclf.models.augmentation.layers import build_augmenter
    from napari_cellclf.runs.resolve import resolve, settled_crop

    crop = settled_crop(dataset, config)
    config, preprocessing = resolve(dataset.paths, config, dataset.naming, crop, dataset.planes)
    images = [_read(item) for item in items_of(dataset)]
    prepared = _stack([_prepared(image, preprocessing) for image in images])
    augment = build_augmenter(config.augmentation, config.seed)
    random = np.random.default_rng(config.seed)
    variants = []
    for number in range(count):
        turned = _turned(images, preprocessing, config, number)
        cut = _crops(turned, config.crop, random)
        varied = augment(cut, training=True) if config.epochs else cut
        variants.append(np.asarray(keras.ops.convert_to_numpy(varied), np.float32))
    names = tuple(channel.name for channel in preprocessing.channels)
    return Preview(prepared, np.stack(variants, axis=1), names)


def _turned(
    images: Sequence[Image], preprocessing: Preprocessing, config: TrainingConfig, number: int
) -> NDArray[np.float32]:
    """Prepare images turned by one of the fixed angles, the first of which is none."""
    angles = (0.0, *config.fixed_rotations)
    degrees = angles[number % len(angles)]
    if degrees:
        images = [rotate_image(image, degrees, config.rotation_frame) for image in images]
    return _stack([_prepared(image, preprocessing) for image in images])


def _read(item: TurnedFile) -> Image:
    image = read_image(item.path, naming=item.naming)
    image = image if item.choice is None else item.choice.add_to(image)
    return image.plane(dict(item.plane)) if item.plane else image


def _prepared(image: Image, preprocessing: Preprocessing) -> NDArray[np.float32]:
    return preprocessing(image, region=next(iter(image.find_objects()), None))


def _stack(arrays: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    height, width = (min(array.shape[axis] for array in arrays) for axis in (0, 1))
    return np.stack([array[:height, :width] for array in arrays])


def _crops(
    images: NDArray[np.float32], crop: int | None, random: np.random.Generator
) -> NDArray[np.float32]:
    if crop is None:
        return images
    side = min(crop, *images.shape[1:3])
    top, left = (int(random.integers(0, whole - side + 1)) for whole in images.shape[1:3])
    return images[:, top : top + side, left : left + side]


def main(arguments: Sequence[str]) -> int:
    """Answer a request in a file."""
    request_file, answer_file = arguments
    try:
        request = json.loads(Path(request_file).read_text(encoding="utf-8"))
        config = TrainingConfig.model_validate(request["config"])
        table = pd.DataFrame(request["rows"])
        classes = make_classes(table["label"])
        dataset = Dataset(table, classes, naming=request.get("naming"))
        found = preview_augmentation(dataset, config, count=int(request["count"]))
    except CellclfError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    np.savez(
        answer_file,
        prepared=found.prepared,
        augmented=found.augmented,
        channels=np.array(found.channels),
    )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
