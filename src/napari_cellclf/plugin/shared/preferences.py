"""Hand the plugin's setting in napari's preferences on to the command line."""

from __future__ import annotations

import logging

from napari_cellclf.bundles.model_lists import settings_files, split_places

_HEADER = "# Written by napari from its preferences (Cell Classifier, Models); change it there.\n"

_log = logging.getLogger(__name__)


def share_registries() -> None:
    """Write down which further lists of models napari's preferences name, where that has changed.

    A napari that keeps no settings for plugins (before 0.9) has nothing to hand on.
    """
    try:
        from napari.settings import get_plugin_settings
    except ImportError:
        return
    settings = get_plugin_settings().get("napari-cellclf")
    if settings is None:
        # Shown by a program that did not find the manifest; it has no preferences of ours.
        return
    places = split_places(settings.models.registries)
    path = settings_files()[1]
    text = _HEADER + "".join(f"{place}\n" for place in places)
    try:
        before = path.read_text(encoding="utf-8") if path.exists() else _HEADER
        if text != before:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        _log.warning("%s cannot be written, so the command line keeps its lists: %s", path, error)
