"""Simulated cells: how each type looks, where the cells of a field are, and their pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.simulation.optics import ellipses, smooth_noise, soft_step
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Cells are also placed this far outside the field, so that its edge looks like its middle.
MARGIN = 40.0
_FAR = 4.0


@dataclass(frozen=True)
class CellTraits:
    """How cells of one type look.

    Lengths are in pixels of an RxRx1 image (512 pixels across a field). The numbers were chosen by
    eye so that each type resembles its name; they are no measurements.
    """

    #: Least distance between two cells.
    spacing: float
    #: Radius of a cell that has room.
    radius: float
    #: Length over width of a cell.
    elongation: float
    #: 0: cells point anywhere; 1: neighbours point the same way.
    alignment: float
    #: Part of the field that cells grow on; the rest are gaps between islands.
    coverage: float
    nucleus_radius: float
    nucleus_elongation: float
    #: Most nucleoli in a nucleus.
    nucleoli: int
    #: Actin stress fibres in a cell.
    fibres: int
    #: Brightness of actin at the cell borders (1: as bright as the cell).
    border: float
    #: Bright dots in a cell, such as the bile canaliculi of liver cells.
    puncta: int
    filaments: int
    filament_length: int
    #: Size of the Golgi apparatus, as a part of the nucleus' radius.
    golgi_spread: float
    #: How much the cells lie over each other, which blurs the textures.
    depth: float


TRAITS: dict[str, CellTraits] = {
    # Small round cells packed in thick islands.
    "HEPG2": CellTraits(
        spacing=15, radius=13, elongation=1.1, alignment=0.0, coverage=0.8,
        nucleus_radius=7.5, nucleus_elongation=1.15, nucleoli=2, fibres=0, border=0.45, puncta=2,
        filaments=12, filament_length=5, golgi_spread=0.4, depth=1.6,
    ),
    # Long cells, loosely sown, side by side in streams.
    "HUVEC": CellTraits(
        spacing=31, radius=26, elongation=2.4, alignment=0.8, coverage=0.82,
        nucleus_radius=11, nucleus_elongation=1.4, nucleoli=3, fibres=11, border=0.25, puncta=0,
        filaments=14, filament_length=16, golgi_spread=0.5, depth=0.7,
    ),
    # A closed sheet of cobblestones with strong borders.
    "RPE": CellTraits(
        spacing=40, radius=36, elongation=1.15, alignment=0.2, coverage=0.98,
        nucleus_radius=12, nucleus_elongation=1.3, nucleoli=3, fibres=8, border=1.1, puncta=0,
        filaments=40, filament_length=18, golgi_spread=0.8, depth=0.7,
    ),
    # Large flat cells with large nuclei.
    "U2OS": CellTraits(
        spacing=54, radius=46, elongation=1.35, alignment=0.1, coverage=0.92,
        nucleus_radius=17.5, nucleus_elongation=1.2, nucleoli=6, fibres=22, border=0.4, puncta=1,
        filaments=34, filament_length=9, golgi_spread=0.7, depth=0.6,
    ),
}  # fmt: skip


def traits_of(cell_type: str) -> CellTraits:
    """Return the traits of a cell type."""
    try:
        return TRAITS[cell_type]
    except KeyError:
        raise InputError(
            f"there is no simulated cell type {cell_type!r}; choose one of {', '.join(TRAITS)}"
        ) from None


@dataclass(frozen=True, eq=False)
class Layout:
    """The cells of one field.

    `cell`, `nucleus`: ndarray, shape (Y, X); 1 inside a cell or a nucleus, 0 outside, with soft
    edges.
    """

    #: ``y, x`` of each cell in pixels.
    centres: NDArray[np.float64]
    #: Direction in which each cell is long, radians.
    angles: NDArray[np.float64]
    #: Half length and half width of each cell.
    radii: NDArray[np.float64]
    #: The same of its nucleus.
    nucleus_radii: NDArray[np.float64]
    #: The cell nearest to each pixel.
    owner: NDArray[np.intp]
    #: From that cell's centre, 1 at the radius of a cell that has room.
    distance: NDArray[np.float32]
    #: How much farther the second nearest cell is: 0 on the border between two.
    gap: NDArray[np.float32]
    cell: NDArray[np.float32]
    nucleus: NDArray[np.float32]

    @property
    def size(self) -> int:
        """Side of the field in pixels."""
        return len(self.owner)


def make_layout(rng: np.random.Generator, traits: CellTraits, size: int) -> Layout:
    """Place cells and give each pixel to one of them.

    `size`: side of the field in pixels.
    """
    centres = _islands(rng, _poisson_disc(rng, traits.spacing, size), traits, size)
    count = len(centres)
    angles = _directions(rng, centres, traits, size)
    radii = _half_axes(traits.radius * rng.lognormal(0, 0.12, count), traits.elongation)
    stretch = traits.nucleus_elongation * rng.lognormal(0, 0.08, count)
    nucleus_radii = _half_axes(traits.nucleus_radius * rng.lognormal(0, 0.1, count), stretch)
    bend = _bend(rng, size, traits.radius / 4)
    owner, distance, gap = _territories(centres, radii, angles, size)
    ragged = 0.12 * smooth_noise(rng, (size, size), traits.radius / 3)
    return Layout(
        centres,
        angles,
        radii,
        nucleus_radii,
        owner[bend],
        distance[bend],
        gap[bend],
        soft_step(1.15 + ragged - distance[bend], 0.12),
        _nuclei(centres, nucleus_radii, angles + rng.normal(0, 0.25, count), size),
    )


def _bend(
    rng: np.random.Generator, size: int, scale: float
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Index of a field seen through uneven glass: real borders are not straight."""
    y, x = np.indices((size, size))
    shift = [np.rint(0.3 * scale * smooth_noise(rng, (size, size), scale)) for _ in range(2)]
    moved = (np.clip(axis + by, 0, size - 1) for axis, by in zip((y, x), shift, strict=True))
    rows, columns = (axis.astype(np.intp) for axis in moved)
    return rows, columns


