"""What each stain shows of the cells: one painter for each, in the order of the files."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.simulation.optics import blur, dots, smooth_noise

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_cellclf.core.simulation.cells import CellTraits, Layout

    Field = NDArray[np.float32]
    Painter = Callable[[np.random.Generator, Layout, CellTraits], Field]


def paint_hoechst(rng: np.random.Generator, cells: Layout, traits: CellTraits) -> Field:
    """w1: DNA. Nuclei with chromatin grain; a few condensed ones shine; a faint halo."""
    bright = rng.lognormal(0, 0.25, len(cells.centres))
    bright[rng.random(len(bright)) < 0.02] *= 1.8
    grain = 1 + 0.14 * smooth_noise(rng, cells.owner.shape, 1.6)
    nuclei = cells.nucleus * grain * _each(cells, bright)
    return np.asarray(nuclei + 0.08 * blur(nuclei, 9) + 0.03 * cells.cell, np.float32)


def paint_concanavalin(rng: np.random.Generator, cells: Layout, traits: CellTraits) -> Field:
    """w2: endoplasmic reticulum. Brightest around the nucleus, a fine net outwards."""
    around = np.exp(-((cells.distance / 0.62) ** 2)) * (1 - 0.65 * cells.nucleus)
    net = 1 + 0.3 * smooth_noise(rng, cells.owner.shape, 1.2 + traits.depth)
    bright = _each(cells, rng.lognormal(0, 0.35, len(cells.centres)))
    return np.asarray(cells.cell * (0.12 + around * net * bright), np.float32)


def paint_phalloidin(rng: np.random.Generator, cells: Layout, traits: CellTraits) -> Field:
    """w3: actin. Stress fibres along the cells, borders between them, dots in some types."""
    bright = _each(cells, rng.lognormal(0, 0.2, len(cells.centres)))
    texture = 1 + 0.2 * smooth_noise(rng, cells.owner.shape, 2.0)
    uneven = np.clip(1 + 0.45 * smooth_noise(rng, cells.owner.shape, traits.radius / 3), 0.1, None)
    border = np.exp(-((cells.gap * traits.radius / 2.0) ** 2)) * traits.border * uneven
    scene = cells.cell * (0.28 * bright + border) * texture
    if traits.fibres:
        scene = scene + 0.65 * _fibres(rng, cells, traits) * cells.cell
    if traits.puncta:
        scene = scene + _puncta(rng, cells, traits.puncta)
    return np.asarray(scene, np.float32)


def paint_syto(rng: np.random.Generator, cells: Layout, traits: CellTraits) -> Field:
    """w4: RNA. Nucleoli inside the nuclei, and the cytoplasm."""
    around = np.exp(-((cells.distance / 0.75) ** 2)) * (1 - 0.35 * cells.nucleus)
    bright = _each(cells, rng.lognormal(0, 0.22, len(cells.centres)))
    mist = 1 + 0.13 * smooth_noise(rng, cells.owner.shape, 2 + traits.depth)
    scene = cells.cell * (0.1 + 0.6 * around * bright * mist)
    return np.asarray(scene + 0.8 * _nucleoli(rng, cells, traits) * cells.nucleus, np.float32)


def paint_mitotracker(rng: np.random.Generator, cells: Layout, traits: CellTraits) -> Field:
    """w5: mitochondria. Winding threads, or grains, around the nucleus; cells differ much."""
    count, steps = len(cells.centres), traits.filament_length
    shape = (count, traits.filaments)
    turn = rng.uniform(0, 2 * np.pi, shape)
    start = _at(cells, cells.nucleus_radii.max(axis=1)[:, None] * rng.uniform(1, 1.9, shape), turn)
    heading = turn[..., None] + np.pi / 2 + np.cumsum(rng.normal(0, 0.3, (*shape, steps)), axis=-1)
    walk = np.cumsum(np.stack([np.sin(heading), np.cos(heading)], axis=-1), axis=-2)
    bright = rng.lognormal(0, 0.55, (count, 1, 1))
    threads = blur(dots(start[..., None, :] + walk, bright, cells.size), 0.8)
    scene = threads * cells.cell * (1 - 0.85 * cells.nucleus)
    haze = 0.35 * blur(scene, 4)
    return np.asarray(0.9 * scene + haze + 0.04 * cells.cell, np.float32)


def paint_wheat_germ(rng: np.random.Generator, cells: Layout, traits: CellTraits) -> Field:
    """w6: Golgi at one side of the nucleus, membranes, and a glow over the nuclei."""
    count = len(cells.centres)
    radius = cells.nucleus_radii.mean(axis=1)
    side = rng.uniform(0, 2 * np.pi, (count, 1))
    middle = _at(cells, 1.25 * radius[:, None], side)
    spread = (traits.golgi_spread * radius)[:, None, None]
    grains = middle + rng.normal(0, 1, (count, 40, 2)) * spread * 0.7
    golgi = blur(dots(grains, rng.lognormal(0, 0.4, (count, 1)), cells.size), 1.0)
    border = np.exp(-((cells.gap * traits.radius / 3.5) ** 2)) * 0.15 * traits.border
    grain = 1 + 0.15 * smooth_noise(rng, cells.owner.shape, 1.5 + traits.depth)
    bright = _each(cells, rng.lognormal(0, 0.2, count))
    scene = cells.cell * (0.25 + border + 0.3 * cells.nucleus) * grain * bright
    return np.asarray(scene + 1.1 * golgi * cells.cell, np.float32)


#: In the order of the stains w1 to w6.
PAINTERS: tuple[Painter, ...] = (
    paint_hoechst,
    paint_concanavalin,
    paint_phalloidin,
    paint_syto,
    paint_mitotracker,
    paint_wheat_germ,
)


def _each(cells: Layout, values: NDArray[np.float64]) -> Field:
    """Spread one value a cell over its pixels."""
    return np.asarray(values.astype(np.float32)[cells.owner])


def _at(
    cells: Layout, radius: NDArray[np.float64], turn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Points ``(N, k, y and x)`` at a radius and direction from each cell's centre."""
    offset = np.stack([np.sin(turn), np.cos(turn)], axis=-1) * radius[..., None]
    return np.asarray(cells.centres[:, None] + offset)


