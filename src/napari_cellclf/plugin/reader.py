"""napari's reader: files and folders that a naming scheme knows, such as RxRx1's.

The manifest's patterns are narrow and this module looks again, so that plain files and folders stay
with napari's own reader.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from napari_cellclf.plugin.napari_layers import to_layer_data
from napari_cellclf.plugin.shared.file_names import naming_of

if TYPE_CHECKING:
    from napari.types import LayerData

    from napari_cellclf.core.image import Image

PathOrPaths = str | Sequence[str]
Reader = Callable[[PathOrPaths], "list[LayerData]"]

#: What npe2 takes for "read, and there is nothing to add".
_NOTHING: list[Any] = [(None,)]

#: Files read within so many seconds of each other were dropped together.
_BURST_SECONDS = 5.0
_told_at: dict[str, float] = {}


def get_reader(path: PathOrPaths) -> Reader | None:
    """Return a reader for paths that are ours, None for all others."""
    paths = _as_list(path)
    return read if paths and all(_is_ours(Path(one)) for one in paths) else None


def read(path: PathOrPaths) -> list[LayerData]:
    """Open sites, plates, experiments or embryos as layers."""
    # The files of one site are one image; folders of one name in several places are several.
    images: dict[tuple[Path, str], Path] = {}
    for one in map(Path, _as_list(path)):
        images.setdefault((one.resolve().parent, image_title(one, naming_of(one))), one)
    found: list[LayerData] = []
    for (_, title), one in images.items():
        found += _read_one(one, title)
    return found or _NOTHING


def image_title(path: Path, naming: str | None = None) -> str:
    """Say in a few words what is opened: the same for all files of one site."""
    from napari_cellclf.io.naming import CHANNEL, parse_name, schemes_of

    if path.is_dir():
        whole = path.resolve()
        # Every experiment has a Plate1.
        inner = any(scheme.is_folder(whole.name) for scheme in schemes_of(naming))
        return f"{whole.parent.name} {whole.name}".strip() if inner else whole.name
    known = parse_name(path, naming)
    if known is None or CHANNEL not in known[1]:
        return path.stem
    scheme, fields = known
    return scheme.title({name: value for name, value in fields.items() if name != CHANNEL})


def _read_one(path: Path, title: str) -> list[LayerData]:
    return [] if _already_open(path, title) else open_image(path, title, naming_of(path))


def open_image(path: Path, title: str, naming: str | None) -> list[LayerData]:
    """Read a file or folder as layers."""
    image = _read_image(path, naming)
    message = what_is_missing(image, title)
    if message:
        _notify(message)
    source = Path(image.source or path).resolve()
    return to_layer_data(image, title=title, path=str(source), naming=naming)


def _read_image(path: Path, naming: str | None) -> Image:
    from napari_cellclf.io.read import read_image
    from napari_cellclf.io.stacks import read_stack

    return read_stack(path, naming=naming) if path.is_dir() else read_image(path, naming=naming)


def what_is_missing(image: Image, title: str) -> str:
    """Say which channels have no file."""
    everywhere = image.metadata.get("missing_channels") or ()
    if everywhere:
        return f"{title} has no file for {', '.join(everywhere)}; the other channels were opened."
    sites = image.metadata.get("sites") or ()
    lacking = [site for site in sites if site.get("missing_channels")]
    if not lacking:
        return ""
    names = sorted({name for site in lacking for name in site["missing_channels"]})
    return (
        f"{len(lacking)} of the {len(sites)} sites in {title} lack files for {', '.join(names)}; "
        "there they are shown black."
    )


def _already_open(path: Path, title: str) -> bool:
    """Whether another file of the same site was opened just before.

    napari hands files that are dropped together to a reader one by one; without this, six files
    would open their site six times.
    """
    from napari import current_viewer

    from napari_cellclf.plugin.napari_layers import KEY

    viewer = current_viewer()
    if path.is_dir() or viewer is None:
        return False
    folder = path.resolve().parent
    for layer in viewer.layers:
        known = layer.metadata.get(KEY) or {}
        opened = known.get("path")
        if known.get("title") == title and opened and Path(opened).parent == folder:
            _tell_once(
                f"{title} is open already, since all files of a site open together; remove its "
                "layers first to read it again."
            )
            return True
    return False


def _tell_once(message: str) -> None:
    """Say something once for all files that were dropped together."""
    now = time.monotonic()
    if now - _told_at.get(message, -_BURST_SECONDS) >= _BURST_SECONDS:
        _notify(message)
    _told_at[message] = now


def _notify(message: str) -> None:
    from napari.utils.notifications import show_info

    show_info(message)


def _is_ours(path: Path) -> bool:
    from napari_cellclf.io.naming import parse_name
    from napari_cellclf.io.stacks import looks_named

    if naming_of(path) is not None:
        return True
    return looks_named(path) if path.is_dir() else parse_name(path) is not None


def _as_list(path: PathOrPaths) -> list[str]:
    return [path] if isinstance(path, str) else [str(one) for one in path]
