"""The colour of each class, the same in the gallery, in a Labels layer and in plots."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

#: Hues that people name at once; with the order of the classes they stay what they are.
_FIRST = (
    "#3f8fd9",
    "#d9762b",
    "#3f9f5f",
    "#d8558f",
    "#9a6fd8",
    "#a2842f",
    "#1f9aa0",
    "#d9534f",
    "#8a8f98",
)
#: Relative luminance (WCAG) at which a colour has a contrast of about 3 to white and to napari's
#: dark background alike.
_LUMINANCE = (0.17, 0.32)
_STEPS = 24


def class_colours(n: int) -> tuple[str, ...]:
    """Return the colours of `n` classes; those of the first ones do not depend on `n`.

    Beyond the number of colours that can be told apart they come again.

    Examples
    --------
    >>> class_colours(2)
    ('#3f8fd9', '#d9762b')
    """
    # Mixing more of them loads a library, which takes half a second.
    known = _FIRST if n <= len(_FIRST) else _palette()
    return tuple(known[number % len(known)] for number in range(n))


@lru_cache(maxsize=1)
def _palette() -> tuple[str, ...]:
    """Choose colours that are as far as possible from all before them, as the eye sees it."""
    from skimage.color import rgb2lab

    levels = np.linspace(0, 1, _STEPS)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), axis=-1).reshape(-1, 3)
    light = luminance(grid)
    grid = grid[(light >= _LUMINANCE[0]) & (light <= _LUMINANCE[1])]
    first = np.array([_rgb(colour) for colour in _FIRST])
    lab = rgb2lab(grid)
    nearest = np.min([np.linalg.norm(lab - one, axis=1) for one in rgb2lab(first)], axis=0)
    found = list(_FIRST)
    while len(found) < 64:
        best = int(nearest.argmax())
        found.append("#" + "".join(f"{round(255 * part):02x}" for part in grid[best]))
        nearest = np.minimum(nearest, np.linalg.norm(lab - lab[best], axis=1))
    return tuple(found)


def luminance(
    rgb: np.ndarray[tuple[int, ...], np.dtype[np.float64]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Return the relative luminance of sRGB colours, 0 to 1; `rgb`: shape (..., 3), 0 to 1."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ np.array([0.2126, 0.7152, 0.0722]), np.float64)


def _rgb(colour: str) -> tuple[float, ...]:
    return tuple(int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