def _poisson_disc(rng: np.random.Generator, spacing: float, size: int) -> NDArray[np.float64]:
    """Throw darts; keep those that are `spacing` away from all kept before."""
    from scipy.spatial import cKDTree

    side = size + 2 * MARGIN
    darts = rng.uniform(-MARGIN, size + MARGIN, (int(4 * (side / spacing) ** 2) + 1, 2))
    neighbours = cKDTree(darts).query_ball_point(darts, spacing)
    free = np.ones(len(darts), bool)
    kept = []
    for dart, close in enumerate(neighbours):
        if free[dart]:
            kept.append(dart)
            free[close] = False
    return np.asarray(darts[kept])


def _islands(
    rng: np.random.Generator, centres: NDArray[np.float64], traits: CellTraits, size: int
) -> NDArray[np.float64]:
    """Leave out the cells that would stand in the gaps of a field not fully covered."""
    ground = smooth_noise(rng, (size, size), 2.5 * traits.spacing)
    y, x = np.clip(centres, 0, size - 1).astype(int).T
    height = ground[y, x]
    covered = height >= np.quantile(height, 1 - traits.coverage)
    return np.asarray(centres[covered])


def _directions(
    rng: np.random.Generator, centres: NDArray[np.float64], traits: CellTraits, size: int
) -> NDArray[np.float64]:
    flow = smooth_noise(rng, (size, size), size / 4)
    y, x = np.clip(centres, 0, size - 1).astype(int).T
    common = rng.uniform(0, np.pi) + 0.5 * flow[y, x]
    own = rng.uniform(-np.pi / 2, np.pi / 2, len(centres))
    return np.asarray(common + (1 - traits.alignment) * own)


def _half_axes(
    radius: NDArray[np.float64], elongation: float | NDArray[np.float64]
) -> NDArray[np.float64]:
    root = np.sqrt(elongation)
    return np.stack([radius * root, radius / root], axis=1)


def _territories(
    centres: NDArray[np.float64],
    radii: NDArray[np.float64],
    angles: NDArray[np.float64],
    size: int,
) -> tuple[NDArray[np.intp], NDArray[np.float32], NDArray[np.float32]]:
    """Divide the field among the cells: a Voronoi diagram in each cell's own elliptic measure."""
    owner = np.zeros((size, size), np.intp)
    first = np.full((size, size), _FAR, np.float32)
    second = first.copy()
    for number, window, distance in ellipses(centres, radii, angles, size, reach=1.7):
        nearest = first[window]
        closer = distance < nearest
        second[window] = np.minimum(second[window], np.maximum(distance, nearest))
        first[window] = np.where(closer, distance, nearest)
        owner[window] = np.where(closer, number, owner[window])
    return owner, first, second - first


def _nuclei(
    centres: NDArray[np.float64],
    radii: NDArray[np.float64],
    angles: NDArray[np.float64],
    size: int,
) -> NDArray[np.float32]:
    field = np.zeros((size, size), np.float32)
    for number, window, distance in ellipses(centres, radii, angles, size, reach=1.4):
        inside = soft_step((1 - distance) * np.float32(radii[number].min()), 1.2)
        field[window] = np.maximum(field[window], inside)
    return field
