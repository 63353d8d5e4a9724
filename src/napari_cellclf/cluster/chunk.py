"""What travels to a worker: some images, and which model is meant."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_cellclf.inference.engine_choice import EngineChoice, Precision
    from napari_cellclf.io.sources import ImageSource


@dataclass(frozen=True)
class WantedModel:
    """A model that workers load for themselves.

    Parameters
    ----------
    path : str
        Where it lies here, absolute; workers look there first.
    name : str
        Its name, for workers that have it elsewhere.
    fingerprint : str
        Which model it is, wherever it lies.
    version : str
        Of this package, which prepares the pixels.
    engine, precision : str
        What computes it; as for `load_classifier`.
    """

    path: str
    name: str
    fingerprint: str
    version: str
    engine: EngineChoice
    precision: Precision


@dataclass(frozen=True)
class Chunk:
    """Images that one worker classifies at a time.

    Parameters
    ----------
    sources : tuple of ImageSource
        With paths that the worker sees, too.
    inputs : tuple of str
        Files and folders that must be there; if not, the disks are not shared.
    mapping : mapping of str to (str or None), optional
        Channels chosen by the user.
    batch_size : int
        As for `Classifier.stream`.
    """

    sources: tuple[ImageSource, ...]
    inputs: tuple[str, ...]
    mapping: Mapping[str, str | None] | None
    batch_size: int
