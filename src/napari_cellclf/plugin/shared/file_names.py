"""The naming pattern in napari's preferences, and which dropped files napari offers us for it."""

from __future__ import annotations

from pathlib import Path

from napari_cellclf.errors import NameParseError
from napari_cellclf.plugin.shared.preferences import plugin_preferences

_PLUGIN = "napari-cellclf"
_COMMAND = f"{_PLUGIN}.read_named"


def preferred_naming() -> str | None:
    """Return the pattern or scheme that napari's preferences name; None if it is of no use."""
    from napari_cellclf.io.naming import usable_naming

    preferences = plugin_preferences()
    if preferences is None:
        return None
    return usable_naming(preferences.files.naming.strip() or None)


def naming_of(path: Path) -> str | None:
    """Return the preferred naming if it knows a file or a folder; None for installed schemes."""
    from napari_cellclf.io.naming import parse_name
    from napari_cellclf.io.stacks import looks_named

    naming = preferred_naming()
    if naming is None:
        return None
    known = looks_named(path, naming) if path.is_dir() else parse_name(path, naming) is not None
    return naming if known else None


def offer_to_read() -> None:
    """Let napari ask our reader for dropped files that a scheme or the preferences name.

    The manifest holds only the names that come with this package: it is read before anything of
    ours runs.
    """
    from npe2 import DynamicPlugin, PluginManager

    from napari_cellclf.plugin.reader import get_reader

    manager = PluginManager.instance()
    try:
        manifest = manager.get_manifest(_PLUGIN)
    except KeyError:
        # Shown by a program that did not find the manifest; nothing is dropped on it.
        return
    there = manifest.contributions
    preferences = plugin_preferences()
    if preferences is not None:
        # Known by it already, this function is not connected again.
        preferences.files.events.naming.connect(offer_to_read)
    patterns = list(_patterns())
    before = [one for one in there.readers or () if one.command == _COMMAND]
    if patterns == [pattern for one in before for pattern in one.filename_patterns]:
        return
    if before:
        there.readers = [one for one in there.readers or () if one.command != _COMMAND]
        there.commands = [one for one in there.commands or () if one.id != _COMMAND]
        manager.commands.unregister(_COMMAND)
    plugin = DynamicPlugin(manifest=manifest, plugin_manager=manager)
    title = "Open images by the names of their files"
    plugin.contribute.reader(get_reader, id=_COMMAND, title=title, filename_patterns=patterns)


def _patterns() -> tuple[str, ...]:
    """List the globs of schemes of other packages, and of the preferred one."""
    from napari_cellclf.io.naming import NAMING, find_scheme

    found: dict[str, None] = {}
    naming = preferred_naming()
    for name in (*NAMING.foreign_names(), *([] if naming is None else [naming])):
        try:
            found.update(dict.fromkeys(find_scheme(name).globs))
        except NameParseError:
            # A package that is broken; whatever needs it says so.
            continue
    # npe2 lower-cases a pattern but not the name it is held against.
    return tuple("".join("?" if letter.isupper() else letter for letter in one) for one in found)
