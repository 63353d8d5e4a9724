"""Where an entry of a list of models lies once it was fetched, and how that is known."""

from __future__ import annotations

import json
from pathlib import Path

from napari_cellclf.bundles.catalogue import models_folder
from napari_cellclf.bundles.paths import SUFFIX
from napari_cellclf.bundles.registry import RegistryEntry, WeightsEntry
from napari_cellclf.io.cache import keras_models_folder


def place_of(entry: RegistryEntry) -> Path:
    """Return where an entry lies once it was fetched."""
    if isinstance(entry, WeightsEntry):
        return keras_models_folder() / entry.file_name
    return models_folder() / f"{entry.name}{SUFFIX}"


def is_here(entry: RegistryEntry) -> bool:
    """Whether an entry was fetched; nothing of it is read."""
    path = place_of(entry)
    if isinstance(entry, WeightsEntry):
        return path.is_file()
    return path.exists() and _read_origin(path) == str(entry.checksum)


def note_origin(path: Path, entry: RegistryEntry) -> None:
    """Write down beside a model of which file it was made."""
    note = {"checksum": str(entry.checksum), "uri": entry.uri}
    origin_note(path).write_text(json.dumps(note), encoding="utf-8")


def origin_note(path: Path) -> Path:
    """Return where the note about a model lies."""
    return path.with_name(f".{path.name}.origin.json")


def _read_origin(path: Path) -> str | None:
    try:
        note = json.loads(origin_note(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return str(note.get("checksum")) if isinstance(note, dict) else None
