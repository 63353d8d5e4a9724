"""Show a field of cells as another batch might have photographed it.

For tests of robustness only, and on purpose not the code that augments training: these act on the
camera's integers and round to integers again, as a microscope does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import convolve, gaussian_filter, zoom

from napari_cellclf.core.image import Image

Plane = np.ndarray[Any, Any]
_Shift = Callable[[Plane, np.random.Generator], Plane]
_FieldShift = Callable[[Image, np.random.Generator], Plane]


def smooth_field(shape: tuple[int, ...], rng: np.random.Generator, knots: int = 3) -> Plane:
    """Draw a smooth field of deviation about 1."""
    factors = [side / knots for side in shape]
    return np.asarray(zoom(rng.normal(size=(knots, knots)), factors, order=3))


def _dim(plane: Plane, rng: np.random.Generator) -> Plane:
    brightest = np.percentile(plane, 99)
    return _between_levels(plane, rng) * min(1.0, rng.uniform(15, 36) / brightest)


def _bright(plane: Plane, rng: np.random.Generator) -> Plane:
    return _between_levels(plane, rng) * 200 / np.percentile(plane, 99)


def _gamma(plane: Plane, rng: np.random.Generator) -> Plane:
    exponent = np.exp(rng.choice([-1, 1]) * rng.uniform(0.25, 0.5))
    return 255 * ((_between_levels(plane, rng).clip(0) + 0.5) / 256) ** exponent


def _illumination(plane: Plane, rng: np.random.Generator) -> Plane:
    return plane * np.exp(0.35 * smooth_field(plane.shape, rng))


def _haze(plane: Plane, rng: np.random.Generator) -> Plane:
    uneven = plane.std() * (1 + 0.5 * smooth_field(plane.shape, rng))
    return plane + uneven + 0.8 * gaussian_filter(plane, 20)


def _blur(plane: Plane, rng: np.random.Generator) -> Plane:
    return gaussian_filter(plane, rng.uniform(0.9, 1.6))


def _sharp(plane: Plane, rng: np.random.Generator) -> Plane:
    return plane + rng.uniform(0.8, 1.6) * (plane - gaussian_filter(plane, 1.2))


def _noise(plane: Plane, rng: np.random.Generator) -> Plane:
    return plane + rng.normal(size=plane.shape) * plane.std() * rng.uniform(0.2, 0.45)


def _everything(plane: Plane, rng: np.random.Generator) -> Plane:
    plane = gaussian_filter(_between_levels(plane, rng), rng.uniform(0, 1.1)).clip(0, 255)
    plane = 255 * (plane / 255) ** np.exp(rng.uniform(-0.3, 0.3))
    plane = plane * np.exp(0.2 * smooth_field(plane.shape, rng))
    plane = plane + 0.3 * plane.std() * smooth_field(plane.shape, rng)
    plane = plane * rng.uniform(25, 150) / np.percentile(plane, 99) + rng.uniform(0, 8)
    return plane + rng.normal(size=plane.shape) * rng.uniform(0, 2)


def _between_levels(plane: Plane, rng: np.random.Generator) -> Plane:
    """Undo the rounding of the file by chance, so that a new gain makes new grey levels."""
    return plane + rng.uniform(-0.5, 0.5, plane.shape)


_PLANE_SHIFTS: dict[str, _Shift] = {
    "few grey levels": _dim,
    "bright": _bright,
    "gamma": _gamma,
    "uneven light": _illumination,
    "haze": _haze,
    "blur": _blur,
    "sharper": _sharp,
    "noise": _noise,
    "all of these": _everything,
}


def _smaller(image: Image, rng: np.random.Generator) -> Plane:
    small = zoom(image.to_cyx().astype(float), (1, 0.82, 0.82), order=1)
    height, width = image.height_width
    missing = ((0, 0), (0, height - small.shape[1]), (0, width - small.shape[2]))
    return np.pad(small, missing, mode="reflect")


def _larger(image: Image, rng: np.random.Generator) -> Plane:
    height, width = image.height_width
    large = zoom(image.to_cyx().astype(float), (1, 1.22, 1.22), order=1)
    return np.asarray(large[:, :height, :width])


def _sparse(image: Image, rng: np.random.Generator) -> Plane:
    pixels = image.to_cyx().astype(float)
    empty = 1 / (1 + np.exp(-8 * (smooth_field(image.height_width, rng, knots=5) - 0.3)))
    background = np.percentile(pixels, 2, axis=(1, 2), keepdims=True)
    return np.asarray(pixels * (1 - empty) + background * empty)


def _strong_gamma(image: Image, rng: np.random.Generator) -> Plane:
    exponents = np.exp(rng.choice([-1, 1], image.n_channels) * rng.uniform(0.6, 0.9))
    planes = (_between_levels(plane, rng).clip(0) for plane in image.to_cyx().astype(float))
    bent = [255 * ((p + 0.5) / 256) ** e for p, e in zip(planes, exponents, strict=True)]
    return np.stack(bent)


def _saturated(image: Image, rng: np.random.Generator) -> Plane:
    pixels = image.to_cyx().astype(float)
    white = [np.percentile(plane, rng.uniform(88, 96)) for plane in pixels]
    return np.asarray(255 * pixels / np.reshape(white, (-1, 1, 1)))


def _defocus(image: Image, rng: np.random.Generator) -> Plane:
    """Blur all channels by the same disc, as a stage at the wrong height does."""
    radius = rng.uniform(3, 5)
    steps = np.arange(-6, 7)
    disc = (np.hypot(*np.meshgrid(steps, steps)) <= radius).astype(float)
    return np.stack([convolve(p, disc / disc.sum()) for p in image.to_cyx().astype(float)])


def _crosstalk(image: Image, rng: np.random.Generator) -> Plane:
    """Let each channel see some of every other one."""
    pixels = image.to_cyx().astype(float)
    mixing = rng.uniform(0, 0.5, (len(pixels),) * 2) * rng.integers(0, 2, (len(pixels),) * 2)
    scale = pixels.std(axis=(1, 2))
    np.fill_diagonal(mixing, 1)
    # In units of each channel's own contrast, so that a bright one does not drown the others.
    return np.einsum("ij,jyx->iyx", mixing * scale[:, None] / scale[None], pixels)


def _vignette(image: Image, rng: np.random.Generator) -> Plane:
    height, width = image.height_width
    top, left = rng.uniform(0.3, 0.7, 2)
    y, x = np.ogrid[:height, :width]
    distance = (y / height - top) ** 2 + (x / width - left) ** 2
    return np.asarray(image.to_cyx() * np.exp(-rng.uniform(2, 3.5) * distance))


def _weak_stain(image: Image, rng: np.random.Generator) -> Plane:
    """Let one stain fail: little of it is left beside noise."""
    pixels = image.to_cyx().astype(float)
    failed = rng.integers(len(pixels))
    deviation = pixels[failed].std()
    noise = rng.normal(0, deviation / 4, image.height_width)
    pixels[failed] = pixels[failed].mean() + 0.2 * (pixels[failed] - pixels[failed].mean()) + noise
    return pixels


def _dense(image: Image, rng: np.random.Generator) -> Plane:
    """Lay the field over its mirror image, so that twice as many cells grow there."""
    pixels = image.to_cyx().astype(float)
    return np.maximum(pixels, pixels[:, ::-1, ::-1])


def _magnified(factor: float) -> _FieldShift:
    def shift(image: Image, rng: np.random.Generator) -> Plane:
        height, width = image.height_width
        pixels = zoom(image.to_cyx().astype(float), (1, factor, factor), order=1)
        sides = zip((height, width), pixels.shape[1:], strict=True)
        beyond = [(0, max(0, wanted - got)) for wanted, got in sides]
        return np.pad(pixels, ((0, 0), *beyond), mode="reflect")[:, :height, :width]

    return shift


def _hard(image: Image, rng: np.random.Generator) -> Plane:
    """Change field, colours, light and focus one after the other, each by a random amount."""
    for change in (_magnified(np.exp(rng.uniform(-0.3, 0.3))), _crosstalk, _vignette):
        image = _rounded(change(image, rng), image)
    pixels = _strong_gamma(image, rng)
    return gaussian_filter(pixels, (0, *[rng.uniform(0, 2)] * 2)) + rng.normal(0, 3, pixels.shape)


_FIELD_SHIFTS: dict[str, _FieldShift] = {
    "smaller cells": _smaller,
    "larger cells": _larger,
    "gaps": _sparse,
    "strong gamma": _strong_gamma,
    "saturated": _saturated,
    "defocus": _defocus,
    "crosstalk": _crosstalk,
    "vignetting": _vignette,
    "a weak stain": _weak_stain,
    "twice as many cells": _dense,
    "much smaller cells": _magnified(0.67),
    "much larger cells": _magnified(1.5),
    "hard": _hard,
}

#: Names of all shifts.
SHIFTS = (*_PLANE_SHIFTS, *_FIELD_SHIFTS)


def shift_image(image: Image, name: str, seed: int) -> Image:
    """Change an 8-bit field as another batch might.

    Parameters
    ----------
    image : Image
        Axes "CYX", uint8.
    name : str
        One of `SHIFTS`.
    seed : int
        Of the random numbers; each channel draws its own.

    Returns
    -------
    Image
        uint8 again.
    """
    rng = np.random.default_rng([SHIFTS.index(name), seed])
    if name in _FIELD_SHIFTS:
        pixels = _FIELD_SHIFTS[name](image, rng)
    else:
        change = _PLANE_SHIFTS[name]
        pixels = np.stack([change(plane.astype(float), rng) for plane in image.to_cyx()])
    return _rounded(pixels, image)


def _rounded(pixels: Plane, image: Image) -> Image:
    whole = np.rint(pixels).clip(0, 255).astype(np.uint8)
    return Image(whole, "CYX", image.channels, source=image.source)
