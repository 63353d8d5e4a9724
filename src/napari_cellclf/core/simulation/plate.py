"""A small simulated plate: which well holds which cells, made as it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from napari_cellclf.core.image import Image
from napari_cellclf.core.simulation.site import simulate_site
from napari_cellclf.core.stains import CELL_TYPES, STAINS
from napari_cellclf.errors import InputError

_ROWS = "BCDEFGHIJKLMNO"
_SITE_SEEDS = 10


@dataclass(frozen=True)
class SimulatedSite:
    """A site of a simulated plate, not yet drawn."""

    cell_type: str
    experiment: str
    plate: int
    well: str
    site: int
    #: Returns the `Image`; the same pixels each time.
    draw: Callable[[], Image]


def simulate_plate(
    *,
    wells_per_type: int = 6,
    sites_per_well: int = 2,
    cell_types: Sequence[str] = CELL_TYPES,
    plate: int = 1,
    batch: int = 0,
    seed: int = 0,
    size: int = 256,
    channels: int = len(STAINS),
) -> list[SimulatedSite]:
    """Plan a plate of simulated sites.

    As in RxRx1, each cell type has its own experiment (``HUVEC-01`` for batch 0), whose wells are
    filled from ``B02`` on.

    Examples
    --------
    >>> plate = simulate_plate(wells_per_type=1, sites_per_well=2, size=64)
    >>> len(plate), plate[0].experiment, plate[0].well, plate[0].draw().shape
    (8, 'HEPG2-01', 'B02', (6, 64, 64))
    """
    if not 1 <= wells_per_type <= len(_ROWS) * 22 or not 1 <= sites_per_well <= _SITE_SEEDS:
        raise InputError(
            f"{wells_per_type} wells with {sites_per_well} sites do not fit on a simulated plate; "
            f"choose 1 to {len(_ROWS) * 22} wells of each cell type and 1 to {_SITE_SEEDS} sites"
        )

    def one(cell_type: str, well: int, site: int) -> SimulatedSite:
        number = ((seed * 10 + plate) * 1000 + well) * _SITE_SEEDS + site

        def draw() -> Image:
            return simulate_site(cell_type, seed=number, size=size, channels=channels, batch=batch)

        experiment = f"{cell_type}-{batch + 1:02d}"
        return SimulatedSite(cell_type, experiment, plate, _well_name(well), site + 1, draw)

    return [
        one(cell_type, well, site)
        for cell_type in cell_types
        for well in range(wells_per_type)
        for site in range(sites_per_well)
    ]


def _well_name(number: int) -> str:
    """Name the wells of a 384-well plate without its edge, row by row: B02, B03, ... O23."""
    row, column = divmod(number, 22)
    return f"{_ROWS[row]}{column + 2:02d}"