def _fibres(rng: np.random.Generator, cells: Layout, traits: CellTraits) -> Field:
    shape = (len(cells.centres), traits.fibres)
    along = rng.uniform(-0.5, 0.5, shape) * cells.radii[:, :1]
    across = rng.normal(0, 0.45, shape) * cells.radii[:, 1:]
    angle = cells.angles[:, None] + rng.normal(0, 0.12, shape)
    length = cells.radii[:, :1] * rng.uniform(0.5, 1.1, shape)
    steps = np.linspace(-1, 1, int(2.4 * traits.radius * traits.elongation**0.5))
    reach = along[..., None] + length[..., None] * steps
    sin, cos = np.sin(angle)[..., None], np.cos(angle)[..., None]
    y = reach * sin + across[..., None] * cos + cells.centres[:, None, None, 0]
    x = reach * cos - across[..., None] * sin + cells.centres[:, None, None, 1]
    strength = rng.lognormal(-0.4, 0.6, (*shape, 1)) * (1 - steps**4)
    return blur(dots(np.stack([y, x], axis=-1), strength, cells.size), 0.8)


def _puncta(rng: np.random.Generator, cells: Layout, count: int) -> Field:
    shape = (len(cells.centres), count)
    spots = _at(cells, cells.radii[:, 1:] * rng.uniform(0.6, 1.1, shape), rng.uniform(0, 7, shape))
    return 9 * blur(dots(spots, rng.lognormal(-0.5, 0.8, shape), cells.size), 1.3) * cells.cell


def _nucleoli(rng: np.random.Generator, cells: Layout, traits: CellTraits) -> Field:
    count = len(cells.centres)
    shape = (count, traits.nucleoli)
    present = np.arange(traits.nucleoli) < rng.integers(1, traits.nucleoli + 1, (count, 1))
    radius = 0.55 * cells.nucleus_radii[:, 1:] * np.sqrt(rng.random(shape))
    spots = _at(cells, radius, rng.uniform(0, 2 * np.pi, shape))
    width = 0.12 * traits.nucleus_radius + 0.4
    return 2 * np.pi * width**2 * blur(dots(spots, present * 1.0, cells.size), width)
