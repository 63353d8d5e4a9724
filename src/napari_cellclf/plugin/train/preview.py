"""A few training images as the network sees them, made in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from napari_cellclf.errors import CancelledError, ModelError
from napari_cellclf.plugin.napari_layers import colormap_of, contrast_limits

if TYPE_CHECKING:
    from napari import Viewer
    from numpy.typing import NDArray

    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.plugin.shared.background import Ticket

COUNT = 8
_MOST_IMAGES = 6
_CHILD = "napari_cellclf.runs.augmentation_preview"
_WAIT_SECONDS = 0.2
_GAP = 8
_COLOURS = ("red", "green", "blue")
#: Percentiles that become black and white.
_DARK_AND_BRIGHT = (0.5, 99.5)
#: Key of what tells the layers of a preview from others, in their metadata.
PREVIEW = "cellclf preview"


@dataclass(frozen=True)
class Preview:
    """What the network sees."""

    #: Without augmentation.
    prepared: NDArray[np.float32]
    #: As in training; Y and X may be those of a crop.
    augmented: NDArray[np.float32]
    #: Names.
    channels: tuple[str, ...]


def make_preview(dataset: Dataset, config: TrainingConfig, ticket: Ticket) -> Preview:
    """Prepare and augment some training images; to be done in a thread."""
    asked = {
        "config": config.model_dump(mode="json"),
        "rows": some_images(dataset).table.to_dict("list"),
        "naming": dataset.naming,
        "count": COUNT,
    }
    with tempfile.TemporaryDirectory(prefix="cellclf-preview-") as folder:
        question, answer = Path(folder, "run.json"), Path(folder, "preview.npz")
        question.write_text(json.dumps(asked), encoding="utf-8")
        _run([sys.executable, "-P", "-m", _CHILD, str(question), str(answer)], ticket)
        with np.load(answer, allow_pickle=False) as found:
            return Preview(
                found["prepared"], found["augmented"], tuple(map(str, found["channels"]))
            )


def some_images(dataset: Dataset, most: int = _MOST_IMAGES) -> Dataset:
    """Choose training images of different classes."""
    train = dataset.train
    turn = train.table.groupby("label", sort=False).cumcount().to_numpy()
    return train.subset(np.argsort(turn, kind="stable")[:most])


PreviewLayer: TypeAlias = "tuple[NDArray[np.float32], dict[str, Any]]"


def preview_layers(preview: Preview, left: float = 0.0) -> list[PreviewLayer]:
    """Turn a preview into layers: on the left as it is, on the right its variants.

    `left`: where they begin, along x.
    """
    if set(preview.channels) == set(_COLOURS):
        return _colour_layers(preview, left)
    several = len(preview.channels) > 1
    layers = []
    for index, channel in enumerate(preview.channels):
        prepared = preview.prepared[..., index]
        shared = {
            "colormap": colormap_of(channel, index) if several else "gray",
            # The lowest ones hide a canvas that is white, on which nothing can be added.
            "blending": "additive" if index else "translucent",
            "contrast_limits": _ordered(contrast_limits(prepared, len(preview.channels))),
        }
        name = channel or f"channel {index}"
        layers += _side_by_side(prepared, preview.augmented[..., index], name, shared, left)
    return layers


def _colour_layers(preview: Preview, left: float) -> list[PreviewLayer]:
    """Show red, green and blue as the colours that they are."""
    order = [preview.channels.index(name) for name in _COLOURS]
    low, high = _ordered(tuple(np.nanpercentile(preview.prepared, _DARK_AND_BRIGHT)))
    prepared, augmented = (
        np.nan_to_num(np.clip((pixels[..., order] - low) / (high - low), 0, 1))
        for pixels in (preview.prepared, preview.augmented)
    )
    return _side_by_side(prepared, augmented, "colours", {"rgb": True}, left)


def _side_by_side(
    prepared: NDArray[np.float32],
    augmented: NDArray[np.float32],
    name: str,
    shared: dict[str, Any],
    left: float,
) -> list[PreviewLayer]:
    shared = shared | {"axis_labels": ("image", "variant", "y", "x"), "metadata": {PREVIEW: True}}
    # The same on every step of the slider that shows the variants.
    shape = (len(prepared), augmented.shape[1], *prepared.shape[1:])
    still = np.broadcast_to(prepared[:, None], shape)
    right = left + prepared.shape[2] + _GAP
    return [
        (still, {**shared, "name": f"network sees: {name}", "translate": (0, 0, 0, left)}),
        (
            np.ascontiguousarray(augmented),
            {**shared, "name": f"augmented: {name}", "translate": (0, 0, 0, right)},
        ),
    ]


def _ordered(limits: tuple[float, ...]) -> tuple[float, float]:
    low, high = map(float, limits)
    return (low, high) if high > low else (low, low + 1)


def show_preview(viewer: Viewer, preview: Preview) -> None:
    """Show a preview beside what is open, in place of the one before, and look at it."""
    for layer in [one for one in viewer.layers if one.metadata.get(PREVIEW)]:
        viewer.layers.remove(layer)
    left = 0.0
    if len(viewer.layers):
        left = float(viewer.layers.extent.world[1][-1]) + _GAP
    added = [viewer.add_image(data, **settings) for data, settings in preview_layers(preview, left)]
    viewer.layers.selection = set(added)
    viewer.reset_view(layers=added)


def _run(command: list[str], ticket: Ticket) -> None:
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={"TF_CPP_MIN_LOG_LEVEL": "2", **os.environ},
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )
    with process:
        while True:
            try:
                said = process.communicate(timeout=_WAIT_SECONDS)[1]
                break
            except subprocess.TimeoutExpired:
                if ticket.should_stop():
                    process.kill()
                    raise CancelledError("the preview was stopped as asked") from None
    if process.returncode:
        lines = [line for line in said.decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1].strip() if lines else f"exit code {process.returncode}"
        raise ModelError(f"the preview could not be made: {last}")
