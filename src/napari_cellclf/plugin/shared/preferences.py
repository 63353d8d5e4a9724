"""The plugin's part of napari's preferences, and what of it the command line needs, too."""

from __future__ import annotations

import logging
from typing import Any

from napari_cellclf.bundles.model_lists import settings_files, split_places
from napari_cellclf.errors import InputError
from napari_cellclf.io.replacing import replacing

_HEADER = "# Written by napari from its preferences (Cell Classifier, Models); change it there.\n"

_log = logging.getLogger(__name__)


def plugin_preferences() -> Any:
    """Return our part of napari's preferences; None where there is none.

    A napari before 0.9 keeps no settings for plugins, and a program that did not find the manifest
    has none of ours.
    """
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return None
    return get_plugin_settings().get("napari-cellclf")


def share_registries() -> None:
    """Write down which further lists of models napari's preferences name, where that has changed.

    The command line reads that file.
    """
    settings = plugin_preferences()
    if settings is None:
        return
    places = split_places(settings.models.registries)
    path = settings_files()[1]
    text = _HEADER + "".join(f"{place}\n" for place in places)
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else _HEADER
        if text != before:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as beside:
                beside.write_text(text, encoding="utf-8")
    except (OSError, InputError) as error:
        _log.warning("the command line keeps its lists of models: %s", error)
