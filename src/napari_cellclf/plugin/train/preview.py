"""A few training images as the network sees them, made in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_cellclf.errors import CancelledError, ModelError
from napari_cellclf.plugin.napari_layers import colormap_of, contrast_limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.dataset import Dataset
    from napari_cellclf.models.training.config import TrainingConfig
    from napari_cellclf.plugin.shared.background import Ticket

COUNT = 8
_MOST_IMAGES = 6
_CHILD = "napari_cellclf.runs.augmentation_preview"
_WAIT_SECONDS = 0.2
_GAP = 8


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
    paths, labels = some_images(dataset)
    asked = {
        "config": config.model_dump(mode="json"),
        "paths": paths,
        "naming": dataset.naming,
        "classes": labels,
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


def some_images(dataset: Dataset, most: int = _MOST_IMAGES) -> tuple[list[str], list[str]]:
    """Choose training images of different classes."""
    train = dataset.train.table
    turn = train.groupby("label", sort=False).cumcount()
    chosen = train.assign(_turn=turn).sort_values("_turn", kind="stable").head(most)
    return list(chosen["path"]), list(chosen["label"])


def preview_layers(preview: Preview) -> list[tuple[NDArray[np.float32], dict[str, Any]]]:
    """Turn a preview into layers."""
    several = len(preview.channels) > 1
    n_variants = preview.augmented.shape[1]
    width = preview.prepared.shape[2]
    layers = []
    for index, channel in enumerate(preview.channels):
        prepared = preview.prepared[:, None, ..., index]
        shared = {
            "axis_labels": ("image", "variant", "y", "x"),
            "colormap": colormap_of(channel, index) if several else "gray",
            # The lowest ones hide a canvas that is white, on which nothing can be added.
            "blending": "additive" if index else "translucent",
            "contrast_limits": _ordered(contrast_limits(prepared, len(preview.channels))),
        }
        # The same on every step of the slider that shows the variants.
        still = np.broadcast_to(prepared, (len(prepared), n_variants, *prepared.shape[2:]))
        left, right = (0.0, 0.0, 0.0, -float(width + _GAP)), (0.0, 0.0, 0.0, 0.0)
        name = channel or f"channel {index}"
        layers += [
            (still, {**shared, "name": f"network sees: {name}", "translate": left}),
            (
                np.ascontiguousarray(preview.augmented[..., index]),
                {**shared, "name": f"augmented: {name}", "translate": right},
            ),
        ]
    return layers


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    low, high = limits
    return (low, high) if high > low else (low, low + 1)


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
