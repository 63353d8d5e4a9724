"""The demo's files: simulated plates, in a folder of which nothing else is ever overwritten."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from napari_cellclf.core.progress import OnProgress, Progress, ShouldStop
from napari_cellclf.core.stains import STAINS
from napari_cellclf.errors import CancelledError, InputError
from napari_cellclf.io.notes import read_note
from napari_cellclf.io.replacing import refusals, replacing
from napari_cellclf.io.rxrx1 import COLUMNS

if TYPE_CHECKING:
    from napari_cellclf.core.simulation.site import SimulatedSite

TABLE = "metadata.csv"
#: Lists what the demo wrote, so that the next one knows its own files.
MARKER = "demo.json"
_MADE_BY = "cellclf demo"


def file_names(plate: Sequence[SimulatedSite]) -> list[str]:
    """Name all files that `write_plate` writes."""
    return [TABLE, *(name for site in plate for name in _channel_files(site))]


def write_plate(
    plate: Sequence[SimulatedSite],
    folder: Path,
    *,
    on_progress: OnProgress,
    should_stop: ShouldStop,
) -> None:
    """Draw a plate's sites and write each stain as a PNG file, and the table of all sites."""
    with refusals(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _write_table(plate, folder / TABLE)
    for number, site in enumerate(plate, start=1):
        with refusals(folder):
            _write_site(site, folder)
        on_progress(Progress(number, len(plate), "simulating sites"))
        if should_stop():
            raise CancelledError(f"stopped after {number} of {len(plate)} sites")


def _write_site(site: SimulatedSite, folder: Path) -> None:
    from PIL import Image as Pillow

    for name, plane in zip(_channel_files(site), site.draw().data, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(plane).save(path, compress_level=1)


def _channel_files(site: SimulatedSite) -> list[str]:
    stem = f"images/{site.experiment}/Plate{site.plate}/{site.well}_s{site.site}"
    return [f"{stem}_w{channel}.png" for channel in range(1, len(STAINS) + 1)]


def _write_table(plate: Sequence[SimulatedSite], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(_row(site) for site in plate)


def _row(site: SimulatedSite) -> dict[str, str | int]:
    well_id = f"{site.experiment}_{site.plate}_{site.well}"
    return {
        "site_id": f"{well_id}_{site.site}",
        "well_id": well_id,
        "cell_type": site.cell_type,
        "dataset": "simulated",
        "experiment": site.experiment,
        "plate": site.plate,
        "well": site.well,
        "site": site.site,
        "well_type": "simulated",
    }


def claim_folder(folder: Path, names: Iterable[str]) -> None:
    """Make a folder ready for the demo's files."""
    names = sorted(names)
    earlier = _earlier_files(folder)
    foreign = [name for name in names if name not in earlier and (folder / name).exists()]
    if foreign:
        raise InputError(
            f"{folder / foreign[0]} was not written by the demo and would be overwritten; move it "
            "away or choose another folder with --out"
        )
    for name in earlier:
        (folder / name).unlink(missing_ok=True)
    # Written before the files, so that a demo that was interrupted can be replaced, too.
    marker = {"made_by": _MADE_BY, "files": names}
    with replacing(folder / MARKER) as beside:
        folder.mkdir(parents=True, exist_ok=True)
        beside.write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")


def _earlier_files(folder: Path) -> list[str]:
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another folder with --out")
    if not folder.exists() or not any(folder.iterdir()):
        return []
    marker = read_note(folder / MARKER) or {}
    files, ours = marker.get("files"), marker.get("made_by") == _MADE_BY
    if not ours or not isinstance(files, list) or not all(_is_below(folder, n) for n in files):
        raise InputError(
            f"{folder} holds files that the demo did not write; choose a new folder with --out"
        )
    return [name for name in files if (folder / name).is_file()]


def _is_below(folder: Path, name: object) -> bool:
    """Whether a name leads to a place inside the folder, links followed."""
    if not isinstance(name, str) or "\0" in name or PurePosixPath(name).is_absolute():
        return False
    return (folder / name).parent.resolve().is_relative_to(folder.resolve())
