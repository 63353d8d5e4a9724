"""A simulated fly embryo: a shell of membrane-marked cells that lengthen with time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from napari_cellclf.core.image import Image
from napari_cellclf.core.simulation.optics import blur, smooth_noise, soft_step
from napari_cellclf.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Field = NDArray[np.float32]

#: Cells are this wide, as a part of the embryo's height.
_CELL_WIDTH = 0.026
_LONGEST = 0.2
#: Exponent of the superellipse: 1 is an ellipse, less is blunter.
_BLUNTNESS = 0.85


@dataclass(frozen=True, eq=False)
class _Shell:
    """For each pixel: how deep under the surface, and how far along it (both in pixels).

    `pole` goes to 1 at the two ends.
    """

    depth: Field
    along: Field
    pole: Field
    inside: Field
    perimeter: float


def simulate_embryo(
    *,
    minutes: Sequence[int] = range(60, 205, 9),
    embryo: int = 3,
    seed: int = 0,
    size: tuple[int, int] = (420, 1110),
) -> Image:
    """Make up a time series of an embryo in which cells form and lengthen.

    An ellipse carries a shell of cells: a bright surface, side membranes that reach from it
    inwards to a front, and a dark yolk. The front moves from 0.13 of the image's height towards
    a fifth; which cells there are stays the same, their membranes waver. The pictures are as dark
    as real ones (8 bits, at most 31), so that brightening by 6 or 7 is of use.

    Parameters
    ----------
    minutes : sequence of int
        Time of each frame after the start, 0 to 1000; by default 17 stages, 9 minutes apart.
    embryo : int
        Which embryo: another number, another shape and other cells.
    seed : int
        Another number gives other noise and cells.
    size : tuple of int
        Height and width in pixels, each at least 32.

    Returns
    -------
    Image
        Axes ``"TYX"``, uint8, `source` ``"simulated"``; ``metadata["frames"]`` holds ``minute``
        and ``embryo`` of each frame.

    Raises
    ------
    InputError
        If there are no minutes or a number is out of range.

    Examples
    --------
    >>> series = simulate_embryo(minutes=[60, 150], size=(84, 222))
    >>> series.shape, series.metadata["frames"][1]
    ((2, 84, 222), {'minute': 150, 'embryo': 3})
    """
    _check(minutes, embryo, seed, size)
    rng = np.random.default_rng([seed, embryo, 2])
    shell = _make_shell(rng, size)
    edges, brightness = _membranes(rng, shell, size[0])
    waver = [smooth_noise(rng, size, 0.035 * size[0]) for _ in range(2)]
    haze = np.clip(1 + 0.22 * smooth_noise(rng, size, 0.12 * size[0]), 0, None)
    frames = []
    for minute in minutes:
        phase = np.float32(minute / 60)
        sway = np.cos(phase) * waver[0] + np.sin(phase) * waver[1]
        position = shell.along + np.float32(0.0035 * size[0]) * sway
        sides = _side_lines(position, edges, brightness, size[0])
        scene = _scene(shell, sides, haze, front_depth(minute) * size[0], size[0])
        noise = np.random.default_rng([seed, embryo, 3, minute])
        frames.append(np.clip(noise.poisson(scene), 0, 31).astype(np.uint8))
    rows = [{"minute": int(minute), "embryo": embryo} for minute in minutes]
    metadata = {"simulated": True, "frames": rows, "seed": seed}
    return Image(np.stack(frames), "TYX", source="simulated", metadata=metadata)


def front_depth(minute: float) -> float:
    """Return how deep the side membranes reach at a time.

    Parameters
    ----------
    minute : float
        Time after the start.

    Returns
    -------
    float
        As a part of the image's height: grows from 0.06 towards 0.2, fast at first. Chosen to
        look right; not a measured law.
    """
    return float(0.06 + (_LONGEST - 0.06) * (1 - np.exp(-minute / 80)))


def _make_shell(rng: np.random.Generator, size: tuple[int, int]) -> _Shell:
    """Measure depth and position from a tilted superellipse with one end more pointed."""
    from scipy.spatial import cKDTree

    height, width = size
    half_x, half_y = 0.475 * width, rng.uniform(0.42, 0.45) * height
    point, tilt = rng.uniform(0.05, 0.15), rng.uniform(-0.02, 0.02)
    turn = np.linspace(0, 2 * np.pi, 4 * width, endpoint=False)
    cos, sin = (np.sign(f) * np.abs(f) ** _BLUNTNESS for f in (np.cos(turn), np.sin(turn)))
    x, y = half_x * cos, half_y * sin * (1 + point * cos)
    outline = np.stack([y + tilt * x + height / 2, x + width / 2], axis=1)
    steps = np.hypot(*(np.roll(outline, -1, axis=0) - outline).T)
    along = np.concatenate([[0.0], np.cumsum(steps)[:-1]])
    ratio = _radius_ratio(size, (half_y, half_x), point, tilt)
    # Far inside, only yolk is seen: the exact distance is needed near the surface alone.
    near = (ratio > 0.48) & (ratio < 1.1)
    distance, nearest = cKDTree(outline).query(np.argwhere(near))
    depth = np.where(ratio < 1, height / 2, -height / 2).astype(np.float32)
    depth[near] = np.where(ratio[near] < 1, distance, -distance)
    position = np.zeros(size, np.float32)
    position[near] = along[nearest]
    pole = np.zeros(size, np.float32)
    pole[near] = np.abs(cos[nearest]) ** 6
    return _Shell(depth, position, pole, soft_step(depth, 1.0), float(steps.sum()))


def _radius_ratio(
    size: tuple[int, int], half: tuple[float, float], point: float, tilt: float
) -> NDArray[np.float64]:
    """0 in the middle of the embryo, 1 on its surface."""
    x = (np.arange(size[1]) - size[1] / 2)[None]
    y = (np.arange(size[0]) - size[0] / 2)[:, None] - tilt * x
    x = x / half[1]
    y = y / (half[0] * (1 + point * np.clip(x, -1, 1)))
    power = 2 / _BLUNTNESS
    return np.asarray((np.abs(x) ** power + np.abs(y) ** power) ** (1 / power))


def _membranes(
    rng: np.random.Generator, shell: _Shell, height: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Positions of the side membranes along the surface, and how bright each is."""
    count = max(int(shell.perimeter / (_CELL_WIDTH * height)), 4)
    jitter = rng.uniform(-0.28, 0.28, count)
    edges = (np.arange(count) + 0.5 + jitter) * shell.perimeter / count
    return edges, rng.uniform(0.35, 1.0, count)


