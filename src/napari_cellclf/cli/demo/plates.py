"""Simulated plates as files: RxRx1's folders, names and table."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from napari_cellclf.core.progress import OnProgress, Progress, ShouldStop
from napari_cellclf.core.stains import STAINS
from napari_cellclf.errors import CancelledError
from napari_cellclf.io.rxrx1_table import COLUMNS

if TYPE_CHECKING:
    from napari_cellclf.core.simulation.plate import SimulatedSite

TABLE = "metadata.csv"


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
    folder.mkdir(parents=True, exist_ok=True)
    _write_table(plate, folder / TABLE)
    for number, site in enumerate(plate, start=1):
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
