"""Simulated sites, each a field of cells in up to six stains, and whole plates of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.core.simulation.cells import TRAITS, make_layout, traits_of
from napari_cellclf.core.simulation.optics import camera_of, take
from napari_cellclf.core.simulation.painting import PAINTERS
from napari_cellclf.core.stains import CELL_TYPES, STAINS
from napari_cellclf.errors import InputError

_ROWS = "BCDEFGHIJKLMNO"
_SITE_SEEDS = 10


def simulate_site(
    cell_type: str = "HUVEC",
    *,
    seed: int = 0,
    size: int = 512,
    channels: int = 6,
    batch: int = 0,
) -> Image:
    """Make up a field of cells as RxRx1's stains would show it.

    Cells are placed by Poisson-disc sampling, each takes the pixels nearest to it in its own
    elliptic measure, and each stain paints its structures (`napari_cellclf.core.stains`): nuclei;
    a net around them; fibres and borders; nucleoli; threads or grains; Golgi and membranes. The
    four types differ in size, shape, density and textures. A camera with gain, offset, uneven
    light, focus and shot noise of its `batch` takes the pictures, so that batches differ in
    brightness as real ones do while the cells do not.

    Parameters
    ----------
    cell_type : str
        ``"HEPG2"`` (dense islands of small round cells), ``"HUVEC"`` (long, loosely sown),
        ``"RPE"`` (cobblestones) or ``"U2OS"`` (large and flat, with large nuclei).
    seed : int
        Which field; the same number gives the same pixels.
    size : int
        Side of the square field in pixels, 32 to 4096. Cells keep their size in pixels.
    channels : int
        How many stains, 1 to 6, from w1 on; fewer do not change those that remain.
    batch : int
        Which camera settings.

    Returns
    -------
    Image
        Axes ``"CYX"``, uint8, channels named as `STAINS`, `source` ``"simulated"``.

    Raises
    ------
    InputError
        If a value is not one of those above.

    Examples
    --------
    >>> site = simulate_site("U2OS", seed=3, size=64, channels=2)
    >>> site.shape, site.channels, site.metadata["cell_type"]
    ((2, 64, 64), ('w1 Hoechst', 'w2 ConA'), 'U2OS')
    """
    traits = traits_of(cell_type)
    _check("size", size, 32, 4096)
    _check("channels", channels, 1, len(STAINS))
    for name, value in (("seed", seed), ("batch", batch)):
        _check(name, value, 0, 2**32 - 1)
    # Each step draws from its own stream: leaving out a stain changes nothing in the others.
    key = [seed, batch, list(TRAITS).index(cell_type)]
    cells = make_layout(np.random.default_rng([*key, 0]), traits, size)
    planes = []
    for channel in range(channels):
        rng = np.random.default_rng([*key, channel + 1])
        scene = PAINTERS[channel](rng, cells, traits)
        planes.append(take(scene, camera_of(batch, channel), rng))
    metadata = {"simulated": True, "cell_type": cell_type, "seed": seed, "batch": batch}
    return Image(np.stack(planes), "CYX", STAINS[:channels], source="simulated", metadata=metadata)


def _check(name: str, value: int, low: int, high: int) -> None:
    if not low <= value <= high:
        raise InputError(f"{name} is {value}; a simulated site takes {low} to {high}")


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
