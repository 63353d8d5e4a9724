"""Which lists of models there are: the package's, then those of the environment and the settings.

A name belongs to the first list that has it: the package's cannot be taken over by another.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from napari_cellclf.bundles.plainfile import open_plain, read_up_to
from napari_cellclf.bundles.registry import (
    MAX_REGISTRY_BYTES,
    REGISTRY_FILE,
    Registry,
    RegistryEntry,
    parse_registry,
)
from napari_cellclf.errors import CellclfError, ModelError, RegistryError
from napari_cellclf.io.cache import cache_folder
from napari_cellclf.io.remote.addresses import FileAddress, WebAddress, parse_address
from napari_cellclf.io.remote.sources import PassingFault, Rules, is_offline
from napari_cellclf.io.remote.web import read_text

#: Environment variable that names further lists, separated as in PATH.
REGISTRY_VARIABLE = "CELLCLF_REGISTRY"

# On most systems PATH is separated by the very sign that stands in an address.
_PLACES = re.compile(rf"https?://[^/{os.pathsep}]+(?::\d+)?(?:/[^{os.pathsep}]*)?|[^{os.pathsep}]+")
#: A list is short, and nobody waits long for one.
_PATIENCE = Rules(stall_seconds=5.0, total_seconds=15.0)


def read_registries(*, refresh: bool = False, offline: bool = False) -> Registry:
    """Read all lists of models.

    Parameters
    ----------
    refresh : bool
        Whether lists on the network are asked for again; else, and where they cannot be reached,
        what they said last is used. Without it no network is used at all.
    offline : bool
        Use no network; ``CELLCLF_OFFLINE=1`` says so for everything.

    Returns
    -------
    Registry
        All entries, the package's first, and one sentence for everything that cannot be used.

    Examples
    --------
    >>> "imagenet-resnet50" in {entry.name for entry in read_registries().entries}
    True
    """
    found = parse_registry(REGISTRY_FILE.read_bytes(), "the package's list")
    for place in registry_places():
        try:
            found = _merged(found, _read(place, refresh and not is_offline(offline)), place)
        except CellclfError as error:
            found = replace(found, problems=(*found.problems, str(error)))
    return found


def find_entry(name: str, *, refresh: bool = False, offline: bool = False) -> RegistryEntry:
    """Find what can be fetched under a name."""
    for again in (False, True) if refresh else (False,):
        registry = read_registries(refresh=again, offline=offline)
        for entry in registry.entries:
            if entry.name == name:
                return entry
    problems = "".join(f"; {problem}" for problem in registry.problems)
    raise RegistryError(
        f"nothing called {name!r} can be fetched; cellclf models list --available names what "
        f"can{problems}"
    )


def registry_places() -> tuple[str, ...]:
    """Return where further lists are: `CELLCLF_REGISTRY`, then those of the settings."""
    stated = os.environ.get(REGISTRY_VARIABLE, "")
    return tuple(dict.fromkeys([*split_places(stated), *settings_places()]))


def split_places(text: str) -> list[str]:
    """Take apart what is separated as in PATH, without taking addresses apart.

    Examples
    --------
    >>> split_places(os.pathsep.join(["/share/models.json", "https://a.org:8443/m.json"]))
    ['/share/models.json', 'https://a.org:8443/m.json']
    """
    return [place.strip() for place in _PLACES.findall(text) if place.strip()]


def settings_files() -> tuple[Path, Path]:
    """Return the files that name further lists, one a line.

    Each has one owner. napari keeps the setting of this plugin in a folder that only napari can
    find (its name is made from the environment's path), so that the plugin writes it down again
    where the command line, and a computer without napari, can read it.
    """
    from platformdirs import user_config_path

    folder = user_config_path("napari-cellclf", appauthor=False)
    return folder / "registries.txt", folder / "registries.napari.txt"


def settings_places() -> list[str]:
    """Read the places that the settings name."""
    lines = [line.strip() for path in settings_files() for line in _lines_of(path)]
    return [line for line in lines if line and not line.startswith("#")]


def _lines_of(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return []


def _merged(first: Registry, second: Registry, place: str) -> Registry:
    """Put one list behind another, whose names it cannot take over."""
    taken = {entry.name for entry in first.entries}
    hidden = [
        f"entry {entry.name!r} of {place} is left out: a list before it has that name already; "
        "rename it"
        for entry in second.entries
        if entry.name in taken
    ]
    new: Sequence[RegistryEntry] = [e for e in second.entries if e.name not in taken]
    return Registry((*first.entries, *new), (*first.problems, *second.problems, *hidden))


def _read(place: str, ask: bool) -> Registry:
    address = parse_address(place)
    if isinstance(address, WebAddress):
        return _read_web(address, ask)
    if not isinstance(address, FileAddress):
        raise RegistryError(f"{place} cannot be a list of models; give a path or an https address")
    path = address.path
    try:
        with open_plain(path) as file:
            text = read_up_to(file, MAX_REGISTRY_BYTES + 1, path.name)
    except ModelError as error:
        raise RegistryError(
            f"the list of models {path} cannot be read ({error}); check {REGISTRY_VARIABLE} and "
            f"{settings_files()[0]}"
        ) from error
    return parse_registry(text, str(path), folder=path.parent.absolute())


def _read_web(address: WebAddress, ask: bool) -> Registry:
    """Ask for a list, and fall back on what it said last."""
    kept = cache_folder() / "registries" / f"{_short_hash(address.url)}.json"
    why = "it was never asked for"
    if ask:
        try:
            text = read_text(address.url, MAX_REGISTRY_BYTES, _PATIENCE)
            found = parse_registry(text, str(address))
        except (PassingFault, CellclfError) as error:
            why = str(error)
        else:
            _keep(kept, text)
            return found
    if not kept.is_file():
        raise RegistryError(
            f"the list of models {address} is not here ({why}); cellclf models list --available "
            "asks for it when there is a connection"
        )
    found = parse_registry(kept.read_bytes(), str(address))
    if ask:
        note = f"the list of models {address} is as it was last time ({why}); try again later"
        return replace(found, problems=(*found.problems, note))
    return found


def _keep(path: Path, text: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_bytes(text)
        beside.replace(path)
    except OSError as error:
        raise RegistryError(
            f"{path.parent} cannot be written ({error.strerror or error}); set CELLCLF_CACHE to a "
            "folder that is writable"
        ) from error


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
