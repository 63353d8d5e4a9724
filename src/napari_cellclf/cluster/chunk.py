"""What is sent to a worker: some images, and which model to use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from napari_cellclf.inference.engine import EngineChoice, Precision
    from napari_cellclf.io.sources import ImageSource


@dataclass(frozen=True)
class WantedModel:
    """A model that workers load for themselves."""

    #: Its absolute path here; workers look there first.
    path: str
    #: Its name, for workers that have it elsewhere.
    name: str
    #: Its hash.
    fingerprint: str
    #: Of this package, which prepares the pixels.
    version: str
    engine: EngineChoice
    precision: Precision


@dataclass(frozen=True)
class Chunk:
    """Images that one worker classifies at a time."""

    #: With paths that the worker can read as well.
    sources: tuple[ImageSource, ...]
    #: Files and folders that must exist on the worker; if not, the disks are not shared.
    inputs: tuple[str, ...]
    #: Channels chosen by the user.
    mapping: Mapping[str, str | None] | None
    #: As for `Classifier.stream`.
    batch_size: int
