"""What tells one simulated cell type from another, in numbers."""

from __future__ import annotations

from dataclasses import dataclass

from napari_cellclf.errors import InputError


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
