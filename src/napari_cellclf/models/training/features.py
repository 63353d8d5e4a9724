"""What a frozen backbone makes of each image, computed once and kept on disk."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.progress import (
    OnProgress,
    Progress,
    ShouldStop,
    ignore_progress,
    never_stop,
)
from napari_cellclf.io.prepared import remove_abandoned
from napari_cellclf.models.training.batches import Arrays, Subset
from napari_cellclf.models.training.validation import predict

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

#: Images between two looks at the clock and at `should_stop`.
_PART = 32


def cached_features(
    backbone: keras.Model,
    arrays: Arrays,
    *,
    folder: Path,
    key: str,
    batch_size: int = 32,
    on_progress: OnProgress = ignore_progress,
    should_stop: ShouldStop = never_stop,
) -> NDArray[np.float32]:
    """Send images through a backbone, unless that has been done before.

    Parameters
    ----------
    backbone : keras.Model
        Images to features ``(N, F)``.
    arrays : Arrays
        Prepared images.
    folder : Path
        Where features are kept.
    key : str
        Names the images and how they were prepared.
    batch_size : int
        Images at once.
    on_progress, should_stop : callable
        Told and asked every few images.

    Returns
    -------
    ndarray, shape (N, F), float32
        In order.

    Raises
    ------
    CancelledError
        If `should_stop` answered yes; nothing is kept then.
    """
    file = folder / f"{_key(backbone, key)}.npy"
    found = _load(file, (len(arrays), int(backbone.output_shape[-1])))
    if found is not None:
        on_progress(Progress(len(arrays), len(arrays), "features were computed before"))
        return found
    parts = []
    for start in range(0, len(arrays), _PART):
        numbers = range(start, min(start + _PART, len(arrays)))
        parts.append(predict(backbone, Subset(arrays, numbers), batch_size, should_stop))
        on_progress(Progress(numbers.stop, len(arrays), "computing features of the backbone"))
    features = np.concatenate(parts)
    folder.mkdir(parents=True, exist_ok=True)
    remove_abandoned(folder)
    with tempfile.TemporaryDirectory(prefix=".", suffix=".partial", dir=folder) as beside:
        np.save(Path(beside, "features.npy"), features, allow_pickle=False)
        Path(beside, "features.npy").replace(file)
    return features


def _load(file: Path, shape: tuple[int, int]) -> NDArray[np.float32] | None:
    try:
        features = np.load(file, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if features.shape != shape or features.dtype != np.float32 or not np.isfinite(features).all():
        return None
    return np.asarray(features)


def _key(backbone: keras.Model, key: str) -> str:
    import keras

    digest = hashlib.sha256(f"{key} {keras.config.backend()} {keras.version()}".encode())
    digest.update(backbone.compute_dtype.encode())
    for weight in backbone.get_weights():
        digest.update(np.ascontiguousarray(weight).data)
    return digest.hexdigest()[:32]
