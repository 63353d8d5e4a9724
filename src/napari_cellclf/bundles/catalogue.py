"""Which models there are: those of the user and those that come with the package."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_cellclf.bundles.bundle import members_of, read_spec
from napari_cellclf.bundles.paths import (
    SUFFIX,
    checked_path,
    previous_path,
    refuse_other_kinds,
    refuse_urls,
)
from napari_cellclf.bundles.schema import NAME_PATTERN
from napari_cellclf.errors import BundleError, ModelError, ModelNotFoundError
from napari_cellclf.io.cache import keras_models_folder
from napari_cellclf.io.local_paths import expanded
from napari_cellclf.io.notes import read_note
from napari_cellclf.io.replacing import replacing

if TYPE_CHECKING:
    from napari_cellclf.bundles.model_lists import RegistryEntry

Where = Literal["bundled", "mine"]

#: What to do where the folder of models cannot be written.
ELSEWHERE = "free some space, or set CELLCLF_MODELS to another folder"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelInfo:
    """What a list of models shows of each."""

    #: What to type.
    name: str
    #: What to read.
    title: str
    #: Where it lies.
    path: Path
    #: With the package, or in the user's folder of models.
    where: Where
    #: Names of the classes.
    classes: tuple[str, ...]
    #: Names of the channels it looks at.
    channels: tuple[str, ...]
    #: Of the weights.
    licence: str
    #: Room on disk.
    size_bytes: int
    #: What it is for.
    description: str = ""

    @property
    def n_classes(self) -> int:
        """How many classes it tells apart."""
        return len(self.classes)


#: The model in the folder of a training run.
RUN_MODEL = f"model{SUFFIX}"


def models_folder() -> Path:
    """Return the user's folder of models: `CELLCLF_MODELS`, else where the system keeps data."""
    chosen = os.environ.get("CELLCLF_MODELS")
    return expanded(chosen) if chosen else _data() / "models"


def _data() -> Path:
    from platformdirs import user_data_path

    # Without an author, as the folder of fetched files: both lie side by side on Windows.
    return user_data_path("napari-cellclf", appauthor=False)


def bundled_folder() -> Path:
    """Return the folder of the models that come with the package."""
    return Path(__file__).parents[1] / "resources" / "models"


def list_models() -> list[ModelInfo]:
    """List the models that can be used by name.

    Returns
    -------
    list of ModelInfo
        The user's own first, each folder in order of names. A model of the user hides a bundled
        one of the same name; what cannot be read is left out with a word in the log.

    Examples
    --------
    >>> all(model.n_classes >= 2 for model in list_models())
    True
    """
    found: dict[str, ModelInfo] = {}
    for folder, where in _folders():
        for path in _bundles(folder):
            info = _describe(path, where)
            if info is not None:
                found.setdefault(info.name, info)
    return list(found.values())


def find_model(name_or_path: str | Path) -> Path:
    """Find a bundle by path or by name."""
    refuse_urls(name_or_path)
    wanted = str(name_or_path)
    if not wanted.strip():
        raise ModelNotFoundError(
            f"no model was named; give a path or one of these names: {_names()}"
        )
    as_path = expanded(wanted)
    # A folder that happens to bear a model's name is not meant, unless it is a bundle.
    if as_path.is_file() or (as_path / "bundle.json").exists() or previous_path(as_path).exists():
        return checked_path(as_path)
    trained = as_path / RUN_MODEL
    if (as_path / "run.json").is_file() and trained.exists():
        return checked_path(trained)
    if re.match(NAME_PATTERN, wanted):
        stem = wanted.removesuffix(SUFFIX)
        for folder, _ in _folders():
            candidate = folder / f"{stem}{SUFFIX}"
            if candidate.exists():
                return candidate
    if as_path.exists():
        refuse_other_kinds(as_path)
        raise ModelNotFoundError(
            f"{as_path} holds no bundle.json, so it is no model; give a folder or file whose "
            f"name ends in {SUFFIX}"
        )
    raise ModelNotFoundError(
        f"there is no model {wanted!r}, neither as a path nor by name; {_way_to(wanted)}"
    )


def place_of(entry: RegistryEntry) -> Path:
    """Return where an entry lies once it was fetched."""
    if entry.kind == "weights":
        return keras_models_folder() / entry.file_name
    if entry.kind == "backbone":
        # Its description; the file beside it has its hash for a name.
        return models_folder() / "backbones" / f"{entry.name}.json"
    return models_folder() / f"{entry.name}{SUFFIX}"


def is_here(entry: RegistryEntry) -> bool:
    """Whether an entry was fetched; nothing of it is read."""
    path = place_of(entry)
    if entry.kind in ("weights", "backbone"):
        return path.is_file()
    return path.exists() and _read_origin(path) == str(entry.checksum)


def note_origin(path: Path, entry: RegistryEntry) -> None:
    """Write down beside a model of which file it was made."""
    note = {"checksum": str(entry.checksum), "uri": entry.uri}
    with replacing(origin_note(path), BundleError, ELSEWHERE) as beside:
        beside.write_text(json.dumps(note), encoding="utf-8")


def origin_note(path: Path) -> Path:
    """Return where the note about a model lies."""
    return path.with_name(f".{path.name}.origin.json")


def _read_origin(path: Path) -> str | None:
    note = read_note(origin_note(path))
    return None if note is None else str(note.get("checksum"))


def _way_to(wanted: str) -> str:
    # Where there is a way to it, the names of the others are of no use. No network is asked.
    from napari_cellclf.bundles.model_lists import read_registries

    known = {entry.name: entry.kind for entry in read_registries().entries}
    if known.get(wanted, "weights") in ("bundle", "network"):
        return f"fetch it with: cellclf models fetch {wanted}"
    return f"models by name: {_names()}"


def _names() -> str:
    return ", ".join(model.name for model in list_models()) or "none"


def _folders() -> Iterator[tuple[Path, Where]]:
    yield models_folder(), "mine"
    yield bundled_folder(), "bundled"


def _bundles(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(
        path for path in folder.iterdir() if path.suffix == SUFFIX and not path.name.startswith(".")
    )


def _describe(path: Path, where: Where) -> ModelInfo | None:
    try:
        spec = read_spec(path)
        size = members_of(path).total_size()
    except (ModelError, OSError) as error:
        _log.warning("model %s is left out of the list: %s", path, error)
        return None
    return ModelInfo(
        name=path.stem,
        title=spec.title or spec.name,
        path=path,
        where=where,
        classes=spec.class_names,
        channels=spec.input.channels,
        licence=spec.licence,
        size_bytes=size,
        description=spec.description,
    )