def _side_lines(
    position: Field, edges: NDArray[np.float64], brightness: NDArray[np.float64], height: int
) -> Field:
    right = np.clip(np.searchsorted(edges, position), 1, len(edges) - 1)
    after, before = edges[right] - position, position - edges[right - 1]
    nearest = np.where(np.abs(after) < np.abs(before), right, right - 1)
    distance = position - edges[nearest]
    width = max(0.0035 * height, 0.8)
    return (brightness[nearest] * np.exp(-((distance / width) ** 2))).astype(np.float32)


def _scene(shell: _Shell, sides: Field, haze: Field, reach: float, height: int) -> Field:
    """Add up the photons expected of membranes, cytoplasm, yolk and darkness."""
    unit = height / 420
    depth = shell.depth / np.float32(unit)
    # Cells at the two ends are shorter, and the front is never quite even.
    front = reach / np.float32(unit) * (1 - 0.3 * shell.pole) * (0.95 + 0.05 * haze)
    in_cells = shell.inside * soft_step(front - depth, 3.0)
    surface = np.exp(-(((depth - 2.5) / 2.0) ** 2))
    basal = np.exp(-(((depth - front) / 2.5) ** 2)) * shell.inside
    below = shell.inside * np.exp(-np.clip(depth - front, 0, None) / 16)
    scene = 0.25 + 1.0 * shell.inside + 4.0 * surface * haze
    scene = scene + in_cells * haze * (2.2 + 12.0 * sides) + 2.0 * basal + 1.3 * below * haze
    return blur(scene.astype(np.float32), 0.6 * max(unit, 0.5))


def _check(minutes: Sequence[int], embryo: int, seed: int, size: tuple[int, int]) -> None:
    if not len(minutes) or not all(0 <= minute <= 1000 for minute in minutes):
        raise InputError(
            f"a simulated embryo needs minutes from 0 to 1000, but {list(minutes)} were given"
        )
    if embryo < 0 or seed < 0 or not all(32 <= side <= 4096 for side in size):
        raise InputError(
            f"embryo {embryo}, seed {seed}, size {size} were given; a simulated embryo takes "
            "numbers from 0 on and sides of 32 to 4096 pixels"
        )
